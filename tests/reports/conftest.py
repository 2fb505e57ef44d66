"""Made-up results that most tests here draw; headless Chromium, and a way to open a page in it that catches errors and
requests."""

from __future__ import annotations

import shutil

import pytest

from synthetic_circuit import random_findings
from synthetic_comparison import synthetic
from synthetic_roles import roles_of

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def comparison():
    return synthetic()


@pytest.fixture(scope="session")
def result(comparison):
    return roles_of(comparison)


@pytest.fixture(scope="session")
def findings():
    return random_findings()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def opened(browser):
    """Opens a file; afterwards there must have been no error and no request but for the file."""
    context = browser.new_context(
        viewport={"width": 1300, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    complaints, requests = [], []
    context.on("request", lambda request: requests.append(request.url))
    context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))

    def go(path, fragment=""):
        tab = context.new_page()
        tab.set_default_timeout(120_000)  # a busy machine
        tab.goto(path.as_uri() + fragment)
        return tab

    yield go
    context.close()
    assert complaints == []
    assert requests
    assert [url for url in requests if not url.startswith(("file://", "data:", "blob:"))] == []

"""The built documentation: strict, complete, without a dead link, and without anything loaded from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import circuitkd
from circuitkd.cli import app
from markdown_pages import ROOT

LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "object": "data",
    "embed": "src",
}
LOADED_LINKS = {"stylesheet", "icon", "preload", "preconnect", "prefetch", "dns-prefetch", "manifest", "modulepreload"}


class Page(HTMLParser):
    """What a page loads, where it links to, its ids and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.text = path.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if found.get("id"):
            self.ids.add(found["id"])
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in LOADS and found.get(LOADS[tag]):
            self.loads.append(found[LOADS[tag]])
        if tag == "link" and LOADED_LINKS & set((found.get("rel") or "").split()):
            self.loads.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """Every page but the one for missing pages, whose addresses are a server's."""
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for path, page in pages.items():
        for load in page.loads:
            assert not urlsplit(load).scheme and not load.startswith("//"), f"{path.name} loads {load}"
            assert (path.parent / unquote(urlsplit(load).path)).is_file(), f"{path.name} loads {load}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text("utf-8")), style.name


def test_every_link_leads_somewhere(pages):
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme in ("https", "mailto"), f"{path.name} links to {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name} links to {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{path.name} links to {link}"


def test_formulas_are_drawn(pages):
    for path, page in pages.items():
        assert "arithmatex" not in page.text, path.name
    found = {path.name: page.text.count("<math ") for path, page in pages.items()}
    assert found["method-distilled-circuits.html"] > 10
    assert found["method-circuit-distillation.html"] > 10


def test_every_public_name_is_described(site, pages):
    ids = pages[site / "api.html"].ids
    names = {i.rsplit(".", 1)[-1] for i in ids if i.startswith("circuitkd.")}
    assert set(circuitkd.__all__) - {"__version__"} <= names


def test_every_command_and_flag_is_listed(site, pages):
    import typer

    text = pages[site / "commands.html"].text
    program = typer.main.get_command(app)
    assert all(f">circuitkd {name}" in text for name in program.commands)
    for command in program.commands.values():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert all(f"<code>{flag}" in text for flag in parameter.opts[:1])


def test_no_helper_file_is_published(site):
    assert not list(site.rglob("*.py"))


@pytest.mark.slow
@pytest.mark.browser
def test_search_works_from_disk_and_asks_no_network(site):
    playwright = pytest.importorskip("playwright.sync_api")
    browser_path = next((p for p in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(p).exists()), None)
    if browser_path is None:
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.locator("input.md-search__input").fill("faithfulness")
        page.wait_for_selector(".md-search-result__item", timeout=60_000)
        assert page.locator(".md-search-result__item").count() > 1
        browser.close()
    assert asked
    assert all(url.startswith(("file:", "data:", "about:", "blob:")) for url in asked), asked

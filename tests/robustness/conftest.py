"""Files need not survive a power cut here: without waiting for the disk the tests are several times as fast."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# What the tests of commands have: tiny models in folders, a way to run a command, quick slopes and pages.
from cli.conftest import models, quick, run  # noqa: F401


@pytest.fixture(scope="package", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield

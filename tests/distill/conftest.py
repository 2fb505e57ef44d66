"""Training runs of a few milliseconds should not each wait for a garbage collection of all that pytest has loaded."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="package")
def _no_garbage_collection():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accelerate.utils.memory.clear_device_cache", lambda **_: None)
        yield

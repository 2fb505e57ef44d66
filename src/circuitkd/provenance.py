"""Versions of everything a number depends on, for manifests."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("circuitkd", "torch", "transformers", "numpy", "scipy", "safetensors", "tokenizers")


def software() -> dict[str, str]:
    """Versions of Python and of the packages that compute something."""
    return {"python": platform.python_version()} | {package: _version(package) for package in PACKAGES}


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

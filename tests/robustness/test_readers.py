"""Every reader of a file that people or crashes may have changed: a valid value, or one clear ValueError."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tiny_models import tiny

FEW = settings(max_examples=60, deadline=None, database=None)
ROW = {
    "id": "a",
    "clean": "The cat sat on the",
    "corrupted": "The dog lay on the",
    "answer": " mat",
    "distractor": [" log"],
}
ROW |= {"labels": {"subject": 1, "verbs": [2]}, "template": "animals"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("readers")


@pytest.fixture(scope="module")
def model():
    return tiny("llama")


# --- task files ---------------------------------------------------------------------------------------------------

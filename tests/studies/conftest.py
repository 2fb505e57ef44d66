"""Tiny models in folders, and a quick way to run studies of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from circuitkd.comparison.robustness import slope
from circuitkd.studies.running import StudyRun, run_study
from circuitkd.studies.study_file import read_study
from small_study import save_models


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models `big` and `small`."""
    folder = tmp_path_factory.mktemp("tiny")
    save_models(folder)
    return folder


@pytest.fixture
def write(tiny_folder: Path) -> Callable[[str], Path]:
    """Writes a study file beside the models."""

    def file(text: str) -> Path:
        path = tiny_folder / "study.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return file


@pytest.fixture
def run(write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StudyRun]:
    """Runs a study in a folder of its own; the slope gets few draws."""
    monkeypatch.setattr("circuitkd.analysis.slope", partial(slope, draws=200))

    def go(text: str, folder: str = "out", **options: object) -> StudyRun:
        return run_study(read_study(write(text)), tmp_path / folder, **options)  # type: ignore[arg-type]

    return go

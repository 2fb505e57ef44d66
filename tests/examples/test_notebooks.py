"""The notebooks are notebooks without outputs, and run from the first cell to the last."""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.py"))
# Notebook -> a table or text that it must show.
SHOWN = {"1_compare": "mean drop %", "2_circuit": "marginal_loss", "3_distil": "others identical: True"}


def texts(cells):
    """All text that the cells put out."""
    for cell in cells:
        for output in cell.get("outputs", ()):
            yield output.get("text", "") + str(output.get("data", {}))


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == list(SHOWN)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_a_notebook(path):
    cells = jupytext.read(path).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    assert sum(cell.cell_type == "code" for cell in cells) >= 4
    for cell in cells:
        if cell.cell_type == "code":
            compile(cell.source, str(path), "exec")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = jupytext.read(path)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    done = client.execute()
    assert SHOWN[path.stem] in "\n".join(texts(done.cells))
    unseen = [c.source for c in done.cells if c.source.rstrip().endswith(".round(2)") and not c.outputs]
    assert unseen == []

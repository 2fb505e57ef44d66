"""The tables of a study as text: Markdown, CSV and LaTeX, and the cells of the page.

Markdown, LaTeX and the page show rounded numbers with their intervals; CSV has the numbers as they are, an estimate in
three columns (value, low, high).
"""

from __future__ import annotations

import math

import pandas as pd

from circuitkd.comparison.performance import Estimate
from circuitkd.reports.tables import markdown
from circuitkd.reports.wording import estimate, fixed
from circuitkd.studies.tables import Cell, Table

_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def cell_text(cell: Cell, digits: int) -> str:
    """A cell as text: numbers rounded, intervals in brackets (a range has nothing before them)."""
    if isinstance(cell, Estimate):
        text = fixed(cell.value, digits) if math.isnan(cell.low) else estimate(cell, digits=digits)
        return text if math.isnan(cell.low) else text.removeprefix("n/a ")
    return fixed(cell, digits) if isinstance(cell, float) else str(cell)


def text_rows(table: Table) -> list[dict[str, str]]:
    """The rows as text by column."""
    return [
        dict(zip(table.columns, (cell_text(cell, table.digits) for cell in row), strict=True)) for row in table.rows
    ]


def to_markdown(table: Table) -> str:
    """Title, table and note as Markdown."""
    note = f"\n{table.note}\n" if table.note else ""
    return f"## {table.title}\n\n{markdown(text_rows(table))}{note}"


def to_csv(table: Table) -> str:
    """The table as CSV with every digit."""
    return pd.DataFrame([_spread(table, row) for row in table.rows]).to_csv(index=False)


def to_latex(table: Table) -> str:
    """The table as a LaTeX `table` for the package booktabs, every character escaped."""
    caption = table.title.translate(_LATEX)
    return pd.DataFrame(text_rows(table)).to_latex(index=False, escape=True, caption=caption, label=f"tab:{table.name}")


def _spread(table: Table, row: tuple[Cell, ...]) -> dict[str, Cell]:
    """A row by column, estimates as value, low and high."""
    made: dict[str, Cell] = {}
    for i, (column, cell) in enumerate(zip(table.columns, row, strict=True)):
        if any(isinstance(other[i], Estimate) for other in table.rows):
            found = cell if isinstance(cell, Estimate) else None
            made[column] = found.value if found else cell
            made[f"{column} low"] = found.low if found else ""
            made[f"{column} high"] = found.high if found else ""
        else:
            made[column] = cell
    return made

"""Circuits as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.table import Table

from circuitkd.circuit_analysis import CircuitComparison, CircuitFindings
from circuitkd.circuits.circuit import Circuit
from circuitkd.cli.terminal import table
from circuitkd.reports import circuit_tables as rows
from circuitkd.reports.wording import short_names

EDGES = 10


def overview(found: Sequence[CircuitFindings]) -> Table:
    """Several tasks: one circuit a row."""
    circuits = [f.circuit for f in found]
    listed = [{k: v for k, v in row.items() if k != "model"} for row in rows.circuit_rows(circuits)]
    return _table(
        f"Circuits of {short_names(circuits[0].model.name)[0]}",
        listed,
        caption="Random: faithfulness of random circuits with as many heads and MLPs, mean of "
        f"{_random_count(circuits[0])}.\nTop component: its share of the summed marginal losses.\n{_about(circuits[0])}",
    )


def tables(found: CircuitFindings) -> Iterator[Table | str]:
    """One task: the circuit in full, and what was asked for beside it."""
    c = found.circuit
    yield f"{short_names(c.model.name)[0]} on {c.task}: {rows.circuit_sentence(c)}"
    if c.components:
        yield _table("Components, marginal loss", rows.layer_rows(c), left=3)
    if c.edges:
        shown = rows.edge_rows(c, most=EDGES)
        more = (
            f"the {len(shown)} strongest of {len(c.edges)} edges"
            if len(c.edges) > len(shown)
            else f"{len(shown)} edges"
        )
        yield _table(
            more[0].upper() + more[1:], shown, rename={"effect": "effect, logits", "share": "% of the circuit"}
        )
    yield _table(
        f"Evaluation, {c.manifest.get('examples', '?')} examples",
        rows.evaluation_rows(c),
        rename={"circuit": "circuit [95 %]", "random": f"{_random_count(c)} random", "range": "their range"},
        caption="M: the model, C: the circuit, 0: no component. Points: percent of m(M).\n"
        f"Marginal loss: positive where losing the component hurts.\n{_about(c)}",
    )
    yield from _beside(found)


def overlap_table(found: Sequence[CircuitComparison]) -> Table:
    """The circuits of teacher and student: one task a row."""
    return _table(
        "Circuits of teacher and student",
        rows.overlap_rows(found),
        caption="Two values: teacher / student. Found: the teacher circuit's parts whose match is in the student's "
        "circuit; by chance: in a random one of its size. Top share: of the top component in all marginal losses.",
    )


def _beside(found: CircuitFindings) -> Iterator[Table]:
    if found.thresholds is not None:
        caption = "Jaccard: nodes shared with the circuit at 20 %."
        yield _table("Other thresholds", rows.threshold_rows(found.thresholds), caption=caption)
    if found.curves is not None:
        caption = "Areas under faithfulness (CPR) and under |1 - faithfulness| (CMD) from 0.1 % to all, linear axis."
        yield _table("Circuits of growing size (MIB)", rows.curve_rows(found.curves), caption=caption, left=1)
    if found.groups is not None:
        caption = (
            f"Score: change of the answer's log-probability; negative where the head helps. {found.groups.ablation}."
        )
        yield _table("Entity-tracking groups", rows.group_rows(found.groups), caption=caption, left=3)


def _about(circuit: Circuit) -> str:
    """Metric, ablation and reference of a circuit's numbers."""
    return f"m: {circuit.evaluation.definition}." if circuit.evaluation else ""


def _random_count(circuit: Circuit) -> int:
    return len(circuit.evaluation.random) if circuit.evaluation else 0


def _table(
    title: str,
    listed: Sequence[Mapping[str, str]],
    *,
    caption: str = "",
    left: int = 1,
    rename: Mapping[str, str] | None = None,
) -> Table:
    """Rows of text, their keys (some of them renamed) as column heads."""
    columns = [(rename or {}).get(key, key) for key in listed[0]]
    cells: Iterable[Sequence[str]] = [tuple(row.values()) for row in listed]
    return table(title, columns, cells, caption=caption, left=left)

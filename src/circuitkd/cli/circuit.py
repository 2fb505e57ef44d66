"""`circuitkd circuit`: which heads and MLPs of a model do a task, over which edges, and how well they alone do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from circuitkd.cli import options as o

if TYPE_CHECKING:
    from circuitkd.circuit_analysis import CircuitFindings
    from circuitkd.circuits.circuit import Circuit
    from circuitkd.circuits.discovery import DiscoveryOptions
    from circuitkd.cli.circuit_runs import CircuitRequest

CIRCUIT = "Circuit"
SUFFIXES = ".json (EAP-IG and MIB), .csv, .graphml, .svg"
Model = Annotated[str, typer.Argument(metavar="MODEL", help=f"The model: {o.MODEL}.", show_default=False)]
Threshold = Annotated[
    float, o.option("--threshold", "T", "Share of the logit difference that may be lost.", panel=CIRCUIT, default=True)
]
CriterionName = Annotated[
    str,
    o.option(
        "--criterion", "WHICH", "Lost by the circuit (cumulative) or a step (marginal).", panel=CIRCUIT, default=True
    ),
]
EdgeShare = Annotated[
    float,
    o.option("--edge-share", "S", "An edge must cost this share of the circuit's.", panel=CIRCUIT, default=True),
]
NoEdges = Annotated[bool, o.option("--no-edges", "", "Nodes only.", panel=CIRCUIT)]
Force = Annotated[bool, o.option("--force", "", "Also where the model is not shown to do the task.", panel=CIRCUIT)]
Source = Annotated[
    Path | None,
    o.option("--circuit", "FILE", "Measure this one: a run folder, or .json of ours, EAP-IG, MIB.", panel=CIRCUIT),
]
Thresholds = Annotated[bool, o.option("--thresholds", "", "Also at 0.10, 0.15 ... 0.30.", panel=CIRCUIT)]
CurvesToo = Annotated[bool, o.option("--curves", "", "Also MIB's CPR and CMD.", panel=CIRCUIT)]
Groups = Annotated[bool, o.option("--groups", "", "Also the groups of heads that track entities.", panel=CIRCUIT)]
Export = Annotated[list[Path] | None, o.option("--export", "FILE", f"Write it too: {SUFFIXES}; repeat for more.")]
Output = Annotated[Path | None, o.output_dir("circuitkd-runs/MODEL--circuit/TASK")]


def circuit(
    model: Model,
    task: o.Tasks,
    n: o.Count = None,
    seed: o.Seed = 0,
    threshold: Threshold = 0.2,
    criterion: CriterionName = "cumulative",
    edge_share: EdgeShare = 0.01,
    no_edges: NoEdges = False,
    force: Force = False,
    source: Source = None,
    thresholds: Thresholds = False,
    curves: CurvesToo = False,
    groups: Groups = False,
    ablation: o.AblationKind = None,
    ablation_source: o.AblationSource = "corrupted",
    group_by: o.GroupBy = "length",
    device: o.Device = None,
    dtype: o.Dtype = None,
    batch_size: o.BatchSize = None,
    output_dir: Output = None,
    export: Export = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Find a model's circuit for one or more tasks and measure it beside random circuits of the same size.

    Heads and MLPs are removed until more would cost too much; edges are path patched among what is left. With several
    tasks, those that the model is not shown to do are left out and named. Interrupted, it resumes.
    """
    from circuitkd.cli import circuit_runs, compare, runs
    from circuitkd.cli.progress import Bars
    from circuitkd.interventions.execution import Execution

    options = discovery_options(threshold, criterion, edge_share=None if no_edges else edge_share, force=force)
    extras = circuit_runs.Extras(thresholds, curves, groups)
    if source and thresholds:
        raise ValueError("--circuit measures a circuit as it is, --thresholds looks for others: leave out one of them")
    how = (ablation, ablation_source, group_by)
    requests = requests_of(task, n, seed=seed, ablation=how, options=options, source=source)
    exports = writers(export or [], len(requests))
    default = runs.ROOT / f"{runs.model_folder(model)}--circuit"
    root, folders = compare.places(output_dir, default, [r.task for r in requests])
    with runs.claimed(root), Bars() as bars:
        (loaded,) = compare.load_all([model], device=device, dtype=dtype, bars=bars)
        for request in requests:
            request.check(loaded)
        run = circuit_runs.CircuitRun(loaded, Execution(batch_size, bars.report), bars, overwrite)
        found, refused = run.find(list(zip(folders, requests, strict=True)), extras)
        bars.step("report")
        circuit_runs.finish(root, found)
    for write in exports:
        write(found[0][1].circuit)
    show([f for _, f in found], refused, json=json)
    compare.where(root, json=json)


def discovery_options(threshold: float, criterion: str, *, edge_share: float | None, force: bool) -> DiscoveryOptions:
    """The library's options. Raises ValueError for a threshold or share out of range and an unknown criterion."""
    from circuitkd.circuits.discovery import DiscoveryOptions

    return DiscoveryOptions(threshold, criterion, edge_share, force)  # type: ignore[arg-type]


def requests_of(
    names: Sequence[str],
    n: int | None,
    *,
    seed: int,
    ablation: tuple[str | None, str, str],
    options: DiscoveryOptions,
    source: Path | None,
) -> list[CircuitRequest]:
    """A request for each different task; `ablation` is (kind, source, group_by). Raises ValueError."""
    from circuitkd.cli.circuit_runs import CircuitRequest
    from circuitkd.tasks.registry import load_task

    tasks = [load_task(name, n, seed=seed) for name in dict.fromkeys(names)]
    return [CircuitRequest(t, o.ablation_of(*ablation, default=t.ablation), options, seed, source) for t in tasks]


def writers(paths: Sequence[Path], tasks: int) -> list[Callable[[Circuit], Path]]:
    """What writes each of these files, by its suffix. Raises ValueError for another suffix, and for several tasks."""
    from circuitkd.circuits.formats import write_csv, write_eap_ig, write_graphml
    from circuitkd.reports.circuit_page import write_svg

    known: dict[str, Callable[[Circuit, Path], Path]] = {
        ".json": write_eap_ig,
        ".csv": write_csv,
        ".graphml": write_graphml,
        ".svg": write_svg,
    }
    if paths and tasks > 1:
        raise ValueError("--export writes one circuit: give one --task, or take the files from the run folders")
    wrong = [str(path) for path in paths if path.suffix not in known]
    if wrong:
        raise ValueError(f"--export {wrong[0]}: the suffix must be one of {SUFFIXES}")

    def writer(path: Path) -> Callable[[Circuit], Path]:
        return lambda circuit: known[path.suffix](circuit, path)

    return [writer(path) for path in paths]


def show(found: list[CircuitFindings], refused: list[str], *, json: bool) -> None:
    """Print the circuits: one JSON value (a list where there are several), or tables."""
    from circuitkd.artifacts import plain
    from circuitkd.cli import circuit_tables
    from circuitkd.cli.terminal import print_json, results, warn

    if json:
        values = [plain(f.circuit) | {k: v for k, v in plain(f).items() if k != "circuit" and v} for f in found]
        print_json(values if len(values) + len(refused) > 1 else values[0])
    elif len(found) + len(refused) > 1:
        results().print("", circuit_tables.overview(found), sep="\n")
    else:
        for table in circuit_tables.tables(found[0]):
            results().print("", table, sep="\n")
    warnings = [(f.circuit.task, text) for f in found for text in f.circuit.warnings]
    warn(refused)
    warn(f"{task}: {text}" if len(found) > 1 else text for task, text in warnings)

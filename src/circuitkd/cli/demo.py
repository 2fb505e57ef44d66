"""`circuitkd demo`: the bundled teachers and students on every bundled task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from circuitkd.cli import options as o

if TYPE_CHECKING:
    from circuitkd.cli.runs import Request
    from circuitkd.comparison.result import Comparison

FAMILIES = ("gpt2", "bert", "llama")
EXAMPLES = 100


def demo(
    every: Annotated[bool, o.option("--all", "", "The BERT and Llama pairs too.", panel=o.TASK)] = False,
    n: Annotated[int, o.option("--n", "N", "Examples of each task.", panel=o.TASK, default=True)] = EXAMPLES,
    output_dir: Annotated[Path | None, o.output_dir("circuitkd-runs/demo")] = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Compare the bundled teacher and student on every task: minutes on a laptop, no downloads."""
    from circuitkd.cli import compare, runs, tables
    from circuitkd.cli.progress import Bars
    from circuitkd.cli.terminal import print_json, results, warn
    from circuitkd.interventions.execution import Execution

    families = FAMILIES if every else FAMILIES[:1]
    root = output_dir or runs.ROOT / "demo"
    found: list[tuple[Path, Comparison]] = []
    with runs.claimed(root), Bars() as bars:
        requests = demo_requests(n)
        names = [f"zoo:{family}-{role}" for family in families for role in ("teacher", "student")]
        models = compare.load_all(names, device=None, dtype=None, bars=bars)
        pairs = dict(zip(families, zip(models[::2], models[1::2], strict=True), strict=True))
        work = [(family, request) for family in families for request in requests]
        for i, (family, request) in enumerate(work):
            bars.step(f"{family}, {request.task.name}", number=i, total=len(work))
            folder = root / f"{family}-teacher--{family}-student" / request.task.name
            # The default folder is the demo's own: a newer version or another n may replace what is there.
            replaces = output_dir is None and bool(runs.differences(folder, request.identity(pairs[family])))
            result = runs.compare_into(
                folder,
                pairs[family],
                request,
                execution=Execution(progress=bars.report),
                overwrite=overwrite or replaces,
            )
            found.append((folder, result))
        bars.step("report")
        compare.finish(root, found)
    if json:
        print_json([c for _, c in found])
    else:
        for family in families:
            of_family = [c for _, c in found if c.teacher.name == f"zoo:{family}-teacher"]
            results().print("", tables.comparison_table(of_family), "", tables.stands_out(of_family), sep="\n")
            warn(compare.all_warnings(of_family))
        if (variants := tables.variants_table([c for _, c in found])) is not None:
            results().print("", variants)
    compare.where(root, json=json)


def demo_requests(n: int) -> list[Request]:
    """The bundled tasks as the demo asks for them."""
    from circuitkd.analysis import CompareOptions
    from circuitkd.cli.runs import Request
    from circuitkd.interventions.ablations import Ablation
    from circuitkd.tasks.registry import DEMO_TASKS, load_task

    tasks = [load_task(name, n) for name in DEMO_TASKS]
    return [Request(task, Ablation(task.ablation), CompareOptions(), seed=0) for task in tasks]

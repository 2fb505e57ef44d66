"""`circuitkd compare`: which of the teacher's circuits the student kept, task by task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from circuitkd.cli import options as o

if TYPE_CHECKING:
    from circuitkd.analysis import CompareOptions
    from circuitkd.circuit_analysis import CircuitComparison
    from circuitkd.cli.progress import Bars
    from circuitkd.cli.runs import Pair, Request
    from circuitkd.comparison.noise import NoiseCurve
    from circuitkd.comparison.result import Comparison
    from circuitkd.models.circuit_model import CircuitModel
    from circuitkd.roles.result import RolesResult
    from circuitkd.tasks.base import Task

    Grid = tuple[tuple[float, ...], tuple[int, ...]]

NOISE = "Noise experiment"
Circuits = Annotated[
    bool,
    o.option("--circuits", "", "Also find both models' circuits: about three times the work.", panel=o.DEFINITIONS),
]
Roles = Annotated[
    bool, o.option("--roles", "", "Also say what each head does and what became of it.", panel=o.DEFINITIONS)
]
Noise = Annotated[bool, o.option("--noise", "", "Also disturb the student by Gaussian noise.", panel=NOISE)]
NoiseSteps = Annotated[
    int, o.option("--noise-steps", "N", "Standard deviations from 0 to 2.", panel=NOISE, default=True)
]
NoiseSeeds = Annotated[int, o.option("--noise-seeds", "N", "Draws at each of them.", panel=NOISE, default=True)]
NoRandomNull = Annotated[
    bool, o.option("--no-random-null", "", "Leave out the randomly initialised student.", panel=o.DEFINITIONS)
]
Output = Annotated[Path | None, o.output_dir("circuitkd-runs/TEACHER--STUDENT")]


def compare(
    teacher: o.Teacher,
    student: o.Student,
    task: o.Tasks,
    n: o.Count = None,
    seed: o.Seed = 0,
    ablation: o.AblationKind = None,
    ablation_source: o.AblationSource = "corrupted",
    group_by: o.GroupBy = "length",
    head_similarity: o.HeadSimilarity = "pattern",
    mlp_similarity: o.MlpSimilarity = "auto",
    matching: o.Matching = "nearest",
    direction: o.Direction = "teacher-to-student",
    normalization: o.Normalization = "max",
    top: o.Top = None,
    preset: o.Preset = None,
    no_random_null: NoRandomNull = False,
    screen: o.Screen = None,
    circuits: Circuits = False,
    roles: Roles = False,
    noise: Noise = False,
    noise_steps: NoiseSteps = 41,
    noise_seeds: NoiseSeeds = 5,
    device: o.Device = None,
    dtype: o.Dtype = None,
    batch_size: o.BatchSize = None,
    output_dir: Output = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Compare a student with its teacher on one or more tasks: alignment, performance, robustness.

    Interrupted, it resumes when it is run again. A single task's result lies in the output folder itself, several lie
    below it; report.html shows them all.
    """
    from circuitkd.cli import runs
    from circuitkd.cli.pair_runs import Run
    from circuitkd.cli.progress import Bars
    from circuitkd.interventions.execution import Execution

    options = o.compare_options(
        head=head_similarity,
        mlp=mlp_similarity,
        matching=(matching, direction, top),
        normalization=normalization,
        preset=preset,
        random_null=not no_random_null,
        screen=screen,
    )
    how = (ablation, ablation_source, group_by)
    requests = requests_of(task, n, seed=seed, ablation=how, options=options)
    grid = noise_grid(noise_steps, noise_seeds, requests) if noise else None
    default = runs.ROOT / "--".join(map(runs.model_folder, (teacher, student)))
    root, folders = places(output_dir, default, [r.task for r in requests])
    with runs.claimed(root), Bars() as bars:
        run = Run(Execution(batch_size, bars.report), bars, overwrite)
        first, second = load_all([teacher, student], device=device, dtype=dtype, bars=bars)
        check_all((first, second), requests)
        work = list(zip(folders, requests, strict=True))
        found = run.compare((first, second), work)
        done = list(zip(work, found, strict=True))
        compared = run.circuits((first, second), done) if circuits else []
        described = run.roles((first, second), done) if roles else []
        curves = run.disturb((first, second), work, grid=grid) if grid else []
        bars.step("report")
        finish(root, list(zip(folders, found, strict=True)))
    show(found, curves, circuits=compared, roles=described, json=json)
    where(root, json=json)


def requests_of(
    names: Sequence[str],
    n: int | None,
    *,
    seed: int,
    ablation: tuple[str | None, str, str],
    options: CompareOptions,
) -> list[Request]:
    """A request for each different task; `ablation` is (kind, source, group_by). Raises ValueError."""
    from circuitkd.cli.runs import Request
    from circuitkd.tasks.registry import load_task

    tasks = [load_task(name, n, seed=seed) for name in dict.fromkeys(names)]
    return [Request(t, o.ablation_of(*ablation, default=t.ablation), options, seed) for t in tasks]


def places(output_dir: Path | None, default: Path, tasks: Sequence[Task]) -> tuple[Path, list[Path]]:
    """The run folder and that of each task: the same one where there is only one task and the folder was named."""
    from circuitkd.cli import runs

    root = output_dir or default
    folders = [root / name for name in runs.task_folders(tasks)]
    if len(folders) > 1:
        return root, folders
    single = folders[0] if output_dir is None else root
    return single, [single]


def load_all(names: Sequence[str], *, device: str | None, dtype: str | None, bars: Bars) -> list[CircuitModel]:
    """The models, after seeing that every name can be one's."""
    from circuitkd.models.files import locate
    from circuitkd.models.loading import load

    for name in names:
        locate(name)
    loaded = []
    for name in names:
        bars.step(f"loading {name}")
        loaded.append(load(name, device=device, dtype=dtype))
    return loaded


def check_all(pair: Pair, requests: list[Request]) -> None:
    """See that every task fits both models before the first long run. Raises ValueError."""
    from circuitkd.analysis import prepare

    for request in requests:
        prepare(*pair, request.task, ablation=request.ablation)


def noise_grid(steps: int, seeds: int, requests: list[Request]) -> Grid:
    """Standard deviations from 0 to 2, and seeds. Raises ValueError for too few, and beside options it cannot take."""
    from circuitkd.analysis import CompareOptions
    from circuitkd.comparison.checks import at_least
    from circuitkd.interventions.ablations import Ablation

    at_least(steps, 2, name="--noise-steps")
    at_least(seeds, 1, name="--noise-seeds")
    for request in requests:
        if request.ablation != Ablation(request.task.ablation) or request.options.score != CompareOptions().score:
            raise ValueError(
                "--noise is defined for the default ablation and score: leave out --noise, or --ablation, --group-by "
                "and the options of similarity, matching and influence"
            )
    return tuple(round(2 * i / (steps - 1), 4) for i in range(steps)), tuple(range(seeds))


def finish(root: Path, found: list[tuple[Path, Comparison]]) -> None:
    """Write the report, with what lies beside the comparisons, and the index where there are several runs."""
    from circuitkd.cli import runs

    if [folder for folder, _ in found] != [root]:
        runs.save_index(root, found)
    runs.write_page(found, root / "report.html")


def show(
    found: list[Comparison],
    curves: list[NoiseCurve],
    *,
    circuits: Sequence[CircuitComparison],
    roles: Sequence[RolesResult],
    json: bool,
) -> None:
    """Print the results: one JSON value (a list where there are several tasks), or tables."""
    from circuitkd.artifacts import plain
    from circuitkd.cli import circuit_tables, tables
    from circuitkd.cli.terminal import print_json, results, warn
    from circuitkd.reports import wording

    if json:
        values = [plain(c) for c in found]
        for value, curve in zip(values, curves, strict=False):
            value["noise"] = plain(curve)
        for name, beside in (("circuits", circuits), ("roles", roles)):
            for value, of_task in zip(values, beside, strict=False):
                value[name] = plain(of_task)
        print_json(values if len(values) > 1 else values[0])
        return
    console = results()
    console.print("", tables.comparison_table(found), sep="\n")
    for c in found:
        if len(found) == 1:
            console.print(
                "", tables.pairs_table(c), "", wording.headline(c), wording.slope_text(c.robustness), sep="\n"
            )
        if c.notebook is not None:
            console.print(tables.notebook_line(c))
    if len(found) > 1:
        console.print("", tables.stands_out(found), sep="\n")
    if circuits:
        console.print("", circuit_tables.overlap_table(circuits), sep="\n")
    for of_task in roles:
        console.print("", of_task.fates.summary, sep="\n")
    for c, curve in zip(found, curves, strict=False):
        console.print("", tables.noise_table(curve, c.task), sep="\n")
    warn(all_warnings(found))
    warn(reason for kept in circuits for reason in kept.missing)


def all_warnings(found: list[Comparison]) -> list[str]:
    """The warnings of all comparisons, with the task where there are several."""
    from circuitkd.reports import wording

    prefixes = [f"{c.task}: " if len(found) > 1 else "" for c in found]
    return [prefix + text for c, prefix in zip(found, prefixes, strict=True) for text in wording.warnings(c)]


def where(folder: Path, *, json: bool) -> None:
    """Say where the run is."""
    from circuitkd.cli.terminal import note, results

    if json:
        note(f"run folder: {folder}")
    else:
        results().print(f"\nrun folder: {folder}\nreport:     {folder / 'report.html'}", soft_wrap=True)

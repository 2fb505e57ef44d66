"""Options that several commands share, and how they become the library's option objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from circuitkd.analysis import CompareOptions
    from circuitkd.interventions.ablations import Ablation

MODEL = "a hub id, a folder, or zoo:NAME"
TASK, DEFINITIONS, MACHINE, OUTPUT = "Task", "Definitions", "Machine", "Output"
KINDS = "mean-positional, mean, zero, resample"
HEAD_MEASURES = "pattern, pattern-rows, z, result, cka"
MLP_MEASURES = "auto, eigenvectors, cka"
METHODS = "nearest, hungarian, soft-top-k"
DIRECTIONS = "teacher-to-student, student-to-teacher"
NORMALIZATIONS = "max, l1, l2"
PRESETS = "released-notebook, released-notebook-ioi"


def option(flag: str, kind: str, about: str, *, panel: str = OUTPUT, default: bool = False) -> Any:
    """A long flag: `kind` stands for its value in help (none for a switch), `default` shows the default there."""
    return typer.Option(flag, metavar=kind, help=about, rich_help_panel=panel, show_default=default)


Teacher = Annotated[str, typer.Argument(metavar="TEACHER", help=f"The larger model: {MODEL}.", show_default=False)]
Student = Annotated[str, typer.Argument(metavar="STUDENT", help=f"The distilled model: {MODEL}.", show_default=False)]

Task = Annotated[str, option("--task", "NAME", "A built-in task or a .jsonl file.", panel=TASK)]
Tasks = Annotated[list[str], option("--task", "NAME", "A built-in task or a .jsonl file; repeat for more.", panel=TASK)]
Count = Annotated[int | None, option("--n", "N", "Examples: 100 of a built-in task, all of a file.", panel=TASK)]
Seed = Annotated[int, option("--seed", "N", "Draws the examples of built-in tasks.", panel=TASK, default=True)]

AblationKind = Annotated[
    str | None, option("--ablation", "KIND", f"{KINDS}; what suits the task unless told.", panel=DEFINITIONS)
]
AblationSource = Annotated[
    str,
    option(
        "--ablation-source",
        "SOURCE",
        "Whose mean: corrupted prompts, clean ones, or those of a .jsonl file.",
        panel=DEFINITIONS,
        default=True,
    ),
]
GroupBy = Annotated[
    str,
    option("--group-by", "HOW", "Prompts of one mean share a length, or a template.", panel=DEFINITIONS, default=True),
]
HeadSimilarity = Annotated[str, option("--head-similarity", "MEASURE", HEAD_MEASURES, panel=DEFINITIONS, default=True)]
MlpSimilarity = Annotated[
    str,
    option(
        "--mlp-similarity",
        "MEASURE",
        f"{MLP_MEASURES}; auto is Eq. 6 at equal widths.",
        panel=DEFINITIONS,
        default=True,
    ),
]
Matching = Annotated[str, option("--matching", "METHOD", METHODS, panel=DEFINITIONS, default=True)]
Direction = Annotated[str, option("--direction", "WHICH", DIRECTIONS, panel=DEFINITIONS, default=True)]
Normalization = Annotated[
    str, option("--normalization", "NORM", f"Of influences: {NORMALIZATIONS}.", panel=DEFINITIONS, default=True)
]
Top = Annotated[
    int | None, option("--top", "K", "Match only the K most influential components of both.", panel=DEFINITIONS)
]
Screen = Annotated[
    int | None,
    option("--screen", "K", "Ablate the K components of largest attribution, estimate the others.", panel=DEFINITIONS),
]
Preset = Annotated[str | None, option("--preset", "NAME", f"Score in this way too: {PRESETS}.", panel=DEFINITIONS)]

Device = Annotated[
    str | None, option("--device", "NAME", "cpu (the default), cuda, cuda:1, mps; auto spreads.", panel=MACHINE)
]
Dtype = Annotated[
    str | None, option("--dtype", "NAME", "float32 (the default), float64, bfloat16, float16.", panel=MACHINE)
]
BatchSize = Annotated[int | None, option("--batch-size", "N", "Prompts at a time; chosen unless told.", panel=MACHINE)]

Overwrite = Annotated[bool, option("--overwrite", "", "Replace the finished result of another run.")]
Json = Annotated[bool, option("--json", "", "Print the result alone, as JSON, on stdout.")]


def output_dir(default: str) -> Any:
    """The flag of the run folder; `default` says in words where it is otherwise."""
    return option("--output-dir", "DIR", f"The run folder; {default} unless told.")


def ablation_of(kind: str | None, source: str, group_by: str, *, default: str) -> Ablation:
    """The ablation that the options ask for; `default` is the kind that suits the task. ValueError for unknown ones."""
    from circuitkd.comparison.checks import one_of
    from circuitkd.interventions.ablations import Ablation
    from circuitkd.tasks.jsonl import read_task

    one_of(group_by, ("length", "template"), name="grouping")
    reference = None if source in ("corrupted", "clean") else read_task(Path(source))
    return Ablation(
        kind or default,
        source="file" if reference else source,  # type: ignore[arg-type]
        group_by=group_by,  # type: ignore[arg-type]
        reference=reference,
    )


def plain_options(*, random_null: bool) -> CompareOptions:
    """The paper's definitions, with or without the randomly initialised student."""
    from circuitkd.analysis import CompareOptions

    return CompareOptions(random_null=random_null)


def compare_options(
    *,
    head: str,
    mlp: str,
    matching: tuple[str, str, int | None],
    normalization: str,
    preset: str | None,
    random_null: bool,
    screen: int | None,
) -> CompareOptions:
    """The comparison's options; `matching` is (method, direction, top). Raises ValueError for unknown ones."""
    from circuitkd.analysis import CompareOptions
    from circuitkd.comparison.alignment import InfluenceOptions
    from circuitkd.comparison.checks import at_least, one_of
    from circuitkd.comparison.matching import DIRECTIONS, METHODS
    from circuitkd.comparison.pair_similarity import Measures
    from circuitkd.comparison.pairs import MatchOptions
    from circuitkd.comparison.scoring import ScoreOptions
    from circuitkd.interventions.influence import NORMALIZATIONS

    method, direction, top = matching
    one_of(method, METHODS, name="matching method")
    one_of(direction, DIRECTIONS, name="direction")
    one_of(normalization, NORMALIZATIONS, name="normalization")
    for name, most in (("--top", top), ("--screen", screen)):
        if most is not None:
            at_least(most, 1, name=name)
    if preset is not None:
        one_of(preset, PRESETS.split(", "), name="preset")
    return CompareOptions(
        score=ScoreOptions(
            measures=Measures(head, mlp),  # type: ignore[arg-type]
            matching=MatchOptions(method, direction, top=top),  # type: ignore[arg-type]
            influences=InfluenceOptions(normalization),  # type: ignore[arg-type]
        ),
        random_null=random_null,
        notebook="ioi" if preset == "released-notebook-ioi" else preset is not None,
        screen=screen,
    )

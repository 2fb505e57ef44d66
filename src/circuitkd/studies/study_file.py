"""Study files: pairs x tasks x analyses in YAML, read with every mistake named, and expanded into jobs.

    title: Is the student a copy?
    pairs:
      - {name: gpt2, teacher: gpt2, student: distilgpt2}
    tasks:
      - {name: ioi, n: 100}
    analyses:
      - {kind: compare}
      - {kind: noise, tasks: [ioi], options: {steps: 9}}

Every analysis is made for every pair on every task, less what `pairs` and `tasks` of a task or an analysis leave out. A
task is known by its `label`, its name unless told, so that one task may be asked with different numbers of examples.
Models and task files are looked for beside the study file first. `printed` holds values of a paper, to be shown beside
ours. Circuits and roles build on the comparison of the same pair and task, which must be in the study too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from circuitkd.studies.run_folders import safe_name
from circuitkd.studies.settings import (
    CircuitSettings,
    CompareSettings,
    Count,
    DistillSettings,
    NoiseSettings,
    Record,
    RolesSettings,
)
from circuitkd.studies.yaml_files import read_record
from circuitkd.tasks.registry import TASKS
from circuitkd.tasks.rows import nearest

Name = Annotated[str, Field(pattern=r"^[\w+][\w.+-]*$", max_length=60)]
Text = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
KINDS = ("compare", "circuits", "roles", "noise", "distill")
BUILT_ON_COMPARE = ("circuits", "roles")


class PairSpec(Record):
    """A teacher and a student: hub ids, folders, or zoo:NAME. `dtype`, `device`: of both, where they differ from those
    of the command."""

    name: Name
    teacher: Text
    student: Text
    dtype: str | None = None
    device: str | None = None
    teacher_revision: str | None = None
    student_revision: str | None = None


class TaskSpec(Record):
    """A built-in task or a .jsonl file. `n`: examples (100 of a built-in task, all of a file). `pairs`: for these only."""

    name: Text
    label: Name | None = None
    n: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    pairs: Names | None = None

    @property
    def key(self) -> str:
        """What the task is called in the study."""
        return self.label or (self.name if self.name in TASKS else safe_name(Path(self.name).stem))


class Analysis(Record):
    """What all kinds share. `pairs`, `tasks`: for these only."""

    pairs: Names | None = None
    tasks: Names | None = None


class CompareSpec(Analysis):
    """Alignment, performance, robustness."""

    kind: Literal["compare"]
    options: CompareSettings = CompareSettings()


class CircuitsSpec(Analysis):
    """Both models' circuits and what they share."""

    kind: Literal["circuits"]
    options: CircuitSettings = CircuitSettings()


class RolesSpec(Analysis):
    """Roles of heads, their validation, fates."""

    kind: Literal["roles"]
    options: RolesSettings = RolesSettings()


class NoiseSpec(Analysis):
    """Alignment of a disturbed student."""

    kind: Literal["noise"]
    options: NoiseSettings = NoiseSettings()


class DistillSpec(Analysis):
    """The experiment of circuit distillation."""

    kind: Literal["distill"]
    options: DistillSettings = DistillSettings()


AnalysisSpec = Annotated[
    CompareSpec | CircuitsSpec | RolesSpec | NoiseSpec | DistillSpec,
    Field(discriminator="kind"),
]


class PrintedValue(Record):
    """A value that a paper prints, with its interval, or a range alone. `source`: where, as in "DC Table 2". `of`: the
    component, variant, condition ... that the quantity is of, where it needs one."""

    source: Text
    quantity: str
    of: str | None = None
    pair: str
    task: str
    value: float | None = None
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> PrintedValue:
        if (self.low is None) != (self.high is None) or (self.value is None and self.low is None):
            raise ValueError("give a value, or low and high, or all three")
        return self


class Study(Record):
    """A whole study file."""

    title: Text
    description: str = ""
    pairs: Annotated[tuple[PairSpec, ...], Field(min_length=1)]
    tasks: Annotated[tuple[TaskSpec, ...], Field(min_length=1)]
    analyses: Annotated[tuple[AnalysisSpec, ...], Field(min_length=1)]
    printed: tuple[PrintedValue, ...] = ()

    @model_validator(mode="after")
    def _names_fit(self) -> Study:
        pairs, tasks = [p.name for p in self.pairs], [t.key for t in self.tasks]
        for where, names in (("pairs", pairs), ("tasks", tasks)):
            twice = [name for name, count in Counter(n.casefold() for n in names).items() if count > 1]
            if twice:
                hint = " (give one a `label`)" if where == "tasks" else ""
                raise ValueError(f"{where}: {twice[0]!r} is there twice: each needs its own name{hint}")
        for where, name, known in _references(self):
            if name not in known:
                raise ValueError(f"{where}: unknown {name!r}: {nearest(name, known)}")
        return self


@dataclass(frozen=True)
class Job:
    """One analysis of one pair on one task. `folder`: its place below the study's output folder, with / between parts.
    `comparison`: the options of the comparison of the same pair and task, where the job is one or builds on it."""

    pair: PairSpec
    task: TaskSpec
    analysis: AnalysisSpec
    folder: str
    comparison: CompareSettings | None = None

    @property
    def comparison_folder(self) -> str:
        """Where that comparison is."""
        return _folder(self.pair, self.task, "compare")


def read_study(path: str | Path) -> Study:
    """The study in a YAML file, with local folders and task files found beside it.

    Raises ValueError naming the file, the key and what is wrong with it, for unknown keys and names with the nearest
    known one; for jobs asked for twice; for analyses without the comparison that they build on; and for printed values
    that no job has.
    """
    path = Path(path)
    study, where = read_record(path, Study), ""
    from circuitkd.studies.quantities import job_of  # it knows the results, which know this file

    try:
        jobs(study)
        for i, printed in enumerate(study.printed):
            where = f"printed[{i}]: "
            job_of(study, printed)
    except ValueError as error:
        raise ValueError(f"{path}: {where}{error}") from error
    return _with_places(study, path.parent)


def jobs(study: Study) -> tuple[Job, ...]:
    """The study's jobs, pair by pair and task by task, comparisons first. Raises ValueError for one asked for twice, for
    none at all, and for circuits or roles without a comparison."""
    found = [job for pair in study.pairs for task in study.tasks for job in _jobs_of(study, pair, task)]
    if not found:
        raise ValueError("analyses: `pairs` and `tasks` leave no job at all")
    return tuple(found)


def _jobs_of(study: Study, pair: PairSpec, task: TaskSpec) -> Iterator[Job]:
    if task.pairs is not None and pair.name not in task.pairs:
        return
    asked = [
        a
        for a in sorted(study.analyses, key=lambda a: KINDS.index(a.kind))
        if (a.pairs is None or pair.name in a.pairs) and (a.tasks is None or task.key in a.tasks)
    ]
    kinds = [a.kind for a in asked]
    compared = next((a.options for a in asked if a.kind == "compare"), None)
    for analysis in asked:
        kind, where = analysis.kind, f"{pair.name} on {task.key}"
        if kinds.count(kind) > 1:
            raise ValueError(f"analyses: {kind!r} of {where} is asked for twice: restrict one by `pairs` or `tasks`")
        if kind in BUILT_ON_COMPARE and compared is None:
            raise ValueError(f"analyses: {kind!r} of {where} builds on its comparison: add `kind: compare` for it")
        basis = compared if kind in ("compare", *BUILT_ON_COMPARE) else None
        yield Job(pair, task, analysis, _folder(pair, task, kind), basis)


def _folder(pair: PairSpec, task: TaskSpec, kind: str) -> str:
    return f"{pair.name}/{task.key}/{kind}"


def _references(study: Study) -> Iterator[tuple[str, str, list[str]]]:
    """Every mention of a pair or a task as (where, name, known names)."""
    pairs, tasks = [p.name for p in study.pairs], [t.key for t in study.tasks]
    for i, task in enumerate(study.tasks):
        yield from ((f"tasks[{i}].pairs", name, pairs) for name in task.pairs or ())
    for i, analysis in enumerate(study.analyses):
        yield from ((f"analyses[{i}].pairs", name, pairs) for name in analysis.pairs or ())
        yield from ((f"analyses[{i}].tasks", name, tasks) for name in analysis.tasks or ())
    for i, printed in enumerate(study.printed):
        yield f"printed[{i}].pair", printed.pair, pairs
        yield f"printed[{i}].task", printed.task, tasks


def _with_places(study: Study, folder: Path) -> Study:
    """The study with the folders and files that lie beside its file named in full."""

    def place(name: str) -> str:
        beside = folder / name
        return str(beside.resolve()) if name not in TASKS and beside.exists() else name

    pairs = [p.model_copy(update={"teacher": place(p.teacher), "student": place(p.student)}) for p in study.pairs]
    tasks = [t.model_copy(update={"name": place(t.name)}) for t in study.tasks]
    return study.model_copy(update={"pairs": tuple(pairs), "tasks": tuple(tasks)})

"""Fates as one paragraph for a reader who never saw the papers: what the numbers show, and nothing more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from circuitkd.comparison.result import Comparison
from circuitkd.components import Component
from circuitkd.roles.fate_result import KINDS, Fate

SHOWN = 4


def summary(fates: Sequence[Fate], comparison: Comparison, *, heirs: Mapping[str, int]) -> str:
    """The paragraph; `heirs`: how many components of each type ("head", "mlp") are influential in the student. Where a
    model is not shown to do the task, only that is said."""
    teacher, student, task = comparison.teacher.name, comparison.student.name, comparison.task
    for name, estimate in ((teacher, comparison.performance.teacher), (student, comparison.performance.student)):
        if not estimate.low > 0:
            return (
                f"{name} is not shown to do {task} (its mean logit difference is {estimate.value:.2f}, 95 % interval from "
                f"{estimate.low:.2f}), so what became of the teacher's components on this task cannot be said."
            )
    important = [f for f in fates if f.teacher.influential]
    sentences = [
        _opening(fates, important, comparison),
        *_told(important, student, heirs),
        *_rest(fates, important),
        CAUTION,
    ]
    return " ".join(sentences)


def _opening(fates: Sequence[Fate], important: Sequence[Fate], comparison: Comparison) -> str:
    heads = sum(f.teacher.component.kind == "head" for f in fates)
    counted = f"{_number(heads, 'attention head')} and {_number(len(fates) - heads, 'MLP')}"
    if not important:
        return (
            f"{comparison.teacher.name} has {counted}; on {comparison.task} none of them is shown to matter by itself: "
            "switching off any one of them weakens the preference for the right answer too little, or too unevenly over "
            "the prompts, to count."
        )
    worst = max(important, key=lambda f: f.teacher.drop_percent)
    costs = f"{worst.teacher.component} (by {worst.teacher.drop_percent:.0f} %)"
    if len(important) == 1:
        told = f"one is shown to matter by itself: switching off {costs} weakens the preference for the right answer."
    else:
        told = (
            f"{len(important)} are shown to matter by themselves: switching one off weakens the preference for the right "
            f"answer, most of all {costs}."
        )
    return f"{comparison.teacher.name} has {counted}. On {comparison.task}, {told}"


def _told(important: Sequence[Fate], student: str, heirs: Mapping[str, int]) -> Iterable[str]:
    by_kind = {kind: [f for f in important if f.fate == kind] for kind in KINDS}
    if kept := by_kind["preserved"]:
        yield (
            f"{student} kept {len(kept)} of these: for each it has a component that is alike and matters as well "
            f"({_shown(f'{f.teacher.component} as {f.student.component}' for f in kept)})."
        )
        if heavier := [f for f in kept if f.student.drop_interval[0] > f.teacher.drop_interval[1]]:
            yield f"The student depends on {len(heavier)} of them more heavily than the teacher (their intervals do not meet)."
    if merged := by_kind["merged"]:
        yield from _merged(merged, important, heirs)
    if split := by_kind["split"]:
        pieces = (f"{f.teacher.component} over {', '.join(map(str, (f.student.component, *f.others)))}" for f in split)
        yield (
            f"{len(split)} {_was(split)} split: for each, several components that matter in the student are most like it "
            f"({_shown(pieces)})."
        )
    if changed := by_kind["repurposed"]:
        pieces = (f"{f.teacher.component}: {f.reason}" for f in changed)
        yield f"{len(changed)} changed in weight or in role ({_shown(pieces)})."
    if gone := by_kind["discarded"]:
        pieces = (str(f.teacher.component) for f in gone)
        yield (
            f"{len(gone)} {_was(gone)} discarded ({_shown(pieces)}): nothing in the student is alike, or what is most alike is "
            "not shown to matter there."
        )


def _merged(merged: Sequence[Fate], important: Sequence[Fate], heirs: Mapping[str, int]) -> Iterable[str]:
    """Mergers, and whether there was another way: more components are alike to some that matter than there are of these."""
    into: dict[Component, list[Fate]] = {}
    for fate in merged:
        into.setdefault(fate.student.component, []).append(fate)
    pieces = (
        f"into {one}: " + ", ".join(f"{f.teacher.component} (similarity {f.similarity:.2f})" for f in parts)
        for one, parts in into.items()
    )
    yield (
        f"{len(merged)} were merged: where the teacher has several, one component of the student is what each of them is "
        f"most like; {_shown(pieces)}."
    )
    for kind, name in (("head", "head"), ("mlp", "MLP")):
        like = [
            f for f in important if f.student.influential and f.student.component.kind == kind and f.similarity > f.null
        ]
        if len(like) > heirs[kind] and any(f in merged for f in like):
            only = f"Only {_number(heirs[kind], name)} {'matters' if heirs[kind] == 1 else 'matter'} in the student"
            yield (
                f"{only}, so the {len(like)} teacher {name}s that are like such could not have one each: some had to share, "
                "whatever the student learned."
            )


def _rest(fates: Sequence[Fate], important: Sequence[Fate]) -> Iterable[str]:
    others = [f for f in fates if not f.teacher.influential]
    if others and important:
        gained = sum(f.student.influential and f.fate == "repurposed" for f in others)
        has = "has" if gained == 1 else "have"
        more = f", though {gained} of them {has} a counterpart that matters in the student" if gained else ""
        rest = f"{len(others)} others are" if len(others) > 1 else "One other is"
        yield f"{rest} not shown to matter in the teacher, one at a time, so their fates say little here{more}."


CAUTION = (
    "Being alike means that heads attend alike, or that what components write varies alike, more than with an untrained "
    "student; it does not prove that two components compute the same, and other tasks may show other fates."
)


def _shown(pieces: Iterable[str]) -> str:
    """Some pieces, and how many more there are."""
    found = list(pieces)
    more = [f"{len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "; ".join(found[:SHOWN] + more)


def _number(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _was(fates: Sequence[Fate]) -> str:
    return "was" if len(fates) == 1 else "were"

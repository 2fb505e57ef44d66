"""Fates as one paragraph for a reader who never saw the papers: what the numbers show, and nothing more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from circuitkd.comparison.result import Comparison
from circuitkd.components import Component
from circuitkd.roles.fate_result import Fate

SHOWN = 4


def summary(fates: Sequence[Fate], comparison: Comparison, *, heirs: int) -> str:
    """The paragraph; `heirs`: how many components of the student are influential. Where a model is not shown to do the
    task, only that is said."""
    teacher, student, task = comparison.teacher.name, comparison.student.name, comparison.task
    for name, estimate in ((teacher, comparison.performance.teacher), (student, comparison.performance.student)):
        if estimate.low <= 0:
            return (
                f"{name} is not shown to do {task} (its mean logit difference is {estimate.value:.2f}, 95 % interval from "
                f"{estimate.low:.2f}), so what became of the teacher's components on this task cannot be said."
            )
    important = [f for f in fates if f.teacher.influential]
    sentences = [
        _opening(fates, important, comparison),
        *_told(important, student, heirs),
        *_rest(fates, important),
        _caution(),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _opening(fates: Sequence[Fate], important: Sequence[Fate], comparison: Comparison) -> str:
    heads = sum(f.teacher.component.kind == "head" for f in fates)
    counted = f"{heads} attention heads and {_number(len(fates) - heads, 'MLP')}"
    if not important:
        return (
            f"{comparison.teacher.name} has {counted}; on {comparison.task} none of them matters by itself: switching off "
            "any one of them changes the answers too little to tell from chance."
        )
    worst = max(important, key=lambda f: f.teacher.drop_percent)
    matter = f"{len(important)} matter" if len(important) > 1 else "one matters"
    return (
        f"{comparison.teacher.name} has {counted}. On {comparison.task}, {matter} by "
        f"{'themselves' if len(important) > 1 else 'itself'}: switching one off weakens the preference for the right answer, "
        f"most of all {worst.teacher.component} (by {worst.teacher.drop_percent:.0f} %)."
    )


def _told(important: Sequence[Fate], student: str, heirs: int) -> Iterable[str]:
    by_kind = {
        kind: [f for f in important if f.fate == kind]
        for kind in ("preserved", "merged", "split", "repurposed", "discarded")
    }
    if kept := by_kind["preserved"]:
        yield (
            f"{student} kept {len(kept)} of these: it has a component that is alike and matters as well "
            f"({_shown(f'{f.teacher.component} as {f.student.component}' for f in kept)})."
        )
        if heavier := [f for f in kept if f.student.drop_interval[0] > f.teacher.drop_interval[1]]:
            yield f"The student depends on {len(heavier)} of them more heavily than the teacher (their intervals do not meet)."
    if merged := by_kind["merged"]:
        yield from _merged(merged, few=len(important) > heirs)
    if split := by_kind["split"]:
        pieces = (f"{f.teacher.component} over {', '.join(map(str, (f.student.component, *f.others)))}" for f in split)
        yield f"{len(split)} {_was(split)} split ({_shown(pieces)})."
    if changed := by_kind["repurposed"]:
        pieces = (f"{f.teacher.component}: {f.reason}" for f in changed)
        yield f"{len(changed)} {_was(changed)} put to another use ({_shown(pieces)})."
    if gone := by_kind["discarded"]:
        pieces = (str(f.teacher.component) for f in gone)
        yield (
            f"{len(gone)} {_was(gone)} discarded ({_shown(pieces)}): nothing in the student is alike, or what is alike is not "
            "shown to matter there."
        )


def _merged(merged: Sequence[Fate], *, few: bool) -> Iterable[str]:
    """`few`: fewer components matter in the student than in the teacher."""
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
    if few:
        yield "As fewer components matter in the student than in the teacher, some had to share."


def _rest(fates: Sequence[Fate], important: Sequence[Fate]) -> Iterable[str]:
    others = [f for f in fates if not f.teacher.influential]
    if others and important:
        gained = [f for f in others if f.fate == "repurposed"]
        more = f", though {_number(len(gained), 'of them')} came to matter in the student" if gained else ""
        rest = f"{len(others)} others matter" if len(others) > 1 else "One other matters"
        yield f"{rest} too little in the teacher, one at a time, to say what became of that here{more}."


def _caution() -> str:
    return (
        "Being alike means attending to the same words, or varying along the same directions, more than an untrained model "
        "would by chance; it does not prove that two components compute the same, and other tasks may show other fates."
    )


def _shown(pieces: Iterable[str]) -> str:
    """Some pieces, and how many more there are."""
    found = list(pieces)
    more = [f"{len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "; ".join(found[:SHOWN] + more)


def _number(n: int, what: str) -> str:
    return f"{n} {what}" if what == "of them" or n == 1 else f"{n} {what}s"


def _was(fates: Sequence[Fate]) -> str:
    return "was" if len(fates) == 1 else "were"

"""What became of the teacher's components as a picture: teacher on the left, student on the right, a ribbon between a
component and what it became.

A ribbon is as thick as the component is influential, at its left end in the teacher and at its right end in the student;
ribbons that end in one component share its thickness. Discarded components have a ribbon that leads nowhere. Only what
matters is drawn: influential teacher components, those whose lookalike came to matter, and influential student
components that none of these became. Only geometry, in pixels; a template draws SVG.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from circuitkd.comparison.result import Comparison
from circuitkd.components import Component
from circuitkd.reports.wording import fixed, short_names
from circuitkd.roles.fate_result import KINDS, Fate, Fates, Side
from circuitkd.roles.fates import component_sides
from circuitkd.roles.role_scoring import RoleScores

MOST, NEW = 30, "matter in the student only"
SPAN, LETTER, MARGIN, NARROWEST = 320.0, 6.0, 30.0, 110.0  # width of the ribbons, of a letter, around names
SCALE, THINNEST, SLOT, START, HEADING, GAP = 42.0, 3.0, 36.0, 26.0, 30.0, 10.0


@dataclass(frozen=True)
class Node:
    """One component: its bar from `y` down to `y + height`, and what stands beside it."""

    component: Component
    y: float
    height: float
    note: str

    @property
    def middle(self) -> float:
        """Where its name stands."""
        return self.y + self.height / 2


@dataclass(frozen=True)
class Ribbon:
    """From a teacher component to a student component (None: it leads nowhere, and `end` is where)."""

    fate: str
    teacher: Component
    student: Component | None
    path: str
    title: str
    end: tuple[float, float] = (0.0, 0.0)
    lookalike: str = ""


@dataclass(frozen=True)
class FateDiagram:
    """Ribbons reach from x = 0 to SPAN; `left` and `right` is the room for names beside them. `headings`: (y, fate, text),
    `new`: (y, text) above the student components that nothing became. `hidden`: how many that matter are not drawn."""

    height: float
    left: float
    right: float
    teacher: tuple[Node, ...]
    student: tuple[Node, ...]
    ribbons: tuple[Ribbon, ...]
    headings: tuple[tuple[float, str, str], ...]
    new: tuple[float, str] | None
    hidden: int


def fate_diagram(
    fates: Fates, comparison: Comparison, *, student_roles: RoleScores | None = None
) -> FateDiagram | None:
    """The picture of these fates; None where nothing matters, and where a model is not shown to do the task, so that what
    became of its components cannot be said. `comparison`: the one that they rest on; `student_roles`: for the names."""
    matter = sorted((f for f in fates.fates if _matters(f)), key=_weight, reverse=True)
    if not matter or not (comparison.performance.teacher.low > 0 and comparison.performance.student.low > 0):
        return None
    shown = matter[:MOST]
    left, headings, bottom = _left(shown)
    sides = {side.component: side for side in component_sides(comparison.student_sweep, student_roles)}
    reached = {end for f in matter for end in _ends(f)}
    new = [side for component, side in sides.items() if side.influential and component not in reached]
    names = short_names(fates.teacher, fates.student)
    right, new_heading, lowest = _right(shown, left, sides=sides, new=new)
    return FateDiagram(
        height=max(bottom, lowest) + 6,
        left=_room([names[0], *(n.note for n in left.values())]),
        right=_room([names[1], *([NEW] if new else []), *(n.note for n in right.values())]),
        teacher=tuple(left.values()),
        student=tuple(right.values()),
        ribbons=_ribbons(shown, left, right),
        headings=headings,
        new=new_heading,
        hidden=len(matter) - len(shown),
    )


def _matters(fate: Fate) -> bool:
    return fate.teacher.influential or fate.fate == "repurposed"


def _weight(fate: Fate) -> float:
    return max(fate.teacher.influence, fate.student.influence)


def _room(texts: Iterable[str]) -> float:
    """Width of the longest text beside the nodes."""
    return max(MARGIN + LETTER * max(len(text) for text in texts), NARROWEST)


def _ends(fate: Fate) -> tuple[Component, ...]:
    """The student components that a teacher component became."""
    if fate.fate == "discarded":
        return ()
    return (fate.student.component, *(fate.others if fate.fate == "split" else ()))


def _thickness(influence: float) -> float:
    return max(SCALE * influence, THINNEST)


def _left(shown: Sequence[Fate]) -> tuple[dict[Component, Node], tuple[tuple[float, str, str], ...], float]:
    """Teacher components in groups of one fate, the heaviest first, those that merged into one beside each other."""
    nodes: dict[Component, Node] = {}
    headings, y = [], START
    for kind in KINDS:
        group = [f for f in shown if f.fate == kind]
        if not group:
            continue
        if kind == "merged":
            heaviest = {f.student.component: max(_weight(g) for g in group if g.student == f.student) for f in group}
            group.sort(key=lambda f: (-heaviest[f.student.component], f.student.component, -f.teacher.influence))
        headings.append((y + 14, kind, f"{kind} {len(group)}"))
        y += HEADING
        for fate in group:
            y = _place(nodes, fate.teacher.component, y, influence=fate.teacher.influence, note=_note(fate.teacher))
        y += GAP
    return nodes, tuple(headings), y


def _right(
    shown: Sequence[Fate], left: dict[Component, Node], *, sides: dict[Component, Side], new: Sequence[Side]
) -> tuple[dict[Component, Node], tuple[float, str] | None, float]:
    """Student components, each about as high as what became it, then the new ones."""
    sources: dict[Component, list[Node]] = {}
    for fate in shown:
        for end in _ends(fate):
            sources.setdefault(end, []).append(left[fate.teacher.component])
    middle = {end: sum(n.middle for n in nodes) / len(nodes) for end, nodes in sources.items()}
    nodes: dict[Component, Node] = {}
    y = START
    for end in sorted(sources, key=lambda end: middle[end]):
        thick = max(_thickness(sides[end].influence), THINNEST * len(sources[end]))
        y = max(y, middle[end] - max(thick, SLOT) / 2)
        y = _place(nodes, end, y, influence=thick / SCALE, note=_note(sides[end]))
    if not new:
        return nodes, None, y
    heading = (y + 24, NEW)
    y += HEADING + GAP
    for side in sorted(new, key=lambda s: -s.influence):
        y = _place(nodes, side.component, y, influence=side.influence, note=_note(side))
    return nodes, heading, y


def _place(nodes: dict[Component, Node], component: Component, y: float, *, influence: float, note: str) -> float:
    """Put a node into the slot at `y`; where the next one begins."""
    height = _thickness(influence)
    slot = max(height + 4, SLOT)
    nodes[component] = Node(component, y + (slot - height) / 2, height, note)
    return y + slot


def _note(side: Side) -> str:
    return " · ".join([fixed(side.influence), *([", ".join(side.roles)] if side.roles else [])])


def _ribbons(shown: Sequence[Fate], left: dict[Component, Node], right: dict[Component, Node]) -> tuple[Ribbon, ...]:
    """From above to below on both sides, so that ribbons of one component do not cross."""
    order = sorted(shown, key=lambda f: left[f.teacher.component].y)
    into = {end: sum(end in _ends(f) for f in shown) for end in right}
    used: dict[Component, float] = {}
    found = []
    for fate in order:
        node, ends = left[fate.teacher.component], sorted(_ends(fate), key=lambda end: right[end].y)
        title = f"{fate.teacher.component}, {fate.fate}: {fate.reason}"
        if not ends:
            x = 0.42 * SPAN
            path = f"M0 {node.y:.1f}Q{x / 2:.1f} {node.y:.1f} {x:.1f} {node.middle:.1f}"
            path += f"Q{x / 2:.1f} {node.y + node.height:.1f} 0 {node.y + node.height:.1f}Z"
            lookalike = f"most like {fate.student.component}"
            found.append(Ribbon(fate.fate, node.component, None, path, title, (x, node.middle), lookalike))
        for i, end in enumerate(ends):
            part = node.height / len(ends)
            share = right[end].height / into[end]
            start = right[end].y + used.get(end, 0.0)
            used[end] = used.get(end, 0.0) + share
            path = _band(node.y + i * part, part, start, share)
            found.append(Ribbon(fate.fate, node.component, end, path, title))
    return tuple(found)


def _band(y: float, thick: float, end: float, share: float) -> str:
    """A band from (0, y) to (SPAN, end), `thick` at its left and `share` at its right."""
    a, b = 0.5 * SPAN, 0.45 * SPAN
    there = f"M0 {y:.1f}C{a:.1f} {y:.1f} {b:.1f} {end:.1f} {SPAN:g} {end:.1f}"
    back = f"V{end + share:.1f}C{b:.1f} {end + share:.1f} {a:.1f} {y + thick:.1f} 0 {y + thick:.1f}Z"
    return there + back

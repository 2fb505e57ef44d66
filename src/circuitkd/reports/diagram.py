"""The diagram of a circuit: layers upward from the embedding to the logits, a box for each component, a wire for each
edge.

Heads of a layer stand in one row, the MLP above them (beside them where blocks are parallel); K/V groups of
grouped-query models are small boxes below the heads that read them. The embedding and the logits are bars as wide as
the drawing. A wire is as wide as its effect and coloured by what it enters: query, key, value, an MLP, the logits. A
box is filled by its marginal loss. Layers without a component are named, not drawn.

Only the strongest `DRAWN` edges are drawn; the legend says how many there are. Geometry and words only: a template
makes SVG of it, the style sheet colours it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from circuitkd.circuit_analysis import CircuitComparison
from circuitkd.circuits.circuit import Circuit
from circuitkd.circuits.eap_ig import readers
from circuitkd.components import Component, Edge
from circuitkd.reports.layered import Arrangement, Wire, arrange
from circuitkd.reports.rows import Row, stacked
from circuitkd.reports.wording import fixed

DRAWN = 60
LABELS, MARGIN, LEAST_WIDTH = 78.0, 12.0, 340.0  # left of the boxes, right of them, and what the legend needs
WIDTHS = {"head": 72.0, "mlp": 72.0, "kv": 60.0}
PORTS = {"q": -0.27, "k": 0.0, "v": 0.27}  # of the box's width, from its middle
THINNEST, WIDEST = 1.4, 9.0
NAMES = {"q": "query", "k": "key", "v": "value", "mlp": "MLP", "logits": "logits"}
READS = "reads"  # a K/V group's link to a head, which is no edge


@dataclass(frozen=True)
class Box:
    """A component or a bar. `x`, `y`: the left upper corner. `share`: marginal loss over the largest of the circuit, 0
    to 1. `ports`: place and letter of each slot in use. `is_unmatched`: to be marked."""

    name: str
    kind: str
    x: float
    y: float
    width: float
    height: float
    note: str = ""
    title: str = ""
    share: float = 0.0
    ports: tuple[tuple[float, str], ...] = ()
    is_unmatched: bool = False


@dataclass(frozen=True)
class Curve:
    """An edge as an SVG path from `sender` to `receiver`. `kind`: what it enters (q, k, v, mlp, logits; READS)."""

    path: str
    kind: str
    width: float
    title: str
    sender: str
    receiver: str
    is_negative: bool


@dataclass(frozen=True)
class Diagram:
    """What the template draws, in pixels. `kinds`: name by kind of the curves, for the legend; `drawn` of `total` edges
    are in it, the widest of `widest` logits."""

    width: float
    height: float
    left: float
    boxes: tuple[Box, ...]
    curves: tuple[Curve, ...]
    rows: tuple[Row, ...]
    kinds: dict[str, str]
    label: str
    drawn: int
    total: int
    widest: float


def diagram(circuit: Circuit, *, unmatched: Collection[Component] = (), most: int = DRAWN) -> Diagram:
    """Lay out a circuit. `unmatched`: components to mark, whose match is not in the other circuit. `most`: how many
    edges are drawn, the strongest first."""
    scores = dict(zip(circuit.edges, circuit.edge_scores, strict=True))
    order = sorted(circuit.edges, key=lambda e: -_size(scores[e]))
    shown = [edge for edge in circuit.edges if edge in set(order[:most])]
    layout = _Layout(circuit, shown, scores)
    kinds = {_kind(edge) for edge in shown}
    return Diagram(
        width=LABELS + layout.width + MARGIN,
        height=layout.height,
        left=LABELS,
        boxes=tuple(layout.boxes({str(c) for c in unmatched})),
        curves=tuple(layout.curves()),
        rows=layout.rows,
        kinds={kind: name for kind, name in NAMES.items() if kind in kinds},
        label=f"Circuit of {circuit.model.name} on {circuit.task or 'no task'}",
        drawn=len(shown),
        total=len(circuit.edges),
        widest=layout.widest,
    )


def unmatched(found: CircuitComparison) -> list[Component]:
    """The teacher circuit's components whose match is not in the student's circuit."""
    return [n.teacher for n in found.overlap.nodes if not n.found] if found.overlap else []


def matches(found: CircuitComparison) -> dict[str, str]:
    """The student's component by the teacher's, for those of the circuit."""
    return {str(n.teacher): str(n.student) for n in found.overlap.nodes if n.student} if found.overlap else {}


class _Layout:
    """Places of everything; the bars are the first and the last row."""

    def __init__(self, circuit: Circuit, shown: Sequence[Edge], scores: dict[Edge, float]) -> None:
        self.circuit, self.scores = circuit, scores
        self.links = [*shown, *_reading(circuit, shown)]
        self.widest = max((_size(scores[edge]) for edge in shown), default=0.0)
        groups = {edge.receiver for edge in shown if edge.receiver.kind == "kv"}
        self.rows, self.height = stacked(circuit, groups)
        self.place = {c: (r, i) for r, row in enumerate(self.rows) for i, c in enumerate(row.members)}
        self.widths = [[self._width(c) for c in row.members] for row in self.rows]
        found = self._arranged()
        self.width = max(found.width, LEAST_WIDTH)
        shift = LABELS + (self.width - found.width) / 2
        self.middles = {c: found.boxes[r][i] + shift for c, (r, i) in self.place.items() if c.layer is not None}
        self.lanes = [[x + shift for x in lanes] for lanes in found.lanes]
        self.ends = self._ends()

    def boxes(self, unmatched: Collection[str]) -> Iterator[Box]:
        """The bars, then all components from below."""
        for row in (self.rows[0], self.rows[-1]):
            name = str(row.members[0])
            yield Box(name, "bar", LABELS, row.top, self.width, row.height, title=f"{name}: one end of every path")
        losses = self._losses()
        largest = max((loss for loss in losses.values() if loss > 0), default=0.0)
        for component, (r, i) in self.place.items():
            if component.layer is None:
                continue
            row, width, loss = self.rows[r], self.widths[r][i], losses.get(component)
            slots = {e.slot for e in self.links if e.receiver == component and e.slot}
            yield Box(
                name=str(component),
                kind=component.kind,
                x=self.middles[component] - width / 2,
                y=row.top,
                width=width,
                height=row.height,
                note="" if loss is None else fixed(loss, 1),
                title=_box_title(component, loss),
                share=max(0.0, loss / largest) if loss is not None and largest else 0.0,
                ports=tuple((self.middles[component] + PORTS[s] * width, s) for s in PORTS if s in slots),
                is_unmatched=str(component) in unmatched,
            )

    def curves(self) -> Iterator[Curve]:
        """The wires, the widest first, so that thin ones are not hidden."""
        order = sorted(range(len(self.links)), key=lambda i: -self._strength(self.links[i]))
        for i in order:
            edge = self.links[i]
            strength, is_link = self._strength(edge), _kind(edge) == READS
            span = WIDEST - THINNEST
            yield Curve(
                path=self._path(i),
                kind=_kind(edge),
                width=THINNEST + (span * strength / self.widest if self.widest and not is_link else 0.0),
                title=f"{edge.receiver} reads {edge.sender}" if is_link else self._title(edge),
                sender=str(edge.sender),
                receiver=str(edge.receiver),
                is_negative=self.scores.get(edge, 0.0) < 0,
            )

    def _arranged(self) -> Arrangement:
        wires = []
        for edge in self.links:
            (low, lower), (high, upper) = self.place[edge.sender], self.place[edge.receiver]
            is_bar = edge.sender.layer is None, edge.receiver.layer is None
            ends = None if is_bar[0] else lower, None if is_bar[1] else upper
            wires.append(Wire(low, ends[0], high, ends[1], self._port(edge)))
        return arrange([[], *self.widths[1:-1], []], wires)

    def _width(self, component: Component) -> float:
        """Wide enough for its wires to leave and, at an MLP, to enter side by side."""
        if component.layer is None:
            return 0.0
        leaving = sum(edge.sender == component for edge in self.links)
        entering = sum(edge.receiver == component for edge in self.links) if component.kind == "mlp" else 0
        return max(WIDTHS[component.kind], 16 + 8.0 * max(leaving, entering))

    def _ends(self) -> dict[int, tuple[float, float]]:
        """Where each wire leaves its sender and enters its receiver, ordered so that they do not cross there."""
        starts: dict[int, float] = {}
        ends: dict[int, float] = {}
        for component in self.place:
            if component.layer is None:
                continue
            out = [i for i, e in enumerate(self.links) if e.sender == component]
            out.sort(key=lambda i: self.lanes[i][0] if self.lanes[i] else self._target(self.links[i]))
            starts |= dict(zip(out, self._spread(component, len(out)), strict=True))
            into = [i for i, e in enumerate(self.links) if e.receiver == component and not e.slot]
            into.sort(key=lambda i: self.lanes[i][-1] if self.lanes[i] else self.middles.get(self.links[i].sender, 0.0))
            ends |= dict(zip(into, self._spread(component, len(into)), strict=True))
        found = {}
        for i, edge in enumerate(self.links):
            end = ends.get(i, self._target(edge))
            if edge.receiver.layer is None:
                end = self.lanes[i][-1] if self.lanes[i] else starts.get(i, LABELS + self.width / 2)
            found[i] = starts.get(i, self.lanes[i][0] if self.lanes[i] else end), end
        return found

    def _target(self, edge: Edge) -> float:
        """Where an edge enters a slot; the middle of any other receiver."""
        return self.middles.get(edge.receiver, LABELS + self.width / 2) + self._port(edge)

    def _port(self, edge: Edge) -> float:
        """Place of an edge's slot from the middle of its receiver."""
        row, index = self.place[edge.receiver]
        return PORTS[edge.slot] * self.widths[row][index] if edge.slot else 0.0

    def _spread(self, component: Component, count: int) -> list[float]:
        """`count` places along a box, 8 pixels apart or less."""
        row, index = self.place[component]
        step = min(8.0, (self.widths[row][index] - 16) / max(1, count - 1))
        return [self.middles[component] + step * (i - (count - 1) / 2) for i in range(count)]

    def _path(self, i: int) -> str:
        """From the top of the sender through the lanes to the bottom of the receiver, vertical at every row."""
        edge, (start, end) = self.links[i], self.ends[i]
        low, high = self.place[edge.sender][0], self.place[edge.receiver][0]
        xs = [start, *self.lanes[i], end]
        parts = [f"M{start:.1f} {self.rows[low].top:.1f}"]
        for row, (x, next_x) in zip(range(low, high), pairwise(xs), strict=True):
            y, below = self.rows[row].top, self.rows[row + 1].top + self.rows[row + 1].height
            middle = (y + below) / 2
            parts.append(f"C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {below:.1f}")
            if row + 1 < high:
                parts.append(f"V{self.rows[row + 1].top:.1f}")
        return "".join(parts)

    def _strength(self, edge: Edge) -> float:
        return _size(self.scores.get(edge, 0.0))

    def _title(self, edge: Edge) -> str:
        score = self.scores[edge]
        into = f", its {NAMES[edge.slot]}" if edge.slot else ""
        text = f"{edge.sender} → {edge.receiver}{into}: "
        if score != score:
            return f"{text}no score"
        whole = self.circuit.evaluation.circuit if self.circuit.evaluation else 0.0
        share = f" ({fixed(100 * score / whole, 1)} % of the circuit’s logit difference)" if whole else ""
        return f"{text}effect {fixed(score, 3)} logits{share}"

    def _losses(self) -> dict[Component, float]:
        if self.circuit.evaluation is None:
            return {}
        return dict(zip(self.circuit.components, self.circuit.evaluation.minimality, strict=True))


def _box_title(component: Component, loss: float | None) -> str:
    if component.kind == "kv":
        return f"{component}: a key and value that several heads read"
    if loss is None:
        return str(component)
    return f"{component}: without it the circuit loses {fixed(loss, 1)} points of the model’s logit difference"


def _reading(circuit: Circuit, shown: Sequence[Edge]) -> list[Edge]:
    """From each K/V group that is written to, to the circuit's heads that read it."""
    groups = dict.fromkeys(edge.receiver for edge in shown if edge.receiver.kind == "kv")
    return [Edge(g, head) for g in groups for head in readers(g, circuit.model) if head in circuit.components]


def _kind(edge: Edge) -> str:
    if edge.sender.kind == "kv":
        return READS
    return edge.slot or edge.receiver.kind


def _size(score: float) -> float:
    """How strong an edge is drawn: |score|, 0 for none."""
    return abs(score) if score == score else 0.0

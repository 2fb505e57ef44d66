"""What study files may ask of circuits (DC Table 1, section 3.1.1, Appendix N), for teacher and student."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from circuitkd.circuits.circuit import Circuit
from circuitkd.comparison.performance import Estimate
from circuitkd.studies.job_kinds import StudyCircuits
from circuitkd.studies.measured import SIDES, Quantity, chosen, numbered, plain, scaled

Read = Callable[[Circuit, str], Estimate]


def _retained(circuit: Circuit, _: str) -> Estimate:
    e = circuit.require_evaluation()
    return scaled(Estimate(e.retained, *e.retained_interval), 100)


def _without(circuit: Circuit, _: str) -> Estimate:
    return plain(circuit.require_evaluation().complement)


def _minimality(circuit: Circuit, head: str) -> Estimate:
    names = [str(c) for c in circuit.components]
    return plain(circuit.minimality[chosen(head, names, what="component in the circuit")])


def _circuit(side: str, read: Read) -> Callable[[StudyCircuits, str], Estimate]:
    def of(result: StudyCircuits, what: str) -> Estimate:
        circuit: Circuit | None = getattr(result.found, side)
        if circuit is None:
            raise ValueError(f"the {side} has no circuit ({'; '.join(result.found.missing)})")
        return read(circuit, what)

    return of


def _at(side: str, read: Callable[[Circuit], float]) -> Callable[[StudyCircuits, str], Estimate]:
    def of(result: StudyCircuits, threshold: str) -> Estimate:
        sweep = getattr(result, f"{side}_thresholds")
        if sweep is None:
            raise ValueError(f"there are no thresholds of the {side}")
        _, wanted = numbered(f"at {threshold}", "at")
        near = [i for i, t in enumerate(sweep.thresholds) if np.isclose(t, wanted)]
        if not near:
            raise ValueError(f"threshold {threshold} was not asked for: there are {sweep.thresholds}")
        return plain(read(sweep.circuits[near[0]]))

    return of


def _of_side(side: str) -> dict[str, Quantity]:
    threshold = "a threshold like 0.1"
    whole: dict[str, tuple[str, Read, str]] = {
        "retained": ("%", _retained, ""),
        "without-circuit": ("logits", _without, ""),
        "circuit-drop": ("points", _minimality, "a component of the circuit, like L4H4"),
        "nodes": ("nodes", lambda circuit, _: plain(len(circuit.components)), ""),
        "edges": ("edges", lambda circuit, _: plain(len(circuit.edges)), ""),
    }
    swept: dict[str, tuple[str, Callable[[Circuit], float]]] = {
        "retained-at": ("%", lambda circuit: 100 * circuit.retained),
        "left-without-at": ("%", lambda circuit: 100 * (1 - circuit.completeness)),
        "nodes-at": ("nodes", lambda circuit: float(len(circuit.components))),
        "heads-at": ("heads", lambda circuit: float(len(circuit.heads))),
        "mlps-at": ("MLPs", lambda circuit: float(len(circuit.mlps))),
    }
    return {
        f"{side}-{name}": Quantity("circuits", unit, _circuit(side, read), of)
        for name, (unit, read, of) in whole.items()
    } | {
        f"{side}-{name}": Quantity("circuits", unit, _at(side, read), threshold) for name, (unit, read) in swept.items()
    }


CIRCUIT_QUANTITIES: Mapping[str, Quantity] = {k: v for side in SIDES for k, v in _of_side(side).items()}

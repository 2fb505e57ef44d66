"""Attention along pairs of positions as a matrix product: a role's own pairs, and those of many shuffles of it.

A set of pairs (query, key) becomes weights on the flattened pattern [pos * pos]: the mean over its queries of the sum
over their keys. Beside it stands what spread attention gives: the mean over queries of keys / visible positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from circuitkd.roles.role_definitions import Arc, Slot
from circuitkd.roles.scenes import Scene

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ArcSets:
    """`weights` [set, pos * pos]; `spread` [set]: what spread attention gives."""

    weights: csr_array
    spread: Floats


def own_arcs(slots: Sequence[Slot], scene: Scene, *, is_causal: bool) -> ArcSets:
    """The pairs of all slots, a set for each query."""
    of_query: dict[int, list[Arc]] = {}
    for query, key in sorted({arc for slot in slots for arc in slot.arcs}):
        of_query.setdefault(query, []).append((query, key))
    return _arc_sets(_rows(list(of_query.values()), scene.n_pos), scene, is_causal)


def shuffled_arcs(
    slots: Sequence[Slot], scene: Scene, *, named: frozenset[Arc], draws: int, seed: int, is_causal: bool
) -> ArcSets | None:
    """`draws` sets, each with one of the others in every slot, without the pairs in `named`; None without a choice.

    Slots that have nothing to choose from take no part. The same seed chooses alike in other scenes (the others in the
    middle of the list in all of them, say): a head that likes a position likes it in every scene.
    """
    rng, total = np.random.default_rng(seed), None
    for choices in _choices(slots, named):
        chosen = (rng.random(draws) * len(choices)).astype(np.intp)
        picked = _rows(choices, scene.n_pos)[chosen]
        total = picked if total is None else total + picked
    return None if total is None else _arc_sets(total, scene, is_causal)


def count_shuffles(slots: Sequence[Slot], *, named: frozenset[Arc]) -> int:
    """How many different shuffles there are."""
    return math.prod([len(choices) for choices in _choices(slots, named)]) if slots else 0


def _choices(slots: Sequence[Slot], named: frozenset[Arc]) -> list[list[list[Arc]]]:
    """For each slot that has any, what may be put there."""
    kept = [[[a for a in other if a not in named] for other in slot.others] for slot in slots]
    return [options for options in ([o for o in slot if o] for slot in kept) if options]


def _rows(arc_sets: Sequence[Sequence[Arc]], n_pos: int) -> csr_array:
    rows = [row for row, arcs in enumerate(arc_sets) for _ in arcs]
    columns = [q * n_pos + k for arcs in arc_sets for q, k in arcs]
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(arc_sets), n_pos**2))


def _arc_sets(rows: csr_array, scene: Scene, is_causal: bool) -> ArcSets:
    """Each pair counted once, however often it was drawn."""
    rows.data[:] = 1.0
    query = np.repeat(np.arange(scene.n_pos), scene.n_pos)
    of_query = csr_array((np.ones(len(query)), (np.arange(len(query)), query)))
    keys = (rows @ of_query).toarray()
    visible = np.arange(1, scene.n_pos + 1) if is_causal else np.full(scene.n_pos, scene.n_pos)
    queries = np.maximum((keys > 0).sum(axis=1), 1)
    return ArcSets(rows.multiply(1 / queries[:, None]).tocsr(), (keys / visible).sum(axis=1) / queries)

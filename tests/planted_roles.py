"""Models whose heads have known roles, because their weights are set by hand (see `planted.py` for how).

`sequence_roles`: "Lamp found in 3 . Boat found in 4 . ..." with every role that such prompts can show. `name_roles`:
"Then Mary and Paul went to the park . Paul gave a ball to", whose indirect objects and subjects are drawn from
different names, so that a head can tell them apart by the word. `heads`: role -> the head that has it; all other heads
attend almost evenly.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from circuitkd.components import Component
from circuitkd.models import CircuitModel
from circuitkd.tasks.base import Example, Task
from circuitkd.tasks.ioi import name_labels
from planted import Features, Head, idle_head, make_head, make_model, successor
from tiny_models import NAMES, NUMERALS, THINGS

OBJECTS, SUBJECTS = NAMES[:6], NAMES[6:]
CARRIERS, GIFTS, PLACES = THINGS[:10], ("ball", "book", "key", "hat"), ("store", "park", "school")
VERB, STRONG = "found", 12.0
END, NAMES_END = 22, 13  # the answer positions


@dataclass(frozen=True)
class PlantedRoles:
    """A model, a task, and which head has which role."""

    model: CircuitModel
    task: Task
    heads: dict[str, Component]


def sequence_roles(seed: int = 0, *, n: int = 24) -> PlantedRoles:
    """Layer 0 has the roles of one step, layer 1 those that read the previous token, and combinations."""
    f = Features((*NUMERALS, *CARRIERS, VERB, "in", "."), positions=24, heads=5)
    tok, numeral, here = f.block("tok").T, f.at("numeral")[:, None], _positions(f)
    at_end, ones = f.at("position", END)[:, None], f.at("constant")[:, None] / 30.0
    late = sum(p * f.at("position", p) for p in range(f.positions))[:, None]
    planted = {
        "previous token": _previous(f),
        "first-token sink": _copier(f, STRONG * ones, f.at("position", 0)[:, None]),
        "duplicate token": _copier(f, *_not_itself([STRONG * tok], [tok], here)),
        "numeral detection": _copier(f, *_not_itself([STRONG * numeral], [numeral], here)),
        "mover": _copier(f, STRONG * at_end, numeral),
        "induction": _copier(f, STRONG * tok, f.block("prev").T),
        "similar member": _copier(f, *_not_itself([STRONG * tok, STRONG * numeral], [tok, numeral], here)),
        "successor": _copier(f, at_end, 60 * numeral + late, output=_next_numeral(f) @ f.block("out") - f.block("out")),
    }
    return _made(f, planted, Task("planted-sequences", _many(_sequence, seed, n=n), origin="generated"))


def name_roles(seed: int = 0, *, n: int = 24) -> PlantedRoles:
    """Name mover, S-inhibition, previous token and induction heads."""
    f = Features((*NAMES, *GIFTS, *PLACES, *"Then and went to the . gave a".split()), positions=15, heads=4)
    at_end = f.at("position", NAMES_END)[:, None]
    objects, subjects = (sum(f.block("tok")[f.index[w]] for w in group)[:, None] for group in (OBJECTS, SUBJECTS))
    late = sum(p * f.at("position", p) for p in range(f.positions))[:, None]
    planted = {
        "previous token": _previous(f),
        "name mover": _copier(f, STRONG * at_end, objects),
        "S-inhibition": _copier(f, at_end, 40 * subjects + 2 * late),
        "first-token sink": _copier(f, STRONG * f.at("constant")[:, None] / 30.0, f.at("position", 0)[:, None]),
        "induction": _copier(f, STRONG * f.block("tok").T, f.block("prev").T),
    }
    return _made(f, planted, Task("planted-names", _many(_names, seed, n=n), origin="generated"))


def backed_up_successor(n: int = 24) -> tuple[CircuitModel, Task]:
    """`planted.successor` with two movers, L0H0 and L0H1, and an MLP1 for which one of them is enough: its output no
    longer grows with what arrives from about 1 on, so that either is needed only when the other is gone."""
    planted = successor(n=n)
    words = (*NUMERALS, "and", "to")
    f = Features(words)
    late = sum(p * f.at("position", p) for p in range(f.positions))
    ones = f.at("constant")[:, None] / 30.0
    query, key = ones, (20 * f.at("numeral") + 4 * late)[:, None]
    mover = make_head(f, query=query, key=key, value=f.block("tok").T, output=f.block("prev"))
    heads = {(0, 0): mover, (0, 1): mover, (1, 0): idle_head(f, 4), (1, 1): idle_head(f, 5)}
    moved, written = f.block("prev").T, _next_numeral(f) @ f.block("out")
    mlp = (torch.cat([3 * moved, 1.1 * moved], 1), torch.cat([written / 2, -3 / 1.1 * written / 2]))
    return make_model(f, heads, mlps={1: mlp}, name="planted-backup"), planted.task


def _made(f: Features, planted: dict[str, Head], task: Task) -> PlantedRoles:
    """Two layers: those that read the previous token come second, with the rest where there is room."""
    second = [r for r in planted if r in ("induction", "similar member", "successor", "name mover", "S-inhibition")]
    layers = [[r for r in planted if r not in second], second]
    idle = {(layer, h): idle_head(f, 10 * layer + h) for layer in range(2) for h in range(f.heads)}
    heads = {place: replace(head, query=0.01 * head.query) for place, head in idle.items()}
    places = {role: Component("head", layer, h) for layer in range(2) for h, role in enumerate(layers[layer])}
    heads |= {(c.layer, c.head): planted[role] for role, c in places.items()}
    model = make_model(f, heads, mlps={}, name=task.name)
    return PlantedRoles(model, task, places)


def _positions(f: Features) -> Tensor:
    return torch.stack([f.at("position", p) for p in range(f.positions)], 1)


def _previous(f: Features) -> Head:
    here = _positions(f)
    return make_head(f, query=STRONG * here[:, 1:], key=here[:, :-1], value=f.block("tok").T, output=f.block("prev"))


def _copier(f: Features, query: Tensor, key: Tensor, *, output: Tensor | None = None) -> Head:
    """Attends by query and key, and copies the token into `out`, or writes `output` [word, feature] for it. It speaks
    against the next numeral, so that this isn't among the most likely ones by a tie."""
    written = f.block("out") - _next_numeral(f) @ f.block("out") if output is None else output
    return make_head(f, query=query, key=key, value=f.block("tok").T, output=0.1 * written)


def _next_numeral(f: Features) -> Tensor:
    """[word, word]: 1 from each numeral to the next."""
    follows = torch.zeros(len(f.words), len(f.words), dtype=torch.float64)
    for i in range(len(NUMERALS) - 1 if NUMERALS[0] in f.index else 0):
        follows[f.index[NUMERALS[i]], f.index[NUMERALS[i + 1]]] = 1.0
    return follows


def _not_itself(queries: list[Tensor], keys: list[Tensor], here: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys side by side, with a penalty for a position's own key."""
    return torch.cat([*queries, -3 * STRONG * here], 1), torch.cat([*keys, here], 1)


def _many(example, seed: int, *, n: int) -> tuple[Example, ...]:
    rng = random.Random(seed)
    return tuple(example(rng, i) for i in range(n))


def _sequence(rng: random.Random, number: int) -> Example:
    """Four rising members in five sentences; corrupted: four others."""
    start, carriers = rng.randrange(1, len(NUMERALS) - 4), rng.sample(CARRIERS, 5)
    others = rng.sample([n for n in range(1, len(NUMERALS)) if n not in (start + 3, start + 4)], 4)

    def text(members: list[int]) -> str:
        given = [f"{c} {VERB} in {m} ." for c, m in zip(carriers, members, strict=False)]
        return " ".join(given) + f" {carriers[4]} {VERB} in"

    labels = {f"member_{i + 1}": 5 * i + 3 for i in range(4)}
    clean, corrupted = text(list(range(start, start + 4))), text(others)
    return Example(str(number), clean, corrupted, f" {start + 4}", f" {start + 3}", labels)


def _names(rng: random.Random, number: int) -> Example:
    """Both orders of the two names; corrupted: three new ones."""
    gift, place = rng.choice(GIFTS), rng.choice(PLACES)
    io, subject = rng.choice(OBJECTS), rng.choice(SUBJECTS)
    new = rng.sample([name for name in NAMES if name not in (io, subject)], 3)

    def text(a: str, b: str, c: str) -> str:
        return f"Then {a} and {b} went to the {place} . {c} gave a {gift} to"

    first, second = (io, subject) if number % 2 else (subject, io)
    clean = text(first, second, subject)
    labels = name_labels(clean, io=io, subject=subject)
    return Example(str(number), clean, text(*new), f" {io}", f" {subject}", labels)

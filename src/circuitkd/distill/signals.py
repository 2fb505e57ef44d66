"""What the teacher gives to its student: top tokens, logits, and z of chosen heads.

Two ways to get them, with the same result. `LiveTeacher` runs the teacher on every batch, up to its last needed layer
only, or through to the answer where labels or logits are asked for. `CachedTeacher` runs it once over all training
prompts, keeps what is needed in one safetensors file, and finds a row by its tokens; a second run with the same teacher
and prompts takes the file. Nothing here has a gradient.

Points are the rows of CKA: the answer position of each prompt, or all its real tokens, prompt by prompt. Size of the
file, in floats: points x heads x d_head, and with logits also prompts x vocabulary.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from circuitkd.artifacts import write_atomically
from circuitkd.comparison.checks import one_of
from circuitkd.components import Component
from circuitkd.distill.data import answer_positions, collate, real_tokens
from circuitkd.interventions.capture import walk
from circuitkd.interventions.execution import fingerprint
from circuitkd.models import blocks
from circuitkd.models.circuit_model import CircuitModel

Points = Literal["answer", "tokens"]
POINTS: tuple[Points, ...] = ("answer", "tokens")
BATCH = 64


@dataclass(frozen=True)
class Needs:
    """What is asked of the teacher. `heads`: whose z, in this order (a head may occur twice)."""

    heads: tuple[Component, ...] = ()
    points: Points = "answer"
    labels: bool = False
    logits: bool = False

    def __post_init__(self) -> None:
        one_of(self.points, POINTS, name="rows of CKA")


@dataclass(frozen=True, eq=False)
class Signals:
    """`z` [head, point, d_head] in the order of `Needs.heads`; `labels` [row]: the top tokens at the answer; `logits`
    [row, vocab] there. None where not asked for."""

    z: Tensor | None = None
    labels: Tensor | None = None
    logits: Tensor | None = None


class Teacher(Protocol):
    """What the trainer needs from a teacher."""

    def signals(self, batch: Mapping[str, Any]) -> Signals:
        """The signals of a batch as `data.collate` makes it."""
        ...


def at_points(z: Tensor, batch: Mapping[str, Any], *, points: Points) -> Tensor:
    """z [row, pos, ...] -> [point, ...]: at the answer of each row, or at all its real tokens."""
    if points == "tokens":
        return z[real_tokens(batch).to(z.device)]
    return z[torch.arange(len(z), device=z.device), answer_positions(batch).to(z.device)]


def stacked_heads(layers: Mapping[int, Tensor], heads: Sequence[Component], *, d_head: int) -> Tensor:
    """z of whole layers [point, n_heads * d_head] -> [head, point, d_head] of these heads, on one device."""
    first = next(iter(layers.values()))
    chosen = [layers[h.layer or 0].unflatten(-1, (-1, d_head))[:, h.head or 0] for h in heads]
    return torch.stack([z.to(first.device) for z in chosen])


@dataclass(frozen=True, eq=False)
class LiveTeacher:
    """Runs the teacher on every batch."""

    model: CircuitModel
    needs: Needs

    @torch.no_grad()
    def signals(self, batch: Mapping[str, Any]) -> Signals:
        """See `Teacher`."""
        model, needs, layers = self.model, self.needs, {}
        whole = needs.labels or needs.logits
        wanted = {h.layer for h in needs.heads}
        if not whole and not wanted:
            return Signals()
        resid, context = blocks.embed(model, batch["input_ids"], batch["lengths"])
        for state in walk(model, resid, context=context):
            resid = state.resid_post
            if state.layer in wanted:
                layers[state.layer] = at_points(state.z, batch, points=needs.points)
            if not whole and len(layers) == len(wanted):
                break
        z = stacked_heads(layers, needs.heads, d_head=model.d_head) if layers else None
        if not whole:
            return Signals(z)
        logits = blocks.logits(model, blocks.at_positions(resid, answer_positions(batch))[:, 0])
        return Signals(z, logits.argmax(-1) if needs.labels else None, logits if needs.logits else None)


class CachedTeacher:
    """Runs the teacher once over `rows` and answers from memory afterwards; other rows are run when they come.

    `folder`: where the file is kept. Raises ValueError when it cannot be written.
    """

    def __init__(
        self, model: CircuitModel, needs: Needs, *, rows: Sequence[Mapping[str, Any]], folder: str | Path
    ) -> None:
        self.live = LiveTeacher(model, needs)
        keys = [_key(row["input_ids"], row["labels"]) for row in rows]
        self.path = Path(folder) / f"teacher-{_digest(model, needs, keys)}.safetensors"
        self._found = _read(self.path)
        if self._found is None:
            self._found = all_signals(self.live, rows)
            _write(self.path, self._found)
        ends = torch.cumsum(self._found["points"], 0).tolist()
        self._places = {
            key: (i, ends[i - 1] if i else 0, end) for i, (key, end) in enumerate(zip(keys, ends, strict=True))
        }

    def signals(self, batch: Mapping[str, Any]) -> Signals:
        """See `Teacher`."""
        lengths = batch["lengths"].tolist()
        tokens, labels = batch["input_ids"].tolist(), batch["labels"].tolist()
        keys = [_key(t[:n], m[:n]) for t, m, n in zip(tokens, labels, lengths, strict=True)]
        if any(key not in self._places for key in keys):
            return self.live.signals(batch)
        assert self._found is not None
        places, device = [self._places[key] for key in keys], batch["input_ids"].device
        rows = [i for i, *_ in places]
        found: dict[str, Tensor] = {
            n: self._found[n][rows].to(device) for n in ("labels", "logits") if n in self._found
        }
        if "z" in self._found:
            found["z"] = torch.cat([self._found["z"][:, start:end] for _, start, end in places], dim=1).to(device)
        return Signals(**found)


def all_signals(teacher: LiveTeacher, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Signals of all rows, those of equal prompts computed as often as they occur; and each row's number of `points`."""
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(rows), BATCH):
        batch = collate([rows[i] for i in range(start, min(start + BATCH, len(rows)))])
        found = teacher.signals(batch)
        for name in ("z", "labels", "logits"):
            value = getattr(found, name)
            if value is not None:
                parts.setdefault(name, []).append(value.cpu())
        counts = batch["lengths"] if teacher.needs.points == "tokens" else torch.ones_like(batch["lengths"])
        parts.setdefault("points", []).append(counts)
    return {name: torch.cat(values, dim=1 if name == "z" else 0).contiguous() for name, values in parts.items()}


def _key(tokens: Sequence[int], labels: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(tokens), tuple(i for i, label in enumerate(labels) if label >= 0)


def _digest(model: CircuitModel, needs: Needs, keys: Sequence[object]) -> str:
    facts = (fingerprint(model), [str(h) for h in needs.heads], needs.points, needs.labels, needs.logits, keys)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Tensor] | None:
    """The file's tensors; a damaged file counts as missing."""
    try:
        found = load_file(path) if path.exists() else {}
    except (SafetensorError, OSError):
        return None
    checksum = found.pop("crc32", None)
    return found if checksum is not None and torch.equal(checksum, _checksum(found)) else None


def _checksum(tensors: Mapping[str, Tensor]) -> Tensor:
    checksum = 0
    for name, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), checksum)
        checksum = zlib.crc32(tensor.contiguous().view(torch.uint8).numpy().tobytes(), checksum)
    return torch.tensor([checksum])


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(tensors | {"crc32": _checksum(tensors)}))
    except OSError as error:
        raise ValueError(
            f"cannot keep the teacher's activations in {path}: {error.strerror or error}; choose another folder"
        ) from error

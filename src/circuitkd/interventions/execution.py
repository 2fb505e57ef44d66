"""How a long computation is run: batch sizes that fit, progress, and finished pieces kept on disk so that it can
resume."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from circuitkd.artifacts import cannot_write, write_atomically
from circuitkd.interventions.ablations import Ablation
from circuitkd.models import flops
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.provenance import software
from circuitkd.tasks.binding import BoundTask

Progress = Callable[[str, int, int], None]
Item = TypeVar("Item")
Found = TypeVar("Found")
CPU_BUDGET = 0.6e9
SMALL_WIDTH, SMALL_TOKENS = 512, 2048
GPU_TOKENS, GPU_SHARE = 1 << 16, 0.3
WAY_OUT = "free some space or choose another folder, then run again"


@dataclass(frozen=True)
class Execution:
    """`batch_size`: prompts at a time (None: chosen; never more than memory allows). `progress(label, done, total)`
    is called after each piece. `folder`: where finished pieces are kept; a second run with the same inputs takes them
    from there."""

    batch_size: int | None = None
    progress: Progress | None = None
    folder: str | Path | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")

    def report(self, label: str, done: int, *, total: int) -> None:
        """Tell whoever listens."""
        if self.progress is not None:
            self.progress(label, done, total)


@dataclass
class Plan:
    """Sizes chosen for one model and task.

    `batch_size`: prompts at a time. `tokens_limit`: most tokens (component x example x position) of one forward.
    `is_wide`: a component at a time is best. `full_forward`: FLOPs of one full forward of the task, the unit of
    `forward_equivalents`.
    """

    batch_size: int
    tokens_limit: int
    is_wide: bool
    full_forward: float

    def group_size(self, rows: int, n_pos: int) -> int:
        """How many components of a layer share one forward of `rows` examples."""
        return 1 if self.is_wide else max(1, self.tokens_limit // (rows * n_pos))

    def halve(self, tokens: int | None = None) -> None:
        """From now on use half the memory, or half of what `tokens` tokens in one forward needed."""
        self.tokens_limit = (tokens or self.tokens_limit) // 2

    def in_groups(
        self, items: Sequence[Item], shape: tuple[int, int], *, measure: Callable[[Sequence[Item]], Found]
    ) -> list[Found]:
        """`measure` of as many of the items at a time as are worth it, each of a forward of `shape` (rows, pos); fewer
        when memory runs out."""
        found: list[Found] = []
        start = 0
        while start < len(items):
            size = min(self.group_size(*shape), len(items) - start)
            try:
                found.append(measure(items[start : start + size]))
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                self.halve(size * shape[0] * shape[1])
                continue
            start += size
        return found


def over_batches(pending: Sequence[tuple[int, ...]], work: Callable[[tuple[int, ...]], None], *, refusal: str) -> None:
    """`work` on the rows of every batch; one that does not fit into memory is done in halves.

    Raises ValueError, saying `refusal`, when one row at a time is too much.
    """
    waiting = list(pending)
    while waiting:
        rows = waiting.pop(0)
        try:
            work(rows)
        except torch.OutOfMemoryError as error:
            if len(rows) == 1:
                raise ValueError(refusal) from error
            waiting[:0] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]


def too_large(model: CircuitModel) -> str:
    """What to say of a model that runs out of memory on a single prompt."""
    return (
        f"{model.name} does not fit into the memory of {model.device} with one prompt at a time: use a smaller dtype, "
        "shorter prompts, or spread the model over devices"
    )


def plan(model: CircuitModel, task: BoundTask, *, execution: Execution) -> Plan:
    """Choose sizes for the device the model is on."""
    on_cpu = model.device.type == "cpu"
    budget = CPU_BUDGET if on_cpu else GPU_SHARE * free_memory(model)
    return sizes(model, task, batch_size=execution.batch_size, budget=budget, on_cpu=on_cpu)


def sizes(model: CircuitModel, task: BoundTask, *, batch_size: int | None, budget: float, on_cpu: bool) -> Plan:
    """Choose rows that fit `budget` bytes, and on CPU one component at a time once a matrix is wide."""
    lengths = [len(e.clean) for e in task.examples]
    n_pos = max(lengths)
    most_tokens = max(n_pos, int(budget / bytes_per_token(model, n_pos)))
    rows = min(batch_size or len(lengths), most_tokens // n_pos, len(lengths))
    if batch_size is None and on_cpu and model.d_model >= SMALL_WIDTH:
        rows = min(rows, max(1, SMALL_TOKENS // n_pos))
    tokens = SMALL_TOKENS if on_cpu else min(GPU_TOKENS, most_tokens)
    full = sum(flops.full_forward_flops(model, 1, n) for n in lengths)
    return Plan(max(1, rows), tokens, on_cpu and model.d_model >= SMALL_WIDTH, full)


def bytes_per_token(model: CircuitModel, n_pos: int) -> float:
    """A generous count of what one token keeps alive while a block runs."""
    width = flops.mlp_flops(model, 1, 1) / (2 * model.d_model)
    size = torch.finfo(model.dtype).bits // 8
    return float(size * (14 * model.d_model + 2 * width + 2 * model.n_heads * n_pos))


def free_memory(model: CircuitModel) -> float:
    """Bytes that are free where the model's tokens go in; a fixed amount where nobody says."""
    if model.device.type == "cuda":
        return float(torch.cuda.mem_get_info(model.device)[0])
    return 8e9


class Ledger:
    """Finished pieces of one computation on disk, a small file for each batch and piece.

    `key` stands for what decides all numbers: weights, tokens, ablation. The name of a piece must say the rest, such
    as which components it is of. A damaged file counts as missing.
    """

    def __init__(self, folder: Path | None, key: str = "") -> None:
        self.folder, self.key = folder, key

    @classmethod
    def open(
        cls, model: CircuitModel, task: BoundTask, *, ablation: Ablation, execution: Execution, noisy: bool = False
    ) -> Ledger:
        """The ledger of this computation; without a folder, or under noise, nothing is kept.

        Reads all weights once. Raises ValueError for a folder that cannot be made.
        """
        if execution.folder is None or noisy:
            return cls(None)
        folder = Path(execution.folder)
        reference = ablation.reference.digest() if ablation.reference else ""
        version = software()["circuitkd"]
        parts = (version, fingerprint(model), repr(task.examples), ablation.describe(), reference)
        with cannot_write(f"to {folder}", way_out=WAY_OUT):
            folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, hashlib.sha256("|".join(parts).encode()).hexdigest()[:16])

    def _path(self, rows: Sequence[int], piece: object) -> Path | None:
        if self.folder is None:
            return None
        digest = hashlib.sha256(f"{tuple(rows)} {piece}".encode()).hexdigest()[:16]
        return self.folder / f"{self.key}-{digest}.safetensors"

    def read(self, rows: Sequence[int], piece: object, *, components: int) -> np.ndarray | None:
        """A finished piece [component, row], or None. `piece` names it among those of these rows."""
        path = self._path(rows, piece)
        if path is None or not path.exists():
            return None
        try:
            kept = load_file(path)
            found, checksum = kept["values"], int(kept["crc32"][0])
        except (SafetensorError, KeyError, IndexError, OSError):
            return None
        is_whole = found.shape == (components, len(rows)) and checksum == zlib.crc32(found.tobytes())
        return found if is_whole else None

    def write(self, rows: Sequence[int], piece: object, *, values: np.ndarray) -> None:
        """Keep a finished piece. Raises ValueError where it cannot be written."""
        path = self._path(rows, piece)
        if path is None:
            return
        checksum = np.array([zlib.crc32(values.tobytes())], dtype=np.uint32)
        with cannot_write(f"to {path.parent}", way_out=WAY_OUT):
            write_atomically(path, save({"values": np.ascontiguousarray(values), "crc32": checksum}))


def fingerprint(model: CircuitModel) -> str:
    """A short name for a model's exact weights, dtype and shape: one changed weight changes it."""
    shape = f"{model.architecture.hf_class} {model.dtype} {model.n_heads} {model.n_kv_heads} {model.d_head}"
    digest = hashlib.sha256(shape.encode())
    for name, parameter in model.hf.named_parameters():
        raw = parameter.detach().reshape(-1).cpu().view(torch.uint8).numpy()
        digest.update(f"{name} {tuple(parameter.shape)} {zlib.crc32(raw)}".encode())
    return digest.hexdigest()[:16]

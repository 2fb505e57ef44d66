"""The run that edges are measured in: what every component computes, and how far that is from its replacement.

Exact path patching and attribution need the same three things of a batch: the state of every block, the change
(replacement minus value) of every sender, and a way to run the rest of the model. Within a circuit the run is the
circuit's own: components outside it are replaced from the start, and stay replaced in everything that is run later.

Memory: the states of all layers of one batch, about 12 d_model numbers per token and layer, so batches are sized
for that. Nothing of size [sender, row, pos, d_model] is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from circuitkd.circuits.embedding_values import EmbeddingValues
from circuitkd.circuits.outside import Outside, circuit_block, circuit_walk, outside_of
from circuitkd.components import Component
from circuitkd.interventions.ablations import Ablation, LayerReplacement, replacements
from circuitkd.interventions.capture import Batch, LayerState, batches, make_batch
from circuitkd.interventions.execution import GPU_SHARE, Execution, free_memory, over_batches, plan, too_large
from circuitkd.interventions.readout import Readout, readout
from circuitkd.interventions.sweep_result import cautions
from circuitkd.models import blocks, flops
from circuitkd.models.blocks import Context
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask

CPU_BYTES = 1e9
AT_ANSWER = ("resid_pre", "q", "z", "attention_out", "resid_mid", "mlp_out", "resid_post")


@dataclass(frozen=True, eq=False)
class BaseRun:
    """One batch, run with nothing patched.

    `states`: every block's. `changes`: replacement minus value of z [row, pos, n_heads * d_head] and of the MLP
    output [row, pos, d_model] in every layer; `embed_change` that of the embedding. `positions` [row]: where the
    answer is read.
    """

    model: CircuitModel
    batch: Batch
    target: Readout
    context: Context
    positions: Tensor
    states: tuple[LayerState, ...]
    changes: tuple[LayerReplacement, ...]
    embed_change: Tensor
    outside: Outside | None = None

    @property
    def rows(self) -> int:
        """Number of examples."""
        return len(self.batch)

    def base(self) -> Tensor:
        """The metric [row] of the run itself."""
        return self.values(blocks.at_positions(self.states[-1].resid_post, self.positions))[0]

    def at_answer(self) -> BaseRun:
        """The same run at the answer positions alone, where the last MLP and the logits are; keys and values stay
        whole."""

        def cut(x: Tensor) -> Tensor:
            found = x[torch.arange(len(x), device=x.device), ..., self.positions.to(x.device), :]
            return found.unsqueeze(-2)

        return replace(
            self,
            positions=torch.zeros_like(self.positions),
            states=tuple(_with(s, {name: cut(getattr(s, name)) for name in AT_ANSWER}) for s in self.states),
            changes=tuple(LayerReplacement(cut(c.z), cut(c.mlp)) for c in self.changes),
            embed_change=cut(self.embed_change),
        )

    def with_embedding(self, resid: Tensor) -> BaseRun:
        """The run from another residual stream [row, pos, d_model] entering block 0; the changes stay as they are."""
        states = circuit_walk(self.model, resid, context=self.context, outside=self.outside)
        return replace(self, states=tuple(states))

    def rest(self, layer: int, resid: Tensor) -> Tensor:
        """Blocks `layer`.. on resid [copy * row, pos, d_model] entering block `layer` -> the metric [copy, row]."""
        model, copies = self.model, len(resid) // self.rows
        context, positions = self.context.tile(copies), self.positions.repeat(copies)
        if layer == model.n_layers:
            return self.values(blocks.at_positions(resid, positions))
        for current in range(layer, model.n_layers):
            at = positions if current == model.n_layers - 1 else None
            resid = circuit_block(
                model, current, resid=resid, context=context, query_positions=at, outside=self.outside
            )
        return self.values(resid)

    def values(self, resid: Tensor) -> Tensor:
        """The metric [copy, row] of the last residual stream [copy * row, 1, d_model] at the answer."""
        return self.target.values(self.model, resid[:, 0].unflatten(0, (-1, self.rows)))


class Setup:
    """A model and a bound task, what components are replaced by, batch sizes, and a count of the work done
    (`flops`)."""

    def __init__(
        self,
        model: CircuitModel,
        task: Task | BoundTask,
        *,
        ablation: Ablation | None,
        execution: Execution,
        circuit: Collection[Component] | None = None,
    ) -> None:
        self.model, self.ablation = model, ablation or Ablation(task.ablation)
        aligned = self.ablation.needs_alignment
        self.task = task.bind(model, aligned=aligned) if isinstance(task, Task) else task
        self.circuit = None if circuit is None else _checked(model, circuit)
        self.plan = plan(model, self.task, execution=execution)
        size = self.plan.batch_size = min(self.plan.batch_size, most_rows(model, self.task, budget=_budget(model)))
        self.replaced = replacements(model, self.task, ablation=self.ablation, batch_size=size)
        self.embeddings = EmbeddingValues(model, self.task, ablation=self.ablation, batch_size=size)
        self.flops = 0.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the numbers should know."""
        return tuple(self.task.warnings) + tuple(self.replaced.warnings)

    def cautions(self, base: np.ndarray) -> tuple[str, ...]:
        """`warnings`, and what to know about percentages of this metric [example] with nothing patched."""
        found = cautions(base, [e.clean for e in self.task.examples])
        return (*self.warnings, *(text if self.circuit is None else f"in the circuit {text}" for text in found))

    @property
    def forward_equivalents(self) -> float:
        """All work so far in FLOPs of one full forward of the task."""
        return (self.flops + self.replaced.flops) / self.plan.full_forward

    def batches(self) -> list[tuple[int, ...]]:
        """Rows of the task, a batch at a time."""
        return batches(self.task, self.plan.batch_size)

    def runs(self) -> Iterator[BaseRun]:
        """The base run of every batch."""
        for rows in self.batches():
            yield self.run(rows)

    def for_each_run(self, work: Callable[[BaseRun], None]) -> None:
        """`work` on the base run of every batch; one that does not fit into memory is done in halves.

        Raises ValueError when one prompt at a time is too much.
        """
        over_batches(self.batches(), lambda rows: work(self.run(rows)), refusal=too_large(self.model))

    def numbers(self, values: Tensor | np.ndarray, rows: Sequence[int]) -> np.ndarray:
        """Values [..., row] of these rows as float64. Raises ValueError where they are NaN or infinite."""
        found = values.double().cpu().numpy() if isinstance(values, Tensor) else values
        finite = np.isfinite(found).reshape(-1, len(rows)).all(axis=0)
        if not finite.all():
            example = self.task.examples[rows[int(np.argmin(finite))]]
            raise ValueError(
                f"{self.model.name} gives NaN or infinite values on example {example.id}: check its weights and dtype "
                "(try dtype=torch.float32)"
            )
        return found

    def base(self, run: BaseRun) -> np.ndarray:
        """The metric [row] of a run with nothing patched. Raises ValueError as `numbers`."""
        self.flops += run.target.flops(self.model, run.rows)
        return self.numbers(run.base(), run.batch.rows)

    def run(self, rows: Sequence[int]) -> BaseRun:
        """The base run of one batch."""
        model, batch = self.model, make_batch(self.task, rows)
        resid, context = blocks.embed(model, batch.tokens, batch.lengths)
        values, outside = tuple(self.replaced.layers(batch)), None
        if self.circuit is not None:
            outside = outside_of(model, self.circuit, values=values, positions=batch.positions)
        states = tuple(circuit_walk(model, resid, context=context, outside=outside))
        self.flops += model.n_layers * flops.block_flops(model, len(rows), context.n_pos)
        differences = (LayerReplacement(v.z - s.z, v.mlp - s.mlp_out) for v, s in zip(values, states, strict=True))
        return BaseRun(
            model,
            batch,
            target=readout(batch.examples),
            context=context,
            positions=batch.positions,
            states=states,
            changes=tuple(differences),
            embed_change=self.embeddings.of(batch) - resid,
            outside=outside,
        )


def _with(state: LayerState, tensors: dict[str, Tensor]) -> LayerState:
    return replace(state, **tensors)  # type: ignore[arg-type]


def _checked(model: CircuitModel, circuit: Collection[Component]) -> frozenset[Component]:
    unknown = sorted(set(circuit) - set(model.components))
    if unknown:
        raise ValueError(
            f"{model.name} has no {', '.join(map(str, unknown))}: a circuit is a set of heads and MLPs, in layers "
            f"0..{model.n_layers - 1} with heads 0..{model.n_heads - 1}"
        )
    return frozenset(circuit)


def _budget(model: CircuitModel) -> float:
    return GPU_SHARE * free_memory(model) if model.device.type == "cuda" else CPU_BYTES


def most_rows(model: CircuitModel, task: BoundTask, *, budget: float) -> int:
    """How many examples' states of all layers fit into `budget` bytes."""
    n_pos = max(len(e.clean) for e in task.examples)
    return max(1, int(budget // (n_pos * bytes_per_token(model))))


def bytes_per_token(model: CircuitModel) -> int:
    """What one token of a base run keeps alive."""
    width = 7 * model.d_model + 5 * model.n_heads * model.d_head
    # Attribution reads one layer with a stream for each of its receivers, and their graph.
    numbers = model.n_layers * width + 5 * (model.n_heads + 2 * model.n_kv_heads) * model.d_model
    return numbers * torch.finfo(model.dtype).bits // 8

"""The exact ablation sweep: every head and every MLP of a model, ablated one at a time.

Equal to one hooked forward per component, at a fraction of its cost (see docs/performance.md):
1. A walk through the model stops at each block; an ablation there reruns only what follows.
2. At its own layer a head needs no attention: (z' - z)_h W_O,h is added to the attention output.
3. The last block is computed for the answer position alone (keys and values still for all), and only the rows of the
   unembedding that are asked for are multiplied.
4. Several components of a layer are rows of one batch, as many as are worth it on the device; fewer components, then
   fewer prompts, where memory runs out. Nothing is cached for all layers, so memory does not grow with depth or with
   the number of prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from circuitkd.components import Component
from circuitkd.interventions.ablations import Ablation, LayerReplacement, Replacements, replacements
from circuitkd.interventions.capture import Batch, LayerState, Noise, batches, make_batch, walk
from circuitkd.interventions.execution import Execution, Ledger, Plan, over_batches, plan, too_large
from circuitkd.interventions.readout import Readout, readout
from circuitkd.interventions.restart import RowNoise, rest_flops, run_from
from circuitkd.interventions.sweep_result import SweepResult, cautions
from circuitkd.models import blocks, flops
from circuitkd.models.blocks import Context
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask
from circuitkd.tasks.metrics import accuracy

BY_POSITION = ("resid_pre", "z", "attention_out", "resid_mid", "mlp_out", "resid_post")


def sweep(
    model: CircuitModel,
    task: Task | BoundTask,
    *,
    ablation: Ablation | None = None,
    components: Sequence[Component] | None = None,
    execution: Execution | None = None,
    noise: Noise | None = None,
) -> SweepResult:
    """Effects of ablating each component (all of them, unless `components` names some), example by example.

    `ablation` defaults to what suits the task, over its corrupted prompts. `execution` says batch size, progress and
    where finished parts are kept for resuming (`forward_equivalents` then counts what this run did; under `noise`
    nothing is kept). `noise` is added throughout (DC section 4.2.1). Raises ValueError for components the model does
    not have, for prompts the ablation cannot use, for logits that are no numbers, and when one prompt at a time is
    too much for the memory.
    """
    execution = execution or Execution()
    ablation = ablation or Ablation(task.ablation)
    bound = task.bind(model, aligned=ablation.needs_alignment) if isinstance(task, Task) else task
    chosen = _checked(model, components)
    with torch.inference_mode():
        arrangement = plan(model, bound, execution=execution)
        replaced = _replacements(model, bound, ablation, arrangement)
        ledger = Ledger.open(model, bound, ablation=ablation, execution=execution, noisy=noise is not None)
        work = _Work(model, bound, replaced, arrangement=arrangement, components=chosen, noise=noise)
        _run(work, ledger, execution)
    return SweepResult(
        model=model.name,
        task=bound.name,
        components=chosen,
        examples=tuple(e.id for e in bound.examples),
        base=work.base,
        effects=work.base[None] - work.ablated,
        accuracy=work.accuracy,
        forward_equivalents=(work.flops + replaced.flops) / arrangement.full_forward,
        ablation=ablation.describe(),
        warnings=(*bound.warnings, *replaced.warnings, *cautions(work.base, [e.clean for e in bound.examples])),
    )


def _checked(model: CircuitModel, components: Sequence[Component] | None) -> tuple[Component, ...]:
    if components is None:
        return model.components
    unknown = [str(c) for c in components if c not in model.components]
    if unknown:
        raise ValueError(
            f"{model.name} has no component {', '.join(unknown)}: it has layers 0..{model.n_layers - 1} with heads "
            f"0..{model.n_heads - 1} and one MLP each"
        )
    twice = sorted({str(c) for c in components if components.count(c) > 1})
    if twice:
        raise ValueError(f"components names {', '.join(twice)} more than once: name each component once")
    return tuple(components)


def _replacements(model: CircuitModel, task: BoundTask, ablation: Ablation, arrangement: Plan) -> Replacements:
    """The replacement values, with fewer prompts at a time (from now on) when memory runs out."""
    while True:
        try:
            return replacements(model, task, ablation=ablation, batch_size=arrangement.batch_size)
        except torch.OutOfMemoryError as error:
            if arrangement.batch_size == 1:
                raise ValueError(too_large(model)) from error
            arrangement.batch_size //= 2


class _Work:
    """Inputs of one sweep and the arrays it fills."""

    def __init__(
        self,
        model: CircuitModel,
        task: BoundTask,
        replaced: Replacements,
        *,
        arrangement: Plan,
        components: tuple[Component, ...],
        noise: Noise | None,
    ) -> None:
        self.model, self.task, self.replaced, self.plan = model, task, replaced, arrangement
        self.components, self.noise = components, noise
        self.base = np.full(len(task), np.nan)
        self.accuracy = np.full(len(task), np.nan)
        self.ablated = np.full((len(components), len(task)), np.nan)
        self.flops = 0
        self.by_layer: list[list[int]] = [[] for _ in range(model.n_layers)]
        # Heads before the MLP, the order in which `_after_layer` has them.
        for index, component in sorted(enumerate(components), key=lambda item: item[1].sort_key()):
            self.by_layer[component.layer or 0].append(index)


@dataclass(frozen=True, eq=False)
class _Unit:
    """One layer of one batch: the smallest piece of work that is kept on disk. `noise`: what the layer's MLP output
    carries."""

    batch: Batch
    target: Readout
    context: Context
    state: LayerState
    values: LayerReplacement
    noise: Tensor | None = None


def _run(work: _Work, ledger: Ledger, execution: Execution) -> None:
    """All batches; one that does not fit into memory is done in halves."""
    done, total = 0, len(work.task) * work.model.n_layers

    def sweep_batch(rows: tuple[int, ...]) -> None:
        nonlocal done
        for layer in _batch(work, rows, ledger):
            execution.report("ablation sweep", done + (layer + 1) * len(rows), total=total)
        done += work.model.n_layers * len(rows)

    over_batches(batches(work.task, work.plan.batch_size), sweep_batch, refusal=too_large(work.model))


def _batch(work: _Work, rows: tuple[int, ...], ledger: Ledger) -> Iterator[int]:
    """One batch, yielding each layer when it is done."""
    model, batch = work.model, make_batch(work.task, rows)
    target = readout(batch.examples)
    resid, context = blocks.embed(model, batch.tokens, batch.lengths)
    work.flops += model.n_layers * flops.block_flops(model, len(rows), context.n_pos)
    last = resid
    states = walk(model, resid, context=context, noise=work.noise, rows=rows)
    for state, values in zip(states, work.replaced.layers(batch), strict=True):
        if members := work.by_layer[state.layer]:
            noise = work.noise.mlp(state.layer, rows, like=state.mlp_out) if work.noise else None
            unit = _Unit(batch, target, context, state, values, noise)
            work.ablated[np.ix_(members, rows)] = _finished(work, unit, [work.components[i] for i in members], ledger)
        last = state.resid_post
        yield state.layer
    _base(work, batch, target, last)


def _finished(work: _Work, unit: _Unit, components: Sequence[Component], ledger: Ledger) -> np.ndarray:
    """Ablated metric [component, row] of `components`, of one layer: from the ledger, or computed and kept there."""
    rows, piece = unit.batch.rows, f"layer {unit.state.layer}: {' '.join(map(str, components))}"
    found = ledger.read(rows, piece, components=len(components))
    if found is None:
        found = _layer(work, unit, components)
        _refuse_nan(work, rows, dict(zip(components, found, strict=True)))
        ledger.write(rows, piece, values=found)
    return found


def _refuse_nan(work: _Work, rows: Sequence[int], found: Mapping[Component | None, np.ndarray]) -> None:
    """Raise ValueError for a metric [row] that is no number, by ablated component (None: nothing ablated)."""
    for component, values in found.items():
        if not np.isfinite(values).all():
            example = work.task.examples[rows[int(np.argmin(np.isfinite(values)))]]
            state = f" with {component} ablated" if component else ""
            raise ValueError(
                f"{work.model.name} gives NaN or infinite logits on example {example.id}{state}: check its weights and "
                "dtype (try dtype=torch.float32)"
            )


def _base(work: _Work, batch: Batch, target: Readout, resid: Tensor) -> None:
    """The unablated metric and accuracy of a batch from its last residual stream."""
    at_answer = blocks.at_positions(resid, batch.positions)[:, 0]
    rows = list(batch.rows)
    found = target.values(work.model, at_answer[None])[0].double().cpu().numpy()
    _refuse_nan(work, rows, {None: found})
    work.base[rows] = found
    top = accuracy(blocks.logits(work.model, at_answer), [e.answers for e in batch.examples])
    work.accuracy[rows] = top.double().cpu().numpy()
    work.flops += flops.unembed_flops(work.model, len(rows)) + target.flops(work.model, len(rows))


def _layer(work: _Work, unit: _Unit, components: Sequence[Component]) -> np.ndarray:
    """Ablated metric [component, row] of `components`, of one layer; fewer at a time when memory runs out."""
    shape = len(unit.batch), unit.context.n_pos
    return np.concatenate(work.plan.in_groups(components, shape, measure=lambda group: _ablate(work, unit, group)))


def _ablate(work: _Work, unit: _Unit, group: Sequence[Component]) -> np.ndarray:
    """Ablate each component of `group` (of one layer) in rows of its own; metric [component, row]."""
    model, layer, copies = work.model, unit.state.layer, len(group)
    if layer == model.n_layers - 1:
        unit = _at_answer(unit)
    resid = _after_layer(model, unit, group)
    work.flops += _layer_flops(model, unit, group)
    if layer == model.n_layers - 1:
        resid = resid[:, 0]
    else:
        noise = RowNoise(work.noise, unit.batch.rows, copies=copies) if work.noise else None
        positions, context = unit.batch.positions.repeat(copies), unit.context.tile(copies)
        resid = run_from(model, layer + 1, resid=resid, context=context, positions=positions, noise=noise)
        work.flops += rest_flops(model, layer + 1, rows=len(resid), n_pos=context.n_pos)
    work.flops += unit.target.flops(model, len(resid))
    values = unit.target.values(model, resid.view(copies, len(unit.batch), -1))
    return values.double().cpu().numpy()


def _after_layer(model: CircuitModel, unit: _Unit, group: Sequence[Component]) -> Tensor:
    """resid_post of the ablated layer [len(group) * row, pos, d_model], component by component, the heads first."""
    state, layer = unit.state, unit.state.layer
    heads = [c.head for c in group if c.head is not None]
    found = []
    if heads:
        change = (unit.values.z - state.z).unflatten(-1, (model.n_heads, model.d_head))[..., heads, :]
        added = torch.einsum("bphd,hdm->hbpm", change, blocks.output_matrices(model, layer)[heads])
        pre = state.resid_pre.repeat(len(heads), 1, 1)
        mid = blocks.after_attention(model, layer, pre, (state.attention_out + added).flatten(0, 1))
        if model.architecture.residual == "parallel":  # the MLP reads resid_pre, which no head changes
            out = state.mlp_out.repeat(len(heads), 1, 1)
        else:
            out = blocks.mlp(model, layer, mid, pre)
            out = out if unit.noise is None else out + unit.noise.repeat(len(heads), 1, 1)
        found.append(blocks.after_mlp(model, layer, mid, out))
    if len(heads) < len(group):
        found.append(blocks.after_mlp(model, layer, state.resid_mid, unit.values.mlp.expand_as(state.mlp_out)))
    return found[0] if len(found) == 1 else torch.cat(found)


def _at_answer(unit: _Unit) -> _Unit:
    """The same unit at the answer position alone: what is left to do in the last block."""
    n_pos, positions = unit.context.n_pos, unit.batch.positions

    def cut(x: Tensor) -> Tensor:
        if x.dim() < 3 or x.shape[1] != n_pos:
            return x
        return blocks.at_positions(x.expand(len(unit.batch), -1, -1), positions)

    state, values = unit.state, unit.values
    parts: dict[str, Any] = {name: cut(getattr(state, name)) for name in BY_POSITION}
    return replace(
        unit,
        state=replace(state, **parts),
        values=LayerReplacement(cut(values.z), cut(values.mlp)),
        noise=None if unit.noise is None else cut(unit.noise),
    )


def _layer_flops(model: CircuitModel, unit: _Unit, group: Sequence[Component]) -> int:
    """Work of `_after_layer`: per head its slice of the output projection and the MLP."""
    heads, (rows, n_pos) = sum(c.kind == "head" for c in group), unit.state.resid_mid.shape[:2]
    added = flops.head_change_flops(model, heads * rows, n_pos)
    return added if model.architecture.residual == "parallel" else added + flops.mlp_flops(model, heads * rows, n_pos)

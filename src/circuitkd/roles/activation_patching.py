"""Activation patching: which component at which position carries what makes the difference (DC 3.1.3, Appendix J).

Denoising: the corrupted prompt is run with one component's output at one position taken from the run of the clean
prompt, and everything after it recomputed. With m the mean logit difference of the clean prompt's answer,

    effect = m(patched) - m(corrupted) in logits,     recovery = effect / (m(clean) - m(corrupted)).

Components are the embedding, heads (z), MLPs, and whole attention blocks; also each at all positions at once. Per head,
at all positions, split in two: QK (the clean pattern on the corrupted values) and OV (the corrupted pattern on the
clean values). An effect is also read against its layer: as a multiple of the mean over the heads of the layer and as a
z-score among them (DC J.1, J.2).

Exact: equal to one hooked forward per patch. A patched block's output differs from the corrupted one only where it was
patched, so the block with everything patched has the outputs of all single positions in it; then only what follows is
run (`suffix_runs.py`). Prompts of one length only (`equal_length.py`). Limits: effects of single patches do not add up;
a component whose effect others take over shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuitkd.components import Component
from circuitkd.interventions.capture import batches
from circuitkd.interventions.execution import Execution, Plan, plan
from circuitkd.models import blocks
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.roles.equal_length import EqualLength, equal_length
from circuitkd.roles.patching_result import ActivationPatching
from circuitkd.roles.suffix_runs import RunPair, run_pair
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask

Floats = NDArray[np.float64]
Patch = tuple[Component, int | None]
EMBED = Component("embed")


def activation_patching(
    model: CircuitModel, task: Task | BoundTask, *, execution: Execution | None = None
) -> ActivationPatching:
    """Patch every component at every position. Raises ValueError where no clean and corrupted prompt are equally
    long."""
    chosen, execution = equal_length(model, task, paired=True), execution or Execution()
    bound, arrangement = chosen.task, plan(model, chosen.task, execution=execution)
    found, done, total = _Sums(model, chosen), 0, model.n_layers * len(bound)
    with torch.inference_mode():
        for rows in batches(bound, arrangement.batch_size):
            pair = run_pair(model, bound, rows=rows)
            found.ends[:, list(rows)] = pair.metric(pair.clean.last())[0], pair.base
            found.embed.add(pair, _patched_embedding(pair), layer=-1, arrangement=arrangement)
            for layer in range(model.n_layers):
                found.layers[layer].add(pair, _patched_block(pair, layer), layer=layer, arrangement=arrangement)
                execution.report("activation patching", done + (layer + 1) * len(rows), total=total)
            done += model.n_layers * len(rows)
    return found.result(model, chosen)


def patched_values(model: CircuitModel, task: Task | BoundTask, *, patches: Iterable[Patch]) -> Floats:
    """Logit differences [example] with all these patches at once: (component, position), None for all positions.

    The examples are those of `activation_patching`. Raises ValueError for components that the model does not have.
    """
    bound, wanted = equal_length(model, task, paired=True).task, list(patches)
    unknown = [str(c) for c, _ in wanted if c not in (EMBED, *model.components)]
    if unknown:
        raise ValueError(f"{model.name} has no {', '.join(unknown)}: patch the embedding (embed), heads and MLPs")
    found = np.full(len(bound), np.nan)
    with torch.inference_mode():
        for rows in batches(bound, len(bound)):
            found[list(rows)] = _patched_together(run_pair(model, bound, rows=rows), wanted)
    return found


class _Rows:
    """Sums over examples of the effects of what is patched in one layer: `single` [component, position], `at_all`
    [component]. The first `singles` components are patched position by position too."""

    def __init__(self, components: int, singles: int, positions: int) -> None:
        self.single, self.at_all = np.zeros((singles, positions)), np.zeros(components)

    def add(self, pair: RunPair, patched: Tensor, *, layer: int, arrangement: Plan) -> None:
        """Add the effects of `patched` [component, row, pos, d_model], the output of block `layer` (-1: the embedding)
        with each component patched at all positions."""
        self.at_all += self._effects(pair, patched, layer, start=0, arrangement=arrangement)
        for place in range(self.single.shape[1]):
            # What the last block computes is read at the answer position alone.
            if layer < pair.model.n_layers - 1 or place in pair.answer_places:
                here = pair.at_one_position(patched[: len(self.single)], layer=layer, place=place)
                start = place if pair.model.is_causal else 0
                self.single[:, place] += self._effects(pair, here, layer, start=start, arrangement=arrangement)

    def _effects(self, pair: RunPair, resid: Tensor, layer: int, *, start: int, arrangement: Plan) -> Floats:
        size = arrangement.group_size(pair.rows, resid.shape[2])
        chunks = [resid[i : i + size].flatten(0, 1) for i in range(0, len(resid), size)]
        metrics = [pair.metric(pair.corrupted.rest(layer + 1, chunk, start=start)) for chunk in chunks]
        return np.asarray((np.concatenate(metrics) - pair.base).sum(axis=1))


class _Sums:
    """The sums of all layers, and the logit differences of both runs, `ends` [clean, corrupted; example]."""

    def __init__(self, model: CircuitModel, chosen: EqualLength) -> None:
        heads, positions = model.n_heads, len(chosen.positions)
        self.embed = _Rows(1, 1, positions)
        self.layers = [_Rows(3 * heads + 2, heads + 2, positions) for _ in range(model.n_layers)]
        self.ends = np.full((2, len(chosen.task)), np.nan)

    def result(self, model: CircuitModel, chosen: EqualLength) -> ActivationPatching:
        """The means over examples, with their labels."""
        n, h = len(chosen.task), model.n_heads

        def gather(part: slice, name: str) -> Floats:
            return np.concatenate([getattr(rows, name)[part] for rows in self.layers]) / n

        embed = self.embed
        return ActivationPatching(
            model=model.name,
            task=chosen.task.name,
            components=(EMBED, *model.components),
            positions=chosen.positions,
            effects=np.concatenate(
                [embed.single / n, gather(slice(0, h), "single"), gather(slice(h, h + 1), "single")]
            ),
            at_all=np.concatenate([embed.at_all / n, gather(slice(0, h), "at_all"), gather(slice(h, h + 1), "at_all")]),
            blocks=gather(slice(h + 1, h + 2), "single"),
            blocks_at_all=gather(slice(h + 1, h + 2), "at_all"),
            qk=gather(slice(h + 2, 2 * h + 2), "at_all"),
            ov=gather(slice(2 * h + 2, 3 * h + 2), "at_all"),
            clean=self.ends[0],
            corrupted=self.ends[1],
            examples=tuple(e.id for e in chosen.task.examples),
            left_out=chosen.left_out,
        )


def _patched_embedding(pair: RunPair) -> Tensor:
    return pair.clean.embedding[None]


def _patched_block(pair: RunPair, layer: int) -> Tensor:
    """The output of one block of the corrupted run [component, row, pos, d_model] with, in turn, each head, the MLP,
    the whole attention block, each head's pattern, and each head's values taken from the clean run."""
    model, clean, corrupted = pair.model, pair.clean.states[layer], pair.corrupted.states[layer]
    context = pair.corrupted.context
    by_pattern = blocks.attend(model, layer, clean.q, clean.k, corrupted.v, context)
    by_value = blocks.attend(model, layer, corrupted.q, corrupted.k, clean.v, context)
    changes = [_by_head(model, layer, z - corrupted.z) for z in (clean.z, by_pattern, by_value)]
    heads, patterns, values = (_after(pair, layer, corrupted.attention_out + change) for change in changes)
    mlp = blocks.after_mlp(model, layer, corrupted.resid_mid, clean.mlp_out)[None]
    attention = _after(pair, layer, clean.attention_out[None])
    return torch.cat([heads, mlp, attention, patterns, values])


def _by_head(model: CircuitModel, layer: int, change: Tensor) -> Tensor:
    """A change of z [row, pos, n_heads * d_head] as changes of the attention output [head, row, pos, d_model]."""
    of_head = change.unflatten(-1, (model.n_heads, model.d_head))
    return torch.einsum("rphd,hdm->hrpm", of_head, blocks.output_matrices(model, layer))


def _after(pair: RunPair, layer: int, attention_out: Tensor) -> Tensor:
    """The rest of the block [component, row, pos, d_model] for attention outputs of that shape."""
    model, copies = pair.model, len(attention_out)
    pre = pair.corrupted.states[layer].resid_pre.repeat(copies, 1, 1)
    mid = blocks.after_attention(model, layer, pre, attention_out.flatten(0, 1))
    return blocks.after_mlp(model, layer, mid, blocks.mlp(model, layer, mid, pre)).unflatten(0, (copies, -1))


def _patched_together(pair: RunPair, patches: Sequence[Patch]) -> Floats:
    """The metric [row] with all patches in one run."""
    model, n_pos = pair.model, pair.corrupted.context.n_pos

    def mixed(clean: Tensor, corrupted: Tensor, component: Component) -> Tensor:
        taken = torch.zeros(n_pos, dtype=torch.bool, device=clean.device)
        for other, place in patches:
            if other == component:
                taken[slice(None) if place is None else place] = True
        return torch.where(taken[:, None], clean, corrupted)

    resid = mixed(pair.clean.embedding, pair.corrupted.embedding, EMBED)
    for layer, clean in enumerate(pair.clean.states):
        x = blocks.attention_input(model, layer, resid)
        q, k, v = blocks.qkv(model, layer, x, pair.corrupted.context)
        z = blocks.attend(model, layer, q, k, v, pair.corrupted.context)
        split = (clean.z.split(model.d_head, dim=-1), z.split(model.d_head, dim=-1))
        heads = [mixed(new, old, Component("head", layer, h)) for h, (new, old) in enumerate(zip(*split, strict=True))]
        mid = blocks.after_attention(model, layer, resid, blocks.project(model, layer, torch.cat(heads, dim=-1)))
        out = mixed(clean.mlp_out, blocks.mlp(model, layer, mid, resid), Component("mlp", layer))
        resid = blocks.after_mlp(model, layer, mid, out)
    return pair.metric(blocks.at_positions(resid, pair.corrupted.positions)[:, 0])[0]

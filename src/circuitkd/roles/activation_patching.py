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
run (`suffix_runs.py`). Prompts of one length only (`equal_length.py`). Memory: both runs of as many prompts as fit with
all their layers, and as many components of a layer beside them as are worth it; prompts that do not fit are done in
halves. Limits: effects of single patches do not add up; a component whose effect others take over shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuitkd.components import Component
from circuitkd.interventions.capture import batches
from circuitkd.interventions.execution import CPU_BUDGET, GPU_SHARE, Execution, Plan, free_memory, over_batches, plan
from circuitkd.models import blocks
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.roles.equal_length import EqualLength, equal_length
from circuitkd.roles.patching_result import ActivationPatching
from circuitkd.roles.suffix_runs import RunPair, run_pair
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask

Floats = NDArray[np.float64]
Patch = tuple[Component, int | None]
Chunk = tuple[list[int], Tensor]
EMBED, KEPT = Component("embed"), 9  # values of the width d_model that a run keeps of a token in each layer


def activation_patching(
    model: CircuitModel, task: Task | BoundTask, *, execution: Execution | None = None
) -> ActivationPatching:
    """Patch every component at every position. Raises ValueError where no clean and corrupted prompt are equally
    long."""
    chosen, execution = equal_length(model, task, paired=True), execution or Execution()
    bound, arrangement = chosen.task, plan(model, chosen.task, execution=execution)
    found, done, total = _Sums(model, chosen), 0, model.n_layers * len(bound)

    def patch_batch(rows: tuple[int, ...]) -> None:
        nonlocal done
        for layer in found.add(run_pair(model, bound, rows=rows), rows, arrangement=arrangement):
            execution.report("activation patching", done + layer * len(rows), total=total)
        done += model.n_layers * len(rows)

    refusal = (
        f"{model.name} does not fit into the memory of {model.device} with one pair of prompts at a time: "
        "use a smaller dtype or shorter prompts"
    )
    with torch.inference_mode():
        over_batches(batches(bound, pairs_at_a_time(model, bound, execution=execution)), patch_batch, refusal=refusal)
    return found.result(model, chosen)


def pairs_at_a_time(model: CircuitModel, task: BoundTask, *, execution: Execution) -> int:
    """How many clean and corrupted runs fit into memory with all their layers."""
    budget = CPU_BUDGET if model.device.type == "cpu" else GPU_SHARE * free_memory(model)
    token = 2 * model.n_layers * KEPT * model.d_model * torch.finfo(model.dtype).bits // 8
    fitting = int(budget / (token * max(len(e.clean) for e in task.examples)))
    return max(1, min(fitting, plan(model, task, execution=execution).batch_size))


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
        for rows in batches(bound, pairs_at_a_time(model, bound, execution=Execution())):
            found[list(rows)] = _patched_together(run_pair(model, bound, rows=rows), wanted)
    return found


class _Rows:
    """Sums over examples of the effects of what is patched in one layer: `single` [component, position], `at_all`
    [component]. The first components, as many as `single` has rows, are patched position by position too."""

    def __init__(self, components: int, singles: int, positions: int) -> None:
        self.single, self.at_all = np.zeros((singles, positions)), np.zeros(components)

    def add(self, pair: RunPair, chunks: Iterable[Chunk], *, layer: int) -> None:
        """Add the effects of `chunks`: indexes of components, and the output of block `layer` (-1: the embedding) with
        each of them patched at all positions."""
        for members, patched in chunks:
            self.at_all[members] += _effects(pair, patched, layer, start=0)
            if members[-1] >= len(self.single):
                continue
            for place in range(self.single.shape[1]):
                # What the last block computes is read at the answer position alone.
                if layer < pair.model.n_layers - 1 or place in pair.answer_places:
                    start = place if pair.model.is_causal else 0
                    here = pair.at_one_position(patched, layer=layer, place=place)
                    self.single[members, place] += _effects(pair, here, layer, start=start)

    def merge(self, other: _Rows) -> None:
        """Take over the sums of other examples."""
        self.single += other.single
        self.at_all += other.at_all


def _effects(pair: RunPair, resid: Tensor, layer: int, *, start: int) -> Floats:
    """Effects [component], summed over rows, of streams after block `layer` [component, row, pos, d_model]."""
    metric = pair.metric(pair.corrupted.rest(layer + 1, resid.flatten(0, 1), start=start))
    return np.asarray((metric - pair.base).sum(axis=1))


class _Sums:
    """The sums of all layers, and the logit differences of both runs, `ends` [clean, corrupted; example]."""

    def __init__(self, model: CircuitModel, chosen: EqualLength) -> None:
        self.heads, self.positions = model.n_heads, len(chosen.positions)
        self.embed = _Rows(1, 1, self.positions)
        self.layers = [self._empty() for _ in range(model.n_layers)]
        self.ends = np.full((2, len(chosen.task)), np.nan)

    def _empty(self) -> _Rows:
        return _Rows(3 * self.heads + 2, self.heads + 2, self.positions)

    def add(self, pair: RunPair, rows: Sequence[int], *, arrangement: Plan) -> Iterator[int]:
        """Add the effects on some examples, yielding the number of layers done; all of them, or none on an error."""
        size = arrangement.group_size(pair.rows, pair.corrupted.context.n_pos)
        embed, layers = _Rows(1, 1, self.positions), [self._empty() for _ in self.layers]
        embed.add(pair, [([0], pair.clean.embedding[None])], layer=-1)
        for layer, sums in enumerate(layers):
            sums.add(pair, _patched_block(pair, layer, size=size), layer=layer)
            yield layer + 1
        for own, new in zip((self.embed, *self.layers), (embed, *layers), strict=True):
            own.merge(new)
        self.ends[:, list(rows)] = pair.metric(pair.clean.last())[0], pair.base

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


def _patched_block(pair: RunPair, layer: int, *, size: int) -> Iterator[Chunk]:
    """The output of one block of the corrupted run with, in turn, each head, the MLP, the whole attention block, each
    head's pattern, and each head's values taken from the clean run, up to `size` of them at a time."""
    model, clean, corrupted = pair.model, pair.clean.states[layer], pair.corrupted.states[layer]
    context, heads = pair.corrupted.context, model.n_heads
    by_pattern = blocks.attend(model, layer, clean.q, clean.k, corrupted.v, context)
    by_value = blocks.attend(model, layer, corrupted.q, corrupted.k, clean.v, context)
    matrices = blocks.output_matrices(model, layer)
    for first, z in ((0, clean.z), (heads + 2, by_pattern), (2 * heads + 2, by_value)):
        change = (z - corrupted.z).unflatten(-1, (heads, model.d_head))
        for start in range(0, heads, size):
            group = slice(start, min(start + size, heads))
            written = torch.einsum("rphd,hdm->hrpm", change[:, :, group], matrices[group])
            members = list(range(first + group.start, first + group.stop))
            yield members, _after(pair, layer, corrupted.attention_out + written)
    yield [heads], blocks.after_mlp(model, layer, corrupted.resid_mid, clean.mlp_out)[None]
    yield [heads + 1], _after(pair, layer, clean.attention_out[None])


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

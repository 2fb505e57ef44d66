"""Direct logit attribution: how much each component writes in favour of the answer over the distractor, all later
components held fixed.

With r the last residual stream at the answer position, the logit difference is u . n(r) + constant: u is the difference
of the answer's and the distractor's rows of the unembedding, n the final norm. In this run the norm divides by one number,
so with that number frozen n is linear, and the logit difference is exactly

    sum over components c of u . n(what c writes)  +  constant        (embedding, heads, MLPs, and each layer's b_O)

The constant holds the biases of the final norm and of the unembedding, and rounding (some classes compute their norms in
float32). Sets of answers, or of distractors: u takes them with the weights of a softmax over the set (the gradient of the
logsumexp), and the constant holds the two entropies.

Post-norm encoders: what a component writes passes every later norm, and then the head of the language model. These are
frozen in the same way, each norm at its divisor in this run and the head's activation at the factor f(x) / x by which it
multiplied every number, so that their sum is exact, too; the constant also holds the norms' biases. This is a convention,
as freezing a norm is, and in encoders the further one: read their values beside ablations.

Limits: direct effects alone, no effect through later components; a norm that would have divided by less without a large
component still divides by the same. Source: the residual-stream decomposition of DC 3.1.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from circuitkd.components import Component
from circuitkd.interventions.capture import Batch, LayerState, batches, make_batch, walk_batch
from circuitkd.interventions.execution import Execution, plan
from circuitkd.interventions.readout import Readout, readout
from circuitkd.models import blocks
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.projections import bias_of, weight_of
from circuitkd.models.weights import output_bias
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask

Floats = NDArray[np.float64]
Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class LogitAttribution:
    """Direct contributions to the logit difference, in logits.

    `components`: the embedding, every head layer by layer, every MLP. `values` [component, example]. `biases` [layer,
    example]: the bias of the attention output, which no head owns. `constant`, `total` [example]: what no component
    writes, and the model's logit difference: `values` and `biases` summed, plus `constant`.
    """

    model: str
    task: str
    components: tuple[Component, ...]
    values: Floats
    biases: Floats
    constant: Floats
    total: Floats
    definition: str

    @property
    def mean(self) -> Floats:
        """Mean over examples [component]."""
        return np.asarray(self.values.mean(axis=1))

    def to_pandas(self) -> pd.DataFrame:
        """One row for each component, then each layer's bias and the constant, averaged over examples."""
        names = (
            [str(c) for c in self.components] + [f"b_O of layer {i}" for i in range(len(self.biases))] + ["constant"]
        )
        means = np.concatenate([self.mean, self.biases.mean(axis=1), [self.constant.mean()]])
        return pd.DataFrame({"component": names, "logits": means})


def logit_attribution(
    model: CircuitModel, task: Task | BoundTask, *, execution: Execution | None = None
) -> LogitAttribution:
    """Attribute the logit difference of every clean prompt to the components that write it."""
    bound = task.bind(model, aligned=False) if isinstance(task, Task) else task
    execution = execution or Execution()
    size, done = plan(model, bound, execution=execution).batch_size, 0
    written = np.zeros((1 + len(model.components) + model.n_layers, len(bound)))
    total = np.zeros(len(bound))
    with torch.inference_mode():
        for rows in batches(bound, size):
            batch = make_batch(bound, rows)
            written[:, list(rows)], total[list(rows)] = _attribute(model, batch, readout(batch.examples))
            done += len(rows)
            execution.report("logit attribution", done, total=len(bound))
    components = (Component("embed"), *model.components)
    post = model.architecture.residual == "post"
    return LogitAttribution(
        model=model.name,
        task=bound.name,
        components=components,
        values=written[: len(components)],
        biases=written[len(components) :],
        constant=total - written.sum(axis=0),
        total=total,
        definition="logit[answer] - logit[distractor] with the final norm's scale frozen"
        + (", and every later norm and the head's activation" if post else ""),
    )


def _attribute(model: CircuitModel, batch: Batch, wanted: Readout) -> tuple[Floats, Floats]:
    """Contributions [embedding + components + biases, row] and logit differences [row]."""
    states = [_at_answer(s, batch.positions) for s in walk_batch(model, batch)]
    direction, total = _answer_direction(model, states[-1].resid_post, wanted)
    post = model.architecture.residual == "post"
    heads, mlps, biases = [], [], []
    for state in reversed(states):
        norms = model.modules.blocks[state.layer]
        if post:
            direction = _through(norms.mlp_norm, state.resid_mid + state.mlp_out, direction)
        direction = direction.to(state.mlp_out.device)
        mlps.append((direction * state.mlp_out).sum(-1)[None])
        if post:
            direction = _through(norms.attention_norm, state.resid_pre + state.attention_out, direction)
        z = state.z.unflatten(-1, (model.n_heads, model.d_head))
        matrices = blocks.output_matrices(model, state.layer).to(z)
        heads.append(torch.einsum("rhd,hdm,rm->hr", z, matrices, direction))
        bias = output_bias(model, state.layer)
        biases.append((direction @ (torch.zeros_like(direction[0]) if bias is None else bias.to(direction)))[None])
    embedding = (direction.to(states[0].resid_pre) * states[0].resid_pre).sum(-1)[None]
    found = [embedding, *heads[::-1], *mlps[::-1], *biases[::-1]]
    return torch.cat([f.cpu().double() for f in found]).numpy(), total.cpu().double().numpy()


def _at_answer(state: LayerState, positions: Tensor) -> LayerState:
    """Only the answer position of all that is [row, pos, ...], float32 or wider; q, k and v are of no use here."""
    streams = (state.z, state.attention_out, state.resid_pre, state.resid_mid, state.mlp_out, state.resid_post)
    wide = torch.promote_types(state.z.dtype, torch.float32)
    z, attention_out, pre, mid, mlp_out, post = (blocks.at_positions(x, positions)[:, 0].to(wide) for x in streams)
    nothing = z.new_zeros(0)
    return LayerState(state.layer, pre, nothing, nothing, nothing, z, attention_out, mid, mlp_out, post)


def _answer_direction(model: CircuitModel, resid: Tensor, wanted: Readout) -> tuple[Tensor, Tensor]:
    """The direction [row, d_model] in the last residual stream along which the logit difference grows, and its value
    [row]."""
    narrow = resid.to(model.dtype)
    logits = blocks.logits(model, narrow, wanted.token_ids).to(resid.dtype)
    weights = (logits + wanted.answers.to(logits)).softmax(-1) - (logits + wanted.distractors.to(logits)).softmax(-1)
    rows = weight_of(model.modules.decoder)[wanted.token_ids.to(logits.device)]
    direction, inputs = weights @ rows.to(weights), [resid.to(logits.device)]
    steps = _steps_to_decoder(model)
    for step in steps:
        inputs.append(step(inputs[-1].to(model.dtype)).to(resid.dtype))
    assert torch.equal(inputs[-1], blocks.before_decoder(model, narrow).to(inputs[-1])), "unknown steps in the head"
    for step, x in zip(reversed(steps), reversed(inputs[:-1]), strict=True):
        direction = _through(step, x, direction)
    return direction, wanted.values(model, narrow[None])[0]


def _steps_to_decoder(model: CircuitModel) -> list[Step]:
    """Everything between the last block and the unembedding, modules made of others taken apart."""
    head = [list(step.children()) or [step] if isinstance(step, nn.Module) else [step] for step in model.modules.head]
    norm = model.modules.final_norm
    return [*([] if norm is None else [norm]), *(step for steps in head for step in steps)]


def _through(step: Step, x: Tensor, direction: Tensor) -> Tensor:
    """A direction [row, d] at a step's output as one at its input, with the step frozen at what it did to x [row, d]."""
    if isinstance(step, nn.Linear):
        return direction @ step.weight.to(direction)
    if not (isinstance(step, nn.Module) and hasattr(step, "weight")):
        return direction * torch.where(x == 0, torch.zeros_like(x), step(x) / x)
    weight, bias, centred = weight_of(step).to(x), bias_of(step), isinstance(step, nn.LayerNorm)
    scaled = weight * (x - x.mean(-1, keepdim=True) if centred else x)
    out = step(x.to(weight_of(step).dtype)).to(x) - (0.0 if bias is None else bias.to(x))
    # `out` is a multiple of `scaled`, row by row: this is 1 / the norm's divisor.
    factor = (out * scaled).sum(-1, keepdim=True) / scaled.square().sum(-1, keepdim=True)
    back = direction.to(x) * weight * factor
    return back - back.mean(-1, keepdim=True) if centred else back

"""At which layer a model knows what: linear probes on the residual stream (DC 3.1.3, Appendix J, Figures 23 to 25).

Features are those of every layer's resid_mid (after attention, before the MLP). What is asked, and where, is in
`probe_targets.py`; how the probes are trained, in `linear_probes.py`.

Beside each score stand two controls. `control`: probes trained and tested on shuffled labels, which must sit at chance.
`embedding`: the same probe on the embedding, before any attention: what token and position alone give away. A target
that is known there says nothing about the layers.

Limits: a probe finds what could be read, not what the model reads; a score of 20 test prompts has a standard error of
about 0.1. Parallel blocks have no resid_mid: theirs is the entering stream plus the attention output. Post-norm blocks:
after the norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from circuitkd.interventions.execution import Execution
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.roles.linear_probes import Floats
from circuitkd.roles.probe_sites import ProbeScores, common_fields, probe_sites, questions, states_at
from circuitkd.roles.probe_targets import Place
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask


@dataclass(frozen=True, eq=False)
class ProbeResult(ProbeScores):
    """Probes of all targets at all layers of one model; a site is a layer. `embedding` [target]: the score there.
    `features`: what the probes read."""

    features: str
    layers: tuple[int, ...]
    embedding: Floats

    def to_pandas(self) -> pd.DataFrame:
        """One row for each target and layer."""
        table = self.table(layer=self.layers)
        return table.assign(embedding=self.embedding.repeat(len(self.layers)))


def probe(
    model: CircuitModel, task: Task | BoundTask, *, seed: int = 0, execution: Execution | None = None
) -> ProbeResult:
    """Train and test probes of every target at every layer.

    Raises ValueError for fewer than 10 different prompts, and a task whose targets all have a single class.
    """
    bound = task.bind(model, aligned=False) if isinstance(task, Task) else task
    asked = questions(bound, seed=seed)
    features = _streams(model, bound, asked.places, execution=execution or Execution())
    scores, controls = probe_sites(features, asked)
    return ProbeResult(
        **common_fields(model, asked, scores=scores[:, 1:], controls=controls[:, :, 1:]),
        features="resid_mid",
        layers=tuple(range(model.n_layers)),
        embedding=scores[:, 0],
    )


def _streams(model: CircuitModel, task: BoundTask, places: dict[Place, int], *, execution: Execution) -> Tensor:
    """The embedding and every layer's resid_mid [1 + layer, place, d_model] at these places, float32."""
    features = torch.zeros(1 + model.n_layers, len(places), model.d_model, device=model.device)
    with torch.inference_mode():
        for state, where, to in states_at(model, task, places=places, label="probes", execution=execution):
            if state.layer == 0:
                features[0, to] = state.resid_pre[where].to(features)
            features[1 + state.layer, to] = state.resid_mid[where].to(features)
    return features

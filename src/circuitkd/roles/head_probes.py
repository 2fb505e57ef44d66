"""Which head carries what: linear probes on the value vectors of every head (DC Appendix J.4, Figure 26).

A head's value vector at a position is what it would move from there if it attended to it. Targets, prompts and training
are those of the probes of the residual stream (`probes.py`), so both can be set beside each other: a head reads the
stream through its own small window of d_head numbers, and scores are lower for that alone (DC says so too).

Limits: those of `probes.py`. The value is read at the position of the target, before any attention of its layer, so it
says what a head can pick up there, not what it brought there. Under grouped-query attention the heads of a K/V group share
their values, hence their scores: `sources` says whose they are. Scores of many heads are many looks at few test prompts:
the largest of them is too large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from circuitkd.components import Component
from circuitkd.interventions.execution import Execution
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.roles.probe_sites import ProbeScores, common_fields, probe_sites, questions, states_at
from circuitkd.roles.probe_targets import Place
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask


@dataclass(frozen=True, eq=False)
class HeadProbes(ProbeScores):
    """Probes of all targets on the values of all heads of one model; a site is a head. `sources` [head]: whose value
    vectors it has, its own or those of a K/V group."""

    heads: tuple[Component, ...]
    sources: tuple[Component, ...]

    def to_pandas(self) -> pd.DataFrame:
        """One row for each target and head."""
        return self.table(head=list(map(str, self.heads)), values_of=list(map(str, self.sources)))


def probe_heads(
    model: CircuitModel, task: Task | BoundTask, *, seed: int = 0, execution: Execution | None = None
) -> HeadProbes:
    """Train and test probes of every target on the values of every head.

    Raises ValueError for fewer than 10 different prompts, and a task whose targets all have a single class.
    """
    bound = task.bind(model, aligned=False) if isinstance(task, Task) else task
    asked = questions(bound, seed=seed)
    values = _values(model, bound, asked.places, execution=execution or Execution())
    scores, controls = probe_sites(values.flatten(0, 1), asked)
    heads = tuple(c for c in model.components if c.kind == "head")
    shared = model.n_heads // model.n_kv_heads
    groups = np.arange(len(heads)) // shared
    return HeadProbes(
        **common_fields(model, asked, scores=scores[:, groups], controls=controls[:, :, groups]),
        heads=heads,
        sources=heads if shared == 1 else tuple(model.kv_components[g] for g in groups),
    )


def _values(model: CircuitModel, task: BoundTask, places: dict[Place, int], *, execution: Execution) -> Tensor:
    """The value vectors of every K/V group [layer, group, place, d_head] at these places, float32."""
    found = torch.zeros(model.n_layers, model.n_kv_heads, len(places), model.d_head, device=model.device)
    with torch.inference_mode():
        for state, where, to in states_at(model, task, places=places, label="head probes", execution=execution):
            found[state.layer, :, to] = state.v.transpose(1, 2)[where].transpose(0, 1).to(found)
    return found

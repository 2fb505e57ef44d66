"""Finding a circuit: nodes by iterated ablation, edges by path patching inside it, and everything measured (DC section
3.1).

    1. Prune heads and MLPs (`pruning`) with cached prefixes (`kept`).
    2. Patch every edge among what is left, the embedding and the logits, the rest staying ablated (`edges`); an edge is
       kept iff removing it costs at least 1 % (`edge_share`) of the circuit's own logit difference.
    3. Remove what is on no path from embed to logits (`connected`), on nodes and edges, to a fixpoint. Nodes that go
       this way were needed but only through edges that are each below the share; a warning names them.
    4. Evaluate the nodes, and the edges (`evaluation`).

Effects of edges are measured once, in the pruned circuit, not again after step 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from circuitkd.circuits.circuit import Circuit, ModelShape
from circuitkd.circuits.connected import NoCircuit, connected
from circuitkd.circuits.edge_circuit import EdgeScorer
from circuitkd.circuits.edges import edge_effects
from circuitkd.circuits.evaluation import evaluate, evaluate_edges
from circuitkd.circuits.graph import group_width
from circuitkd.circuits.kept import Kept, KeptScorer
from circuitkd.circuits.pruning import CRITERIA, Criterion, Pruning, check_threshold, prune
from circuitkd.comparison.checks import one_of
from circuitkd.comparison.resampling import interval, resampled_means
from circuitkd.components import Component
from circuitkd.interventions.ablations import Ablation
from circuitkd.interventions.execution import Execution
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.provenance import software
from circuitkd.tasks.base import Task
from circuitkd.tasks.binding import BoundTask

THRESHOLDS = (0.10, 0.15, 0.20, 0.25, 0.30)
ABILITY_DRAWS = 2000


@dataclass(frozen=True)
class DiscoveryOptions:
    """How to look for a circuit. `threshold`, `criterion`: of `pruning.prune`. `edge_share`: what an edge must cost at
    least, as a share of the circuit's logit difference (None: no edges). `force`: go on with a model that is not
    shown to do the task. `subsets`, `random_circuits`, `seed`: of `evaluation.evaluate`."""

    threshold: float = 0.2
    criterion: Criterion = "cumulative"
    edge_share: float | None = 0.01
    force: bool = False
    subsets: int = 10
    random_circuits: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        one_of(self.criterion, CRITERIA, name="criterion")
        if self.edge_share is not None and not 0 <= self.edge_share < 1:
            raise ValueError(f"edge_share {self.edge_share} is outside [0, 1): 0.01 keeps edges that cost 1 % or more")


@dataclass(frozen=True, eq=False)
class ThresholdSweep:
    """One circuit per threshold (DC Appendix N). `jaccard` [threshold, threshold]: shared nodes over all nodes of
    two."""

    thresholds: tuple[float, ...]
    circuits: tuple[Circuit, ...]
    jaccard: NDArray[np.float64]

    def to_pandas(self, reference: float = 0.2) -> pd.DataFrame:
        """One row a threshold: sizes, `retained` (DC's completeness), faithfulness, completeness (1 - DC's
        faithfulness), and the node Jaccard with the threshold nearest `reference`."""
        nearest = int(np.abs(np.asarray(self.thresholds) - reference).argmin())
        rows = [
            {
                "threshold": threshold,
                "nodes": len(circuit.components),
                "heads": len(circuit.heads),
                "mlps": len(circuit.mlps),
                "edges": len(circuit.edges),
                "retained": circuit.retained,
                "faithfulness": circuit.faithfulness,
                "completeness": circuit.completeness,
                "node_jaccard": float(self.jaccard[row, nearest]),
            }
            for row, (threshold, circuit) in enumerate(zip(self.thresholds, self.circuits, strict=True))
        ]
        return pd.DataFrame(rows)


def discover(
    model: CircuitModel,
    task: Task | BoundTask,
    *,
    threshold: float = 0.2,
    ablation: Ablation | None = None,
    force: bool = False,
    execution: Execution | None = None,
) -> Circuit:
    """The circuit of `model` for `task`, with edges and evaluation; `find_circuit` has more options.

    Raises NoCircuit for a model whose mean logit difference is not shown to be above 0 (unless `force`; 95 % interval
    over examples) and for a result without a path from embed to logits, ValueError for a threshold outside (0, 1) and
    prompts the ablation cannot use.
    """
    options = DiscoveryOptions(threshold=threshold, force=force)
    return find_circuit(KeptScorer(model, task, ablation=ablation, execution=execution), options)


def find_circuit(scorer: KeptScorer, options: DiscoveryOptions | None = None) -> Circuit:
    """As `discover`, for the model, task and ablation of `scorer`, which remembers what it has run."""
    options = options or DiscoveryOptions()
    warnings = list(scorer.warnings) + _ability(scorer, options)
    pruning = _pruned(scorer, options)
    circuit = Circuit(
        model=ModelShape.of(scorer.model),
        task=scorer.task.name,
        components=pruning.components,
        pruning=pruning,
        manifest=_manifest(scorer, options),
    )
    if options.edge_share is not None:
        circuit, lost = _with_edges(scorer, circuit, share=options.edge_share)
        warnings += lost
    return evaluated(replace(circuit, warnings=tuple(dict.fromkeys(warnings))), scorer, options=options)


def evaluated(circuit: Circuit, scorer: KeptScorer, *, options: DiscoveryOptions | None = None) -> Circuit:
    """The same circuit, for example an imported one, measured on the task of `scorer`; it is pruned no further.

    Raises ValueError for a circuit of another model, and for edges without a path from embed to logits.
    """
    options = options or DiscoveryOptions()
    circuit.require_model(scorer.model)
    evaluation = evaluate(
        scorer,
        circuit.components,
        subsets=options.subsets,
        random_circuits=options.random_circuits,
        seed=options.seed,
    )
    edges = evaluate_edges(_edge_scorer(scorer), circuit.edges) if circuit.edges else None
    return replace(circuit, task=scorer.task.name, evaluation=evaluation, edge_evaluation=edges)


def threshold_sweep(
    model: CircuitModel,
    task: Task | BoundTask,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    ablation: Ablation | None = None,
    options: DiscoveryOptions | None = None,
    execution: Execution | None = None,
) -> ThresholdSweep:
    """Circuits at several thresholds, with what they share of their nodes (DC Appendix N). Raises ValueError as
    `discover`."""
    options = options or DiscoveryOptions()
    if not thresholds:
        raise ValueError("a sweep needs at least one threshold, as in thresholds=(0.1, 0.2, 0.3)")
    each = [replace(options, threshold=threshold) for threshold in thresholds]
    scorer = KeptScorer(model, task, ablation=ablation, execution=execution)
    found = tuple(find_circuit(scorer, chosen) for chosen in each)
    overlaps = [[jaccard(a.components, b.components) for b in found] for a in found]
    return ThresholdSweep(tuple(thresholds), found, np.array(overlaps))


def jaccard(first: Sequence[Component], second: Sequence[Component]) -> float:
    """Shared over all members of two sets; 1 for two empty ones."""
    union = set(first) | set(second)
    return len(set(first) & set(second)) / len(union) if union else 1.0


def _ability(scorer: KeptScorer, options: DiscoveryOptions) -> list[str]:
    values = scorer.values(scorer.everything)
    if not np.isfinite(values).all():
        return []  # pruning names the cause
    draws = np.concatenate(list(resampled_means(values[None], draws=ABILITY_DRAWS, seed=0)))
    low, high = interval(draws)
    if low > 0:
        return []
    verdict = "is not shown to do" if values.mean() > 0 else "cannot do"
    problem = (
        f"{scorer.model.name} {verdict} {scorer.task.name}: its mean logit difference is {values.mean():.3f} "
        f"(95 % interval {low:.3f} to {high:.3f})"
    )
    if not options.force:
        raise NoCircuit(
            f"{problem}, so no part of it can be said to do it; choose another task, or force it (force=True, --force)"
        )
    return [f"{problem}: the circuit was forced, its shares mean nothing"]


def _pruned(scorer: KeptScorer, options: DiscoveryOptions) -> Pruning:
    done = 0

    def score(kept: Kept) -> float:
        nonlocal done
        done += 1
        value = scorer(kept)
        scorer.execution.report("node pruning", done, total=done + len(kept))
        return value

    model = scorer.model
    return prune(model.n_layers, model.n_heads, score, threshold=options.threshold, criterion=options.criterion)


def _with_edges(scorer: KeptScorer, circuit: Circuit, *, share: float) -> tuple[Circuit, list[str]]:
    """The circuit with its strong edges, reduced to what is on a path, and a warning where that dropped components."""
    model, task, ablation = scorer.model, scorer.task, scorer.ablation
    effects = edge_effects(model, task, ablation=ablation, circuit=circuit.components, execution=scorer.execution)
    cost = effects.drops / float(effects.base.mean())
    strong = {edge: float(drop) for edge, drop, c in zip(effects.edges, effects.drops, cost, strict=True) if c >= share}
    found = connected(circuit.components, strong, group_width=group_width(model))
    scores = tuple(strong[e] for e in found.edges)
    smaller = replace(circuit, components=found.components, edges=found.edges, edge_scores=scores)
    names = ", ".join(map(str, found.dropped))
    lost = (
        f"{len(found.dropped)} components were dropped ({names}): none of their edges costs {100 * share:g} % on a "
        "path from embed to logits; a smaller edge_share keeps them"
    )
    return smaller, [lost] if found.dropped else []


def _edge_scorer(scorer: KeptScorer) -> EdgeScorer:
    return EdgeScorer(scorer.model, scorer.task, ablation=scorer.ablation, execution=scorer.execution)


def _manifest(scorer: KeptScorer, options: DiscoveryOptions) -> dict[str, str]:
    share = "none" if options.edge_share is None else f"at least {100 * options.edge_share:g} % of the circuit"
    return {
        "task": scorer.task.name,
        "data_sha256": scorer.task.digest,
        "examples": str(len(scorer.task)),
        "metric_and_reference": scorer.describe(),
        "nodes": f"iterated ablation, threshold {options.threshold:g}, {options.criterion}",
        "edges": f"path patching inside the circuit, {share}",
        "forward_equivalents_of_pruning": f"{scorer.forward_equivalents:.2f}",
    } | software()

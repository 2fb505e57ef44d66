"""A circuit: some heads and MLPs of one model, the edges between them, and how well they do one task.

It is saved as one JSON file or as a run folder, with the fingerprint of the model's weights: names of components mean
nothing in another model, so every function that takes a model and a circuit asks `require_model` first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from circuitkd.artifacts import (
    MISREAD,
    cannot_write,
    decode,
    load_run,
    plain,
    read_json,
    save_run,
    to_json,
    write_atomically,
)
from circuitkd.circuits.evaluation import EdgeEvaluation, Evaluation
from circuitkd.circuits.graph import check_edges
from circuitkd.circuits.pruning import Pruning
from circuitkd.components import Component, Edge
from circuitkd.interventions.execution import fingerprint
from circuitkd.models.circuit_model import CircuitModel

FORMAT = 1


@dataclass(frozen=True)
class ModelShape:
    """Which model a circuit belongs to, and what its graph looks like. `residual`: pre, post or parallel."""

    name: str
    hf_class: str
    fingerprint: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    residual: str

    @classmethod
    def of(cls, model: CircuitModel) -> ModelShape:
        """The shape of a model in memory."""
        return cls(
            name=model.name,
            hf_class=model.architecture.hf_class,
            fingerprint=fingerprint(model),
            n_layers=model.n_layers,
            n_heads=model.n_heads,
            n_kv_heads=model.n_kv_heads,
            d_model=model.d_model,
            residual=model.architecture.residual,
        )

    @property
    def group_width(self) -> int:
        """Query heads per K/V group."""
        return self.n_heads // self.n_kv_heads


@dataclass(frozen=True)
class Circuit:
    """Part of a model. `components`: heads layer by layer, then MLPs. `edge_scores` [edge]: the mean effect, in
    logits, of removing each of `edges` from the circuit (for an imported circuit whatever its file says). `evaluation`
    is None for a circuit that was only imported, `edge_evaluation` also where edges were not asked for."""

    model: ModelShape
    task: str
    components: tuple[Component, ...]
    edges: tuple[Edge, ...] = ()
    edge_scores: tuple[float, ...] = ()
    evaluation: Evaluation | None = None
    edge_evaluation: EdgeEvaluation | None = None
    pruning: Pruning | None = None
    warnings: tuple[str, ...] = ()
    manifest: dict[str, str] = field(default_factory=dict)

    @property
    def heads(self) -> tuple[Component, ...]:
        """The attention heads."""
        return tuple(c for c in self.components if c.kind == "head")

    @property
    def mlps(self) -> tuple[Component, ...]:
        """The MLPs."""
        return tuple(c for c in self.components if c.kind == "mlp")

    @property
    def retained(self) -> float:
        """m(C) / m(M): the share of the model's logit difference that the circuit alone keeps."""
        return self.require_evaluation().retained

    @property
    def faithfulness(self) -> float:
        """(m(C) - m(0)) / (m(M) - m(0)), 0 standing for every head and MLP ablated."""
        return self.require_evaluation().faithfulness

    @property
    def completeness(self) -> float:
        """(m(M) - m(M without C)) / m(M): the share that the model loses without the circuit."""
        return self.require_evaluation().completeness

    @property
    def minimality(self) -> tuple[float, ...]:
        """100 (m(C) - m(C without c)) / m(M) for each of `components`: points of the full model, positive = it is
        needed."""
        return self.require_evaluation().minimality

    @property
    def concentration(self) -> float:
        """Share of the circuit's effect in its top component: largest over summed positive minimality (NaN without
        one)."""
        losses = np.maximum(self.minimality, 0.0)
        return float(losses.max() / losses.sum()) if losses.sum() > 0 else float("nan")

    def require_model(self, model: CircuitModel) -> None:
        """Raise ValueError unless the circuit belongs to this model and all its parts are there."""
        found = fingerprint(model)
        if found != self.model.fingerprint:
            raise ValueError(
                f"this circuit belongs to {self.model.name} (weights {self.model.fingerprint}), not to {model.name} "
                f"(weights {found}): load the model it was found in, in the same dtype, or discover the circuit again"
            )
        unknown = [str(c) for c in self.components if c not in model.components]
        if unknown:
            raise ValueError(f"{model.name} has no {', '.join(unknown)}: the circuit file was changed by hand")
        if self.edges:
            check_edges(model, self.edges)

    def save(self, path: str | Path) -> Path:
        """Write one JSON file (a path that ends in .json) or a run folder. Raises ValueError when it cannot be
        written."""
        path = Path(path)
        if path.suffix != ".json":
            return save_run(path, self, manifest=self.manifest)
        return write_text(path, to_json({"format": FORMAT, "kind": "Circuit", "circuit": plain(self)}))

    @classmethod
    def load(cls, path: str | Path, model: CircuitModel | None = None) -> Circuit:
        """Read what `save` wrote; with `model`, also check that it is that model's. Raises ValueError when it is not,
        and for a missing, damaged or foreign file."""
        path = Path(path)
        circuit = load_run(path, cls) if path.is_dir() else _read(path)
        if model is not None:
            circuit.require_model(model)
        return circuit

    def to_eap_ig(self, path: str | Path) -> Path:
        """Write the circuit as a graph file of EAP-IG; see `eap_ig.write_eap_ig`."""
        from circuitkd.circuits.eap_ig import write_eap_ig

        return write_eap_ig(self, path)

    @classmethod
    def from_eap_ig(cls, path: str | Path, model: CircuitModel) -> Circuit:
        """Read a graph file of EAP-IG or MIB for this model; see `eap_ig.read_eap_ig`."""
        from circuitkd.circuits.eap_ig import read_eap_ig

        return read_eap_ig(path, model)

    def to_pandas(self) -> pd.DataFrame:
        """The components, one a row, with their marginal loss in points of the full model (NaN where not evaluated)."""
        losses = self.evaluation.minimality if self.evaluation else (float("nan"),) * len(self.components)
        rows = [(str(c), c.kind, c.layer, c.head, loss) for c, loss in zip(self.components, losses, strict=True)]
        return pd.DataFrame(rows, columns=["component", "kind", "layer", "head", "marginal_loss"])

    def require_evaluation(self) -> Evaluation:
        """The evaluation. Raises ValueError for a circuit that was only imported."""
        if self.evaluation is None:
            raise ValueError(
                "this circuit was imported and never evaluated: run circuits.discovery.evaluated on it, with a "
                "KeptScorer of the model and a task, or circuitkd circuit MODEL --task NAME --circuit FILE"
            )
        return self.evaluation


def _read(path: Path) -> Circuit:
    if not path.exists():
        raise ValueError(f"{path} does not exist: give a circuit file (.json) or a run folder")
    try:
        record = read_json(path)
        if record["kind"] != "Circuit" or record["format"] != FORMAT:
            raise ValueError(f"it holds a {record['kind']} of format {record['format']}")
        found: Circuit = decode(Circuit, record["circuit"], arrays={})
        losses = found.components if found.evaluation is None else found.evaluation.minimality
        if len(found.edges) != len(found.edge_scores) or len(found.components) != len(losses):
            raise ValueError("it does not have one score for each edge and one loss for each component")
    except MISREAD as error:
        raise ValueError(
            f"{path} is not a circuit of this version: {error}; an EAP-IG or MIB file is read by "
            "circuits.formats.read_eap_ig"
        ) from error
    return found


def write_text(path: str | Path, text: str) -> Path:
    """Write a file whole or not at all, its folder made if missing. Raises ValueError when it cannot be written."""
    path = Path(path)
    with cannot_write(str(path), way_out="choose another place"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    return path

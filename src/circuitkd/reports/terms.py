"""Which definition a name on a page leads to: the end of its anchor, by the name as it is printed, in small letters."""

from __future__ import annotations

TERMS = {
    "alignment": "alignment",
    "alignment a": "alignment",
    "similarity": "similarity",
    "mean similarity": "similarity",
    "agreement": "agreement",
    "mean influence agreement": "agreement",
    "contribution": "alignment",
    "teacher influence": "influence",
    "student influence": "influence",
    "influence": "influence",
    "null: shuffled influences": "shuffled",
    "shuffled null": "shuffled",
    "null: untrained student": "untrained",
    "random student": "untrained",
    "kept": "kept",
    "influential components kept": "kept",
    "logit difference": "logit-difference",
    "gap": "logit-difference",
    "mean of both": "logit-difference",
    "mean drop": "drop",
    "slope": "slope",
    "performance": "logit-difference",
    "robustness": "drop",
    "components that cost": "drop",
    "accuracy": "logit-difference",
    "normalisation": "variants",
    # circuits
    "faithfulness": "faithfulness",
    "faithfulness of its edges alone": "edge",
    "retained": "retained",
    "completeness": "completeness",
    "random: faithfulness": "random",
    "random: completeness": "random",
    "random": "random",
    "top component": "top",
    "nodes": "circuit",
    "edges": "edge",
    # experiments
    "condition": "condition",
    "full": "accuracy",
    "circuit": "circuit",
    "ce": "ce",
    "cka": "cka",
    "heads": "trained",
    "parameters": "trained",
    "p, all parameters, ce": "mcnemar",
    "p, circuit, ce": "mcnemar",
    "full accuracy": "accuracy",
    "circuit accuracy": "circuit",
    "random circuits": "random",
    "training loss": "loss",
    "task loss": "task-loss",
    "mapping": "mapping",
}


def anchor(name: str) -> str:
    """The end of the anchor of a name's definition; empty where it has none."""
    return TERMS.get(name.lower(), "")

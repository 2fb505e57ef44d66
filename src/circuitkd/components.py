"""Names of the parts of a transformer: components (one head, one MLP, one K/V group) and the edges between them.

A component is a label, never a tensor. Layers are transformer blocks counted from 0. The printed forms are `L9H6`, `MLP4`,
`L9KV2`, `embed` and `logits`; the spellings `9.6`, `a9.h6`, `m4`, `input` and the edge spelling `a5.h5->a7.h9<q>` (that of
EAP-IG's files) are also read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["head", "mlp", "kv", "embed", "logits"]
Slot = Literal["q", "k", "v"]

_HEAD = re.compile(r"(?:L(\d+)H(\d+)|a?(\d+)\.h?(\d+))", re.IGNORECASE)
_KV = re.compile(r"L(\d+)KV(\d+)", re.IGNORECASE)
_MLP = re.compile(r"(?:MLP|m)(\d+)", re.IGNORECASE)
_EDGE = re.compile(r"\s*(\S+?)\s*->\s*(\S+?)\s*(?:<([qkv])>)?\s*")
_ORDER = {"embed": 0, "head": 1, "kv": 2, "mlp": 3, "logits": 4}


@dataclass(frozen=True)
class Component:
    """One part of a model: an attention head, an MLP, a K/V group, or one of the endpoints `embed` and `logits`.

    `layer` is None for the endpoints, `head` is None for everything but heads and K/V groups (where it is the group).
    """

    kind: Kind
    layer: int | None = None
    head: int | None = None

    def __post_init__(self) -> None:
        has_layer, has_head = self.kind in ("head", "mlp", "kv"), self.kind in ("head", "kv")
        if self.kind not in _ORDER or (self.layer is None) == has_layer or (self.head is None) == has_head:
            raise ValueError(
                f"not a component: kind={self.kind!r} layer={self.layer!r} head={self.head!r}; a head or kv needs "
                "layer and head, an mlp needs a layer, embed and logits need neither"
            )

    def __str__(self) -> str:
        if self.kind == "head":
            return f"L{self.layer}H{self.head}"
        if self.kind == "kv":
            return f"L{self.layer}KV{self.head}"
        return f"MLP{self.layer}" if self.kind == "mlp" else self.kind

    def __lt__(self, other: Component) -> bool:
        return self.sort_key() < other.sort_key()

    def sort_key(self) -> tuple[float, int, int]:
        """Order of computation: embed, then layer by layer the heads, their K/V groups and the MLP, then logits."""
        layer = {"embed": -1.0, "logits": float("inf")}.get(self.kind, self.layer)
        return (float(layer or 0), _ORDER[self.kind], self.head or 0)

    @classmethod
    def parse(cls, text: str) -> Component:
        """Read `L9H6`, `9.6`, `a9.h6`, `MLP4`, `m4`, `L9KV2`, `embed` (or `input`) or `logits`.

        Raises ValueError for anything else.
        """
        name = text.strip()
        if name.lower() in ("embed", "input"):
            return cls("embed")
        if name.lower() == "logits":
            return cls("logits")
        if match := _KV.fullmatch(name):
            return cls("kv", int(match[1]), int(match[2]))
        if match := _HEAD.fullmatch(name):
            layer, head = (match[1], match[2]) if match[1] else (match[3], match[4])
            return cls("head", int(layer), int(head))
        if match := _MLP.fullmatch(name):
            return cls("mlp", int(match[1]))
        raise ValueError(f"unknown component {text!r:.60}: write a head as L9H6, an MLP as MLP4, a K/V group as L9KV2")


@dataclass(frozen=True)
class Edge:
    """A connection sender -> receiver; `slot` says which input of a receiving head is meant (q, k or v)."""

    sender: Component
    receiver: Component
    slot: Slot | None = None

    def __str__(self) -> str:
        return f"{self.sender}->{self.receiver}" + (f"<{self.slot}>" if self.slot else "")

    @classmethod
    def parse(cls, text: str) -> Edge:
        """Read `L5H5->L7H9<q>`, `a5.h5->a7.h9<q>`, `m0->logits`. Raises ValueError for anything else."""
        match = _EDGE.fullmatch(text)
        if match is None:
            raise ValueError(f"unknown edge {text!r:.60}: write it as L5H5->L7H9<q> or MLP0->logits")
        slot: Slot | None = match[3]  # type: ignore[assignment]
        return cls(Component.parse(match[1]), Component.parse(match[2]), slot)


def model_components(n_layers: int, n_heads: int) -> tuple[Component, ...]:
    """Every head layer by layer, then every MLP: the order of all per-component arrays in this package."""
    heads = [Component("head", layer, head) for layer in range(n_layers) for head in range(n_heads)]
    return tuple(heads + [Component("mlp", layer) for layer in range(n_layers)])

"""Train exactly the weights of chosen heads, and keep everything else at its bits (semantics, section 11).

Trained are, of each chosen head, the q weights and bias and the o weights; and the k and v weights and biases, which
under grouped-query attention are those of its whole K/V group, so that other heads of the group read changed keys and
values (`shared_heads` names them). The o bias, which all heads share, and per-head norms of q and k are frozen.

A slice is part of a larger parameter, and an optimiser that holds the parameter moves frozen entries too: by weight
decay, and by momentum left from anything else. So three things are done:
1. parameters without a trained entry get no gradient and are in no optimiser;
2. after every backward pass the gradients of frozen entries are set to 0, before clipping, so that they do not count
   in the norm;
3. after every optimiser step frozen entries are written back from a copy, whatever the optimiser did, and their
   optimiser state (momentum has decay in it under SGD) is set to 0, as it was at the start.
By (3) every forward pass sees the initial bits, under any optimiser. At the end `check` compares a SHA-256 of all
values outside the circuit, taken from the model itself, with the one taken at the start.

Cost: a copy and a mask of the attention parameters of the circuit's layers. Limit: with optimisers that mix the entries
of a matrix (Adafactor, Muon) the steps of trained entries depend on the frozen ones' zeros.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from circuitkd.components import Component, Slot
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.projections import ParameterSlice
from circuitkd.models.weights import head_slices, output_slice


@dataclass(frozen=True, eq=False)
class CircuitParameters:
    """Which entries of which parameters are trained.

    `masks`: parameter name -> bool tensor of its shape, True where trained. `shared_heads`: heads outside the circuit
    that read a trained K/V group. `trained`, `total`: numbers of parameters (tied ones once); `n_heads`: of the model.
    """

    heads: tuple[Component, ...]
    shared_heads: tuple[Component, ...]
    masks: dict[str, Tensor]
    trained: int
    total: int
    n_heads: int

    @classmethod
    def of(cls, model: CircuitModel, heads: Iterable[Component]) -> CircuitParameters:
        """The parameters of these heads. Raises ValueError for no heads and for ones the model does not have."""
        chosen = tuple(dict.fromkeys(heads))
        every = [c for c in model.components if c.kind == "head"]
        if not chosen or any(h not in every for h in chosen):
            raise ValueError(
                f"the circuit's heads are {', '.join(map(str, chosen)) or 'none'}: give one or more of the {len(every)} "
                f"heads of {model.name}"
            )
        names = {id(parameter): name for name, parameter in model.hf.named_parameters()}
        masks: dict[str, Tensor] = {}
        for place in (p for head in chosen for p in _places(model, head)):
            empty = torch.zeros(place.parameter.shape, dtype=torch.bool, device=place.parameter.device)
            place.view(masks.setdefault(names[id(place.parameter)], empty)).fill_(True)
        groups = {_group(model, head) for head in chosen}
        return cls(
            heads=chosen,
            shared_heads=tuple(h for h in every if _group(model, h) in groups and h not in chosen),
            masks=masks,
            trained=sum(int(mask.sum()) for mask in masks.values()),
            total=model.parameter_count,
            n_heads=len(every),
        )

    @property
    def parameter_share(self) -> float:
        """Share of the model's parameters that are trained."""
        return self.trained / self.total

    @property
    def head_share(self) -> float:
        """Share of the model's heads that are in the circuit."""
        return len(self.heads) / self.n_heads


def _places(model: CircuitModel, head: Component) -> Sequence[ParameterSlice]:
    assert head.layer is not None and head.head is not None
    slots: tuple[tuple[Slot, int], ...] = (
        ("q", head.head),
        ("k", _group(model, head)[1]),
        ("v", _group(model, head)[1]),
    )
    found = [p for slot, index in slots for p in head_slices(model, head.layer, head=index, slot=slot)]
    return [*found, output_slice(model, head.layer, head=head.head)]


def _group(model: CircuitModel, head: Component) -> tuple[int, int]:
    """Layer and K/V group of a head."""
    return head.layer or 0, (head.head or 0) // (model.n_heads // model.n_kv_heads)


@dataclass(frozen=True)
class Untouched:
    """SHA-256 of all `values` values outside the circuit, before and after training."""

    before: str
    after: str
    values: int

    @property
    def identical(self) -> bool:
        """Whether every one of them has the bits it had."""
        return self.before == self.after


class Keeper:
    """Keeps everything outside the circuit as it is while `hf` is trained (module docstring).

    Parameters without a trained entry stop requiring gradients, and go on not requiring them afterwards.
    """

    def __init__(self, hf: nn.Module, parameters: CircuitParameters) -> None:
        self.hf, self.parameters = hf, parameters
        for name, parameter in hf.named_parameters():
            parameter.requires_grad_(name in parameters.masks)
        self._kept = {name: (mask, self._parameter(name).detach().clone()) for name, mask in parameters.masks.items()}
        self.before = self.digest()

    def mask_gradients(self) -> None:
        """Set the gradients of frozen entries to 0."""
        for name in self._kept:
            gradient = self._parameter(name).grad
            if gradient is not None:
                # Filled, not multiplied: an infinite gradient times 0 would be NaN.
                gradient.masked_fill_(~self._placed(name)[0], 0.0)

    @torch.no_grad()
    def restore(self, optimizer: torch.optim.Optimizer) -> None:
        """Write the initial values back to all frozen entries of parameters that are trained in part, and set their
        optimiser state to 0."""
        for name in self._kept:
            mask, initial = self._placed(name)
            parameter = self._parameter(name)
            parameter.copy_(torch.where(mask, parameter, initial))
            for state in optimizer.state.get(parameter, {}).values():
                if torch.is_tensor(state) and state.shape == parameter.shape:
                    state.masked_fill_(~mask, 0.0)

    def digest(self) -> str:
        """SHA-256 of all parameters and buffers, trained entries set to 0."""
        found = hashlib.sha256()
        for name, value in sorted(self.hf.state_dict().items()):
            whole = value.full_tensor() if isinstance(value, DTensor) else value
            mask = self.parameters.masks.get(name)
            if mask is not None:
                whole = whole.masked_fill(mask.to(whole.device), 0.0)
            raw = whole.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode() + raw.tobytes())
        return found.hexdigest()

    def check(self) -> Untouched:
        """Compare with the start. Raises ValueError when a value outside the circuit has changed."""
        found = Untouched(self.before, self.digest(), self.parameters.total - self.parameters.trained)
        if not found.identical:
            raise ValueError(
                "values outside the circuit have changed since the trainer was made: something else (a callback, another "
                "checkpoint's weights) wrote to the student; start from the same student, without it"
            )
        return found

    def _parameter(self, name: str) -> nn.Parameter:
        return self.hf.get_parameter(name)

    def _placed(self, name: str) -> tuple[Tensor, Tensor]:
        """Mask and initial values where the parameter is now: on its device, sharded as it is."""
        like, (mask, initial) = self._parameter(name), self._kept[name]
        self._kept[name] = _like(mask, like), _like(initial, like)
        return self._kept[name]


def _like(value: Any, like: Tensor) -> Tensor:
    if isinstance(like, DTensor) and not isinstance(value, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value.to(like.device)

"""Path patching by brute force: Hugging Face's own forward with hooks, every other head and MLP frozen explicitly.

For each sender one frozen run, in which all heads and MLPs are set to their clean values and the sender to its
replacement; what each receiver would read there is caught at the modules' inputs. For each receiver one ordinary
run with its q, k, v or MLP output computed from what was caught. Right for all edges of a receiver at once, as rows
of a batch; slow, and without any of the package's block functions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from circuitkd.components import Component, Edge
from circuitkd.models.circuit_model import CircuitModel
from circuitkd.models.hooks import edits, hooked_logits, record
from circuitkd.models.modules import block_list
from circuitkd.models.projections import ColumnQkv, InterleavedQkv
from circuitkd.tasks.binding import BoundTask

Run = tuple[dict[tuple[str, int], Tensor], Tensor]
Values = dict[tuple[str, int], Tensor]  # ("embed", 0), ("z", layer), ("mlp", layer) -> [row, pos, width]


class Oracle:
    """All examples of a task as one right-padded batch. `kept`: a circuit; everything outside it stays replaced.

    `at`: the values that everything is frozen to, those of the clean run but in a copy made by `from_embedding`.
    """

    def __init__(self, model: CircuitModel, task: BoundTask, kind: str, *, kept: set[Component] | None = None) -> None:
        self.model, self.task = model, task
        self.width = max(len(e.clean) for e in task.examples)
        self.tokens = torch.stack([padded(torch.tensor(e.clean), self.width) for e in task.examples])
        self.lengths = torch.tensor([len(e.clean) for e in task.examples])
        self.new = self.replacement(kind)
        self.removed = [] if kept is None else [c for c in model.components if c not in kept]
        with torch.no_grad(), edits(model, {c: self.constant(self.part(self.new, c)) for c in self.removed}):
            self.clean, logits = observed(model, self.tokens, self.lengths)
            self.base = self.metric(logits)
        self.at, self.embedding = self.clean, None
        self.senders = (Component("embed"), *model.components)

    def from_embedding(self, share: float) -> Oracle:
        """The same where the base run starts at a mixture of clean (`share`) and replaced embedding; what a sender is
        changed by stays the difference of its replacement and its clean value."""
        other = copy.copy(self)
        other.embedding = share * self.clean["embed", 0] + (1 - share) * self.new["embed", 0]
        with torch.no_grad():
            other.at, logits = observed(self.model, self.tokens, self.lengths, embedding=other.embedding)
        other.base = self.metric(logits)
        return other

    def effects(self, edges: Sequence[Edge]) -> np.ndarray:
        """Base minus patched [edge, example], for edges that are sorted by receiver."""
        with torch.no_grad():
            frozen = {sender: self.frozen_run(sender, torch.ones(len(self.task))) for sender in self.senders}
            found = [self.base - self.patched(group, frozen) for group in by_receiver(edges)]
        return torch.cat(found).numpy()

    def derivatives(self, edges: Sequence[Edge]) -> np.ndarray:
        """Derivative of the effects [edge, example] by the share of the way from value to replacement, at 0."""
        shares = {s: torch.zeros(len(self.task), dtype=self.model.dtype, requires_grad=True) for s in self.senders}
        frozen = {sender: self.frozen_run(sender, share) for sender, share in shares.items()}
        found = []
        for group in by_receiver(edges):
            total = -self.patched(group, frozen).sum()
            found += torch.autograd.grad(total, [shares[e.sender] for e in group], retain_graph=True)
        return torch.stack(found).numpy()

    def node_derivatives(self) -> np.ndarray:
        """The same for the ablation of each component [component, example]."""
        found = []
        for component in self.model.components:
            share = torch.zeros(len(self.task), dtype=self.model.dtype, requires_grad=True)
            fixed = {component: self.constant(self.moved(component, share))}
            with edits(self.model, fixed):
                _, logits = observed(self.model, self.tokens, self.lengths, embedding=self.embedding)
            found += torch.autograd.grad(-self.metric(logits).sum(), share)
        return torch.stack(found).numpy()

    def patched(self, edges: Sequence[Edge], frozen: dict[Component, Run]) -> Tensor:
        """The metric [edge, example] with edges into one receiver patched, one in each copy of the batch."""
        receiver, slot, copies = edges[0].receiver, edges[0].slot, len(edges)
        runs = [frozen[edge.sender] for edge in edges]
        if receiver.kind == "logits":
            return torch.stack([self.metric(logits) for _, logits in runs])
        site = "mlp" if receiver.kind == "mlp" else "attention"
        streams = torch.cat([caught[f"read {site}", receiver.layer] for caught, _ in runs])
        fixed = {c: self.constant(self.part(self.new, c), copies=copies) for c in self.removed}
        with ExitStack() as stack:
            if site == "mlp":
                fixed[receiver] = self.constant(self.mlp(receiver.layer, streams))
            else:
                stack.enter_context(self.exchanged(receiver, slot, streams))
            stack.enter_context(edits(self.model, fixed))
            start = None if self.embedding is None else self.embedding.repeat(copies, 1, 1)
            tokens, lengths = self.tokens.repeat(copies, 1), self.lengths.repeat(copies)
            _, logits = observed(self.model, tokens, lengths, embedding=start)
        return torch.stack([self.metric(one) for one in logits.unflatten(0, (copies, -1))])

    def metric(self, logits: Tensor) -> Tensor:
        """Logit differences [example] from logits [example, pos, vocab]."""
        found = []
        for row, example in zip(logits, self.task.examples, strict=True):
            at = row[example.answer_position].double()
            found.append(at[list(example.answers)].logsumexp(0) - at[list(example.distractors)].logsumexp(0))
        return torch.stack(found)

    def replacement(self, kind: str) -> Values:
        runs = []
        for example in self.task.examples:
            ids = torch.tensor([example.corrupted])
            with torch.no_grad():
                runs.append(observed(self.model, ids, torch.tensor([len(example.corrupted)]))[0])
        lengths = [len(e.corrupted) for e in self.task.examples]

        def value(key: tuple[str, int], row: int) -> Tensor:
            if kind == "resample":
                return runs[row][key][0]
            if kind == "zero":
                return torch.zeros_like(runs[row][key][0])
            if kind == "mean":
                return torch.cat([r[key][0] for r in runs]).mean(0).expand(lengths[row], -1)
            same = [r[key][0] for r, length in zip(runs, lengths, strict=True) if length == lengths[row]]
            return torch.stack(same).mean(0)

        keys = [key for key in runs[0] if key[0] in ("embed", "z", "mlp")]
        return {key: torch.stack([padded(value(key, row), self.width) for row in range(len(runs))]) for key in keys}

    def part(self, values: Values, component: Component) -> Tensor:
        if component.kind == "embed":
            return values["embed", 0]
        if component.kind == "mlp":
            return values["mlp", component.layer]
        start = component.head * self.model.d_head
        return values["z", component.layer][..., start : start + self.model.d_head]

    def constant(self, value: Tensor, *, copies: int = 1) -> Callable[[Tensor], Tensor]:
        return lambda old: value.repeat(copies, 1, 1)

    def moved(self, sender: Component, share: Tensor) -> Tensor:
        """What a sender writes, `share` [example] of its change added."""
        at, old, new = (self.part(values, sender) for values in (self.at, self.clean, self.new))
        return at + share[:, None, None].to(old) * (new - old)

    def frozen_run(self, sender: Component, share: Tensor) -> Run:
        """Every head and MLP as in the base run but the sender: what is read at every site, and the logits."""
        fixed = {c: self.constant(self.part(self.at, c)) for c in self.model.components}
        embedding = self.moved(sender, share) if sender.kind == "embed" else self.embedding
        if sender.kind != "embed":
            fixed[sender] = self.constant(self.moved(sender, share))
        with edits(self.model, fixed):
            return observed(self.model, self.tokens, self.lengths, embedding=embedding)

    def mlp(self, layer: int, stream: Tensor) -> Tensor:
        parts = self.model.modules.blocks[layer]
        x = stream if self.model.architecture.residual == "post" else parts.mlp_norm(stream)
        for module in parts.mlp:
            x = module(x)
        return x

    @contextmanager
    def exchanged(self, receiver: Component, slot: str, stream: Tensor) -> Iterator[None]:
        """The q, k or v of one head or K/V group is what it would be for `stream`."""
        parts, d_head, head = self.model.modules.blocks[receiver.layer], self.model.d_head, receiver.head
        x = stream if self.model.architecture.residual == "post" else parts.attention_norm(stream)
        reader = parts.qkv
        if isinstance(reader, ColumnQkv):
            module, start = reader.map, "qkv".index(slot) * self.model.n_heads * d_head + head * d_head
        elif isinstance(reader, InterleavedQkv):
            module, start = reader.map, (3 * head + "qkv".index(slot)) * d_head
        else:
            module, start = reader.maps[slot], head * d_head

        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            mixed = output.clone()
            mixed[..., start : start + d_head] = module.forward(x)[..., start : start + d_head]
            return mixed

        handle = module.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def observed(model: CircuitModel, tokens: Tensor, lengths: Tensor, *, embedding: Tensor | None = None) -> Run:
    """One forward: what enters block 0 ("embed"), z, MLP outputs, what attention and MLPs read; and the logits."""
    seen: dict[tuple[str, int], Tensor] = {}
    handles = []

    def entering(layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            resid = args[0] if args else kwargs["hidden_states"]
            if layer == 0 and embedding is not None:
                resid = embedding
                args, kwargs = ((resid, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": resid})
            seen["attention", layer] = resid
            return args, kwargs

        return hook

    def middle(layer: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            seen["mlp", layer] = output if model.architecture.residual == "post" else args[0]

        return hook

    for layer, block in enumerate(block_list(model.hf, model.architecture)):
        handles.append(block.register_forward_pre_hook(entering(layer), with_kwargs=True))
        parts = model.modules.blocks[layer]
        norm = parts.attention_norm if model.architecture.residual == "post" else parts.mlp_norm
        handles.append(norm.register_forward_hook(middle(layer)))
    try:
        with record(model) as kept:
            logits = hooked_logits(model, tokens, lengths)
    finally:
        for handle in handles:
            handle.remove()
    found = {("embed", 0): seen["attention", 0]}
    for layer in range(model.n_layers):
        found["z", layer], found["mlp", layer] = kept.z[layer], kept.mlp_outputs[layer]
    sites = {("read " + site, layer): value for (site, layer), value in seen.items()}
    return found | sites, logits


def padded(x: Tensor, width: int) -> Tensor:
    """[pos, ...] -> [width, ...]."""
    return torch.cat([x, x.new_zeros(width - len(x), *x.shape[1:])])


def by_receiver(edges: Sequence[Edge]) -> Iterator[list[Edge]]:
    """Neighbours with the same receiver and slot."""
    for _, group in groupby(edges, key=lambda e: (e.receiver, e.slot)):
        yield list(group)

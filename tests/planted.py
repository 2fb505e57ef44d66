"""Models whose circuits are known, because their weights are set by hand: GPT-2 class, two layers of two heads, relu
MLPs.

Induction ("k a b m z a" -> "b"): L0H0 attends to the previous position and copies its token into the features `prev`;
L1H0 looks with the current token for a position whose `prev` it is, and copies that position's token into `out`, which
the unembedding reads. Successor ("1 and 2 and 3 to" -> "4"): L0H1 attends to the last numeral and moves it into
`moved` at the end; MLP1 has a hidden unit per numeral, which turns `moved` n into `out` n + 1. All other heads and
MLPs compute something and write it to features that nobody reads.

Every feature is a pair of neurons with opposite signs, so the residual stream has mean 0, and a large constant feature
keeps its norm: layer norms then only scale by a nearly constant 1 / SCALE, which the weights undo.

Which edges count follows from the corruption: clean and corrupted prompts agree in positions, carrier words and in
where the numerals are, so whatever only those decide (queries and keys of the previous-token head and of the mover)
has no effect.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from circuitkd.components import Component, Edge
from circuitkd.models import CircuitModel, wrap
from circuitkd.tasks.base import Example, Task
from tiny_models import NAMES, NUMERALS, THINGS, tiny_tokenizer

SYMBOLS = NAMES + THINGS[:8]
POSITIONS, CONSTANT, GAIN, JUNK = 10, 30.0, 10.0, 8
BLOCKS = ("tok", "prev", "out")


@dataclass(frozen=True)
class Planted:
    """A model, a task that it does, and the nodes and edges that do it."""

    model: CircuitModel
    task: Task
    components: frozenset[Component]
    edges: frozenset[Edge]


class Features:
    """Named features and their neurons. `words` have a feature in each of `BLOCKS` (`prev` serves as `moved` too).

    `heads` per layer; the number of features is rounded up so that they divide it.
    """

    def __init__(self, words: tuple[str, ...], *, positions: int = POSITIONS, heads: int = 2) -> None:
        self.words, self.index = words, {w: i for i, w in enumerate(words)}
        self.positions, self.heads = positions, heads
        self.count = len(BLOCKS) * len(words) + positions + 2 + JUNK
        self.count += -self.count % heads
        self.width = 2 * self.count
        self.scale = CONSTANT / self.width**0.5  # the standard deviation of a residual stream
        eye = torch.eye(self.count, dtype=torch.float64)
        self.neurons = torch.stack([eye, -eye], -1).flatten(1) / 2**0.5  # [feature, neuron], rows of length 1

    def block(self, name: str) -> Tensor:
        """All words' features of one block [word, feature]."""
        start = BLOCKS.index(name) * len(self.words)
        return torch.eye(self.count, dtype=torch.float64)[start : start + len(self.words)]

    def at(self, name: str, number: int = 0) -> Tensor:
        """One of the features "position", "numeral", "constant", "junk" [feature]."""
        end = self.positions
        offset = {"position": 0, "numeral": end, "constant": end + 1, "junk": end + 2}[name]
        return torch.eye(self.count, dtype=torch.float64)[len(BLOCKS) * len(self.words) + offset + number]

    def read(self, weights: Tensor) -> Tensor:
        """Weights on features [feature, output] as weights on the normalised stream [neuron, output]."""
        return self.neurons.T @ weights * self.scale

    def write(self, weights: Tensor) -> Tensor:
        """Weights onto features [input, feature] as weights onto neurons."""
        return weights @ self.neurons


@dataclass(frozen=True)
class Head:
    """Weights of a head on features: queries, keys, values [feature, d_head] and output [d_head, feature]."""

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor


def induction(seed: int = 0, *, n: int = 24) -> Planted:
    """Previous-token head L0H0, induction head L1H0."""
    f = Features(SYMBOLS)
    here = torch.stack([f.at("position", p) for p in range(POSITIONS)], 1)
    before = torch.stack([f.at("position", p + 1) for p in range(POSITIONS - 1)], 1)
    copier = make_head(f, query=12 * before, key=here[:, :-1], value=f.block("tok").T, output=f.block("prev"))
    finder = make_head(
        f, query=8 * f.block("tok").T, key=f.block("prev").T, value=f.block("tok").T, output=f.block("out")
    )
    heads = {(0, 0): copier, (0, 1): idle_head(f, 1), (1, 0): finder, (1, 1): idle_head(f, 2)}
    model = make_model(f, heads, mlps={}, name="planted-induction")
    task = Task("planted-induction", _many(_induction_example, seed, n=n), origin="generated")
    edges = "embed->L0H0<v> L0H0->L1H0<k> embed->L1H0<q> embed->L1H0<v> L1H0->logits"
    return _planted(model, task, "L0H0 L1H0", edges)


def successor(seed: int = 0, *, n: int = 24) -> Planted:
    """Mover head L0H1, successor MLP1."""
    f = Features((*NUMERALS, "and", "to"))
    recent = torch.stack([20 * f.at("numeral") + 4 * sum(p * f.at("position", p) for p in range(POSITIONS))], 1)
    ones = torch.stack([f.at("constant") / CONSTANT], 1)
    mover = make_head(f, query=ones, key=recent, value=f.block("tok").T, output=f.block("prev"))
    heads = {(0, 0): idle_head(f, 3), (0, 1): mover, (1, 0): idle_head(f, 4), (1, 1): idle_head(f, 5)}
    follows = torch.zeros(len(f.words), len(f.words), dtype=torch.float64)
    for i in range(len(NUMERALS) - 1):
        follows[i, i + 1] = 1.0
    model = make_model(f, heads, mlps={1: (2 * f.block("prev").T, follows @ f.block("out"))}, name="planted-successor")
    task = Task("planted-successor", _many(_successor_example, seed, n=n), origin="generated")
    return _planted(model, task, "L0H1 MLP1", "embed->L0H1<v> L0H1->MLP1 MLP1->logits")


def _planted(model: CircuitModel, task: Task, components: str, edges: str) -> Planted:
    nodes = frozenset(Component.parse(c) for c in components.split())
    return Planted(model, task, nodes, frozenset(Edge.parse(e) for e in edges.split()))


def _many(example: Callable[[random.Random, int], Example], seed: int, *, n: int) -> tuple[Example, ...]:
    rng = random.Random(seed)
    return tuple(example(rng, i) for i in range(n))


def _induction_example(rng: random.Random, number: int) -> Example:
    """Seven symbols, the last of which is also the second, third, fourth or fifth; the answer follows it there."""
    drawn = rng.sample(SYMBOLS, 13)
    words, place = drawn[:6], rng.randrange(1, 5)
    clean, corrupted = [*words, words[place]], drawn[6:]
    wrong = rng.choice([w for w in words if w not in (words[place], words[place + 1])])
    return Example(str(number), " ".join(clean), " ".join(corrupted), f" {words[place + 1]}", f" {wrong}")


def _successor_example(rng: random.Random, number: int) -> Example:
    """Three rising numerals; corrupted: three other ones."""
    start = rng.randrange(1, len(NUMERALS) - 3)
    others = rng.sample([n for n in range(1, len(NUMERALS)) if n not in (start + 2, start + 3)], 3)
    clean, corrupted = (" and ".join(str(n) for n in three) + " to" for three in (range(start, start + 3), others))
    return Example(str(number), clean, corrupted, f" {start + 3}", f" {start + 2}")


def make_head(f: Features, *, query: Tensor, key: Tensor, value: Tensor, output: Tensor) -> Head:
    """Weights with d_head columns; scores are made free of the division by the root of d_head."""
    size = f.width // f.heads

    def wide(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (0, size - x.shape[1]))

    return Head(
        wide(query) * size**0.5, wide(key), wide(value), torch.nn.functional.pad(output, (0, 0, 0, size - len(output)))
    )


def idle_head(f: Features, seed: int) -> Head:
    """Attends and copies at random, into features that nobody reads."""
    generator = torch.Generator().manual_seed(seed)
    junk = torch.stack([f.at("junk", i) for i in range(JUNK)])

    def draw() -> Tensor:
        return 0.3 * torch.randn(f.count, JUNK, generator=generator, dtype=torch.float64)

    return make_head(f, query=draw(), key=draw(), value=draw(), output=0.3 * junk)


def make_model(
    f: Features, heads: dict[tuple[int, int], Head], *, mlps: dict[int, tuple[Tensor, Tensor]], name: str
) -> CircuitModel:
    """The GPT-2 with these heads; an MLP is (input weights [feature, unit], output weights [unit, feature]), and its
    units are relu(input - 1). The other MLPs write to unread features."""
    tokenizer = tiny_tokenizer(f.words)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=f.positions,
        n_embd=f.width,
        n_layer=len(heads) // f.heads,
        n_head=f.heads,
        n_inner=64,
        activation_function="relu",
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    hf = GPT2LMHeadModel(config).double().eval()
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.zero_()
        _fill_ends(f, hf, tokenizer.get_vocab())
        for layer, block in enumerate(hf.transformer.h):
            block.ln_1.weight.fill_(1.0)
            block.ln_2.weight.fill_(1.0)
            _fill_attention(f, block.attn, [heads[layer, head] for head in range(f.heads)])
            _fill_mlp(f, block.mlp, mlps.get(layer), seed=layer)
    return wrap(hf, tokenizer, name=name, check=False)


def _fill_ends(f: Features, hf: GPT2LMHeadModel, vocabulary: dict[str, int]) -> None:
    body = hf.transformer
    body.ln_f.weight.fill_(1.0)
    for word, feature in f.index.items():
        token = vocabulary[word]
        numeral = f.at("numeral") if word in NUMERALS else torch.zeros_like(f.at("numeral"))
        body.wte.weight[token] = f.write((f.block("tok")[feature] + numeral)[None])[0]
        hf.lm_head.weight[token] = GAIN * f.read(f.block("out")[feature][:, None])[:, 0]
    for position in range(f.positions):
        place = f.at("position", position) + CONSTANT * f.at("constant")
        body.wpe.weight[position] = f.write(place[None])[0]


def _fill_attention(f: Features, attention: torch.nn.Module, heads: list[Head]) -> None:
    columns = [getattr(head, slot) for slot in ("query", "key", "value") for head in heads]
    attention.c_attn.weight.copy_(f.read(torch.cat(columns, 1)))
    attention.c_proj.weight.copy_(f.write(torch.cat([head.output for head in heads])))


def _fill_mlp(f: Features, mlp: torch.nn.Module, weights: tuple[Tensor, Tensor] | None, *, seed: int) -> None:
    if weights is None:
        generator = torch.Generator().manual_seed(100 + seed)
        junk = torch.stack([f.at("junk", i) for i in range(JUNK)])
        weights = (0.3 * torch.randn(f.count, JUNK, generator=generator, dtype=torch.float64), 0.1 * junk)
    units = weights[0].shape[1]
    mlp.c_fc.weight[:, :units] = f.read(weights[0])
    mlp.c_fc.bias[:units] = -1.0
    mlp.c_proj.weight[:units] = f.write(weights[1])

"""What a plan takes for granted, in sentences: printed below its numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from circuitkd.studies.circuit_cost import KEPT, PASSES
from circuitkd.studies.distill_cost import LOWEST
from circuitkd.studies.hardware import UTILISATION, Hardware
from circuitkd.studies.role_cost import BEST
from circuitkd.studies.workload import Side

FOUND = "on the bundled models and tasks"


def assumptions(kinds: Collection[str], sides: Sequence[Side], *, hardware: Hardware) -> Iterator[str]:
    """The sentences for these kinds of analysis, models and tasks, on this hardware."""
    yield (
        "A forward-equivalent is one full forward of all the task's prompts by the model of that line, unembedding at all "
        "positions included; norms, activations and softmax are not counted as work."
    )
    yield from _speed(hardware)
    yield from _tokens(sides)
    yield (
        "Both models of a pair are in memory at once. Memory is the peak of weights and tensors; loading, checking and "
        "hashing weights, imports and the report are not in the time."
    )
    if not hardware.is_cpu:
        yield (
            "On several devices the layers are spread and work one after the other, so more devices hold more but are not "
            "faster; a step starts as many prompts at a time as fit."
        )
    if {"circuits", "roles"} & set(kinds):
        low, middle, high = (f"{100 * share:.0f} %" for share in KEPT)
        yield (
            f"Circuits: {middle} of the components are kept ({low} to {high}), spread evenly over layers, in {PASSES} passes; "
            f"{FOUND}: {low} to {high} in eight of ten cases, in 2 passes, seldom 3."
        )
    if "roles" in kinds:
        low, middle, high = (str(best) for best in BEST)
        yield f"Roles: {middle} head ({low} to {high}) is the best of a role, in the middle of the model; {FOUND} 0 to 3."
    if "distill" in kinds:
        yield (
            "Distillation: gradients reach down to the lowest layer of the circuit, "
            f"{100 * LOWEST[1]:.0f} % of the way up (from the first to {100 * LOWEST[0]:.0f} %); {FOUND} in the first layer "
            "in two of three cases, else half-way up."
        )


def _speed(hardware: Hardware) -> Iterator[str]:
    if hardware.is_cpu:
        shown = "; ".join(
            f"{kind} {width} wide: {block.rate / 1e9:.0f} GFLOP/s, and {1e3 * block.seconds[0]:.2f} ms at the least for a block"
            for (kind, width), block in hardware.measured.items()
        )
        yield f"Speed, {hardware.source}: {shown}; numpy in float64 {hardware.host / 1e9:.0f} GFLOP/s."
        yield "Wider models than 1024 are timed by a GPT-2 block of that width."
        return
    shares = ", ".join(
        f"{dtype} {peak / 1e12:,.0f} TFLOP/s x {UTILISATION[dtype]:g}" for dtype, peak in hardware.peak.items()
    )
    yield (
        f"Speed: dense peak x the share expected of it, {shares} ({hardware.source}). The shares are assumed, no such "
        f"device was measured. Each run of a block takes {1e3 * hardware.start:g} ms more, and the host does "
        f"{hardware.host / 1e9:.0f} GFLOP/s in float64 (the device {hardware.exact / 1e12:,.1f} TFLOP/s, also assumed)."
    )


def _tokens(sides: Sequence[Side]) -> Iterator[str]:
    counted = sorted({s.model.name for s in sides if s.model.tokenizer is not None})
    guessed = sorted({s.model.name for s in sides if s.model.tokenizer is None})
    lengths = [len(e.clean) for s in sides for e in s.task.examples]
    few, many = min(lengths), max(lengths)
    told = f"Prompts have {few} tokens" if few == many else f"Prompts have {few} to {many} tokens"
    if counted:
        whose = f"the tokenizer of {' and of '.join(counted)}" if len(counted) < 3 else "the models' own tokenizers"
        yield f"{told}, counted with {whose}."
    if guessed:
        yield f"{told}: beside the config of {' and of '.join(guessed)} is no tokenizer, so a word or a mark is one token."

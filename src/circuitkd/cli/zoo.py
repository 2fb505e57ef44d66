"""`circuitkd zoo`: the bundled models, their making and their accuracies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from circuitkd.cli import options as o

app = typer.Typer(help="The bundled models: list, train, evaluate.", invoke_without_command=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="As in `circuitkd zoo list`.", show_default=False)]


@app.callback()
def zoo(context: typer.Context) -> None:
    """The bundled models: list, train, evaluate."""
    if context.invoked_subcommand is None:
        list_models()


@app.command("list")
def list_models(json: o.Json = False) -> None:
    """Shapes, sizes and held-out accuracies of the bundled models."""
    from circuitkd.cli.terminal import note, print_json, results, table
    from circuitkd.zoo import catalog

    there = catalog.available()
    cards = [catalog.card(name) for name in there]
    if json:
        print_json(cards)
        return
    tasks = list(cards[0]["held_out"]) if cards else []
    shapes = [
        (f"zoo:{c['name']}", str(c["layers"]), _heads(c), f"{c['parameters']:,}", f"{c['megabytes']:.1f}", _share(c))
        for c in cards
    ]
    columns = ("model", "layers", "heads", "parameters", "MB", "mean accuracy %")
    results().print("", table("Bundled models", columns, shapes), sep="\n")
    rows = [(task, *(f"{100 * c['held_out'][task]['accuracy']:.0f}" for c in cards)) for task in tasks]
    if rows:
        # Two short lines in a head, or nine models do not fit the width.
        heads = [f"{family}\n{role[0].upper()}" for family, role in (c["name"].split("-") for c in cards)]
        title = "Held-out accuracy, % (T teacher, S student, I independent)"
        results().print("", table(title, ("task", *heads), rows), sep="\n")
    missing = [name for name in catalog.RECIPES if name not in there]
    if missing:
        note(f"not trained here yet: {', '.join(missing)} (circuitkd zoo train NAME)")


def _heads(card: dict[str, object]) -> str:
    groups = f" ({card['kv_heads']} K/V)" if card["kv_heads"] != card["heads"] else ""
    return f"{card['heads']}{groups}"


def _share(card: dict[str, dict[str, dict[str, float]]]) -> str:
    found = [value["accuracy"] for value in card["held_out"].values()]
    return f"{100 * sum(found) / len(found):.0f}"


@app.command("train")
def train(
    name: Name,
    output_dir: Annotated[
        Path | None,
        o.option("--output-dir", "DIR", "Write to DIR/NAME (a teacher there teaches); in the package unless told."),
    ] = None,
    steps: Annotated[
        int | None, o.option("--steps", "N", "Instead of the recipe's; fewer give a student with room to improve.")
    ] = None,
) -> None:
    """Train a bundled model from its recipe on the CPU (half an hour or so for a teacher) and measure it."""
    from circuitkd.cli.progress import Bars
    from circuitkd.cli.terminal import results
    from circuitkd.zoo import catalog
    from circuitkd.zoo.make import make

    catalog.recipe(name)
    folder = output_dir / name if output_dir else None
    with Bars() as bars:
        bars.step(f"training {name}")

        def report(step: int, steps: int, losses: dict[str, float]) -> None:
            bars.report("steps", step, steps)
            if step == steps:
                bars.step(f"measuring {name}")

        card = make(name, folder=folder, steps=steps, report=report)
    results().print(
        f"{name}: {card['parameters']:,} parameters, {card['megabytes']} MB, in {folder or catalog.folder(name)}",
        soft_wrap=True,
    )
    results().print(_accuracy_table(card["held_out"], None))


@app.command("evaluate")
def evaluate(name: Name, json: o.Json = False) -> None:
    """Measure the held-out accuracies of a bundled model again, beside those on its card."""
    from circuitkd.cli.progress import Bars
    from circuitkd.cli.terminal import print_json, results
    from circuitkd.models.loading import load
    from circuitkd.zoo import catalog
    from circuitkd.zoo.evaluation import held_out_accuracies

    catalog.recipe(name)
    card = catalog.card(name)
    with Bars() as bars:
        bars.step(f"measuring {name}")
        found = held_out_accuracies(load(str(catalog.folder(name))))
    if json:
        print_json(found)
    else:
        results().print("", _accuracy_table(found, card["held_out"]), sep="\n")


def _accuracy_table(found: dict[str, dict[str, float]], card: dict[str, dict[str, float]] | None) -> object:
    from circuitkd.cli.terminal import table

    def text(value: dict[str, float]) -> str:
        return f"{100 * value['accuracy']:.1f} ± {100 * value['half_width']:.1f}"

    columns = ("task", "accuracy %", *(["on its card"] if card else []), "prompts")
    rows = [
        (task, text(value), *([text(card[task])] if card else []), str(value["n"])) for task, value in found.items()
    ]
    return table("Held-out prompts, 95 % intervals", columns, rows)

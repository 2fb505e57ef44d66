"""Help is quick, complete, and names exactly the choices that the library has."""

from __future__ import annotations

from typing import get_args

import pytest

from circuitkd import __version__
from circuitkd.cli import options, tasks


def test_the_program(run):
    found = run("--help")
    assert found.code == 0
    for command in ("demo", "compare", "select", "circuit", "roles", "plan", "tasks", "check", "zoo", "report"):
        assert f" {command} " in found.stdout
    assert run("--version").stdout == f"circuitkd {__version__}\n"


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (
            "compare",
            "--task --n --ablation --group-by --head-similarity --mlp-similarity --matching --normalization --top",
        ),
        ("compare", "--preset --noise --no-random-null --device --dtype --batch-size --seed --output-dir --json"),
        ("compare", "--circuits --roles --screen"),
        ("roles", "--task --n --seed --output-dir --overwrite --json"),
        ("circuit", "--task --n --seed --threshold --criterion --edge-share --no-edges --force --circuit --thresholds"),
        ("circuit", "--curves --groups --ablation --export --output-dir --overwrite --json"),
        ("plan", "--task --n --seed --hardware --dtype --batch-size --json"),
        ("select", "--task --by --output-dir --json"),
        ("demo", "--all --n --output-dir --json"),
        ("check", "--device --dtype --json"),
        ("report", "--output --title --model-card"),
    ],
)
def test_a_command(run, command, flags):
    found = run(command, "--help")
    assert found.code == 0
    for flag in flags.split():
        assert f"{flag} " in found.stdout


def test_choices_are_those_of_the_library():
    from circuitkd.comparison.matching import DIRECTIONS, METHODS
    from circuitkd.comparison.pair_similarity import HeadMeasure, MlpMeasure
    from circuitkd.interventions.ablations import KINDS
    from circuitkd.interventions.influence import NORMALIZATIONS
    from circuitkd.tasks.importers import IMPORTERS

    told = (
        (options.KINDS, KINDS),
        (options.HEAD_MEASURES, get_args(HeadMeasure)),
        (options.MLP_MEASURES, get_args(MlpMeasure)),
        (options.METHODS, METHODS),
        (options.DIRECTIONS, DIRECTIONS),
        (options.NORMALIZATIONS, NORMALIZATIONS),
        (tasks.FORMATS, IMPORTERS),
    )
    for text, choices in told:
        assert text.split(", ") == list(choices)

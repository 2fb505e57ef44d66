"""The page of the Python names, one entry for each name of `circuitkd.__all__`, from their docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import circuitkd

HEAD = """# Python

`import circuitkd as ck` gives every name on this page that stands there without a module; the others are imported from
the module that is named. Pairs are always (teacher, student). A wrong argument raises `ValueError` with the way out in its text.
"""
SUBJECTS = {
    "models": "Models",
    "tasks": "Tasks",
    "components": "Components",
    "interventions": "Ablations and sweeps",
    "analysis": "Comparing",
    "comparison": "Comparing",
    "selection": "Comparing",
    "circuits": "Circuits",
    "circuit_analysis": "Circuits",
    "roles": "Roles and fates",
    "distill": "Circuit distillation",
    "studies": "Studies",
}
# What results are made of, and the cores that work on plain arrays.
PARTS = """comparison.result.AlignmentResult comparison.result.Null comparison.result.MatchedPair
    comparison.result.ModelSummary comparison.result.Robustness comparison.result.Slope
    comparison.robustness.ModelRobustness comparison.performance.Performance comparison.pair_similarity.Similarity
    roles.fate_result.Fates roles.fate_result.Fate""".split()
CORES = """comparison.alignment.score_pairs comparison.matching.match comparison.robustness.mean_drop
    comparison.robustness.slope comparison.cka.cka circuits.pruning.prune distill.head_map.map_heads
    distill.losses.cka""".split()


def on_files(files: Files, *, config: Any) -> Files:
    """Add api.md."""
    files.append(File.generated(config, "api.md", content=page()))
    return files


def page() -> str:
    """The page in Markdown."""
    found: dict[str, list[str]] = {title: [] for title in SUBJECTS.values()}
    for path in public_names():
        package = path.split(".")[0]
        found.setdefault(SUBJECTS.get(package, package.replace("_", " ").capitalize()), []).append(path)
    sections = {title: sorted(names, key=_order) for title, names in found.items() if names}
    sections |= {"Parts of results": PARTS, "Cores on arrays": CORES}
    lines = [HEAD]
    for title, names in sections.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += _entry(name, is_public=title not in ("Parts of results", "Cores on arrays"))
    return "\n".join(lines)


def public_names() -> Iterator[str]:
    """Module and name of everything that `import circuitkd` gives, below the package: "models.loading.load"."""
    tree = ast.parse(Path(str(circuitkd.__file__)).read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("circuitkd."):
            yield from (f"{str(node.module).removeprefix('circuitkd.')}.{alias.name}" for alias in node.names)


def _order(path: str) -> tuple[bool, str]:
    """Functions first, then classes."""
    name = path.rsplit(".", 1)[-1]
    return name[0].isupper(), name


def _entry(path: str, *, is_public: bool) -> list[str]:
    where = "" if is_public else f"from `circuitkd.{path.rsplit('.', 1)[0]}`\n"
    return [f"::: circuitkd.{path}", "    options:", "      heading_level: 3", "", where]

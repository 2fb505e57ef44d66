"""The report: one HTML file that shows comparisons, opens from disk and never touches the network.

Everything is inside: our style and scripts, and compressed, plotly.js from the installed package and the figures as
JSON. See `rendering` for what keeps it closed. Figures are drawn when they are scrolled to; circuits are SVG from the
start, and with the tables they are all that a reader without scripts gets.

Limit: attention patterns are the bulk of a page, so examples beyond `PATTERN_CHARACTERS` are left out, and the
page says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from circuitkd.circuit_analysis import CircuitComparison
from circuitkd.comparison.kept import best_matches, kept_components
from circuitkd.comparison.result import Comparison, ExamplePatterns, MatchedPair
from circuitkd.comparison.variants import BASELINE
from circuitkd.components import Component
from circuitkd.reports import circuit_tables, diagram, role_charts, role_tables, sides, strips, tables, wording
from circuitkd.reports.drill_down import drill_down
from circuitkd.reports.fate_diagram import SPAN, FateDiagram, fate_diagram
from circuitkd.reports.figures import comparison_figures, plotly_js
from circuitkd.reports.head_probe_figures import probed_targets
from circuitkd.reports.packing import packed_patterns
from circuitkd.reports.rendering import as_json, compressed, render_page, source, write_page
from circuitkd.reports.role_figures import ROWS, role_figures
from circuitkd.reports.study_view import StudyView
from circuitkd.roles.fate_result import KINDS
from circuitkd.roles.result import RolesResult

PATTERN_CHARACTERS = 2_500_000
STRONGEST = 6
_SCRIPTS = (
    *(
        "unpack.js",
        "figures.js",
        "patterns.js",
        "pairs.js",
        "details.js",
        "panel.js",
        "circuits.js",
        "roles.js",
        "save.js",
        "toggle.js",
    ),
    "page.js",
)


@dataclass(frozen=True)
class Section:
    """One comparison as the templates draw it: `pair` and `task` are what the selectors offer, `shown` the
    examples whose patterns are in the page, `states` which of the teacher's influential components are kept."""

    index: int
    c: Comparison
    pair: str
    task: str
    names: tuple[str, ...]
    shown: tuple[ExamplePatterns, ...]
    pairs: tuple[MatchedPair, ...]
    strongest: tuple[MatchedPair, ...]
    states: dict[Component, str]
    variants: tuple[tuple[str, dict[str, float]], ...]
    circuits: CircuitComparison | None
    roles: RolesResult | None
    picture: FateDiagram | None


def write(
    comparisons: Sequence[Comparison],
    path: str | Path,
    *,
    title: str | None = None,
    circuits: Sequence[CircuitComparison] = (),
    roles: Sequence[RolesResult] = (),
    study: StudyView | None = None,
) -> Path:
    """Write the page of `comparisons` to `path`, whole or not at all; `circuits` and `roles` are drawn with the
    comparisons that they belong to. `study`: what stands before them.

    Raises ValueError for no comparisons (unless there is a study) and where the file cannot be written.
    """
    return write_page(path, render(comparisons, title=title, circuits=circuits, roles=roles, study=study))


def render(
    comparisons: Sequence[Comparison],
    *,
    title: str | None = None,
    circuits: Sequence[CircuitComparison] = (),
    roles: Sequence[RolesResult] = (),
    study: StudyView | None = None,
) -> str:
    """The page of one or more comparisons as HTML. Raises ValueError for none without a study."""
    if not comparisons and study is None:
        raise ValueError("no comparison to draw: pass the result of compare(), or several in a list")
    sections = _sections(comparisons, circuits, roles=roles)
    plotly = plotly_js() if sections else ""
    return render_page(
        "page.html.j2",
        scripts={"plotly": plotly, "page": "\n".join(map(source, _SCRIPTS))},
        title=title or _title(sections),
        sections=sections,
        study=study,
        rows=tables.overview_rows(comparisons),
        sides=sides.groups(comparisons),
        kept_words=sides.overview_sentence(comparisons),
        correlation=tables.correlation_note(comparisons),
        variants=tables.variant_rows(comparisons),
        score_axis=strips.score_axis(comparisons),
        strips=strips,
        diagrams=diagram,
        tables=circuit_tables,
        pair_data=tables.pair_data,
        role_tables=role_tables,
        role_charts=role_charts,
        probed_targets=probed_targets,
        fate_kinds=KINDS,
        fate_span=SPAN,
        ROWS=ROWS,
        BASELINE=BASELINE,
        plotly=_library(plotly),
        data=compressed(as_json([_data(section) for section in sections])),
    )


@cache
def _library(plotly: str) -> Markup:
    """Compressed once for all pages: it takes a fifth of a second."""
    return compressed(plotly)


def _sections(
    comparisons: Sequence[Comparison], circuits: Sequence[CircuitComparison], *, roles: Sequence[RolesResult]
) -> list[Section]:
    budget = PATTERN_CHARACTERS // max(1, len(comparisons))
    seen: Counter[tuple[str, str]] = Counter()
    made = []
    for index, c in enumerate(comparisons):
        key = tables.pair_name(c), c.task
        seen[key] += 1
        task = c.task if seen[key] == 1 else f"{c.task} ({seen[key]})"
        pairs, kept = sorted(c.alignment.pairs, key=lambda p: -p.teacher_influence), kept_components(c)
        described = next((found for found in roles if found.belongs_to(c)), None)
        made.append(
            Section(
                index,
                c,
                pair=key[0],
                task=task,
                names=wording.short_names(c.teacher.name, c.student.name),
                shown=_within(c.patterns, budget),
                pairs=tuple(pairs),
                strongest=tuple(best_matches(pairs).values())[:STRONGEST],
                states={found.teacher: found.state for found in kept.components} if kept else {},
                variants=_variants(c.variants),
                circuits=next((found for found in circuits if found.belongs_to(c)), None),
                roles=described,
                picture=fate_diagram(described.fates, c, student_roles=described.student.scores) if described else None,
            )
        )
    return made


def _within(patterns: Sequence[ExamplePatterns], budget: int) -> tuple[ExamplePatterns, ...]:
    """The first examples whose patterns fit into `budget` characters of base64, at least one."""
    kept: list[ExamplePatterns] = []
    used = 0
    for example in patterns:
        used += sum(len(packed_patterns(side)["uint8"]) for side in (example.teacher, example.student))
        if kept and used > budget:
            break
        kept.append(example)
    return tuple(kept)


def _variants(scores: dict[str, float]) -> tuple[tuple[str, dict[str, float]], ...]:
    """Scores by normalisation (row) and matching (column) where the names say both, else one column."""
    rows: dict[str, dict[str, float]] = {}
    for name, score in scores.items():
        row, _, column = name.partition("+")
        rows.setdefault(row, {})[column or "score"] = score
    return tuple(rows.items())


def _data(section: Section) -> dict[str, Any]:
    """What the scripts need of a comparison: figures, patterns, and the numbers of heads that place a head in
    them."""
    c = section.c
    return {
        "pair": section.pair,
        "task": section.task,
        "heads": {"teacher": c.teacher.n_heads, "student": c.student.n_heads},
        "figures": comparison_figures(c) | (role_figures(section.roles) if section.roles else {}),
        "components": drill_down(c, section.roles),
        "patterns": [
            {
                "teacher": {"tokens": p.teacher_tokens, "weights": packed_patterns(p.teacher)},
                "student": {"tokens": p.student_tokens, "weights": packed_patterns(p.student)},
            }
            for p in section.shown
        ],
    }


def _title(sections: Sequence[Section]) -> str:
    pairs = list(dict.fromkeys(s.pair for s in sections))
    tasks = list(dict.fromkeys(s.c.task for s in sections))
    students = dict.fromkeys(s.names[1] for s in sections)
    teachers = list(dict.fromkeys(s.names[0] for s in sections))
    several = f"{teachers[0]}: {len(students)} students" if len(teachers) == 1 else f"{len(pairs)} model pairs"
    pair = pairs[0] if len(pairs) == 1 else several
    return f"{pair}{': ' if len(pairs) == 1 else ' on '}{tasks[0] if len(tasks) == 1 else f'{len(tasks)} tasks'}"

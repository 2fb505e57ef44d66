"""A comparison as a section and as metadata of the student's Hugging Face model card.

Idea: a card (README.md) belongs to its author, so only two places are written: the lines between two comments of ours,
and our results in the `model-index` metadata, the hub's format for evaluation results. Comparing again with the same
teacher on the same task replaces both; another teacher or task adds its own. All other text keeps its bytes.

    task     text-generation or fill-mask
    dataset  circuitkd, the task's name, the teacher as its configuration, the SHA-256 of the examples as its revision
    metrics  accuracy (0 to 1), circuit_alignment (0 to 1, with its interval and null), mean_ablation_drop (percent)

Limits: the hub shows results as "not verified". Nothing is sent anywhere unless a `repo_id` is given.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from circuitkd.artifacts import cannot_write, write_atomically
from circuitkd.comparison.front_matter import line_break, read_entries, with_entry
from circuitkd.comparison.kept import kept_components

if TYPE_CHECKING:
    from circuitkd.comparison.result import Comparison

CARD, DATASET = "README.md", "circuitkd"
_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")


def push(
    comparison: Comparison,
    path: str | Path | None = None,
    *,
    repo_id: str | None = None,
    token: str | None = None,
    create_pr: bool = False,
) -> Path | str:
    """Write the comparison into a card: see `Comparison.push_to_model_card`."""
    if (path is None) == (repo_id is None):
        raise ValueError(
            "say where the card is: the path of a README.md or model folder, or repo_id= for one on the hub"
        )
    if repo_id is not None:
        return _push_to_hub(comparison, repo_id, token=token, create_pr=create_pr)
    return _write_locally(comparison, Path(str(path)).expanduser())


def updated_card(card: str, comparison: Comparison) -> str:
    """The text of a card ("" for a new one) with this comparison in it.

    Raises ValueError where our section is not closed, or the metadata cannot be read or edited.
    """
    results = _with_result(read_entries(card).get("model-index"), comparison)
    return with_entry(_with_section(card, comparison), "model-index", value=results)


def section(comparison: Comparison) -> str:
    """The section of the card, in Markdown, without its delimiters."""
    alignment, manifest = comparison.alignment, comparison.manifest
    facts = (
        f"{comparison.performance.n} examples",
        f"data SHA-256 `{manifest['data_sha256']}`",
        f"ablation: {_text(comparison.teacher_sweep.ablation)}",
        f"circuitkd {manifest['circuitkd']}",
    )
    lines = [
        f"## Circuits kept from {_text(_name(comparison.teacher.name))}: {_text(comparison.task)}",
        "",
        *_table(("", "this model", "teacher"), _performance_rows(comparison)),
        "",
        *_table(("compared with the teacher", "value"), _alignment_rows(comparison)),
        "",
        "Brackets are 95 % intervals. A component is an attention head or an MLP; ablating it replaces its output, as "
        "named below. Alignment is 1 for a model and itself; read it against the null below it. All numbers are "
        "about this task alone: they say nothing about other tasks, nor about harm, bias or security.",
        "",
        f"{'; '.join(facts)}. {_text(alignment.definition)}.",
        *(f"\nWarning: {_text(warning)}." for warning in (*_undone(comparison), *comparison.warnings)),
    ]
    return "\n".join(lines)


def evaluation_result(comparison: Comparison) -> dict[str, Any]:
    """One result of a `model-index`: task, dataset and metrics."""
    alignment, student = comparison.alignment, comparison.robustness.student
    shown = {"interval_95": _rounded(alignment.interval), "null_shuffled": _rounded(alignment.null.shuffled_mean)}
    return {
        "task": {
            "type": "text-generation" if comparison.student.is_causal else "fill-mask",
            "name": "Circuit comparison with a teacher",
        },
        "dataset": {
            "name": comparison.task,
            "type": DATASET,
            "config": _name(comparison.teacher.name),
            "revision": comparison.manifest["data_sha256"],
            "args": {"examples": comparison.performance.n},
        },
        "metrics": [
            _metric("accuracy", float(comparison.student_sweep.accuracy.mean()), name="Accuracy"),
            _metric("circuit_alignment", alignment.score, name="Circuit alignment with the teacher", args=shown),
            _metric(
                "mean_ablation_drop",
                student.mean_drop,
                name="Mean loss of logit difference when one component is ablated, percent",
                args={"interval_95": _rounded(student.interval)},
            ),
        ],
    }


def _metric(kind: str, value: float, *, name: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
    return (
        {"type": kind, "value": _rounded(value), "name": name} | ({"args": args} if args else {}) | {"verified": False}
    )


def _rounded(value: Any) -> Any:
    """Four decimals: more would say more than the intervals allow."""
    return [_rounded(v) for v in value] if isinstance(value, tuple) else round(float(value), 4)


def _performance_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    sweeps = comparison.student_sweep, comparison.teacher_sweep
    found = comparison.performance.student, comparison.performance.teacher
    drops = comparison.robustness.student, comparison.robustness.teacher
    return [
        ("accuracy", *(f"{100 * float(s.accuracy.mean()):.0f} %" for s in sweeps)),
        ("mean logit difference", *(f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" for e in found)),
        (
            "mean loss of it when one component is ablated",
            *(f"{d.mean_drop:.1f} % [{d.interval[0]:.1f}, {d.interval[1]:.1f}]" for d in drops),
        ),
        ("components whose ablation costs over 20 %", *(f"{100 * d.share_above_20:.0f} %" for d in drops)),
    ]


def _alignment_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    alignment, null, kept = comparison.alignment, comparison.alignment.null, kept_components(comparison)
    low, high = alignment.interval
    rows: list[tuple[str, ...]] = [
        ("alignment of components", f"{alignment.score:.3f} [{low:.3f}, {high:.3f}]"),
        (
            "mean similarity, mean agreement of influences",
            f"{alignment.mean_similarity:.3f}, {alignment.mean_agreement:.3f}",
        ),
        (
            "null: influences shuffled",
            f"{null.shuffled_mean:.3f}; {100 * null.shuffled_share_at_least:.0f} % of shuffles reach the alignment",
        ),
    ]
    if null.random_score is not None:
        rows.append(("null: a randomly initialised student", f"{null.random_score:.3f}"))
    if kept is not None:
        shown = f"{kept.count} of {len(kept.components)}; {kept.expected:.1f} expected by chance"
        rows.append(("influential components of the teacher that are kept", shown))
    return rows


def _undone(comparison: Comparison) -> list[str]:
    found = {"teacher": comparison.performance.teacher, "student": comparison.performance.student}
    return [
        f"the {side} is not shown to do this task (its logit difference may be 0), so the other numbers say little"
        for side, value in found.items()
        if not value.low > 0
    ]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows)]


def _text(text: str) -> str:
    """Text of others as Markdown that shows it and does nothing else."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", plain)


def _name(model: str) -> str:
    """A hub id or zoo name as it is; of a folder only the last part, for a card may be public."""
    is_folder = model.startswith((".", "~")) or model.count("/") > 1 or PurePath(model).is_absolute() or "\\" in model
    return PurePath(model.replace("\\", "/")).name if is_folder or Path(model).is_dir() else model


def _with_section(card: str, comparison: Comparison) -> str:
    key = hashlib.sha256(f"{_name(comparison.teacher.name)}\n{comparison.task}".encode()).hexdigest()[:12]
    opening, closing = (f"<!-- circuitkd {key}: {edge} of the section -->" for edge in ("beginning", "end"))
    end = line_break(card)
    written = end.join((opening, *section(comparison).split("\n"), closing))
    if opening not in card:
        gap = "" if not card or card.endswith(end * 2) else end if card.endswith(end) else end * 2
        return f"{card}{gap}{written}{end}"
    before, _, rest = card.partition(opening)
    _, closed, after = rest.partition(closing)
    if not closed:
        raise ValueError(
            f"the section that begins with {opening!r} has no end: put {closing!r} after it, or delete the line"
        )
    return before + written + after


def _with_result(index: Any, comparison: Comparison) -> list[dict[str, Any]]:
    """The `model-index` with this comparison's result in its first model, in the place of an earlier one."""
    models = index or [{"name": _name(comparison.student.name), "results": []}]
    new = evaluation_result(comparison)
    try:
        earlier = list(models[0].get("results") or [])
        same = [i for i, old in enumerate(earlier) if _is_of_same(old["dataset"], new["dataset"])]
        results = [old for i, old in enumerate(earlier) if i not in same[1:]]
        if same:
            results[same[0]] = new
        else:
            results.append(new)
        return [{**models[0], "results": results}, *models[1:]]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            "the card's model-index is not a list of models with results, each with a dataset: mend or delete it"
        ) from error


def _is_of_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(key) == other[key] for key in ("type", "name", "config"))


def _write_locally(comparison: Comparison, path: Path) -> Path:
    card = path / CARD if path.is_dir() else path
    if card.suffix != ".md":
        raise ValueError(f"{path} is neither a folder nor a .md file: name a model folder or its README.md")
    with cannot_write(str(card), way_out="choose another place"):
        try:
            old = card.read_bytes().decode("utf-8") if card.exists() else ""
            write_atomically(card, updated_card(old, comparison).encode())
        except ValueError as error:
            raise ValueError(f"{card} is left as it was: {error}") from error
    return card


def _push_to_hub(comparison: Comparison, repo_id: str, *, token: str | None, create_pr: bool) -> str:
    """Read the card at the newest commit, and commit its new text on top of just that one."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi(token=token)
    try:
        head = api.model_info(repo_id)
        old = ""
        if any(file.rfilename == CARD for file in head.siblings or ()):
            old = Path(str(api.hf_hub_download(repo_id, CARD, revision=head.sha))).read_bytes().decode("utf-8")
        return api.upload_file(
            path_or_fileobj=updated_card(old, comparison).encode(),
            path_in_repo=CARD,
            repo_id=repo_id,
            commit_message=f"Circuit comparison with {_name(comparison.teacher.name)} on {comparison.task}",
            parent_commit=head.sha,
            create_pr=create_pr,
        ).commit_url
    except (HfHubHTTPError, OfflineModeIsEnabled) as error:
        raise ValueError(
            f"cannot update the card of {repo_id}: {error}; check the name, and `hf auth login`"
        ) from error
    except ValueError as error:
        raise ValueError(f"the card of {repo_id} is left as it was: {error}") from error

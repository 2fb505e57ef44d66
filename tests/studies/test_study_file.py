"""What study files may say, what is refused and how, and which jobs they stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuitkd.studies.study_file import jobs, read_study
from synthetic_study import TEXT, study_of


def write_text(folder, text):
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


STUDIES = Path(__file__).parents[2] / "studies"


def test_jobs_are_every_pair_on_every_task_less_what_is_left_out():
    study = study_of(
        """
        title: t
        pairs: [{name: a, teacher: x, student: y}, {name: b, teacher: x, student: z}]
        tasks: [{name: ioi}, {name: ioi, label: few, n: 10, pairs: [b]}]
        analyses: [{kind: noise, pairs: [b], tasks: [few]}, {kind: roles}, {kind: compare}]
        """
    )
    found = jobs(study)
    assert [job.folder for job in found] == [
        "a/ioi/compare",
        "a/ioi/roles",
        "b/ioi/compare",
        "b/ioi/roles",
        "b/few/compare",
        "b/few/roles",
        "b/few/noise",
    ]
    assert found[1].comparison == study.analyses[2].options and found[1].comparison_folder == "a/ioi/compare"
    assert found[6].comparison is None and (found[6].task.n, found[6].task.seed) == (10, 0)


def test_files_and_folders_beside_the_study_are_found(tmp_path):
    (tmp_path / "tiny-teacher").mkdir()
    (tmp_path / "ioi").mkdir()  # a built-in task's name stays one
    (tmp_path / "mine.jsonl").write_text("")
    text = TEXT.replace("- {name: ioi}", "- {name: ioi}\n  - {name: mine.jsonl, n: 3}\n  - {name: theirs.jsonl}")
    study = read_study(write_text(tmp_path, text.split("printed")[0]))
    assert study.pairs[0].teacher == str(tmp_path / "tiny-teacher") and study.pairs[0].student == "tiny-student"
    assert [t.name for t in study.tasks[:3]] == ["ioi", str(tmp_path / "mine.jsonl"), "theirs.jsonl"]
    assert [t.key for t in study.tasks] == ["ioi", "mine", "theirs", "belief_tracking"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Made", "titel: Made", r"titel: unknown key: did you mean 'title'\?\n  title: is missing|title: is missing"),
        ("teacher: tiny-teacher", "teachr: x", r"pairs\[0\].teachr: unknown key: did you mean 'teacher'\?"),
        ("kind: noise", "kind: noize", r"analyses\[3\].kind: unknown 'noize': did you mean 'noise'\?"),
        ("{kind: noise, tasks: [ioi]}", "{tasks: [ioi]}", r"analyses\[3\].kind: is missing"),
        ("thresholds", "treshold", r"analyses\[1\].options.treshold: unknown key: did you mean 'threshold"),
        ("[0.2]", "[1.2]", r"analyses\[1\].options.thresholds\[0\]: input should be less than 1, not 1.2"),
        (
            "{kind: compare, tasks: [ioi]}",
            "{kind: compare, tasks: [ioi], options: {ablation: men}}",
            r"analyses\[0\].options.ablation: unknown 'men': did you mean 'mean'\?",
        ),
        (
            "{kind: distill, tasks: [belief_tracking]}",
            "{kind: distill, tasks: [belief_tracking], options: {circuit: path-patching, heads: 3}}",
            r"analyses\[4\].options: heads is for circuit: ablation",
        ),
        ("kind: noise, tasks: [ioi]", "kind: noise, tasks: [oi]", r"analyses\[3\].tasks: unknown 'oi': did you mean 'ioi'\?"),
        ("- {name: ioi}", "- {name: ioi, pairs: [onee]}", r"tasks\[0\].pairs: unknown 'onee': did you mean 'one'\?"),
        ("pair: one, task: ioi, quantity: variant", "pair: tw, task: ioi, quantity: variant", r"printed\[3\].pair: unknown 'tw'"),
        ("label: belief_tracking", "label: IOI", r"tasks: 'ioi' is there twice.*`label`"),
        ("name: one", "name: a/b", r"pairs\[0\].name: string should match pattern"),
        ("{kind: noise, tasks: [ioi]}", "{kind: roles, tasks: [ioi]}", r"'roles' of one on ioi is asked for twice"),
        (
            "tasks: [ioi]}\n  - {kind: circuits",
            "tasks: [belief_tracking]}\n  - {kind: circuits",
            r"'circuits' of one on ioi builds on its comparison: add",
        ),
        ("quantity: variant", "quantity: varant", r"printed\[3\]: unknown quantity 'varant': did you mean 'variant'\?"),
        ("quantity: variant, of: l1+nearest", "quantity: variant", r"printed\[3\]: variant needs `of`: a variant like max"),
        ("quantity: variant", "quantity: gap", r"printed\[3\]: gap is of nothing: leave out `of`"),
        ("quantity: variant", "quantity: full-accuracy", r"printed\[3\]: full-accuracy is read off 'distill', which is not asked"),
        ("low: 0.0, high: 1.0", "low: 0.0", r"printed\[2\]: give a value, or low and high"),
        ("title: Made", "title: x\ntitle: Made", r"the key 'title' stands twice in the mapping that begins in line 2"),
        ("pairs:\n", "pairs: [\n", r"is not valid YAML: .* in line \d+, column \d+"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, old, new, message):
    assert old in TEXT
    path = write_text(tmp_path, TEXT.replace(old, new))
    with pytest.raises(ValueError, match=message) as raised:
        read_study(path)
    assert str(raised.value).startswith(str(path))


def test_restrictions_that_leave_nothing(tmp_path):
    text = TEXT.split("analyses")[0].replace("{name: ioi}", "{name: ioi, pairs: [one]}") + "analyses:\n"
    text = text.replace("{name: one,", "{name: two, teacher: a, student: b}\n  - {name: one,")
    path = write_text(tmp_path, text + "  - {kind: compare, pairs: [two], tasks: [ioi]}\n")
    with pytest.raises(ValueError, match="analyses: `pairs` and `tasks` leave no job at all"):
        read_study(path)


@pytest.mark.parametrize(
    ("name", "count", "printed"), [("zoo", 16, 0), ("distilled-circuits", 22, 199), ("circuit-distillation", 5, 78)]
)
def test_the_bundled_studies(name, count, printed):
    study = read_study(STUDIES / f"{name}.yaml")
    assert (len(jobs(study)), len(study.printed)) == (count, printed)


def test_the_public_pairs_are_those_of_the_papers():
    first, second = (read_study(STUDIES / f"{n}.yaml") for n in ("distilled-circuits", "circuit-distillation"))
    assert [(p.teacher, p.student) for p in first.pairs[:3]] == [
        ("gpt2", "distilgpt2"),
        ("bert-base-uncased", "distilbert-base-uncased"),
        ("meta-llama/Llama-3.1-8B", "nvidia/Llama-3.1-Minitron-4B-Depth-Base"),
    ]
    how = {job.task.key: job.analysis.options.circuit for job in jobs(second) if job.pair.name == "llama-3b"}
    assert how == {"entity-tracking": "path-patching", "belief-tracking": "ablation"}
    sources = {p.source for p in first.printed}
    assert {f"DC Table {n}" for n in range(1, 6)} <= sources

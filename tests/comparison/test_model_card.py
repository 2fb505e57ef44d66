"""What is written into a card, where, and what stays as it was."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import OfflineModeIsEnabled

from circuitkd.comparison.model_card import evaluation_result, section, updated_card
from circuitkd.comparison.performance import Estimate
from synthetic_comparison import synthetic, with_text

OTHERS = """---
license: mit  # ours
tags:
- distilled
---
# My student

Kept as it is.  \t
"""
SECTION = """## Circuits kept from tiny-teacher: ioi

|  | this model | teacher |
| --- | --- | --- |
| accuracy | 83 % | 92 % |
| mean logit difference | 2.52 [2.28, 2.76] | 4.22 [3.84, 4.53] |
| mean loss of it when one component is ablated | 11.3 % [1.9, 26.4] | 4.5 % [0.8, 12.2] |
| components whose ablation costs over 20 % | 20 % | 5 % |

| compared with the teacher | value |
| --- | --- |
| alignment of components | 0.660 [0.655, 0.662] |
| mean similarity, mean agreement of influences | 0.834, 0.766 |
| null: influences shuffled | 0.655; 42 % of shuffles reach the alignment |
| null: a randomly initialised student | 0.610 |
| influential components of the teacher that are kept | 1 of 3; 0.1 expected by chance |

Brackets are 95 % intervals. A component is an attention head or an MLP; ablating it replaces its output, as named below. \
Alignment is 1 for a model and itself; read it against the null below it. All numbers are about this task alone: they say \
nothing about other tasks, nor about harm, bias or security.

12 examples; data SHA-256 `ioi 0`; ablation: mean-positional (corrupted); circuitkd 0.1.0. DC Eq. 5-8: influence by the \
maximum, nearest student, mean of S (1 - \\|dI\\|).

Warning: fewer than 8 examples in the group of length 15."""


@pytest.fixture(scope="module")
def comparison():
    return synthetic()


def test_the_section(comparison):
    assert section(comparison) == SECTION


def test_the_metadata(comparison):
    alignment, drop = comparison.alignment, comparison.robustness.student
    assert evaluation_result(comparison) == {
        "task": {"type": "text-generation", "name": "Circuit comparison with a teacher"},
        "dataset": {
            "name": "ioi",
            "type": "circuitkd",
            "config": "tiny-teacher",
            "revision": "ioi 0",
            "args": {"examples": 12},
        },
        "metrics": [
            {"type": "accuracy", "value": 0.8333, "name": "Accuracy", "verified": False},
            {
                "type": "circuit_alignment",
                "value": round(alignment.score, 4),
                "name": "Circuit alignment with the teacher",
                "args": {
                    "interval_95": [round(v, 4) for v in alignment.interval],
                    "null_shuffled": round(alignment.null.shuffled_mean, 4),
                },
                "verified": False,
            },
            {
                "type": "mean_ablation_drop",
                "value": round(drop.mean_drop, 4),
                "name": "Mean loss of logit difference when one component is ablated, percent",
                "args": {"interval_95": [round(v, 4) for v in drop.interval]},
                "verified": False,
            },
        ],
    }


def test_a_masked_student_fills_masks(comparison):
    masked = replace(comparison, student=replace(comparison.student, is_causal=False))
    assert evaluation_result(masked)["task"]["type"] == "fill-mask"


def test_the_hub_library_reads_the_card(comparison):
    card = ModelCard(updated_card(OTHERS, comparison))
    assert (card.data.license, card.data.tags, card.data.model_name) == ("mit", ["distilled"], "tiny-student")
    found = {r.metric_type: r for r in card.data.eval_results}
    assert set(found) == {"accuracy", "circuit_alignment", "mean_ablation_drop"}
    one = found["circuit_alignment"]
    assert (one.dataset_type, one.dataset_name, one.dataset_config) == ("circuitkd", "ioi", "tiny-teacher")
    assert (one.metric_value, one.dataset_revision, one.verified) == (
        round(comparison.alignment.score, 4),
        "ioi 0",
        False,
    )


@pytest.mark.parametrize("card", ["", OTHERS, OTHERS.replace("\n", "\r\n"), "no newline at the end"])
def test_twice_is_as_once_and_the_rest_stays(comparison, card):
    once = updated_card(card, comparison)
    assert updated_card(once, comparison) == once
    body = card.split("---\n")[-1].split("---\r\n")[-1]
    assert body in once
    assert once.count("## Circuits kept") == 1
    assert ("\r\n" in once) == ("\r\n" in card)
    assert once.count("\n") == once.count("\r\n") or "\r\n" not in card


def test_a_new_measurement_replaces_the_old_one(comparison):
    text_after = updated_card(OTHERS, comparison) + "\nWritten after it.\n"
    found = updated_card(text_after, synthetic(seed=1))
    assert found.count("## Circuits kept") == 1
    assert "data SHA-256 `ioi 1`" in found
    assert found.endswith("end of the section -->\n\nWritten after it.\n")
    assert len(ModelCard(found).data.eval_results) == 3
    assert {r.dataset_revision for r in ModelCard(found).data.eval_results} == {"ioi 1"}


def test_another_task_or_teacher_adds_its_own(comparison):
    card = updated_card(OTHERS, comparison)
    card = updated_card(card, synthetic("months-sequence"))
    card = updated_card(card, replace(comparison, teacher=replace(comparison.teacher, name="org/other")))
    assert card.count("## Circuits kept") == 3
    results = ModelCard(card).data.eval_results
    assert {(r.dataset_name, r.dataset_config) for r in results} == {
        ("ioi", "tiny-teacher"),
        ("months-sequence", "tiny-teacher"),
        ("ioi", "org/other"),
    }


def test_results_of_others_stay(comparison):
    others = """---
model-index:
- name: Their name
  results:
  - task: {type: text-generation}
    dataset: {type: wikitext, name: WikiText}
    metrics:
    - {type: perplexity, value: 20}
---
"""
    card = ModelCard(updated_card(updated_card(others, comparison), comparison))
    assert card.data.model_name == "Their name"
    found = [r.metric_type for r in card.data.eval_results]
    assert found == ["perplexity", "accuracy", "circuit_alignment", "mean_ablation_drop"]


def test_text_of_others_is_shown_and_does_nothing(comparison):
    evil = "a|b <!-- circuitkd --> *x* [y](z) `q` $m$\n# h"
    shown = r"a\|b &lt;!-- circuitkd --&gt; \*x\* \[y\](z) \`q\` \$m\$ # h"
    named = with_text(comparison, evil)
    named = replace(named, manifest=comparison.manifest)
    assert f"## Circuits kept from {shown}: {shown}" in section(named)
    assert f"Warning: {shown}." in section(named)
    once = updated_card("", named)
    assert updated_card(once, named) == once
    assert ModelCard(once).data.eval_results[0].dataset_name == evil


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("org/model", "org/model"),
        ("zoo:gpt2-teacher", "zoo:gpt2-teacher"),
        ("/home/me/teacher", "teacher"),
        ("./teacher/", "teacher"),
        ("runs/a/teacher", "teacher"),
        ("C:\\models\\teacher", "teacher"),
    ],
)
def test_a_card_names_no_folders_of_its_author(comparison, name, shown):
    found = evaluation_result(replace(comparison, teacher=replace(comparison.teacher, name=name)))
    assert found["dataset"]["config"] == shown


def test_a_model_that_does_not_do_the_task_is_named(comparison):
    weak = replace(comparison, performance=replace(comparison.performance, student=Estimate(0.1, -0.2, 0.4)))
    assert "Warning: the student is not shown to do this task (its logit difference may be 0)" in section(weak)


def test_without_an_untrained_student_what_rests_on_it_is_left_out(comparison):
    null = replace(comparison.alignment.null, random_score=None, random_largest=None)
    found = section(replace(comparison, alignment=replace(comparison.alignment, null=null)))
    assert "randomly initialised" not in found
    assert "influential components" not in found


def test_a_card_on_disk(comparison, tmp_path):
    written = comparison.push_to_model_card(tmp_path)
    assert written == tmp_path / "README.md"
    assert written.read_bytes().decode() == updated_card("", comparison)
    named = tmp_path / "CARD.md"
    named.write_bytes(OTHERS.replace("\n", "\r\n").encode())
    assert comparison.push_to_model_card(str(named)) == named
    assert named.read_bytes().decode() == updated_card(OTHERS.replace("\n", "\r\n"), comparison)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["CARD.md", "README.md"]


@pytest.mark.parametrize(
    ("old", "message"),
    [
        (b"---\n- a\n---\n", "README.md is left as it was: the metadata between the --- lines must be"),
        (b"\xff\xfe", "README.md is left as it was: 'utf-8' codec"),
        (b"---\nmodel-index: 3\n---\n", "the card's model-index is not a list of models"),
        (
            b"---\nmodel-index: [{name: a, results: [{task: b}]}]\n---\n",
            "the card's model-index is not a list of models",
        ),
    ],
)
def test_a_card_that_cannot_be_edited_stays(comparison, tmp_path, old, message):
    (tmp_path / "README.md").write_bytes(old)
    with pytest.raises(ValueError, match=message):
        comparison.push_to_model_card(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == old


def test_a_section_without_an_end_is_refused(comparison, tmp_path):
    cut = updated_card("", comparison).rsplit("<!--", 1)[0]
    (tmp_path / "README.md").write_text(cut)
    with pytest.raises(ValueError, match=r"has no end: put '<!-- circuitkd \w+: end of the section -->' after it"):
        comparison.push_to_model_card(tmp_path)


def test_wrong_places(comparison, tmp_path):
    for arguments in ({}, {"path": tmp_path, "repo_id": "me/student"}):
        with pytest.raises(
            ValueError, match="say where the card is: the path of a README.md or model folder, or repo_id="
        ):
            comparison.push_to_model_card(**arguments)
    with pytest.raises(ValueError, match="is neither a folder nor a .md file"):
        comparison.push_to_model_card(tmp_path / "none")
    with pytest.raises(ValueError, match="cannot write .*README.md: No such file or directory; choose another place"):
        comparison.push_to_model_card(tmp_path / "none" / "README.md")


class Hub:
    """A hub with one repository; `files` are its files, `commits` what was uploaded."""

    def __init__(self, folder, files):
        self.folder, self.files, self.commits, self.tokens = folder, files, [], []

    def __call__(self, token):
        self.tokens.append(token)
        return self

    def model_info(self, repo_id):
        if repo_id == "me/offline":
            raise OfflineModeIsEnabled("offline mode is on")
        return SimpleNamespace(sha="abc", siblings=[SimpleNamespace(rfilename=name) for name in self.files])

    def hf_hub_download(self, repo_id, filename, *, revision):
        assert (repo_id, revision) == ("me/student", "abc")
        place = self.folder / filename
        place.write_bytes(self.files[filename])
        return str(place)

    def upload_file(self, **arguments):
        self.commits.append(arguments)
        return SimpleNamespace(commit_url="https://hub/commit/1")


def test_a_card_on_the_hub(comparison, tmp_path, monkeypatch):
    hub = Hub(tmp_path, {"README.md": OTHERS.encode(), "config.json": b"{}"})
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    found = comparison.push_to_model_card(repo_id="me/student", token="t", create_pr=True)
    assert found == "https://hub/commit/1"
    assert hub.tokens == ["t"]
    assert hub.commits == [
        {
            "path_or_fileobj": updated_card(OTHERS, comparison).encode(),
            "path_in_repo": "README.md",
            "repo_id": "me/student",
            "commit_message": "Circuit comparison with tiny-teacher on ioi",
            "parent_commit": "abc",
            "create_pr": True,
        }
    ]


def test_a_repository_without_a_card_gets_one(comparison, tmp_path, monkeypatch):
    hub = Hub(tmp_path, {"config.json": b"{}"})
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    comparison.push_to_model_card(repo_id="me/student")
    assert hub.commits[0]["path_or_fileobj"] == updated_card("", comparison).encode()


def test_a_hub_that_refuses(comparison, tmp_path, monkeypatch):
    hub = Hub(tmp_path, {"README.md": b"---\n- a\n---\n"})
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    with pytest.raises(ValueError, match="cannot update the card of me/offline: offline mode is on; check the name"):
        comparison.push_to_model_card(repo_id="me/offline")
    with pytest.raises(ValueError, match="the card of me/student is left as it was: the metadata"):
        comparison.push_to_model_card(repo_id="me/student")
    assert hub.commits == []


def test_the_real_library_takes_these_calls(comparison):
    """The fake above is only worth something while HfApi has these parameters."""
    import inspect

    from huggingface_hub import HfApi

    assert {"path_or_fileobj", "path_in_repo", "repo_id", "commit_message", "parent_commit", "create_pr"} <= set(
        inspect.signature(HfApi.upload_file).parameters
    )
    assert {"repo_id", "filename", "revision"} <= set(inspect.signature(HfApi.hf_hub_download).parameters)
    with pytest.raises(ValueError, match="cannot update the card of me/student: .*offline|OfflineMode"):
        comparison.push_to_model_card(repo_id="me/student", token="none")

"""A study's folder read back: the same results, what failed, what is waiting, and nothing damaged taken for whole."""

from __future__ import annotations

import json

import pytest

from circuitkd.studies import running
from circuitkd.studies.job_kinds import RUNNERS
from circuitkd.studies.reading import EDITED, WAITING, is_study, read_run
from circuitkd.studies.running import INDEX
from damage import DEEP
from equal_results import assert_same
from small_study import QUICK
from synthetic_study import TEXT, finished_run, save_study, study_of

COMPARE, NOISE = "one/ioi/compare", "one/ioi/noise"


def test_a_study_that_was_run_is_read_back(run, tmp_path):
    made = run(QUICK)
    assert is_study(tmp_path / "out") and not is_study(tmp_path)
    found = read_run(tmp_path / "out")
    assert found.study == made.study and found.failures == () and found.taken == 2
    assert_same(found.results, made.results)


def test_an_interrupted_study_has_what_is_finished(run, tmp_path, monkeypatch):
    def interrupt(ready):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "RUNNERS", dict(RUNNERS) | {"noise": (RUNNERS["noise"][0], interrupt)})
    with pytest.raises(KeyboardInterrupt):
        run(QUICK)
    rows = json.loads((tmp_path / "out" / INDEX).read_text())["jobs"]
    assert [row["state"] for row in rows] == ["finished", "waiting"]
    found = read_run(tmp_path / "out")
    assert list(found.results) == ["tiny/numerals/compare"]
    assert [(f.job.folder, f.reason) for f in found.failures] == [("tiny/numerals/noise", WAITING)]


def test_every_kind_of_result_is_read(tmp_path):
    made = finished_run(failing=(NOISE,))
    found = read_run(save_study(made, tmp_path))
    assert_same(found.results, made.results)
    assert [(f.job.folder, f.reason) for f in found.failures] == [(NOISE, "the model is gated")]


def test_what_an_earlier_form_of_the_study_left_is_not_taken(tmp_path):
    made = finished_run()
    edited = study_of(TEXT.replace("{kind: noise, tasks: [ioi]}", "{kind: noise, tasks: [ioi], options: {seeds: 9}}"))
    save_study(made, tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    for row in index["jobs"]:
        row["state"] = "waiting"
    (tmp_path / INDEX).write_text(json.dumps(index | {"study": edited.model_dump(mode="json")}))
    found = read_run(tmp_path)
    assert [(f.job.folder, f.reason) for f in found.failures] == [(NOISE, EDITED)]
    assert len(found.results) == len(made.results) - 1


def test_a_result_that_is_gone_is_waited_for(tmp_path):
    save_study(finished_run(), tmp_path)
    (tmp_path / NOISE / "result.json").unlink()
    assert [f.reason for f in read_run(tmp_path).failures] == [WAITING]


def test_a_damaged_result_is_refused(tmp_path):
    save_study(finished_run(), tmp_path)
    (tmp_path / COMPARE / "arrays.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"one/ioi/compare is damaged .*arrays.safetensors does not belong"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * DEEP, '{"format": 2}', '{"format": 1, "study": {}, "jobs": []}', '{"format": 1, "jobs": 3}'],
)
def test_a_damaged_index_is_refused(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(ValueError, match=r"study.json is damaged or not of this version: .*; run the study again"):
        read_run(tmp_path)


def test_a_study_that_asks_for_what_cannot_be_is_refused(tmp_path):
    text = TEXT.split("printed")[0].replace("  - {kind: compare, tasks: [ioi]}\n", "")
    record = {"format": 1, "study": study_of(text).model_dump(mode="json"), "jobs": []}
    (tmp_path / INDEX).write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"is damaged .*'circuits' of one on ioi builds on its comparison"):
        read_run(tmp_path)

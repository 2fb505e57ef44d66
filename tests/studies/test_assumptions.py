"""The sentences below a plan say what its numbers were made with."""

import pytest

from circuitkd.studies.assumptions import assumptions
from circuitkd.studies.hardware import DEVICES, Hardware, MeasuredBlock
from plan_sides import side_of
from small_runs import model_for, task_of


@pytest.fixture(scope="module")
def side():
    return side_of(model_for("gpt2"), task_of("ioi", n=2))


def test_a_device_says_its_peak_and_share(side):
    text = " ".join(assumptions({"compare"}, [side], hardware=DEVICES["l4"]))
    assert "bfloat16 121 TFLOP/s x 0.4" in text
    assert "no such device was measured" in text
    assert "counted with the tokenizer of tiny-gpt2" in text
    assert "Circuits:" not in text


def test_a_measured_machine_says_what_was_measured(side):
    measured = {("GPT2LMHeadModel torch.float64", 32): MeasuredBlock((1e5, 6e9), (2e-4, 2.0))}
    here = Hardware("this-machine", {}, 1e9, "measured on 1 threads", is_cpu=True, measured=measured)
    text = " ".join(assumptions({"compare"}, [side], hardware=here))
    assert "GPT2LMHeadModel torch.float64 32 wide: 3 GFLOP/s, and 0.20 ms at the least for a block" in text
    assert "device_map" not in text
    assert "several devices" not in text


def test_what_depends_on_the_data_is_said_where_it_matters(side):
    text = " ".join(assumptions({"circuits", "roles", "distill"}, [side], hardware=DEVICES["h200"]))
    assert "50 % of the components are kept (30 % to 70 %), spread evenly over layers, in 2 passes" in text
    assert "1 head (0 to 2) is the best of a role" in text
    assert "20 % of the way up (from the first to 50 %)" in text


def test_guessed_tokens_are_said():
    side = side_of(model_for("gpt2"), task_of("ioi", n=2))
    object.__setattr__(side.model, "tokenizer", None)
    (said,) = (text for text in assumptions({"compare"}, [side], hardware=DEVICES["h200"]) if "Prompts" in text)
    assert said == (
        f"Prompts have {len(side.task.examples[0].clean)} tokens: beside the config of tiny-gpt2 is no tokenizer, so a word "
        "or a mark is one token."
    )

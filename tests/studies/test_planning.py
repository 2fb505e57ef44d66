"""Plans of whole studies, from configs of public models without weights."""

import pytest

from circuitkd.components import model_components
from circuitkd.models.loading import load_shape
from circuitkd.studies.hardware import DEVICES, GB, Hardware, MeasuredBlock
from circuitkd.studies.planning import FULL, USABLE, Shapes, pair_study, plan_study
from circuitkd.studies.study_file import (
    CircuitsSpec,
    CompareSpec,
    DistillSpec,
    PairSpec,
    Study,
    TaskSpec,
)
from public_shapes import PUBLIC, config_folder

PARAMETERS = {
    "gpt2": 124_439_808,
    "distilgpt2": 81_912_576,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-405b": 405_853_388_800,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("configs")
    for name in PUBLIC:
        config_folder(place, name)
    return place


def study(folder, teacher, student, *, analyses, tasks=("ioi",), n=10):
    return Study(
        title="a study",
        pairs=(PairSpec(name="pair", teacher=str(folder / teacher), student=str(folder / student)),),
        tasks=tuple(TaskSpec(name=task, n=n) for task in tasks),
        analyses=analyses,
    )


COMPARE, CIRCUITS, DISTILL = CompareSpec(kind="compare"), CircuitsSpec(kind="circuits"), DistillSpec(kind="distill")


@pytest.mark.parametrize("name", PARAMETERS)
def test_shapes_are_those_of_the_public_models(folder, name):
    model = load_shape(str(folder / name), dtype="bfloat16")
    assert model.parameter_count == PARAMETERS[name]
    assert {p.device.type for p in model.hf.parameters()} == {"meta"}


def test_a_study_of_every_kind(folder):
    pair = pair_study(str(folder / "gpt2"), str(folder / "distilgpt2"), task="ioi", n=10)
    found = plan_study(pair, DEVICES["h200"], shapes=Shapes(None))
    assert list(dict.fromkeys(s.analysis for s in found.steps)) == ["compare", "circuits", "roles", "noise", "distill"]
    for step in found.steps:
        for estimate in (step.forward_equivalents, step.flops, step.seconds):
            assert 0 <= estimate[0] <= estimate[1] <= estimate[2]
    assert found.seconds == pytest.approx(tuple(sum(s.seconds[i] for s in found.steps) for i in range(3)))
    assert found.flops[2] > found.flops[1] > found.flops[0] > 0
    assert {s.devices for s in found.steps} == {1}
    assert found.warnings == ()
    assert [text.split(" of ")[0] for text in found.notes] == ["task: EAP-IG estimates all edges"] * 2


def test_the_sweep_of_gpt2(folder):
    found = plan_study(study(folder, "gpt2", "distilgpt2", analyses=(COMPARE,)), DEVICES["h200"], shapes=Shapes(None))
    sweep = found.steps[0]
    assert (sweep.step, sweep.analysis) == ("ablation sweep", "compare")
    # About half of all blocks for every component, and little unembedding (docs/performance.md measures 0.315).
    assert sweep.forward_equivalents[0] / len(model_components(12, 12)) == pytest.approx(0.315, abs=0.01)
    assert sweep.forward_equivalents[0] == sweep.forward_equivalents[1]


def test_half_the_bytes_half_the_weights(folder):
    asked = study(folder, "llama-3.1-8b", "minitron-4b-depth", analyses=(COMPARE,))
    wide, half = (plan_study(asked, DEVICES["h200"], shapes=Shapes(dtype)) for dtype in (None, "bfloat16"))
    weights = (PARAMETERS["llama-3.1-8b"] + load_shape(str(folder / "minitron-4b-depth")).parameter_count) * 2
    assert half.steps[0].memory > weights
    assert half.steps[0].memory < 0.6 * wide.steps[0].memory
    assert half.steps[0].seconds[0] < 0.2 * wide.steps[0].seconds[0]
    assert half.steps[0].flops == wide.steps[0].flops


def test_a_pair_that_needs_many_devices(folder):
    asked = study(folder, "llama-3.1-405b", "llama-3.1-70b", analyses=(COMPARE,))
    found = plan_study(asked, DEVICES["h200"], shapes=Shapes("bfloat16"))
    student_weights = 2 * load_shape(str(folder / "llama-3.1-70b")).parameter_count
    weights = 2 * PARAMETERS["llama-3.1-405b"] + student_weights
    sweep = found.steps[0]
    assert sweep.memory > weights
    assert sweep.devices == -(-weights // (FULL * USABLE * 141 * GB)) == 9
    assert any("x h200 with --device auto (device_map)" in text for text in found.warnings)
    untrained = next(step for step in found.steps if step.step == "untrained student")
    assert untrained.host_memory == student_weights
    assert untrained.memory > weights + student_weights


def test_a_machine_that_is_too_small(folder):
    measured = {("GPT2LMHeadModel torch.float32", 768): MeasuredBlock((1e7, 1e10), (1e-3, 1.0))}
    small = Hardware("this-machine", {}, 1e9, "measured", is_cpu=True, program=5e8, measured=measured)
    asked = study(folder, "gpt2", "distilgpt2", analyses=(COMPARE,))
    found = plan_study(asked, small, shapes=Shapes(None))
    (warning,) = found.warnings
    assert "GB and this machine has 1 GB: use a smaller dtype, fewer prompts, or a larger machine" in warning


def test_what_the_models_refuse_is_left_out_and_said(folder):
    asked = study(folder, "llama-3.1-8b", "gpt2", analyses=(COMPARE, DISTILL))
    found = plan_study(asked, DEVICES["h200"], shapes=Shapes("bfloat16"))
    assert {s.analysis for s in found.steps} == {"compare"}
    assert any("pair, ioi: distill is left out: the tokenizers of" in text for text in found.warnings)


def test_jobs_and_options_count(folder):
    def seconds(*analyses, tasks=("ioi",)):
        asked = study(folder, "gpt2", "distilgpt2", analyses=analyses, tasks=tasks)
        return plan_study(asked, DEVICES["h200"], shapes=Shapes(None))

    one = seconds(COMPARE, CIRCUITS)
    three = seconds(COMPARE, CircuitsSpec(kind="circuits", options={"thresholds": (0.1, 0.3)}))
    flops = [[s.flops[0] for s in plan.steps if s.step == "path patching"] for plan in (one, three)]
    assert flops[1] == [3 * f for f in flops[0]]
    bare = seconds(COMPARE, CircuitsSpec(kind="circuits", options={"edge_share": None}))
    assert "path patching" not in {s.step for s in bare.steps}
    assert bare.notes == ()
    both = seconds(COMPARE, tasks=("ioi", "greater-than"))
    assert [s.task for s in both.steps].count("greater-than") == len(both.steps) / 2
    zero = seconds(CompareSpec(kind="compare", options={"ablation": "zero"}))
    assert zero.steps[0].flops[0] < one.steps[0].flops[0]
    notebook = seconds(CompareSpec(kind="compare", options={"preset": "released-notebook"}))
    assert notebook.steps[2].flops[0] == 2 * one.steps[2].flops[0]

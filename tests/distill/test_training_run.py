from __future__ import annotations

import torch

from circuitkd.distill.conditions import ALL_CE, CIRCUIT_CE, UNTRAINED, ExperimentOptions, Training
from circuitkd.distill.experiment_setup import prepare
from circuitkd.distill.training_run import train_copy
from circuitkd.interventions.execution import Execution
from distill_cases import pair

OPTIONS = ExperimentOptions(
    heads=("L0H3",), training=Training(steps=3, learning_rate=1e-2, batch_size=6), random_circuits=1
)


def test_a_copy_is_trained_and_the_student_keeps_its_weights():
    case = pair("gpt2", n=20, tasks=("numeral-sequence",))
    setup = prepare(case.teacher, case.student, task=case.task, options=OPTIONS, execution=Execution())
    before = {name: value.clone() for name, value in case.student.hf.state_dict().items()}

    def changed(condition):
        student, trainer = train_copy(setup, condition, seed=0)
        assert not student.hf.training
        assert all(torch.equal(value, before[name]) for name, value in case.student.hf.state_dict().items())
        after = student.hf.state_dict()
        return trainer, {name for name, value in before.items() if not torch.equal(after[name], value)}

    assert changed(UNTRAINED) == (None, set())
    trainer, names = changed(CIRCUIT_CE)
    assert names == {f"transformer.h.0.attn.{part}" for part in ("c_attn.weight", "c_attn.bias", "c_proj.weight")}
    assert trainer.state.global_step == 3 and trainer.untouched.identical
    assert len(changed(ALL_CE)[1]) > 20

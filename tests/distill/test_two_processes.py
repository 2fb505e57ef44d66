"""Several processes, and a process that is killed: the weights are those of one undisturbed process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from circuitkd.distill.circuit_parameters import CircuitParameters
from distill_cases import pair
from distill_runs import HEADS, largest_difference, same_bits

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
SOURCES = os.pathsep.join(str(HERE.parents[1] / folder) for folder in ("src", "tests"))


def start(*arguments, processes=1):
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    )
    environment = os.environ | {"PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output[-3000:]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same training by one process with batches of 8, and by two with two batches of 2 each for a step."""
    found = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    finish(start(HERE / "two_processes.py", "train", found[0], 8, 1))
    finish(start(HERE / "two_processes.py", "train", found[1], 2, 2, processes=2))
    return found


@pytest.mark.parametrize("name", ["ce", "kl", "cka"])
def test_two_processes_train_what_one_does(folders, name):
    one, two = (json.loads((folder / f"{name}.json").read_text()) for folder in folders)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-6)
    assert two["terms"] == pytest.approx(one["terms"], rel=1e-6)
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-6)
    assert one["identical"] and two["identical"] and len(one["losses"]) == 2
    weights = [load_file(folder / f"{name}.safetensors") for folder in folders]
    assert largest_difference(*weights) < 1e-9


def test_sharded_parameters_are_trained_alike(tmp_path):
    finish(start(HERE / "two_processes.py", "shard", tmp_path, processes=2))
    whole, sharded = (load_file(tmp_path / f"sharded-{s}.safetensors") for s in (False, True))
    assert largest_difference(whole, sharded) < 1e-6
    student = pair("llama").student
    masks = CircuitParameters.of(student, HEADS).masks
    for name, before in student.hf.state_dict().items():
        mask = masks.get(name, torch.zeros_like(before, dtype=torch.bool))
        assert torch.equal(sharded[name][~mask], before[~mask]), name
        assert name not in masks or not torch.equal(sharded[name][mask], before[mask]), name


TRAIN = """
import sys
from safetensors.torch import save_file
from distill_runs import aligned, make, weights
trainer = make(None, aligned(), folder=sys.argv[1], max_steps=60, per_device_train_batch_size=3,
               save_strategy="steps", save_steps=5)
trainer.train(resume_from_checkpoint=sys.argv[2] == "resume")
save_file({n: v.contiguous() for n, v in weights(trainer).items()}, sys.argv[1] + "/end.safetensors")
"""


def test_killed_and_resumed_is_never_having_been_killed(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start("-c", TRAIN, whole, "fresh"))
    process, until = start("-c", TRAIN, killed, "fresh"), time.monotonic() + 200
    while not (killed / "checkpoint-10" / "trainer_state.json").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (killed / "end.safetensors").exists()
    finish(start("-c", TRAIN, killed, "resume"))
    assert same_bits(load_file(whole / "end.safetensors"), load_file(killed / "end.safetensors"))

"""No network unless a hub id is asked for: processes in which every connection and every look-up of a name fails."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Installed before anything else is imported. BaseException: nothing may swallow an attempt and go on.
BLOCKED = """
import socket, sys

class Attempt(BaseException):
    pass

def refuse(*arguments, **options):
    sys.stderr.write(f"ATTEMPT {arguments[1:] or arguments}\\n")
    raise ERROR("no network")

for name in ("connect", "connect_ex", "sendto", "bind"):
    setattr(socket.socket, name, refuse)
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refuse

from circuitkd.cli import app
for line in sys.argv[1].split("\\n"):
    try:
        app(line.split("\\t"), prog_name="circuitkd")
    except SystemExit as end:
        print("exit", line.split("\\t")[0], end.code or 0, file=sys.stderr)
"""
SHORT = "--task numeral-sequence --n 4"
STUDY = "title: t\npairs: [{name: p, teacher: MODELS/big, student: MODELS/small}]\ntasks: [{name: ioi, n: 4}]\n"
LOCAL = (
    "tasks",
    "zoo",
    "check MODELS/big",
    f"compare MODELS/big MODELS/small {SHORT} --output-dir c",
    f"roles MODELS/big MODELS/small {SHORT} --output-dir r",
    f"circuit MODELS/big {SHORT} --force --no-edges --output-dir k",
    f"select MODELS/big MODELS/small MODELS/other {SHORT} --output-dir s",
    "distill MODELS/small MODELS/other --task entity-tracking-object-first --n 20 --steps 1 --seeds 1 --batch-size 4 "
    "--paper-only --heads L0H0 --output-dir d",
    "study study.yaml --output-dir y",
    "report c",
    "report d",
    "demo --n 3 --output-dir o",
)


def online(folder, commands, error="Attempt"):
    """What these commands do in a process with no network that believes that it has one."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    environment |= {"HF_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.replace("ERROR", error), "\n".join("\t".join(c.split()) for c in commands)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.mark.slow
def test_local_work_never_asks_for_the_network(models, tmp_path):
    (tmp_path / "study.yaml").write_text(
        (STUDY + "analyses: [{kind: compare}]\n").replace("MODELS", str(models)), encoding="utf-8"
    )
    found = online(tmp_path, [command.replace("MODELS", str(models)) for command in LOCAL])
    assert "ATTEMPT" not in found.stderr
    ends = [line for line in found.stderr.splitlines() if line.startswith("exit ")]
    assert ends == [f"exit {command.split()[0]} 0" for command in LOCAL], found.stderr[-3000:]
    assert found.returncode == 0
    pages = [tmp_path / name / "report.html" for name in "crksdyo"]
    assert all(page.stat().st_size > 20_000 for page in pages)


@pytest.mark.slow
def test_a_hub_id_without_a_network_is_told_in_one_line(tmp_path):
    found = online(tmp_path, ["compare nobody/teacher nobody/student --task ioi"], error="OSError")
    errors = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "nobody/teacher: no local folder of that name, and loading it from the hub failed" in errors[0]
    assert "Check the spelling and the connection, or download the model elsewhere" in errors[0]
    assert "Traceback" not in found.stderr
    assert "exit compare 2" in found.stderr
    assert "ATTEMPT" in found.stderr


def test_hf_hub_offline_is_honoured(run):
    """The test session sets it; an attempt would raise what is no OSError."""
    found = run("compare", "nobody/teacher", "nobody/student", "--task", "ioi")
    assert found.code == 2
    assert "error: nobody/teacher: no local folder of that name, and loading it from the hub failed" in found.stderr
    assert len([line for line in found.stderr.splitlines() if line.strip()]) == 1


@pytest.mark.parametrize("wish", [None, "0"])
def test_the_hub_is_told_nothing_that_it_need_not_know(wish):
    """Unless the user's environment says otherwise."""
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_DISABLE_TELEMETRY"}
    environment |= {} if wish is None else {"HF_HUB_DISABLE_TELEMETRY": wish}
    code = "import circuitkd.cli, huggingface_hub.constants as c; print(c.HF_HUB_DISABLE_TELEMETRY)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert found.stdout == f"{wish is None}\n"

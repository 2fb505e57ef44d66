"""What became of the components of the bundled teachers, on all bundled tasks, as a Markdown table.

    python examples/fates.py [gpt2] [bert] [llama]

One row for each pair and task, printed as it is found. Two numbers: of all the teacher's components / of those that
matter by themselves on the task.
"""

from __future__ import annotations

import sys

import circuitkd as ck
from circuitkd.reports.tables import markdown
from circuitkd.roles.describe import describe_roles
from circuitkd.roles.fate_result import KINDS
from circuitkd.tasks.registry import DEMO_TASKS

FAMILIES = ("gpt2", "bert", "llama")
EXAMPLES = 100


def main(*families: str) -> None:
    rows = 0
    for family in families or FAMILIES:
        teacher, student = (ck.load(f"zoo:{family}-{role}") for role in ("teacher", "student"))
        for name in DEMO_TASKS:
            task = ck.load_task(name, n=EXAMPLES, seed=0)
            comparison = ck.compare(teacher, student, task)
            fates = describe_roles(teacher, student, task, comparison=comparison).fates
            every, influential = fates.counts(), fates.counts(influential=True)
            row = {"pair": family, "task": name} | {k: f"{every[k]} / {influential[k]}" for k in KINDS}
            lines = markdown([row]).splitlines()
            print("\n".join(lines[-1:] if rows else lines), flush=True)
            rows += 1


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Every number that a study can put beside a paper's: its name in study files, which result has it, how it is read off.

Units are those the papers print in. A quantity of a component, variant, threshold or condition says so in its `of`.
"""

from __future__ import annotations

from collections.abc import Mapping

from circuitkd.studies.circuit_quantities import CIRCUIT_QUANTITIES
from circuitkd.studies.comparison_quantities import COMPARISON_QUANTITIES
from circuitkd.studies.distillation_quantities import DISTILLATION_QUANTITIES
from circuitkd.studies.measured import Quantity
from circuitkd.studies.role_quantities import ROLE_QUANTITIES
from circuitkd.studies.study_file import Job, PrintedValue, Study, jobs
from circuitkd.tasks.rows import nearest

QUANTITIES: Mapping[str, Quantity] = {
    **COMPARISON_QUANTITIES,
    **CIRCUIT_QUANTITIES,
    **ROLE_QUANTITIES,
    **DISTILLATION_QUANTITIES,
}


def job_of(study: Study, printed: PrintedValue) -> Job:
    """The job whose result has the quantity. Raises ValueError for an unknown quantity, one that lacks its `of` or has
    none, and where the study has no such job."""
    quantity = QUANTITIES.get(printed.quantity)
    if quantity is None:
        raise ValueError(f"unknown quantity {printed.quantity!r}: {nearest(printed.quantity, list(QUANTITIES))}")
    if quantity.of and printed.of is None:
        raise ValueError(f"{printed.quantity} needs `of`: {quantity.of}")
    if not quantity.of and printed.of is not None:
        raise ValueError(f"{printed.quantity} is of nothing: leave out `of`")
    wanted = (printed.pair, printed.task, quantity.kind)
    for job in jobs(study):
        if (job.pair.name, job.task.key, job.analysis.kind) == wanted:
            return job
    raise ValueError(
        f"{printed.quantity} is read off {quantity.kind!r}, which is not asked for {printed.pair} on {printed.task}"
    )

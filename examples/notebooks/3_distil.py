# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train a circuit back in, and compare before and after
#
# The bundled Llama student lost part of its teacher's belief tracking. We train two of its heads, a few steps only, in two
# ways: on the teacher's answers, and with random heads ablated meanwhile. Every other weight keeps its bits.

# %%
import pandas as pd

import circuitkd as ck
from circuitkd.distill.conditions import CIRCUIT_CE, UNTRAINED, Condition, Training

teacher, student = ck.load("zoo:llama-teacher"), ck.load("zoo:llama-student")
task = ck.load_task("belief-tracking", n=120, seed=0)
ABLATED = Condition("circuit, CE + head ablation", "circuit", head_ablation=True)
options = ck.ExperimentOptions(
    heads=2,
    conditions=(UNTRAINED, CIRCUIT_CE, ABLATED),
    training=Training(steps=20, learning_rate=1e-3),
    seeds=(0,),
)
trained = {}


def keep(condition, seed, model):
    trained[condition] = model


result = ck.run_experiment(teacher, student, task, options=options, keep=keep)

# %% [markdown]
# **What was trained, and did the rest stay?** The share of parameters, and a hash of all others before and after.

# %%
print("heads:", ", ".join(map(str, result.heads)))
for run in result.runs:
    moved = "–" if run.untouched is None else f"others identical: {run.untouched.identical}"
    print(f"{run.condition:30} {100 * run.parameter_share:5.1f} % of the parameters   {moved}")

# %% [markdown]
# **What did it buy?** One seed and a few steps are a demonstration, not a measurement: the command `circuitkd distill` runs all
# conditions with five seeds and tests the differences.

# %%
result.to_pandas()[["condition", "full", "circuit", "alignment", "mean_drop"]].round(2)

# %% [markdown]
# **Before and after, as a comparison**: the trained student is a model like any other.

# %%
held_out = ck.load_task("belief-tracking", n=40, seed=1)
quick = ck.CompareOptions(random_null=False)
found = {
    name: ck.compare(teacher, model, held_out, options=quick)
    for name, model in {"before": student, "after": trained[ABLATED.name]}.items()
}
pd.DataFrame(
    {
        name: {
            "accuracy": c.student_sweep.accuracy.mean(),
            "alignment": c.alignment.score,
            "mean drop %": c.robustness.student.mean_drop,
        }
        for name, c in found.items()
    }
).round(2)

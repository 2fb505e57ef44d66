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
# # Compare a pair, and read its numbers in pandas
#
# A teacher, a student distilled from it, and one task: who is the indirect object? Both models come with the package.

# %%
import pandas as pd

import circuitkd as ck

teacher, student = ck.load("zoo:gpt2-teacher"), ck.load("zoo:gpt2-student")
task = ck.load_task("ioi", n=48, seed=0)
result = ck.compare(teacher, student, task)

# %% [markdown]
# **Does the student do the task?** Before anything else: of a model that does not, the other numbers say little.

# %%
pd.DataFrame(
    {
        "teacher": [result.teacher_sweep.accuracy.mean(), result.performance.teacher.value],
        "student": [result.student_sweep.accuracy.mean(), result.performance.student.value],
    },
    index=["accuracy", "mean logit difference"],
).round(2)

# %% [markdown]
# **Did it keep the circuits?** Alignment is 1 for a model and itself. Read it beside its two factors and its two nulls: the same
# pairs with the student's influences shuffled, and a student that was never trained.

# %%
alignment = result.alignment
pd.Series(
    {
        "alignment": alignment.score,
        "  lower end of its interval": alignment.interval[0],
        "  upper end": alignment.interval[1],
        "similarity": alignment.mean_similarity,
        "agreement of influences": alignment.mean_agreement,
        "null: shuffled": alignment.null.shuffled_mean,
        "null: untrained": alignment.null.random_score,
    }
).round(3)

# %% [markdown]
# **Is it brittle?** What one component's ablation costs, on average, in percent of the logit difference.

# %%
sides = {"teacher": result.robustness.teacher, "student": result.robustness.student}
pd.DataFrame(
    {side: [r.mean_drop, *r.interval] for side, r in sides.items()}, index=["mean drop %", "low", "high"]
).round(1)

# %% [markdown]
# **Which components?** One row for each component of the teacher, with its match in the student. The first rows are those the
# teacher needs most.

# %%
pairs = result.to_pandas().sort_values("teacher_influence", ascending=False)
pairs[["teacher", "student", "similarity", "teacher_drop_percent", "student_drop_percent"]].head(6).round(2)

# %% [markdown]
# **Lost parts**: components that matter in the teacher and whose match does not matter in the student.

# %%
pairs.query("teacher_influence > 0.1 and student_influence < teacher_influence / 2")[
    ["teacher", "student", "agreement"]
].round(2)

# %% [markdown]
# The result goes to disk whole, and into the student's model card: a section for people, and `model-index` metadata for the hub.

# %%
folder = result.save("ioi-run")
assert ck.Comparison.load(folder).alignment.score == alignment.score
print(result.push_to_model_card("student-README.md").read_text()[:400])

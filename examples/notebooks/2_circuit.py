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
# # Find a circuit, measure it, draw it
#
# A circuit is a set of heads and MLPs, with the edges between them, that keeps most of what a model does on a task when all
# else is replaced.

# %%
from IPython.display import SVG

import circuitkd as ck
from circuitkd.reports.circuit_page import svg

model = ck.load("zoo:gpt2-student")
task = ck.load_task("ioi", n=32, seed=0)
circuit = ck.discover(model, task, threshold=0.2)
print(len(circuit.components), "of", len(model.components), "components,", len(circuit.edges), "edges")

# %% [markdown]
# **Is it one?** Faithfulness is 1 where the circuit alone does what the model does, 0 where it does what an empty model does.
# Random circuits of the same size show what that number is worth.

# %%
print(f"faithfulness {circuit.faithfulness:.2f}, completeness {circuit.completeness:.2f}")
print(f"faithfulness of random circuits {circuit.require_evaluation().random_mean('faithfulness'):.2f}")

# %% [markdown]
# **Which components does it hang on?** The marginal loss is what the circuit loses without one of them, in points of the
# model's logit difference.

# %%
circuit.to_pandas().sort_values("marginal_loss", ascending=False).round(1)

# %% [markdown]
# **The drawing** is a plain SVG: layers go upward, fill is marginal loss, a wire is as wide as its effect.

# %%
SVG(svg(circuit))

# %% [markdown]
# Saved as one JSON file, it can be measured again later, but only on the same weights.

# %%
path = circuit.save("ioi-circuit.json")
assert ck.Circuit.load(path, model).components == circuit.components

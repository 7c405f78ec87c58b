# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -kernelspec,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
# ---

# %% [markdown]
# # Quantum networks: what does a simulated circuit learn?
#
# A circuit of rotations and controlled NOTs turns features into angles and a state, and the expectations of its qubits
# are the outputs; the other angles are trained. Text and sketch name no paper. That deep random circuits have vanishing
# gradients is McClean et al., *Barren plateaus in quantum neural network training landscapes*, Nature Communications 9,
# 2018 ([arXiv 1803.11173](https://arxiv.org/abs/1803.11173)).
#
# **Formulas.** With $n$ qubits, angles $\theta$ of $L$ layers, and $C$ the chain of controlled NOTs from each qubit to
# the next,
#
# $$|\psi\rangle = \prod_{l=1}^{L} \Big[ C \bigotimes_i R_Y(\theta_{l,i}) \Big] \bigotimes_i R_Y(x_i)\, |0\rangle,
# \qquad f_i(x; \theta) = \langle\psi| Z_i |\psi\rangle.$$
#
# Gradients are exact, by backpropagation through the simulator, and equal those of the shift rule that a device would
# use, $\partial f / \partial \theta = \big( f(\theta + \pi/2) - f(\theta - \pi/2) \big) / 2$.
#
# [Section 11.7 of the report](../coursework_report.md#117-quantum-networks) discusses the results.
#
# **What does not match.** The text's sketch is one long line: its indentation is lost. With the chain after all layers,
# the layers add up to one; here it is inside each. Its training cannot change a parameter (see below). Nothing here ran
# on a quantum computer.
#
# **Time.** With the recorded runs, under a minute on two CPU cores. Training everything again takes about fifteen
# minutes. The `quick` profile trains on small digits that need no download, and takes under a minute. It needs PennyLane:
# `pip install "advanced-optimizers[quantum]"`.

# %% tags=["parameters"]
import os

# "full": the recorded runs on MNIST; "quick": small runs on the digits
PROFILE = os.environ.get("PROFILE", "full")
# train every run again instead of loading its record
RETRAIN = os.environ.get("RETRAIN") == "1"
# runs at a time, one thread each; a quick run is too short to be worth a process
JOBS = (os.cpu_count() or 1) if PROFILE == "full" else 1

# %% [markdown]
# ## Using it
#
# Two digits, four principal components as angles, and three layers. The circuit is a layer like any other.

# %%
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from advanced_optimizers.automl import QuantumLayer
from advanced_optimizers.experiments.studies.quantum_runs import QuantumRun, read_sets

torch.manual_seed(0)
run = QuantumRun(algorithm="quantum-circuit", dataset="digits", images=280)
sets = read_sets(run)  # 3 or 8: four principal components as angles
model = nn.Sequential(QuantumLayer(4, num_layers=3), nn.Linear(4, 1)).double()
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
for _ in range(40):
    optimizer.zero_grad()
    logits = model(sets.train.x)[:, 0]
    loss = binary_cross_entropy_with_logits(logits, sets.train.target)
    loss.backward()
    optimizer.step()
right = (model(sets.test.x)[:, 0] > 0) == sets.test.target.bool()
print(f"loss {loss.item():.3f}, test accuracy {right.double().mean():.1%}")

# %% [markdown]
# Under the text's names: `train_quantum_model` finds angles by gradient descent on the squared error of the last qubit,
# and `qnode` runs the circuit on `dev`, which has four qubits.

# %%
from advanced_optimizers.automl import dev, qnode, train_quantum_model

losses = []
params = train_quantum_model(
    sets.train.x,
    sets.train.target,
    steps=40,
    on_step=lambda step, loss: losses.append(loss),
)
right = (qnode(params, sets.test.x)[-1] > 0) == sets.test.target.bool()
print(f"{len(dev.wires)} wires, loss {losses[0]:.3f} -> {losses[-1]:.3f}")
print(f"test accuracy {right.double().mean():.1%}")

# %% [markdown]
# ## Two traps of the sketch
#
# Plain NumPy arrays are constants to PennyLane. Its optimizer then has nothing to differentiate, and returns the
# parameters as they were:

# %%
import warnings

import numpy as np
import pennylane as qml


@qml.qnode(dev)
def cost(params):
    for layer in params:
        for wire, angle in enumerate(layer):
            qml.RY(angle, wires=wire)
        for wire in range(3):
            qml.CNOT(wires=[wire, wire + 1])
    return qml.expval(qml.PauliZ(3))


start = np.random.default_rng(0).uniform(0, 2 * np.pi, (3, 4))
with warnings.catch_warnings(record=True) as said:
    after = qml.GradientDescentOptimizer(stepsize=0.1).step(cost, start)
print("changed:", not np.array_equal(after, start), "| warned:", bool(said))

# %% [markdown]
# With the chain after all layers, rotations add up: three layers are one, and output $i$ is
# $\prod_{j \le i} \cos\big(x_j + \sum_l \theta_{l,j}\big)$.

# %%
x = torch.rand(4, dtype=torch.float64)
summed = params.sum(dim=0, keepdim=True)
for name, outputs in (
    ("one layer of the sums", torch.stack(qnode(summed, x))),
    ("product of cosines", (x + summed[0]).cos().cumprod(dim=0)),
    ("three layers, C inside", torch.stack(qnode(params, x))),
):
    print(f"{name:22}", outputs.numpy().round(3).tolist())

# %% [markdown]
# ## The study
#
# Pairs of digits of MNIST, 500 training images and about 2,000 test images each, their first 4, 6 or 8 principal
# components as features. The quantum network has a linear readout of all its qubits, so $4n + 1$ parameters. Beside it
# are a perceptron and random Fourier features of as many, logistic regression, and the product of cosines. As controls,
# the circuit without controlled NOTs, and with random angles that are not trained. Each takes the best of two learning
# rates by training images that are held out.

# %%
from advanced_optimizers.experiments.report.display import (
    open_study,
    show_figure,
    show_protocol,
    show_statements,
    show_table,
)

names = ("quantum", "quantum-time", "quantum-gradients")
how = {"retrain": RETRAIN, "jobs": JOBS}
study, times, gradients = (open_study(name, PROFILE, **how) for name in names)

# %%
show_protocol(study)

# %%
show_figure(study, "quantum-test-accuracy")

# %% [markdown]
# Differences from logistic regression, paired by seed:

# %%
show_figure(study, "quantum-test-accuracy-differences")

# %% [markdown]
# ## What it costs
#
# A state of $n$ qubits is $2^n$ numbers, and the simulator applies every gate to all of them. Up to about ten qubits
# the time is that of starting gates, and then that of the numbers. A perceptron of as many parameters takes what it took.

# %%
show_figure(times, "quantum-time-by-qubits")

# %%
show_table(study, "quantum-training-seconds")

# %% [markdown]
# ## Vanishing gradients
#
# The variance of one derivative over random angles: in deep circuits it falls exponentially with the qubits, so that
# training finds no direction. Three layers have no such plateau, since the two qubits that are measured feel only a few
# others.

# %%
show_figure(gradients, "quantum-gradients-by-qubits")

# %% [markdown]
# ## Verdicts
#
# Q1 to Q5 are the text's claims. What no simulator can decide is said to be not testable. The others are decided by rules
# that were fixed before the runs; [appendix B of the report](../coursework_report_appendices.md#appendix-b-rules) states
# them. They need the runs of the `full` profile.

# %%
show_statements("quantum", PROFILE)

# %%
show_table(study, "quantum-claims")

# %%
show_table(times, "quantum-time-claims")

# %%
show_table(gradients, "quantum-gradients-claims")

# %% [markdown]
# ## Limitations
#
# - One circuit, with real amplitudes, three layers and at most 8 qubits: other encodings and other data may do better. On
#   160 data sets and 12 models, Bowles, Ahmed and Schuld (2024,
#   [arXiv 2403.07059](https://arxiv.org/abs/2403.07059)) come to the same end.
# - The simulator is exact: there is no noise of a device, and no error of a finite number of measurements.
# - Times are of PennyLane's simulator in Python; others have less overhead per gate, and the same doubling.

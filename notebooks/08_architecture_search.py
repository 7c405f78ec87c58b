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
# # Architecture search: does it find better cells than chance?
#
# **DARTS** (Liu, Simonyan, Yang, [arXiv 1806.09055](https://arxiv.org/abs/1806.09055)) puts every candidate operation on
# every edge of a cell, weights them by a softmax, and learns the weights by gradient. **ENAS** (Pham, Guan, Zoph, Le,
# Dean, [arXiv 1802.03268](https://arxiv.org/abs/1802.03268)) has a controller choose one operation per edge, and lets
# all cells share one set of weights. Both are compared with chance, which few papers did at equal cost.
#
# **Formulas.** With architecture parameters $\alpha$ and weights $w$,
#
# $$\bar o(x) = \sum_o \mathrm{softmax}_ {o}(\alpha) \thinspace o(x), \qquad
# \min_\alpha L_{val}(w^\ast(\alpha), \alpha) \ \text{ with } \ w^\ast(\alpha) = \arg\min_w L_{train}(w, \alpha).$$
#
# DARTS looks one step ahead, $w' = w - \xi \nabla_w L_{train}$, and differentiates through it:
#
# $$g = \nabla_\alpha L_{val}(w', \alpha) - \xi\, \nabla^2_{\alpha, w} L_{train}(w, \alpha)\, \nabla_{w'} L_{val}(w', \alpha).$$
#
# With $\xi = 0$ that is the first order. ENAS follows REINFORCE, $\nabla J = \mathrm{E}[(R - b) \thinspace \nabla \log \pi(a)]$,
# where the reward $R$ is the accuracy of the sampled cell with the shared weights.
# [Section 11.1 of the report](../coursework_report_automl.md#111-architecture-search) discusses the results.
#
# **What does not match.** The papers search on CIFAR-10 for GPU days and train the found cell for 600 epochs. Here the
# images are `cifar10-jpeg` at 16x16, the networks have two cells, a search lasts half a minute, and a cell has one
# input. The table study has the published accuracies of NAS-Bench-201 instead of training.
#
# **Time.** With the recorded runs, under a minute on two CPU cores. Running everything again takes about 40 minutes of one
# core. The `quick` profile is on small digits, and takes about a minute.

# %% tags=["parameters"]
import os

# "full": the recorded runs; "quick": small runs on the digits
PROFILE = os.environ.get("PROFILE", "full")
# do every run again instead of loading its record
RETRAIN = os.environ.get("RETRAIN") == "1"
# runs at a time, one thread each; a quick run is too short to be worth a process
JOBS = (os.cpu_count() or 1) if PROFILE == "full" else 1

# %% [markdown]
# ## Using it
#
# Two loaders of different images, a search, and the found cell trained from scratch:

# %%
import torch

from advanced_optimizers.automl import SearchNetwork, search_architecture
from advanced_optimizers.automl.architecture_search import Shape, accuracy, retrain
from advanced_optimizers.experiments.data import digits_batches

torch.manual_seed(0)
train, test = digits_batches(batch_size=64, seed=0)
batches, shape = list(train), Shape(1, 10, channels=4)
half = len(batches) // 2
model = SearchNetwork(shape)
own, others = batches[:half], batches[half:]
search_architecture(own, others, 2, model=model, order="first", alpha_lr=0.01)
network = retrain(model.genotype(), batches, epochs=3, shape=shape)
print(*model.genotype().operations)
print(f"test accuracy {accuracy(network, [test]):.0%}")

# %% [markdown]
# ## First and second order on the paper's toy problem
#
# $L_{val} = \alpha w - 2\alpha + 1$ and $L_{train} = (w - \alpha)^2$, so $w^* = \alpha$, and the true solution is
# $\alpha = w = 1$. The search ends at $2 / (1 + 2\xi)$: at 2 with the first order, and at 1 with $\xi = 1/2$.

# %%
from advanced_optimizers.automl import architecture_gradient


def settled(xi):
    a, w = (torch.tensor([v], requires_grad=True) for v in (2.0, -2.0))
    train, val = lambda: (w - a).square().sum(), lambda: (a * w - 2 * a + 1).sum()
    for _ in range(300):
        (g,) = architecture_gradient(train, val, [w], [a], xi=xi)
        a.data -= 0.1 * g
        w.data -= 0.1 * 2 * (w.data - a.data)
    return a.item()


for xi in (0.0, 0.25, 0.5, 1.0):
    found, formula = settled(xi), 2 / (1 + 2 * xi)
    print(f"xi {xi:<4g}  alpha {found:.3f}, by the formula {formula:.3f}")
    assert abs(found - formula) < 1e-3

# %% [markdown]
# ## Operations, and what cannot be mixed
#
# *Dilation widens the field without more weights.* It does:

# %%
from torch import nn

from advanced_optimizers.automl import DARTS
from advanced_optimizers.automl.architecture_search.operations import make_operation

for name in ("conv_3x3", "dilated_conv_3x3_2", "dilated_conv_3x3_3"):
    convolution = make_operation(name, 1)[1]
    image = torch.zeros(1, 1, 15, 15, requires_grad=True)
    nn.init.ones_(convolution.weight)
    convolution(image)[0, 0, 7, 7].backward()
    assert convolution.weight.numel() == 9
    rows = image.grad[0, 0].sum(1).nonzero()
    print(f"{name:20} 9 weights, field {int(rows.max() - rows.min()) + 1}")

# %% [markdown]
# *It can search among operations of any type.* Only among those whose outputs can be added:

# %%
import textwrap


def halving(channels):
    return nn.AvgPool2d(2)


try:
    DARTS(4, 4, operations=("conv_3x3", halving))(torch.randn(2, 4, 8, 8))
except ValueError as error:
    print(textwrap.fill(str(error), 88))

# %% [markdown]
# ## The controller
#
# It is fed its own choices, so what it chooses next depends on them. Rewarded for one known cell, it learns it:

# %%
import math

from advanced_optimizers.automl import Controller, Reinforce

torch.manual_seed(0)
controller, wanted = Controller(steps=3, options=3), [2, 0, 1]
learner = Reinforce(controller, lr=0.02, decay=0.9)
for _ in range(150):
    learner.step(lambda cell: sum(map(int.__eq__, cell, wanted)) / 3, samples=8)
log_prob = controller.evaluate(torch.tensor([wanted])).log_probs.item()
print(f"probability of the cell {math.exp(log_prob):.3f}")

# %% [markdown]
# ## The table: five strategies with true rewards
#
# NAS-Bench-201 has trained all of its 15,625 cells. A search that asks for a cell's accuracy gets it at once, so a
# hundred searches per strategy take seconds. The *regret* is what the chosen cell lacks to the best one. The cell of
# nothing but skips, to which DARTS collapses in that benchmark, has 39.77 % on CIFAR-10:

# %%
from advanced_optimizers.automl import NASBench201

table = NASBench201("cifar10")
for name, cell in (("all 3x3", [3] * 6), ("all skips", [1] * 6)):
    print(f"{name:9} {table.mean(cell):.2%}, best {table.best:.2%}")

# %%
from advanced_optimizers.experiments.report.display import (
    open_study,
    show_figure,
    show_protocol,
    show_statements,
    show_table,
)

on_table = open_study("architecture-table", PROFILE, retrain=RETRAIN, jobs=JOBS)
show_protocol(on_table)

# %%
show_figure(on_table, "architecture-table-regret")

# %%
show_table(on_table, "architecture-table-regret-50")

# %% [markdown]
# ## The study: found cells, trained from scratch
#
# Every cell is trained alike, and tested once. Random search stops poor cells early and gets as much computing as the
# first-order search. *All 3x3 convolutions* is made by hand, and *all skips* is what a collapsed search ends in.

# %%
by_gradient = open_study("architecture-search", PROFILE, retrain=RETRAIN, jobs=JOBS)
show_protocol(by_gradient)

# %%
show_table(by_gradient, "architecture-search-test-accuracy")

# %%
show_table(by_gradient, "architecture-search-above-median")

# %%
show_table(by_gradient, "architecture-search-weight-importance")

# %% [markdown]
# What the search network can do says little about the cell that is left of it: on the left the mixture, and below the
# discrete cell with the same weights.

# %%
show_figure(by_gradient, "architecture-search-mixture")

# %%
show_figure(by_gradient, "architecture-search-discrete")

# %%
show_figure(by_gradient, "architecture-search-parameter-free")

# %% [markdown]
# ## The study: shared weights
#
# The trained controller and a uniform one train the same shared weights in the same way; cells sampled from each are
# trained from scratch.

# %%
with_weights = open_study("architecture-weights", PROFILE, retrain=RETRAIN, jobs=JOBS)
show_protocol(with_weights)

# %%
show_table(with_weights, "architecture-weights-test-accuracy")

# %%
show_table(with_weights, "architecture-weights-kendall-tau")

# %% [markdown]
# ## Verdicts
#
# Each claim is decided by a rule that was written before the runs;
# [appendix B of the report](../coursework_report_appendices.md#appendix-b-rules) states the rules.

# %%
for results in (on_table, by_gradient, with_weights):
    show_table(results, f"{results.study.name}-claims")

# %%
show_statements("architecture_statements", PROFILE)

# %% [markdown]
# ## Limitations
#
# - A search of half a minute on small images says nothing about one of days. The published rate for $\alpha$ could move
#   nothing in so few steps; ours is ten times as large, and was not tuned.
# - Accuracy follows size: larger cells are better, whoever finds them. That is why a found cell is compared with random
#   cells that have as many parameters.
# - A cell has one input and is the same everywhere; where the resolution is halved nothing is searched.
# - The table knows validation accuracies only, and its hundred searches draw from two or three trainings per cell.
# - Alone, a comparison with five seeds detects a difference of 1.7 standard deviations of the differences with 80 %
#   power. What is undecided is not equal: that would have to be shown, within a margin.

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
# # muTransfer: does the best learning rate stay where it is when the network gets wider?
#
# **muTransfer** (Yang, Hu, Babuschkin, Sidor and others, *Tensor Programs V: Tuning Large Neural Networks via Zero-Shot
# Hyperparameter Transfer*, [arXiv 2203.03466](https://arxiv.org/abs/2203.03466)) scales initial weights, the output
# layer and the learning rates of the layers with the width. In this maximal update parametrization (muP), the learning
# rate tuned on a narrow network is the right one for a wide network.
#
# **Formulas.** For a network of width $n$, tuned at a base width $n_0$, muP needs these factors relative to the base,
# with $m = n / n_0$:
#
# | | input weights, biases | hidden weights | output weights |
# | --- | --- | --- | --- |
# | Variance of the initial weights | $1 / \text{fan-in}$ | $1 / \text{fan-in}$ | $1 / \text{fan-in}$, times $m$ |
# | Multiplier in the forward pass | $1$ | $1$ | $1 / m$ |
# | Learning rate of SGD | $\times \thinspace m$ | $\times \thinspace 1$ | $\times \thinspace m$ |
# | Learning rate of Adam | $\times \thinspace 1$ | $\times \thinspace 1 / m$ | $\times \thinspace 1$ |
#
# The study's network has two hidden layers of $n$ units without biases, and the multipliers that the paper's authors
# tuned:
#
# $$f(x) = \alpha\, W_3\, \phi\big(W_2\, \phi(\sqrt{\beta}\, W_1 x)\big), \qquad \phi = \mathrm{ReLU},\quad
# \alpha = 32,\quad \beta = 2^{-8},$$
#
# with $\alpha / m$ in the place of $\alpha$ in muP. [Section 1.7 of the report](../coursework_report.md#17-mutransfer)
# says where the factors come from, and [section 7](../coursework_report.md#7-results-mutransfer) discusses the results.
#
# **What does not match.** The paper's sweep trains for 20 epochs on CIFAR-10, with widths of up to 8192 units. Ours
# trains for 8 epochs on a fifth of `cifar10-jpeg`, a JPEG re-encoding of CIFAR-10, and for 5 epochs on a tenth of
# MNIST, with up to 4096 units, on two CPU cores. The network, its multipliers, and plain SGD with a constant learning
# rate are those of the MLP example in the authors' package.
#
# **Time.** With the recorded runs, under a minute on two CPU cores. Training everything again takes about an hour and a
# half. The `quick` profile trains on small digits that need no download, and takes under a minute.

# %% tags=["parameters"]
import os

# "full": the recorded runs on MNIST and cifar10-jpeg; "quick": small runs on the digits
PROFILE = os.environ.get("PROFILE", "full")
# train every run again instead of loading its record
RETRAIN = os.environ.get("RETRAIN") == "1"
# runs at a time, one thread each; a quick run is too short to be worth a process
JOBS = (os.cpu_count() or 1) if PROFILE == "full" else 1

# %% [markdown]
# ## Using it
#
# One call turns a plain model into a muP model and builds its optimizer; the training loop stays as it is. The learning
# rate was tuned at 64 units and is used at every width. Here it trains for one epoch on the digits that come with
# scikit-learn:

# %%
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from advanced_optimizers import create_mu_transfer_optimizer
from advanced_optimizers.experiments.data import digits_batches

train, test = digits_batches(batch_size=64, seed=0)
base, tuned = {"width": 64, "input_dim": 64}, {"lr": 3e-3, "weight_decay": 0.1}
for n in (128, 256, 512):
    torch.manual_seed(0)
    layers = nn.Linear(64, n), nn.ReLU(), nn.Linear(n, n), nn.ReLU(), nn.Linear(n, 10)
    model = nn.Sequential(nn.Flatten(), *layers)
    optimizer = create_mu_transfer_optimizer(model, base, {**base, "width": n}, tuned)
    for batch in train:
        optimizer.zero_grad()
        cross_entropy(model(batch.images), batch.labels).backward()
        optimizer.step()
    rates = ", ".join(sorted({f"{g['lr']:.2g}" for g in optimizer.param_groups}))
    accuracy = (model(test.images).argmax(1) == test.labels).float().mean()
    print(f"{n} units: test accuracy {accuracy:.0%}, learning rates {rates}")

# %% [markdown]
# ## Is it right? The coordinate check
#
# In a right parametrization, the size of each layer's output after some steps on one batch does not depend on the
# width. Here the network of the study is trained by SGD with a large learning rate, in both parametrizations.

# %%
from functools import partial

from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.zero_shot_transfer import (
    MuSGD,
    coordinate_check,
    set_base_shapes,
)


def make_network(units, base_units):
    """The study's network: in muP, or without base units in the standard way."""
    sizes = (units, base_units)
    model, base = (n and build_model("mlp3", (1, 8, 8), 10, n / 64) for n in sizes)
    return set_base_shapes(model, base, rescale_params=False)


def check(base_units):
    """The sizes of the three layers' outputs at five widths."""
    widths = (64, 128, 256, 512, 1024)
    models = {n: partial(make_network, n, base_units) for n in widths}
    sgd, layers = partial(MuSGD, lr=2.0**-6), "135".__contains__
    return coordinate_check(models, batch[:2], sgd, seeds=3, modules=layers)


# %%
from advanced_optimizers.experiments.report.display import show_drawing
from advanced_optimizers.experiments.report.figures import notes, sweep_plots

checks = {"SGD, standard parametrization": check(None), "SGD, muP": check(64)}
layers = {"1": "first layer", "3": "second layer", "5": "output"}
show_drawing(
    sweep_plots.coordinate_sizes(checks, layers),
    caption="Coordinate check: mean absolute output of each layer by width",
    note=notes.coordinate_sizes(checks),
)

# %% [markdown]
# ## The study
#
# Every width is trained with learning rates one octave (a factor of two) apart, in both parametrizations, and on MNIST
# with half an octave more where the best rate stands next to one at which runs diverge. As in the paper, the training
# loss of the last epoch is compared. At 64 units, the base, both parametrizations are the same algorithm and produce
# the same curve, bit for bit. Runs that have a record are loaded, and the others are trained.
#
# A pilot (64, 256 and 512 units, one seed, not recorded) came before the study, and the first rule counted the move of
# the optimum from 512 units on. Here it is counted from every width, and the verdict is that from the base of 64 units.

# %%
from advanced_optimizers.experiments.report.display import (
    open_study,
    show_figure,
    show_protocol,
    show_table,
)

results = open_study("mutransfer", PROFILE, retrain=RETRAIN, jobs=JOBS)

# %%
show_protocol(results)

# %% [markdown]
# ## Loss against learning rate
#
# Where muTransfer holds, the minima of all widths stand above one another, and a wider network has a lower loss. In the
# standard parametrization (left) the minima move to smaller learning rates, and on MNIST the widest networks have a
# second minimum at a large one, beyond rates at which some seeds get stuck. In muP (right) they stay on `cifar10-jpeg`;
# on MNIST they move to larger rates, up to those above which training diverges. A triangle marks such an optimum: it is
# at least the largest rate that trains.

# %%
show_figure(results, "mutransfer-sweep")

# %% [markdown]
# ## The best learning rate by width
#
# For each seed, the optimum is the learning rate with the lowest loss, refined by a parabola through that point and its
# two neighbors. Such a grid resolves about half an octave, half the distance between two learning rates. Next to a rate
# that diverges, the optimum lies between the largest rate that trains and that one (≥).

# %%
show_figure(results, "mutransfer-optimum")

# %%
show_table(results, "mutransfer-optima")

# %% [markdown]
# Whether the best rate "does not move" depends on the width from which one counts. One move of more than an octave
# refutes it. It is supported where no move to a greater width can be that large, while that of the standard
# parametrization is.

# %%
show_table(results, "mutransfer-starts")

# %%
show_table(results, "mutransfer-shifts")

# %% [markdown]
# ## What it saves, and what it loses
#
# The table compares two ways to a wide network, from every width and in both parametrizations. One tunes the narrow
# network and trains the widest one once. The other tunes the widest network itself, with the same number of learning
# rates. The ratio of their times is one over that number, plus a little: it says nothing about the method. What counts
# is the wide network's loss at the transferred rate, over the lowest that it has at any rate.

# %%
show_table(results, "mutransfer-cost")

# %% [markdown]
# ## Verdicts
#
# Each claim is decided by a rule; [appendix B of the report](../coursework_report_appendices.md#appendix-b-rules) states the rules,
# and [appendix C](../coursework_report_appendices.md#appendix-c-rules-that-were-changed) which of them were changed after their runs had been seen. They need the runs of the `full` profile.

# %%
show_table(results, "mutransfer-claims")

# %% [markdown]
# ## Limitations
#
# - The study covers one kind of network without biases, plain SGD, a constant learning rate, and the multipliers of the
#   authors' example.
# - The runs are short and use a part of the data. The best learning rate also depends on the length of training, in
#   both parametrizations.
# - What transfers here is the learning rate that fits the training set best. Regularization does not transfer, as the
#   paper itself says, and test accuracy is not compared.
# - There are three seeds (five up to 512 units on MNIST), and most learning rates are one octave apart.
# - Which width is wide enough to tune at is known only after the wide network was tuned as well. Narrow widths that
#   agree do not show it: on MNIST 64 and 128 units do, and 4096 needs four times their rate.

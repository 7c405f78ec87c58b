# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # muTransfer: does the best learning rate stay where it is when the network gets wider?
#
# **muTransfer** (Yang, Hu, Babuschkin, Sidor and others, *Tensor Programs V: Tuning Large Neural Networks via Zero-Shot
# Hyperparameter Transfer*, [arXiv 2203.03466](https://arxiv.org/abs/2203.03466)) scales initial weights, the output layer
# and the learning rates of the layers with the width (the maximal update parametrisation, muP), so that the learning rate
# tuned on a narrow network is the right one for a wide one. Here it is compared with the standard parametrisation of the
# same network, trained by the same SGD from the same initial weights.
#
# **Time.** With the recorded runs, under a minute on two CPU cores. Training everything again takes about an hour and a
# half on two cores; the `quick` profile, on small digits that need no download, under a minute.
#
# **What does not match.** The paper's sweep trains 20 epochs of CIFAR-10 with widths of up to 8192 units; ours trains 8
# epochs on a fifth of `cifar10-jpeg`, a JPEG re-encoding of CIFAR-10, and 5 epochs on a tenth of MNIST, up to 4096 units, on
# two CPU cores. The network, its multipliers and the plain SGD with a constant learning rate are those of the MLP example
# of the authors' package.

# %% tags=["parameters"]
import os

PROFILE = os.environ.get("PROFILE", "full")  # "full": recorded runs on MNIST and cifar10-jpeg; "quick": digits
RETRAIN = os.environ.get("RETRAIN") == "1"  # train every run again instead of loading its record
JOBS = os.cpu_count() or 1  # runs at a time, one thread each

# %% [markdown]
# ## Using it
#
# One call makes a plain model a muP model and builds its optimizer; the training loop stays the ordinary one. The learning
# rate is the one tuned at 64 units, whatever the width. Eight lines, trained live on the digits inside scikit-learn:

# %%
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from advanced_optimizers import create_mu_transfer_optimizer
from advanced_optimizers.experiments.data.datasets import Batches, load
from advanced_optimizers.experiments.training.loop import seed_everything

digits = load("digits")
seed_everything(0)
batches = Batches(
    digits.images, digits.labels, digits.mean, digits.std, 64, shuffle=True, generator=torch.Generator().manual_seed(0)
)


def make_model(width):
    """Two hidden layers."""
    layers = nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    return nn.Sequential(nn.Flatten(), *layers)


# %%
base, tuned = {"width": 64, "input_dim": 64}, {"lr": 3e-3, "weight_decay": 0.1}
for width in (128, 256, 512):
    model = make_model(width)
    optimizer = create_mu_transfer_optimizer(model, base, {**base, "width": width}, tuned)
    for batch in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(batch.images), batch.labels)
        loss.backward()
        optimizer.step()
    rates = sorted({f"{group['lr']:.2g}" for group in optimizer.param_groups})
    print(f"width {width}: loss {loss.item():.3f} after an epoch, learning rates {', '.join(rates)}")

# %% [markdown]
# ## Is it right? The coordinate check
#
# In a right parametrisation the size of every layer's output, after some steps on one batch, does not depend on the width.
# The network of the study, trained by SGD with a large learning rate, in both parametrisations:

# %%
from advanced_optimizers.experiments.report.sweep_plots import coordinate_sizes
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.zero_shot_transfer import MuSGD, coordinate_check, set_base_shapes


def network(width, base):
    """The study's network; with a base width, a muP model."""
    model = build_model("mlp3", digits.image_shape, digits.num_classes, width / 64)
    base = None if base is None else build_model("mlp3", digits.image_shape, digits.num_classes, base / 64)
    return set_base_shapes(model, base, rescale_params=False)


# %%
batch = next(iter(batches))
checks = {}
for title, base_width in ((ALGORITHMS["standard-sgd"].label, None), (ALGORITHMS["mup-sgd"].label, 64)):
    models = {n: lambda n=n, base=base_width: network(n, base) for n in (64, 128, 256, 512, 1024)}
    checks[title] = coordinate_check(
        models,
        (batch.images, batch.labels),
        lambda model: MuSGD(model, lr=2.0**-6),
        seeds=3,
        modules="135".__contains__,
    )
coordinate_sizes(checks, {"1": "first layer", "3": "second layer", "5": "output"})

# %% [markdown]
# ## The study
#
# Learning rates one octave (a factor of two) apart, at each width, in both parametrisations, three seeds. What is compared
# is the training loss of the last epoch, as in the paper. At 64 units, the base, both are the same algorithm and give the
# same curve bit for bit. Runs that have a record are loaded, the others are trained.

# %%
from IPython.display import Image, Markdown

from advanced_optimizers.experiments.records.paths import output_root
from advanced_optimizers.experiments.report.sweep_results import SweepResults
from advanced_optimizers.experiments.report.tables import to_markdown
from advanced_optimizers.experiments.studies.running import Workers, run_study
from advanced_optimizers.experiments.studies.sweeps import get_sweep

sweep = get_sweep("mutransfer", PROFILE)
results = SweepResults(sweep, output_root(PROFILE))
run_study(sweep, results.store, Workers(jobs=JOBS), retrain=RETRAIN)
print(results.loaded)
WIDTH = 720  # of a figure, in pixels
Markdown(to_markdown(results.protocol))

# %% [markdown]
# ## Loss against learning rate
#
# The signature of muTransfer, where it holds: on the right the minima of all widths stand above one another, and wider is
# lower; on the left they move to smaller learning rates.

# %%
Image(results.figure("mutransfer-sweep"), width=WIDTH)

# %% [markdown]
# ## The best learning rate by width
#
# The optimum is computed seed by seed: the lowest loss, refined by a parabola through it and its two neighbours. Half an
# octave, half the distance of two learning rates, is what such a grid resolves.

# %%
Image(results.figure("mutransfer-optimum"), width=WIDTH)

# %%
Markdown(to_markdown(results.tables["mutransfer-optima"]))

# %% [markdown]
# ## What it saves
#
# Tuning at the smallest width whose best learning rate is at most one octave from the widest network's, and training that
# one once, beside tuning the widest one, with the same number of learning rates:

# %%
Markdown(to_markdown(results.tables["mutransfer-cost"]))

# %% [markdown]
# ## Verdicts
#
# Each claim is decided by a rule that was fixed before the runs; the report's section on claims has the rules. They need the
# runs of the `full` profile.

# %%
Markdown(to_markdown(results.tables["mutransfer-claims"]))

# %% [markdown]
# ## Limitations
#
# - One kind of network without biases, plain SGD, a constant learning rate, and the multipliers of the authors' example. With
#   multipliers of 1 the two parametrisations hardly differ at these widths.
# - Short runs on a part of the data. The best learning rate also depends on the length of training, in both parametrisations.
# - What transfers here is the learning rate that fits the training set best. Regularisation does not transfer, as the paper
#   says itself, and test accuracy is not compared.
# - Three seeds, and learning rates one octave apart.
# - The smallest width that transfers is known only after the wide network was tuned as well; who saves that, trusts the method.

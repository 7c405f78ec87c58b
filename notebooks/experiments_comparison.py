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
# # All algorithms under one protocol: which one is better than SGD or AdamW, and when?
#
# Thirty training algorithms, those of this project among them, are tuned with the same budget and compared with two
# **anchors**: SGD with Nesterov's momentum, and AdamW, both tuned and with a schedule. What one tuning chooses scatters
# about as much as seeds do, so one tuning and five seeds would call a third of true ties different (Bouthillier et al.,
# [arXiv 2103.03098](https://arxiv.org/abs/2103.03098), randomize every source for this reason). So each algorithm is
# tuned several times, and one value is the mean of a tuning's runs.
#
# **In formulas.** With the test accuracies $a_{s,r}$ of run $r$ of tuning $s$, for algorithm $a$ and anchor $b$,
#
# $$d = \frac1S\sum_{s=1}^{S} \bar a_s - \frac1S\sum_{s=1}^{S} \bar b_s, \qquad
# \bar a_s = \frac1R\sum_{r=1}^{R} a_{s,r},$$
#
# with Welch's interval over the $S$ tunings. What the first $k$ of $n$ trials can be expected to reach, with their
# scores sorted upward, $v_1 \le \dots \le v_n$, is
#
# $$E_k = \sum_{j=k}^{n} v_j \binom{j-1}{k-1} \Big/ \binom nk .$$
#
# [Section 10 of the report](../coursework_report.md#10-all-algorithms-under-one-protocol) has the protocol, the rule
# that decides, and what the numbers say.
#
# **What does not match.** The anchors of such comparisons, DeepOBS and AlgoPerf, have more tasks and larger networks.
# Here a task takes six epochs or five, on two cores, and CIFAR-10 is a JPEG re-encoding. What decides there may not
# decide here, and the other way round.
#
# **Time.** With the recorded runs, a minute or two on two CPU cores; training all of them takes about nine core-hours.
# The `quick` profile compares four algorithms on small digits in less than a minute, and withholds every verdict.

# %% tags=["parameters"]
import os

# "full": the recorded runs on MNIST and cifar10-jpeg; "quick": small runs on the digits
PROFILE = os.environ.get("PROFILE", "full")
# train every run again instead of loading its record
RETRAIN = os.environ.get("RETRAIN") == "1"
# runs at a time, one thread each; a quick run is too short to be worth a process
JOBS = (os.cpu_count() or 1) if PROFILE == "full" else 1

# %% [markdown]
# ## An anchor, in a few lines
#
# AdamW as a baseline deserves it: with a tuned rate and a schedule that warms up and decays.

# %%
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from advanced_optimizers.experiments.data import digits_batches

torch.manual_seed(0)
train, test = digits_batches(batch_size=64, seed=0)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
schedule = OneCycleLR(optimizer, max_lr=5e-3, total_steps=5 * len(train))
for _ in range(5):
    for batch in train:
        optimizer.zero_grad()
        cross_entropy(model(batch.images), batch.labels).backward()
        optimizer.step()
        schedule.step()
accuracy = (model(test.images).argmax(1) == test.labels).float().mean()
print(f"test accuracy {accuracy:.0%}")

# %% [markdown]
# ## Why the rate has to be tuned for everyone
#
# The same training for two optimizers at eight rates, two octaves apart. Each has a range of good rates, and AdamW's
# lies several octaves lower: at 2^-8 it has learned the digits, and SGD has not. A comparison at one rate is one of rates.
#
# **Try this:** take another optimizer, or leave the schedule out.

# %%
nesterov = {"momentum": 0.9, "nesterov": True}


def trained_with(kind, lr, **settings):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    own = kind(net.parameters(), lr=lr, **settings)
    schedule = OneCycleLR(own, max_lr=lr, total_steps=3 * len(train))
    for _ in range(3):
        for batch in train:
            own.zero_grad()
            cross_entropy(net(batch.images), batch.labels).backward()
            own.step()
            schedule.step()
    return float((net(test.images).argmax(1) == test.labels).float().mean())


print("rate    SGD  AdamW")
for octave in range(-12, 3, 2):
    lr = 2.0**octave
    sgd = trained_with(torch.optim.SGD, lr, **nesterov)
    print(f"2^{octave:<4} {sgd:5.0%} {trained_with(torch.optim.AdamW, lr):5.0%}")

# %% [markdown]
# ## The data
#
# Images stay as bytes in memory; a batch is normalized, and on `cifar10-jpeg` cropped and flipped, as a whole. A part of
# the *training* images validates: every choice is made on it. The test images are used once, at the last epoch.

# %%
from advanced_optimizers.experiments import data
from advanced_optimizers.experiments.report.display import (
    open_study,
    show_block,
    show_drawing,
    show_figure,
    show_protocol,
    show_table,
)
from advanced_optimizers.experiments.report.figures.picture_plots import picture_grid

for name in ("mnist", "cifar10-jpeg") if PROFILE == "full" else ("digits",):
    found = data.load(name)
    kept = tuple(found.images.shape)
    print(f"{name}: {kept} {found.images.dtype}, {found.num_classes} classes")
    print("  mean", [round(v, 3) for v in found.mean], end=", ")
    print("std", [round(v, 3) for v in found.std])
    picture = picture_grid(found.images, found.labels)
    show_drawing(picture, f"the first three images of each class of {name}")

# %% [markdown]
# ## The protocol
#
# Four tunings of eight trials each, at the eight points of a block of one Sobol sequence, and three runs per tuning with
# seeds that no trial has. On `cifar10-jpeg`, trials are halved over whole schedules: eight of one epoch, the best three
# of two, the best two of five. Ranges, budgets, margins and families of comparisons were written before the first trial.

# %%
study = open_study("referee-mnist", PROFILE, retrain=RETRAIN, jobs=JOBS)
show_block("complete", PROFILE, study="referee-mnist")

# %%
show_protocol(study)

# %% [markdown]
# ## The differences to the anchors
#
# Every algorithm against each anchor, family by family. The gray band is the margin: what does not matter. **Nothing is
# ranked**: two neighbors in this figure were never compared with each other.

# %%
show_figure(study, "referee-mnist-forest", small=True)

# %%
show_table(study, "referee-mnist-verdicts")

# %%
show_table(study, "referee-mnist-accuracy")

# %% [markdown]
# ## How many trials it takes
#
# The first point of a curve is a rate that is picked blindly from the range, the last one the best of all trials. An
# algorithm that is as good at the end and better at the start is easier to tune.

# %%
show_figure(study, "referee-mnist-trials", small=True)

# %%
show_figure(study, "referee-mnist-rates", small=True)

# %%
show_table(study, "referee-mnist-tunability")

# %% [markdown]
# ## Over epochs, and over time
#
# The same runs twice. An epoch can cost a matrix method several times what it costs SGD, so what leads over epochs need
# not lead over time.

# %%
show_figure(study, "referee-mnist-learning-curves", small=True)

# %%
if PROFILE == "full":  # the times are measured for the full comparison
    show_figure(study, "referee-mnist-accuracy-over-time", small=True)

# %%
show_figure(study, "referee-mnist-targets", small=True)

# %% [markdown]
# ## When the setting changes
#
# Noisy labels and other batches, with the hyperparameters that were tuned on clean labels in batches of 128.

# %%
show_figure(study, "referee-mnist-robustness", small=True)

# %%
show_table(study, "referee-mnist-robustness")

# %% [markdown]
# ## More than the rate, and another task
#
# In the quick profile, these two are left out.

# %%
if PROFILE == "full":
    wider = open_study("referee-mnist-wider", PROFILE, retrain=RETRAIN, jobs=JOBS)
    show_figure(wider, "referee-mnist-wider-forest", small=True)
    show_table(wider, "referee-mnist-wider-tunability")

# %%
if PROFILE == "full":
    cifar = open_study("referee-cifar", PROFILE, retrain=RETRAIN, jobs=JOBS)
    show_figure(cifar, "referee-cifar-forest", small=True)
    show_table(cifar, "referee-cifar-verdicts")
    show_figure(cifar, "referee-cifar-learning-curves", small=True)

# %% [markdown]
# ## The coursework's table, remade
#
# Its accuracies and seconds are "approximate values"; beside them stand ours, with the seconds of one run as ratios.

# %%
both = "referee-mnist,referee-cifar"
show_block("remade", PROFILE, stated="coursework-table", studies=both)

# %% [markdown]
# Its four conclusions have rules of their own, in
# [appendix A of the report](../coursework_report_appendices.md#appendix-a-claims-and-verdicts):

# %%
conclusions = (
    "coursework-all-beat-baselines",
    "coursework-fer-most-accurate",
    "localized-fastest-of-all",
    "correction-accuracy",
)
show_block("conclusions", PROFILE, claims=",".join(conclusions))

# %% [markdown]
# ## What to take, and when
#
# Each row is a need, a rule that was fixed before the numbers were read, and the algorithms that meet it.

# %%
show_table(study, "referee-mnist-choices")

# %%
if PROFILE == "full":
    show_table(cifar, "referee-cifar-choices")

# %% [markdown]
# ## Limitations
#
# - Two tasks, small networks, a few hundred to two thousand steps: a method that pays off late cannot show it here.
# - Four tunings find differences of some tenths of a point. What is undecided is not equal.
# - All runs of a task share one test set. Another one of its size would move an accuracy by the binomial error that the
#   table of accuracies states, which no interval contains.
# - A range that is too narrow for an algorithm is our mistake and not its own; choices at an edge are flagged.
# - Times are those of one machine and small networks, where a step's fixed costs weigh more.

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
# # Hyperparameter search: what finds good values in the fewest epochs?
#
# Three hyperparameters of SGD with Nesterov's momentum are searched: learning rate, momentum and weight decay. Random
# search (Bergstra and Bengio, JMLR 13, 2012) draws points and trains each to the end. TPE (Bergstra et al., NeurIPS 2011)
# draws where good points are denser than bad ones. Successive halving (Jamieson and Talwalkar, AISTATS 2016,
# [arXiv 1502.07943](https://arxiv.org/abs/1502.07943)) trains many points briefly and goes on with the best; ASHA (Li et
# al., MLSys 2020, [arXiv 1810.05934](https://arxiv.org/abs/1810.05934)) does so without waiting for the others.
#
# **Formulas.** TPE splits the points by their value into a better part with density $\ell$ and a worse one with density
# $g$, and asks for the point
#
# $$x = \arg\max_x \ell(x) / g(x).$$
#
# A bracket of halving with $\eta = 3$ trains $9$ points for $1$ epoch, the best $3$ for $3$, and the best one for $9$:
# $27$ epochs, as many as three whole trials.
#
# [Section 12 of the report](../coursework_report.md#12-how-much-tuning-matters) is about tuning, and
# [its appendix E.6](../coursework_report_appendices.md#e6-searches-at-equal-cost) discusses these results.
#
# **What does not match.** Here every trial is trained from its beginning, with a learning-rate schedule of its own
# length. Published halving goes on from checkpoints. But a run that is stopped inside its schedule is judged at its highest rate,
# and whoever is chosen so prefers low rates.
#
# **Time.** With the recorded runs, under a minute on two CPU cores. Training everything again takes a few minutes. The
# `quick` profile has a third of the budget and takes under a minute. Nothing is downloaded.

# %% tags=["parameters"]
import os

# "full": the recorded searches, of 81 epochs; "quick": searches of 27 epochs
PROFILE = os.environ.get("PROFILE", "full")
# search again instead of loading the records
RETRAIN = os.environ.get("RETRAIN") == "1"
# searches at a time, one thread each; a quick one is too short to be worth a process
JOBS = (os.cpu_count() or 1) if PROFILE == "full" else 1

# %% [markdown]
# ## Optuna on this loop
#
# A trial is a configuration, and training it is one call. So any search that asks for points and takes a number fits.

# %%
import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="IProgress")  # no progress bar is shown
import optuna

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.hyperparameter_search import SPACE
from advanced_optimizers.experiments.studies.search_strategies import STRATEGIES
from advanced_optimizers.experiments.training.loop import train

optuna.logging.set_verbosity(optuna.logging.WARNING)
store = RunStore(Path(tempfile.mkdtemp()))
DIGITS = {
    "dataset": "digits",
    "model": "mlp",
    "algorithm": "sgd",
    "split": "validation",
}

# %% [markdown]
# A function from a trial to a number is all that Optuna asks for:

# %%
low, high = 1e-3, 3.0


def held_out_accuracy(trial: optuna.Trial) -> float:
    point = {"lr": trial.suggest_float("lr", low, high, log=True)}
    config = RunConfig(**DIGITS, hyperparameters=point, epochs=3)
    return train(config, store).final["test_accuracy"] or 0.0


tpe = optuna.samplers.TPESampler(seed=0)
search = optuna.create_study(direction="maximize", sampler=tpe)
search.optimize(held_out_accuracy, n_trials=8)
lr = search.best_params["lr"]
print(f"lr {lr:.3g}: {search.best_value:.1%} of held-out images")

# %% [markdown]
# ## Rungs
#
# What two of the searches ask for within one bracket's budget, and what it costs:

# %%
import random


def query(point, epochs):
    return train(RunConfig(**DIGITS, hyperparameters=point, epochs=epochs), store)


for name, trials in (("search-random", 3), ("search-halving", 13)):
    asked = STRATEGIES[name](SPACE, query, random.Random(0))
    records = [next(asked) for _ in range(trials)]
    epochs = [record.config.epochs for record in records]
    best = max(record.final["test_accuracy"] or 0.0 for record in records)
    print(f"{name}: {sum(epochs)} epochs as {epochs}, best {best:.1%}")

# %% [markdown]
# ## The study
#
# Five searches with the same budget of epochs on the digits: random search, points that are spread evenly (as the other
# studies of this project have them), TPE, successive halving, and ASHA. The ranges are wide: three decades of the
# learning rate, five of the weight decay. What a search would choose is the best of its longest trials so far; to compare
# searches, it is trained at full length, which is not counted as spent.

# %%
from advanced_optimizers.experiments.report.display import (
    open_study,
    show_figure,
    show_protocol,
    show_table,
)

study = open_study("hyperparameter-search", PROFILE, retrain=RETRAIN, jobs=JOBS)

# %%
show_protocol(study)

# %%
show_figure(study, "hyperparameter-search-best-so-far")

# %% [markdown]
# After the whole budget, on held-out images, by which a search chooses, and on the test set:

# %%
show_table(study, "hyperparameter-search-metrics")

# %%
show_figure(study, "hyperparameter-search-best-so-far-differences")

# %% [markdown]
# ## Verdicts
#
# The rules were fixed before the searches; [appendix B of the report](../coursework_report_appendices.md#appendix-b-rules)
# states them. They need the runs of the `full` profile.

# %%
show_table(study, "hyperparameter-search-claims")

# %% [markdown]
# ## Limitations
#
# - One small task and three hyperparameters: halving is ahead only while a few whole trials are all there is. The more
#   hyperparameters there are and the longer a whole trial takes, the more there is to gain by a search that learns.
# - The best of many trials on 288 held-out images is biased upward; the test set is not.
# - With one worker, ASHA has nobody to wait for, so its advantage does not show.
# - Which tool to take for searches of one's own is a page of the documentation, `docs/which_tool.md`.

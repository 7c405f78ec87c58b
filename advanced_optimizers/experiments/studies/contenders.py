"""The optimizers that a user would pick today, and the plain ones, each with its space, schedule, decay and traps.

Ranges are for the peak of the schedule at batches of 128, and do not depend on the task. The source of ranges and traps
is each author's advice, checked in trials of ours that no study uses. SGD with Nesterov's momentum and weight decay,
one of the two anchors, and Adam are rows of the topic of baselines.

Left out: Kron (0.3 s per step of a small network), exact and scalable Shampoo (10 and 3.3 times Adam's step; torch does
not load the latter's state safely, so a run could not be resumed), SophiaH (a backward pass of second order), Grams,
LaProp and cautious variants (close to AdamW), and Adafactor (for memory, not speed).
"""

from __future__ import annotations

from math import ceil
from typing import Any

from torch import nn
from torch.optim import Optimizer

from advanced_optimizers.experiments.records.config import Hyperparameters
from advanced_optimizers.experiments.studies.baselines import BASES, LEARNING_RATES
from advanced_optimizers.experiments.studies.contender import (
    Contender,
    check_names,
    construct,
    find,
    made_by,
    with_gaps,
)
from advanced_optimizers.experiments.studies.kernel_muon import muon_adamw
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Range

_ADAM_RATES, _SGD_RATES = LEARNING_RATES["adam"], LEARNING_RATES["sgd"]
_PO, _FREE, _PRODIGY = "pytorch_optimizer", "schedulefree", "prodigyopt"


def _log(low: float, high: float) -> Range:
    return Range(low=low, high=high, log=True)


_DECAY = _log(1e-3, 1.0)  # decoupled
_GAP = _log(0.02, 0.2)  # momenta from 0.8 to 0.98

# ---- built from two optimizers --------------------------------------------------------------------------------------

_SGD, _SGD_SETTINGS = BASES["sgd"]
_SAM_BASE: dict[str, Any] = {name: value for name, value in _SGD_SETTINGS.items() if name != "fused"}


def _sam_sgd(model: nn.Module, hyperparameters: Hyperparameters, steps: int) -> Optimizer:
    own = dict(hyperparameters)
    rate, rho = own.pop("lr"), own.pop("rho", 0.05)
    base = {**_SAM_BASE, **own, "lr": rate}
    check_names(_SGD, base)  # SAM passes on whatever it gets
    sam: Optimizer = find(f"{_PO}:SAM")(list(model.parameters()), _SGD, rho=rho, **base)
    return sam


def _lookahead_adamw(model: nn.Module, hyperparameters: Hyperparameters, steps: int) -> Optimizer:
    own = dict(hyperparameters)
    outer: dict[str, Any] = {name: own.pop(name) for name in ("k", "alpha") if name in own}
    lookahead = find(f"{_PO}:Lookahead")
    check_names(lookahead, outer)
    wrapped: Optimizer = lookahead(construct("torch.optim:AdamW", list(model.parameters()), **own), **outer)
    return wrapped


def _mars(model: nn.Module, hyperparameters: Hyperparameters, steps: int) -> Optimizer:
    own = with_gaps({"lr_1d": hyperparameters["lr"]}, hyperparameters)
    return construct(f"{_PO}:MARS", list(model.parameters()), **own)


# ---- the rows -------------------------------------------------------------------------------------------------------

PLAIN = {
    "sgd-plain": Contender(
        label="SGD, no momentum",
        baseline="sgd",
        make=made_by("torch.optim:SGD", weight_decay=5e-4),
        # Momentum of 0.9 adds up ten gradients.
        space=_log(10 * _SGD_RATES.low, 10 * _SGD_RATES.high),
        default=1e-3,
        decay="coupled",
    ),
    "sgd-momentum": Contender(
        label="SGD, momentum",
        baseline="sgd",
        make=made_by("torch.optim:SGD", weight_decay=5e-4, momentum=0.9),
        space=_SGD_RATES,
        full={"weight_decay": _log(1e-5, 5e-3), "momentum_gap": _GAP},
        default=1e-3,
        decay="coupled",
    ),
    "adagrad": Contender(
        label="Adagrad, one-cycle",
        baseline="adamw",
        make=made_by("torch.optim:Adagrad"),
        space=_log(5e-3, 0.2),
        default=1e-2,
        decay="none",
    ),
    "adadelta": Contender(
        label="Adadelta, one-cycle",
        baseline="adamw",
        make=made_by("torch.optim:Adadelta"),
        space=_log(0.3, 12.0),
        default=1.0,
        decay="none",
    ),
    "rmsprop": Contender(
        label="RMSprop, one-cycle",
        baseline="adamw",
        make=made_by("torch.optim:RMSprop"),
        space=_log(2e-4, 8e-3),
        default=1e-2,
        decay="none",
        trap="its default rate lies above the range: its first steps have the full rate in every weight",
    ),
    "adamw": Contender(
        label="AdamW",
        baseline=None,
        make=made_by("torch.optim:AdamW", betas=(0.9, 0.999)),
        space=_ADAM_RATES,
        full={"weight_decay": _DECAY, "beta1_gap": _GAP},
        default=1e-3,
        decay="decoupled",
        trap="its default rate without a schedule is not a baseline: it loses one to three points",
    ),
    "nadamw": Contender(
        label="NAdamW",
        baseline="adamw",
        make=made_by("torch.optim:NAdam", betas=(0.9, 0.999), decoupled_weight_decay=True, weight_decay=0.01),
        space=_ADAM_RATES,
        full={"weight_decay": _DECAY, "beta1_gap": _GAP},
        default=2e-3,
        decay="decoupled",
        trap="torch couples its decay unless decoupled_weight_decay is set: that is NAdam",
    ),
    "radam": Contender(
        label="RAdam",
        baseline="adamw",
        make=made_by("torch.optim:RAdam", betas=(0.9, 0.999), decoupled_weight_decay=True, weight_decay=0.01),
        space=_ADAM_RATES,
        full={"weight_decay": _DECAY, "beta1_gap": _GAP},
        default=1e-3,
        decay="decoupled",
        trap="torch couples its decay unless decoupled_weight_decay is set",
    ),
}

OF_TODAY = {
    "muon-adamw": Contender(
        label="Muon + AdamW",
        baseline="adamw",
        make=muon_adamw,
        space=_log(2e-3, 0.2),
        full={"weight_decay": _log(0.01, 0.3), "adamw_ratio": _log(0.03, 0.6)},
        default=1e-3,
        decay="decoupled",
        trap="torch's default rate fits its other convention (match_rms_adamw) and loses three points; the last layer, "
        "biases and norms belong to AdamW",
    ),
    "schedule-free-adamw": Contender(
        label="Schedule-free AdamW",
        baseline="adamw",
        make=made_by(f"{_FREE}:AdamWScheduleFree", betas=(0.9, 0.999), warmup_steps=lambda steps: ceil(0.05 * steps)),
        space=_log(5e-4, 4e-2),
        full={"weight_decay": _DECAY, "beta1_gap": _log(0.02, 0.1)},
        default=2.5e-3,
        decay="decoupled",
        schedule="constant",
        kind="modes",
        package=_FREE,
        trap="without eval() before evaluating and saving, another network is scored, whose accuracy looks the same; "
        "BatchNorm's statistics are not those of the evaluated weights",
    ),
    "schedule-free-sgd": Contender(
        label="Schedule-free SGD",
        baseline="sgd",
        make=made_by(f"{_FREE}:SGDScheduleFree", warmup_steps=lambda steps: ceil(0.05 * steps)),
        space=_log(0.2, 20.0),
        full={"weight_decay": _log(1e-5, 5e-3), "momentum_gap": _log(0.02, 0.1)},
        default=1.0,
        decay="decoupled",
        schedule="constant",
        kind="modes",
        package=_FREE,
        trap="as for schedule-free AdamW; its rate is 10 to 50 times SGD's",
    ),
    "lion": Contender(
        label="Lion",
        baseline="adamw",
        make=made_by(f"{_PO}:Lion"),
        space=_log(3e-4, 6e-3),
        full={"weight_decay": _log(1e-2, 10.0)},
        default=1e-4,
        decay="decoupled",
        package=_PO,
        trap="its authors' rates are for long runs, too low for a few hundred steps; unknown keywords are ignored",
    ),
    "prodigy": Contender(
        label="Prodigy",
        baseline="adamw",
        make=made_by(f"{_PRODIGY}:Prodigy", lr=1.0),
        space=_log(0.25, 8.0),
        rate="d_coef",
        full={"weight_decay": _log(1e-3, 1e-1)},
        default=1.0,
        decay="decoupled",
        schedule="cosine",
        package=_PRODIGY,
        trap="at Adam's rate of 0.001 it learns nothing, with a finite loss; bias correction and safeguard starve runs "
        "as short as these: both are off",
    ),
    "adan": Contender(
        label="Adan",
        baseline="adamw",
        make=made_by(f"{_PO}:Adan"),
        space=_log(1e-3, 4e-2),
        full={"weight_decay": _DECAY},
        default=1e-3,
        decay="proximal",
        package=_PO,
    ),
    "soap": Contender(
        label="SOAP",
        baseline="adamw",
        make=made_by(f"{_PO}:SOAP", max_precondition_dim=512),
        space=_log(5e-4, 1e-2),
        full={"weight_decay": _DECAY, "precondition_frequency": Range(low=1, high=10, log=True, integer=True)},
        default=3e-3,
        decay="decoupled",
        package=_PO,
        trap="the side of a matrix beyond 512 has no preconditioner: with one, a step of the MLP takes twice as long",
    ),
    "ademamix": Contender(
        label="AdEMAMix",
        baseline="adamw",
        make=made_by(
            f"{_PO}:AdEMAMix",
            weight_decouple=True,
            # By default the slow mean remembers 10,000 steps, more than these runs have.
            betas=lambda steps: (0.9, 0.999, max(0.9, 1 - 5 / steps)),
            t_alpha_beta3=float,
        ),
        space=_log(5e-4, 1e-2),
        full={"weight_decay": _DECAY, "alpha": Range(low=2.0, high=10.0)},
        default=1e-3,
        decay="decoupled",
        package=_PO,
        trap="this package couples its decay unless weight_decouple is set",
    ),
    "adopt-adam": Contender(
        label="ADOPT",
        baseline="adamw",
        make=made_by(f"{_PO}:ADOPT", weight_decouple=True),
        space=_ADAM_RATES,
        full={"weight_decay": _DECAY},
        default=1e-3,
        decay="decoupled",
        package=_PO,
        trap="this package couples its decay unless weight_decouple is set",
    ),
    "mars": Contender(
        label="MARS",
        baseline="adamw",
        make=_mars,
        space=_log(1e-3, 1e-2),
        full={"weight_decay": _DECAY, "gamma": _log(0.005, 0.1)},
        default=3e-3,
        decay="decoupled",
        package=_PO,
        trap="vectors are left to an AdamW with a rate of its own, which is tied to the other here",
    ),
    "sam-sgd": Contender(
        label="SAM over SGD",
        baseline="sgd",
        make=_sam_sgd,
        space=_SGD_RATES,
        full={"rho": _log(0.02, 0.2)},
        default=1e-3,
        decay="base's",
        kind="closure",
        passes=2,
        package=_PO,
        trap="two passes per step, so half the epochs; the second one must not count for BatchNorm's statistics",
    ),
    "lookahead-adamw": Contender(
        label="Lookahead over AdamW",
        baseline="adamw",
        make=_lookahead_adamw,
        space=_ADAM_RATES,
        full={"k": Range(low=5, high=10, integer=True), "alpha": Range(low=0.5, high=0.8)},
        default=1e-3,
        decay="base's",
        package=_PO,
    ),
}

CONTENDERS = {**PLAIN, **OF_TODAY}

TOPIC = Topic(
    title="Contenders",
    algorithms={name: contender.row() for name, contender in CONTENDERS.items()},
)

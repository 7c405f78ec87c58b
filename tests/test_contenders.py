"""The contenders: each learns, resumes bit for bit, and has the weight decay and the keywords that its row says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from advanced_optimizers.experiments.studies import contender
from advanced_optimizers.experiments.studies.contender import check_names, construct, with_gaps
from advanced_optimizers.experiments.studies.contenders import CONTENDERS
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from advanced_optimizers.experiments.training.mode_learner import ModeLearner
from tests.experiments_helpers import CONVNET
from tests.learner_helpers import (
    BITWISE,
    cross_entropy,
    loaded,
    make_batches,
    make_learner,
    saved,
    train_epochs,
    weights_of,
)

STEPS = 100


def needed(name: str) -> None:
    package = CONTENDERS[name].package
    if package is not None:
        pytest.importorskip(package, reason=f"{package} is in the extra {contender.EXTRA}")


def rate_of(name: str) -> dict[str, Any]:
    """A rate for few steps: high in the range. RAdam begins as gradient descent, and takes the highest."""
    space, place = CONTENDERS[name].space, 1.0 if name == "radam" else 0.75
    return {CONTENDERS[name].rate: space.low ** (1 - place) * space.high**place}


def learner_of(name: str, seed: int = 0, **changes: Any) -> Any:
    schedule = CONTENDERS[name].schedule or "one-cycle"
    return make_learner(name, seed=seed, hyperparameters=rate_of(name), schedule=schedule, **changes)


every = pytest.mark.parametrize("name", CONTENDERS)


@every
def test_it_learns_and_resumes_bit_for_bit(name: str) -> None:
    needed(name)
    learner = learner_of(name, width=0.25, epochs=6)
    train_epochs(learner, make_batches(1), 1, 3)
    other = learner_of(name, seed=1, width=0.25, epochs=6)  # none of its state may remain
    other.load_state_dict(loaded(saved(learner)))
    ends = [train_epochs(each, make_batches(2), 4, 6) for each in (other, learner)]
    torch.testing.assert_close(*ends, **BITWISE)
    torch.testing.assert_close(weights_of(other), weights_of(learner), **BITWISE)
    assert cross_entropy(learner) < 2.0  # guessing: 2.3


@every
def test_it_trains_kernels_and_norms_and_leaves_no_tensor_behind(name: str) -> None:
    needed(name)
    learner = learner_of(name, model="convnet", **{k: v for k, v in CONVNET.items() if k != "model"})
    before = [p.detach().clone() for p in learner.model.parameters()]
    for batch in [*make_batches(), *make_batches()]:
        learner.step(batch)
    after = [p.detach().clone() for p in learner.model.parameters()]
    assert all(p.isfinite().all() and not torch.equal(p, q) for p, q in zip(after, before, strict=True))


def shrunk(name: str) -> float:
    """What one weight of 2 is after three steps without a gradient, at rate 0.1 and decay 0.1."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    for p in model.parameters():
        p.data.fill_(2.0)
    optimizer: Any = CONTENDERS[name].make(model, {CONTENDERS[name].rate: 0.1, "weight_decay": 0.1}, STEPS)
    if CONTENDERS[name].kind == "modes":
        optimizer.train()
    for _ in range(3):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    return float(next(model.parameters()).detach()[0, 0])


DECOUPLED = [
    name
    for name, row in CONTENDERS.items()
    if row.decay == "decoupled" and row.kind == "plain" and row.rate == "lr" and name != "soap"
]


@pytest.mark.parametrize("name", DECOUPLED)
def test_decoupled_decay_shrinks_weights_by_rate_times_decay(name: str) -> None:
    needed(name)
    assert shrunk(name) == pytest.approx(2 * (1 - 0.1 * 0.1) ** 3, rel=1e-5)


def test_decays_that_are_not_decoupled_are_what_their_rows_say() -> None:
    assert shrunk("sgd-plain") == pytest.approx(2 * (1 - 0.1 * 0.1) ** 3, rel=1e-5)  # the same without a gradient
    needed("adan")
    assert shrunk("adan") == pytest.approx(2 / (1 + 0.1 * 0.1) ** 3, rel=1e-5)
    needed("soap")
    assert shrunk("soap") == pytest.approx(2 * (1 - 0.1 * 0.1) ** 2, rel=1e-5)  # its first step only fills the state


def test_settings_that_depend_on_the_length_of_the_run() -> None:
    model = nn.Linear(2, 2)
    needed("ademamix")
    group = CONTENDERS["ademamix"].make(model, {"lr": 0.01}, STEPS).param_groups[0]
    assert (group["betas"][2], group["t_alpha_beta3"], group["weight_decouple"]) == (0.95, 100.0, True)
    needed("mars")
    group = CONTENDERS["mars"].make(model, {"lr": 0.01}, STEPS).param_groups[0]
    assert group["lr_1d"] == group["lr"] == 0.01
    needed("schedule-free-adamw")
    learner = learner_of("schedule-free-adamw")
    assert isinstance(learner, ModeLearner)
    assert learner.optimizer.param_groups[0]["warmup_steps"] == math.ceil(0.05 * 16)  # four epochs of four steps


@every
def test_every_hyperparameter_of_the_wider_space_reaches_the_optimizer(name: str) -> None:
    needed(name)
    row = CONTENDERS[name]
    assert len(row.full) <= 2
    for key, space in row.full.items():
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
        low, high = (
            settings(row.make(model, {**rate_of(name), key: int(end) if space.integer else end}, STEPS))
            for end in (space.low, space.high)
        )
        assert low != high, f"{key} changes nothing in {name}"


def settings(optimizer: Any) -> list[dict[str, Any]]:
    """What an optimizer was given, without its parameters."""
    outer = {name: value for name, value in vars(optimizer).items() if isinstance(value, float | int)}
    return [outer, *({k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups)]


def test_a_misspelled_keyword_is_refused_where_the_package_takes_it() -> None:
    def takes_anything(params: Any, lr: float = 0.1, weight_decay: float = 0.0, **kwargs: Any) -> None: ...

    with pytest.raises(ValueError, match="no argument of takes_anything is named 'weigth_decay'; did you mean weight_"):
        check_names(takes_anything, {"lr": 0.1, "weigth_decay": 0.1})
    needed("lion")
    with pytest.raises(ValueError, match="argument of Lion is named 'weigth_decay'; did you mean weight_decay"):
        construct("pytorch_optimizer:Lion", [nn.Parameter(torch.ones(1))], weigth_decay=0.1)


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(
        ModuleNotFoundError, match=r"Best needs the package no_such_package.*advanced-optimizers\[peers\]"
    ):
        construct("no_such_package:Best", [])


def test_gaps_are_counted_from_one() -> None:
    assert with_gaps({"betas": (0.9, 0.999)}, {"lr": 0.1, "beta1_gap": 0.2}) == {"lr": 0.1, "betas": (0.8, 0.999)}
    assert with_gaps({"momentum": 0.9}, {"momentum_gap": 0.25}) == {"momentum": 0.75}


@every
def test_its_row_says_what_it_is_compared_with(name: str) -> None:
    row = ALGORITHMS[name]
    assert row.baseline in (None, "sgd", "adamw")
    assert row.rate in row.search_space
    assert not row.full_space.keys() & row.search_space.keys()

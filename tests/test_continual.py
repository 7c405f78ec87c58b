"""Elastic weight consolidation and replay: Fisher information by other ways, the penalty, and what must not change."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from advanced_optimizers.automl import ElasticWeightConsolidation, ReplayBuffer
from tests.reference import continual as reference

Data = tuple[Tensor, Tensor]


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()


@pytest.fixture
def data(rng: torch.Generator) -> Data:
    return torch.randn(70, 5, generator=rng, dtype=torch.float64), torch.randint(3, (70,), generator=rng)


def batches(data: Data, size: int) -> list[Data]:
    return list(zip(*(part.split(size) for part in data), strict=True))


def consolidated(model: Any, data: Data, strength: float = 10.0, **options: Any) -> ElasticWeightConsolidation:
    ewc = ElasticWeightConsolidation(model, strength, **options)
    ewc.compute_fisher_information([data])
    return ewc


def move(model: Any, by: float = 0.1) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.add_(by)


# ---- the Fisher information ----------------------------------------------------------------------------------------


def test_it_is_the_loop_over_samples_and_labels(model: Any, data: Data) -> None:
    exact, empirical = (consolidated(model, data, fisher=name).fisher_information for name in ("exact", "empirical"))
    for name, value in reference.fisher_by_loop(model, data[0]).items():
        assert_close(exact[name], value)
        assert bool((exact[name] >= 0).all())
    for name, value in reference.fisher_by_loop(model, *data).items():
        assert_close(empirical[name], value)


def test_of_softmax_regression_it_is_known_in_closed_form(data: Data) -> None:
    model = nn.Linear(5, 3).double()
    fisher = consolidated(model, data).fisher_information
    weight, bias = reference.softmax_fisher(model.weight.detach().numpy(), model.bias.detach().numpy(), data[0].numpy())
    assert_close(fisher["weight"], torch.from_numpy(weight))
    assert_close(fisher["bias"], torch.from_numpy(bias))


@pytest.mark.parametrize("fisher", ["exact", "sampled", "empirical"])
def test_how_a_loader_forms_batches_does_not_matter(model: Any, data: Data, fisher: str) -> None:
    found = []
    for size in (1, 9, 70):
        ewc = ElasticWeightConsolidation(model, fisher=fisher, generator=torch.Generator().manual_seed(3))
        ewc.compute_fisher_information(batches(data, size))
        found.append(ewc.fisher_information)
    for other in found[1:]:
        assert all(found[0][name].equal(other[name]) for name in found[0])


def test_many_samples_of_the_models_labels_have_the_exact_mean(model: Any, data: Data) -> None:
    few = (data[0][:4], data[1][:4])
    exact = consolidated(model, few).fisher_information
    many = (few[0].repeat(2500, 1), few[1].repeat(2500))
    sampled = consolidated(model, many, fisher="sampled", generator=torch.Generator().manual_seed(0)).fisher_information
    empirical = consolidated(model, few, fisher="empirical").fisher_information

    def distance(other: dict[str, Tensor]) -> float:
        return max(float((other[name] - value).norm() / value.norm()) for name, value in exact.items())

    assert distance(sampled) < 0.06
    assert distance(empirical) > 0.12


def test_only_so_many_samples_count(model: Any, data: Data) -> None:
    ewc = ElasticWeightConsolidation(model)
    ewc.compute_fisher_information(batches(data, 8), max_samples=41)
    expected = consolidated(model, (data[0][:41], data[1][:41])).fisher_information
    assert all(value.equal(expected[name]) for name, value in ewc.fisher_information.items())


def test_logits_of_a_task_can_be_selected(model: Any, data: Data) -> None:
    ewc = ElasticWeightConsolidation(model)
    ewc.compute_fisher_information([data[0]], logits=lambda output: output[:, :2])  # inputs without labels
    head: Any = nn.Sequential(*model[:2], nn.Linear(7, 2).double())
    with torch.no_grad():
        head[2].weight.copy_(model[2].weight[:2])
        head[2].bias.copy_(model[2].bias[:2])
    expected = reference.fisher_by_loop(head, data[0])
    assert_close(ewc.fisher_information["0.weight"], expected["0.weight"])
    assert_close(ewc.fisher_information["2.weight"][:2], expected["2.weight"])
    assert not ewc.fisher_information["2.weight"][2].any()


def test_modes_gradients_buffers_weights_and_random_numbers_stay(data: Data) -> None:
    model: Any = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(), nn.Linear(7, 3)).double()
    model[1].eval()
    cross_entropy(model(data[0]), data[1]).backward()
    before, modes = deepcopy(model.state_dict()), [module.training for module in model.modules()]
    gradients, drawn = [p.grad for p in model.parameters()], torch.get_rng_state()
    values = [g.clone() for g in gradients if g is not None]
    consolidated(model, data)
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(p.grad.equal(g) for p, g in zip(model.parameters(), values, strict=True))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert torch.get_rng_state().equal(drawn)
    with pytest.raises(RuntimeError, match="not finite for sample 0"):
        consolidated(model, (data[0] * math.nan, data[1]))
    assert [module.training for module in model.modules()] == modes


# ---- the penalty ---------------------------------------------------------------------------------------------------


def test_the_penalty_is_the_sum_and_adds_over_tasks(model: Any, data: Data) -> None:
    ewc = consolidated(model, data)
    assert ewc.penalty().item() == 0.0
    assert not any(g.any() for g in torch.autograd.grad(ewc.penalty(), list(model.parameters())))
    move(model)
    once = ewc.penalty().item()
    move(model)
    assert ewc.penalty().item() == pytest.approx(4 * once)
    ewc.compute_fisher_information([(data[0][:20], data[1][:20])])
    move(model, -0.05)
    now = {name: p.detach() for name, p in model.named_parameters()}
    assert len(ewc.tasks) == 2
    assert ewc.penalty().item() == pytest.approx(reference.penalty(ewc.tasks, now, 10.0))
    first, second = (reference.penalty([task], now, 10.0) for task in ewc.tasks)
    assert ewc.penalty().item() == pytest.approx(first + second)
    assert min(first, second) > 0


def test_online_with_equal_anchors_is_the_sum_and_gamma_forgets(model: Any, data: Data) -> None:
    halves = [(data[0][:30], data[1][:30]), (data[0][30:], data[1][30:])]

    def of(**options: Any) -> ElasticWeightConsolidation:
        ewc = consolidated(model, halves[0], **options)
        ewc.compute_fisher_information([halves[1]])
        return ewc

    separate, online, faded = of(), of(online=True), of(online=True, gamma=0.5)
    (first, second), (kept,) = separate.tasks, faded.tasks
    assert_close(kept.fisher["0.weight"], 0.5 * first.fisher["0.weight"] + second.fisher["0.weight"])
    move(model)
    assert online.penalty().item() == pytest.approx(separate.penalty().item())
    online.compute_fisher_information([halves[0]])
    assert online.penalty().item() == 0.0  # anchored at the latest weights


def train(model: Any, data: Data, loss: Callable[[Tensor], Tensor], steps: int = 30) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(cross_entropy(model(data[0]), data[1])).backward()
        optimizer.step()


def test_without_strength_it_is_fine_tuning_bit_for_bit(model: Any, data: Data) -> None:
    plain, other = deepcopy(model), (data[0].flip(0), data[1])
    ewc = consolidated(model, data, 0.0)
    train(model, other, ewc.ewc_loss)
    train(plain, other, lambda loss: loss)
    assert all(p.equal(q) for p, q in zip(model.parameters(), plain.parameters(), strict=True))


def test_a_great_strength_holds_what_has_information_and_frees_the_rest(data: Data) -> None:
    model = nn.Linear(5, 3).double()
    silent = data[0].clone()
    silent[:, 2] = 0.0  # weights of a feature that was never there have no information
    ewc = consolidated(model, (silent, data[1]), 1e6)
    start = model.weight.detach().clone()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = ewc.ewc_loss(cross_entropy(model(data[0]), data[1]))
        loss.backward()
        return loss

    optimizer.step(closure)
    moved = (model.weight - start).abs()
    assert moved[:, [0, 1, 3, 4]].max() < 1e-4
    assert moved[:, 2].min() > 1e-2


def test_the_callers_loss_stays_what_it_is(model: Any, data: Data) -> None:
    with pytest.raises(RuntimeError, match="then call compute_fisher_information"):
        ElasticWeightConsolidation(model).ewc_loss(torch.zeros(()))
    ewc = consolidated(model, data)
    move(model)
    loss = cross_entropy(model(data[0]), data[1])
    value = loss.item()
    total = ewc.ewc_loss(loss)
    assert total.item() == pytest.approx(value + ewc.penalty().item())
    assert loss.item() == value < total.item()


def test_what_is_frozen_or_new_is_free(model: Any, data: Data) -> None:
    model[0].weight.requires_grad_(False)
    ewc = consolidated(model, data)
    assert sorted(ewc.fisher_information) == sorted(ewc.optimal_params) == ["0.bias", "2.bias", "2.weight"]
    model[0].weight.requires_grad_(True)
    model.add_module("3", nn.Linear(3, 3).double())
    with torch.no_grad():
        model[0].weight.add_(1.0)
    assert ewc.penalty().item() == 0.0


def test_its_state_goes_round(model: Any, data: Data) -> None:
    ewc = consolidated(model, data, 7.0, online=True, gamma=0.9)
    fresh = ElasticWeightConsolidation(deepcopy(model))
    state = deepcopy(ewc.state_dict())
    fresh.load_state_dict(state)
    for each in (ewc, fresh):
        move(each.model)
        each.compute_fisher_information([data])
        move(each.model)
    assert fresh.penalty().equal(ewc.penalty())
    other = ElasticWeightConsolidation(nn.Linear(5, 3).double())
    with pytest.raises(ValueError, match=r"0\.weight"):
        other.load_state_dict(state)
    assert not other.tasks


def test_a_rate_at_which_the_penalty_diverges_is_said(model: Any, data: Data) -> None:
    """On the penalty alone, from below the limit it shrinks, from above it grows until it is not finite."""
    ewc = consolidated(model, data, 1e4)
    largest = max(float(f.max()) for f in ewc.fisher_information.values())
    assert ewc.max_stable_lr == pytest.approx(2 / (1e4 * largest))
    for factor, stable in ((0.95, True), (1.05, False)):
        shaken = deepcopy(ewc)
        move(shaken.model)
        optimizer = torch.optim.SGD(shaken.model.parameters(), lr=factor * ewc.max_stable_lr)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            assert shaken.check_stability(optimizer) == ewc.max_stable_lr
        assert bool(heard) is not stable
        start = shaken.penalty().item()
        for _ in range(100):
            optimizer.zero_grad()
            shaken.penalty().backward()
            optimizer.step()
        assert (shaken.penalty().item() < start) is stable
    assert ewc.check_stability(torch.optim.Adam(model.parameters(), lr=1.0)) == ewc.max_stable_lr
    move(model, math.inf)
    with pytest.raises(RuntimeError, match=r"diverged.*below 0\.00"):
        ewc.ewc_loss(torch.zeros(()))


# ---- replay --------------------------------------------------------------------------------------------------------


def test_every_sample_is_held_as_often() -> None:
    held = torch.zeros(60)
    for seed in range(150):
        buffer = ReplayBuffer(12, seed=seed)
        for part in torch.arange(60).split(7):
            buffer.add(part, 10 * part)
        numbers, tens = buffer._held
        assert len(buffer) == len(numbers.unique()) == 12
        assert tens.equal(10 * numbers)
        held[numbers] += 1
    assert buffer.seen == 60
    assert float((held - 30).abs().max()) < 4 * (150 * 0.2 * 0.8) ** 0.5


def test_few_samples_are_all_held_and_draws_go_on_after_loading() -> None:
    buffer, fresh = ReplayBuffer(10, seed=1), ReplayBuffer(3)
    with pytest.raises(RuntimeError, match="call add"):
        buffer.sample(1)
    buffer.add(torch.arange(4.0))
    buffer.add(torch.arange(4.0, 6.0))
    assert buffer._held[0].tolist() == [0, 1, 2, 3, 4, 5]
    fresh.load_state_dict(buffer.state_dict())
    assert buffer.sample(50)[0].equal(fresh.sample(50)[0])
    assert set(buffer.sample(200)[0].tolist()) == {0, 1, 2, 3, 4, 5}

"""Learners for optimizers with modes or closures, the schedules, and what counts as unlearnt."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Optimizer

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.training.closure_learner import ClosureLearner
from advanced_optimizers.experiments.training.learners import BackpropLearner, Setting
from advanced_optimizers.experiments.training.mode_learner import ModeLearner
from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.experiments.training.schedules import make_scheduler
from tests.experiments_helpers import make_config, make_record
from tests.learner_helpers import SAMPLES, STEPS, loaded, make_batches, saved, weights_of


class TwoPoints(SGD):
    """Gradient descent that is evaluated at half its weights."""

    training = True

    def _scale(self, training: bool) -> None:
        if training != self.training:
            for p in self.param_groups[0]["params"]:
                p.data.mul_(2.0 if training else 0.5)
            self.training = training

    def train(self) -> None:
        self._scale(True)

    def eval(self) -> None:
        self._scale(False)

    def step(self, closure: Any = None) -> Any:
        assert self.training, "a step in evaluation mode"
        return super().step(closure)


class TwoPasses(SGD):
    """Evaluates the loss a second time, a small way up the gradient, as SAM does."""

    def step(self, closure: Any = None) -> Any:
        params = self.param_groups[0]["params"]
        first = [p.grad.clone() for p in params]
        with torch.no_grad():
            for p, grad in zip(params, first, strict=True):
                p.add_(grad, alpha=0.1)
        closure()
        with torch.no_grad():
            for p, grad in zip(params, first, strict=True):
                p.sub_(grad, alpha=0.1)
        return super().step()


def make(model: str, learner: Callable[[Setting, Optimizer], Any], kind: Callable[..., Optimizer] = SGD) -> Any:
    config: RunConfig = make_config(model=model, width=0.25, epochs=4, schedule="constant")
    torch.manual_seed(0)
    setting = Setting(
        config=config,
        model=build_model(model, (1, 8, 8), 10, 0.25),
        num_samples=SAMPLES,
        num_classes=10,
        image_shape=(1, 8, 8),
        steps_per_epoch=STEPS,
    )
    return learner(setting, kind(setting.model.parameters(), lr=0.05))


def statistics(learner: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in learner.model.state_dict().items() if "running" in name}


# ---- modes ----------------------------------------------------------------------------------------------------------


def test_weights_are_evaluated_and_saved_at_the_evaluated_point() -> None:
    learner, plain = make("mlp", ModeLearner, TwoPoints), make("mlp", BackpropLearner)
    for p in plain.model.parameters():
        p.data.mul_(1.0)
    batches = list(make_batches())
    learner.modes.train()  # both begin at the same weights
    for batch in batches:
        learner.step(batch)
        plain.step(batch)
    learner.predict(batches[0].images)
    assert not learner.modes.training
    halves = [p / 2 for p in plain.model.parameters()]
    torch.testing.assert_close(list(learner.model.parameters()), halves)
    learner.step(batches[0])
    plain.step(batches[0])
    torch.testing.assert_close(list(learner.model.parameters()), list(plain.model.parameters()))
    kept = loaded(saved(learner))["model"]
    torch.testing.assert_close(
        [kept[name] for name, _ in plain.model.named_parameters()], [p / 2 for p in plain.model.parameters()]
    )


def test_statistics_are_those_of_the_evaluated_point() -> None:
    learner = make("convnet", ModeLearner, TwoPoints)
    learner.start_epoch(1)
    batches = list(make_batches())
    for batch in batches:
        learner.step(batch)
    learner.predict(batches[0].images)
    found = statistics(learner)
    first = next(module for module in learner.model.modules() if isinstance(module, nn.Conv2d))
    means = [first(batch.images).mean(dim=(0, 2, 3)) for batch in batches]
    torch.testing.assert_close(found["1.running_mean"], torch.stack(means).mean(dim=0).detach())
    before = saved(learner)
    learner.predict(batches[1].images)
    assert saved(learner) == before
    assert all(m.momentum == 0.1 for m in learner.model.modules() if isinstance(m, nn.BatchNorm2d))


def test_an_optimizer_without_modes_is_refused() -> None:
    with pytest.raises(TypeError, match=r"must have train\(\) and eval\(\), SGD lacks train and eval"):
        make("mlp", ModeLearner)


# ---- closures -------------------------------------------------------------------------------------------------------


def sam_like(setting: Setting, optimizer: Optimizer) -> ClosureLearner:
    return ClosureLearner(setting, optimizer, gradients_first=True)


def test_a_second_pass_does_not_count_for_the_statistics() -> None:
    twice, once = make("convnet", sam_like, TwoPasses), make("convnet", BackpropLearner)
    batch = next(iter(make_batches()))
    results = [learner.step(batch) for learner in (twice, once)]
    torch.testing.assert_close(results[0], results[1])  # the first pass is at the same weights
    torch.testing.assert_close(statistics(twice), statistics(once))
    counts = [v for name, v in twice.model.state_dict().items() if name.endswith("num_batches_tracked")]
    assert {int(count) for count in counts} == {1}
    assert any(not torch.equal(a, b) for a, b in zip(weights_of(twice), weights_of(once), strict=True))


def test_torchs_own_optimizer_with_a_closure_trains() -> None:
    learner = make("mlp", lambda s, o: ClosureLearner(s, o, gradients_first=False), LBFGS)
    batch = next(iter(make_batches()))
    losses = [float(learner.step(batch).loss) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]


def test_an_optimizer_that_ignores_its_closure_is_refused() -> None:
    class Deaf(SGD):
        def step(self, closure: Any = None) -> Any:
            return None

    learner = make("mlp", lambda s, o: ClosureLearner(s, o, gradients_first=False), Deaf)
    with pytest.raises(RuntimeError, match=r"Deaf.step\(\) never called its closure: use BackpropLearner"):
        learner.step(next(iter(make_batches())))


# ---- schedules ------------------------------------------------------------------------------------------------------


def rates(schedule: str, steps: int = 10) -> list[float]:
    optimizer = SGD([nn.Parameter(torch.ones(1))], lr=0.5)
    scheduler = make_scheduler(schedule, optimizer, steps)
    seen = []
    for _ in range(steps):
        seen.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return seen


def test_each_schedule_has_its_shape_and_learns_to_the_last_step() -> None:
    assert rates("constant") == [0.5] * 10
    assert rates("cosine") == pytest.approx([0.25 * (1 + math.cos(math.pi * step / 10)) for step in range(10)])
    one_cycle = rates("one-cycle")
    assert max(one_cycle) == pytest.approx(0.5, rel=0.05)
    assert one_cycle.index(max(one_cycle)) in (2, 3)
    assert min(rates("cosine")[-1], one_cycle[-1]) > 0


# ---- unlearnt -------------------------------------------------------------------------------------------------------


def test_a_run_that_ends_at_the_loss_of_guessing_is_unlearnt() -> None:
    def unlearnt(loss: float | None, accuracy: float = 0.1, **environment: int) -> bool:
        status = "diverged" if loss is None else "completed"
        record = make_record(make_config(), status, train_loss=loss, train_accuracy=accuracy)
        record.environment.update(environment)
        return record.unlearnt

    assert unlearnt(0.98 * math.log(10))
    assert not unlearnt(0.97 * math.log(10))
    assert unlearnt(None)
    assert not unlearnt(0.98 * math.log(10), num_classes=100)
    assert unlearnt(0.98 * math.log(2), num_classes=2)
    assert not unlearnt(17.0, accuracy=0.9)  # a method with another loss

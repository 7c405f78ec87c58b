"""How one algorithm trains one model: a name, its hyperparameters, and the Learner that it builds.

The training loop knows nothing of algorithms; it sees a :class:`Learner`. To add an algorithm, add its row to
``ALGORITHMS``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from advanced_optimizers._base import build_optimizer
from advanced_optimizers.experiments.data import Batch
from advanced_optimizers.experiments.runs import RunConfig
from advanced_optimizers.fer_optimizer import FEROptimizer
from advanced_optimizers.flipping_error import FlippingErrorReduction


class StepResult(NamedTuple):
    """The loss of one batch (scalar) and how many of its samples were classified correctly (int64 scalar)."""

    loss: Tensor
    correct: Tensor


class Learner(Protocol):
    """One algorithm training one model."""

    def start_epoch(self, epoch: int) -> None:
        """Says which epoch begins, from 1."""

    def step(self, batch: Batch) -> StepResult:
        """Learns from one batch."""

    def predict(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) in evaluation mode; learns nothing."""

    def end_epoch(self) -> dict[str, float]:
        """The algorithm's own diagnostics of the epoch, one curve each."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a learner is built for.

    Attributes:
        config: The run.
        model: The network, seeded and on its device.
        num_samples: Size of the training set.
        num_classes: Number of classes.
        steps_per_epoch: Batches an epoch.
    """

    config: RunConfig
    model: nn.Module
    num_samples: int
    num_classes: int
    steps_per_epoch: int


class BackpropLearner:
    """Ordinary training: forward, loss, backward, optimizer step, schedule step.

    Args:
        setting: Model and run.
        optimizer: Any torch optimizer over the model's parameters.
    """

    def __init__(self, setting: Setting, optimizer: torch.optim.Optimizer) -> None:
        self.model = setting.model
        self.optimizer = optimizer
        self.scheduler = _schedule(setting, optimizer)
        self.autocast = _autocast(setting)

    def start_epoch(self, epoch: int) -> None:
        """Nothing to prepare."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of a batch."""
        return F.cross_entropy(logits, batch.labels)

    def step(self, batch: Batch) -> StepResult:
        """One step of the optimizer and of its schedule."""
        self.model.train()
        with self.autocast():
            logits = self.model(batch.images)
        logits = logits.float()
        loss = self.loss(logits, batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return StepResult(loss.detach(), (logits.detach().argmax(dim=1) == batch.labels).sum())

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Logits in evaluation mode."""
        self.model.eval()
        with self.autocast():
            logits: Tensor = self.model(images)
        return logits.float()

    def end_epoch(self) -> dict[str, float]:
        """The learning rate that the schedule has reached at the end of the epoch."""
        return {"lr": float(self.scheduler.get_last_lr()[0])}

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer and schedule."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores model, optimizer and schedule."""
        self.model.load_state_dict(state_dict["model"])
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.scheduler.load_state_dict(state_dict["scheduler"])


class FERLearner(BackpropLearner):
    """Ordinary training with FEROptimizer, which also reports how consistent the gradients were."""

    optimizer: FEROptimizer

    def __init__(self, setting: Setting, optimizer: FEROptimizer) -> None:
        super().__init__(setting, optimizer)
        self.steps_per_epoch = setting.steps_per_epoch

    def end_epoch(self) -> dict[str, float]:
        """Mean cosine between gradient and memory, over the epoch's steps that are still kept."""
        values = self.optimizer.consistency_history[-self.steps_per_epoch :]
        return {**super().end_epoch(), "consistency": sum(values) / len(values) if values else math.nan}


class FlippingLearner(BackpropLearner):
    """Ordinary training with the paper's loss, whose memory of each sample is part of the state."""

    def __init__(self, setting: Setting, optimizer: torch.optim.Optimizer, criterion: FlippingErrorReduction) -> None:
        super().__init__(setting, optimizer)
        self.criterion = criterion

    def start_epoch(self, epoch: int) -> None:
        """Sets the weights of the loss's two terms."""
        self.criterion.set_epoch(epoch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Flipping error reduction."""
        loss: Tensor = self.criterion(logits, batch.labels, batch.indices)
        return loss

    def end_epoch(self) -> dict[str, float]:
        """Share of the training samples that were ever classified correctly."""
        return {**super().end_epoch(), "ever_correct": float(self.criterion.ever_correct.float().mean())}

    def state_dict(self) -> dict[str, Any]:
        """Model, optimizer, schedule, and what the loss remembers."""
        return {**super().state_dict(), "criterion": self.criterion.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores model, optimizer, schedule and memory."""
        super().load_state_dict(state_dict)
        self.criterion.load_state_dict(state_dict["criterion"])


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where a hyperparameter is searched: from ``low`` to ``high``, on a logarithmic scale or not, integer or not."""

    low: float
    high: float
    log: bool = False
    integer: bool = False


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One row of ``ALGORITHMS``.

    Attributes:
        label: Its name in tables and figures.
        baseline: The algorithm that it is compared with, or None when it is a baseline itself.
        search_space: What tuning may choose; algorithms over the same base share the learning rate's range.
        options: Further hyperparameters that a configuration may set; they are not tuned.
        build: Makes the learner.
    """

    label: str
    baseline: str | None
    search_space: dict[str, Range]
    build: Callable[[Setting], Learner] = field(repr=False)
    options: frozenset[str] = frozenset()


# The protocol's bases. Weight decay is part of the protocol, the learning rate is tuned.
_BASES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "fused": True}),
    "adam": (torch.optim.Adam, {}),
}
_LEARNING_RATES = {
    "sgd": Range(low=0.02, high=0.8, log=True),
    "adam": Range(low=5e-4, high=2e-2, log=True),
}


def _build_base(setting: Setting, base: str) -> torch.optim.Optimizer:
    optimizer, kwargs = _BASES[base]
    return build_optimizer(optimizer, setting.model.parameters(), lr=setting.config.hyperparameters["lr"], **kwargs)


def _baseline(base: str) -> Callable[[Setting], Learner]:
    return lambda setting: BackpropLearner(setting, _build_base(setting, base))


def _fer(base: str) -> Callable[[Setting], Learner]:
    def build(setting: Setting) -> Learner:
        optimizer, kwargs = _BASES[base]
        own = dict(setting.config.hyperparameters)
        lr = own.pop("lr")
        return FERLearner(setting, FEROptimizer(setting.model.parameters(), optimizer, {"lr": lr, **kwargs}, **own))  # type: ignore[arg-type]

    return build


def _flipping(base: str) -> Callable[[Setting], Learner]:
    def build(setting: Setting) -> Learner:
        own: dict[str, Any] = {k: v for k, v in setting.config.hyperparameters.items() if k != "lr"}
        criterion = FlippingErrorReduction(setting.num_samples, setting.num_classes, setting.config.epochs, **own)
        criterion.to(next(setting.model.parameters()).device)
        return FlippingLearner(setting, _build_base(setting, base), criterion)

    return build


_FER_SPACE = {
    "fer_weight": Range(low=0.03, high=1.0, log=True),
    "memory_size": Range(low=10, high=1000, log=True, integer=True),
}
_FLIPPING_SPACE = {"mu": Range(low=0.3, high=1.0), "gamma": Range(low=0.1, high=0.9)}

_BASE_LABELS = {"sgd": "SGD", "adam": "Adam"}

ALGORITHMS: dict[str, Algorithm] = {
    name: algorithm
    for base in _BASES
    for name, algorithm in {
        base: Algorithm(
            label=_BASE_LABELS[base],
            baseline=None,
            search_space={"lr": _LEARNING_RATES[base]},
            build=_baseline(base),
        ),
        f"fer-{base}": Algorithm(
            label=f"Gradient consistency over {_BASE_LABELS[base]}",
            baseline=base,
            search_space={"lr": _LEARNING_RATES[base], **_FER_SPACE},
            build=_fer(base),
            options=frozenset({"consistency_threshold"}),
        ),
        f"flipping-{base}": Algorithm(
            label=f"Flipping error reduction over {_BASE_LABELS[base]}",
            baseline=base,
            search_space={"lr": _LEARNING_RATES[base], **_FLIPPING_SPACE},
            build=_flipping(base),
            options=frozenset({"temperature", "init_epochs"}),
        ),
    }.items()
}

ALGORITHM_LABELS = {name: algorithm.label for name, algorithm in ALGORITHMS.items()}


def get_algorithm(name: str) -> Algorithm:
    """The algorithm of that name.

    Raises:
        ValueError: There is none; the nearest names are given.
    """
    if name not in ALGORITHMS:
        near = difflib.get_close_matches(name, ALGORITHMS, n=3, cutoff=0.4) or list(ALGORITHMS)
        raise ValueError(f"no algorithm is named {name!r}; did you mean {' or '.join(near)}?")
    return ALGORITHMS[name]


def build_learner(setting: Setting) -> Learner:
    """The learner that a run's configuration asks for.

    Raises:
        ValueError: The algorithm is unknown, or a hyperparameter is missing, unknown or out of range.
    """
    algorithm = get_algorithm(setting.config.algorithm)
    given, known = set(setting.config.hyperparameters), set(algorithm.search_space) | algorithm.options
    if "lr" not in given:
        raise ValueError(f"hyperparameters must give lr, got {setting.config.hyperparameters}")
    if given - known:
        raise ValueError(
            f"hyperparameters of {setting.config.algorithm} are {sorted(known)}, got also {sorted(given - known)}"
        )
    return algorithm.build(setting)


def _schedule(setting: Setting, optimizer: torch.optim.Optimizer) -> LRScheduler:
    config = setting.config
    if config.schedule == "constant":
        return LambdaLR(optimizer, lambda step: 1.0)
    max_lr = [group["lr"] for group in optimizer.param_groups]
    total_steps = config.epochs * setting.steps_per_epoch + 1  # the last step still learns
    return OneCycleLR(optimizer, max_lr, total_steps=total_steps, pct_start=0.3, cycle_momentum=False)


def _autocast(setting: Setting) -> Callable[[], AbstractContextManager[Any]]:
    device = next(setting.model.parameters()).device.type
    enabled = setting.config.precision == "bfloat16"
    return lambda: torch.autocast(device, dtype=torch.bfloat16, enabled=enabled)

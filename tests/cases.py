"""The table of algorithms under test: one row each, and ``test_contract.py`` runs every row through every test.

A new algorithm adds a reference under ``tests/reference`` and one :class:`Case` here. What a row leaves out (a
reference, a limit) skips nothing silently: the lists at the end say which tests a row takes part in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from advanced_optimizers import FEROptimizer
from advanced_optimizers._base import GradientTransform
from tests.reference.fer import ConsistencyFER

Settings = dict[str, Any]
Build = Callable[..., Optimizer]


class ReferenceRun(Protocol):
    """A slow twin in lockstep with the optimizer: its own float64 parameters, fed the same gradients."""

    params: list[Tensor]

    def step(self, grads: Sequence[Tensor | None]) -> None: ...

    def state(self, i: int) -> dict[str, Tensor]:
        """What ``optimizer.state`` must hold for parameter ``i``."""


@dataclass(frozen=True)
class BadValue:
    """Settings that must be refused, with an error that matches."""

    settings: Settings
    error: type[Exception]
    match: str


@dataclass(frozen=True)
class Case:
    """One algorithm.

    Attributes:
        name: Shown in test ids.
        build: ``build(params, **settings) -> Optimizer``.
        variants: Settings by name; the first is the one that tests of plumbing use. At least one decays weights.
        reference: ``reference(params, settings)`` starts the slow twin; None where there is none.
        limit: Settings for which the algorithm must equal its base optimizer bit for bit, and that base.
        group_override: What a parameter group may say, and the settings that say the same for all groups.
        newest_setting: The hyperparameter that an old checkpoint lacks, and the default that it must get.
        bad_values: Settings that must be refused.
        bad_overrides: What ``add_param_group`` must refuse.
        minimising: Settings that reach a minimiser within ``minimising_steps``.
        learning: Settings that learn the digits.
        for_model: ``for_model(model, **settings)``, where parameters alone are not enough.
        couples_parameters: Whether one parameter's update depends on another's gradient, so groups are not separate.
        learns_from_gradients: False for algorithms that need the forward pass; they skip tests with made-up gradients.
        is_transform: Whether it wraps a ``base_optimizer`` and nests.
    """

    name: str
    build: Build
    variants: dict[str, Settings]
    reference: Callable[[list[Tensor], Settings], ReferenceRun] | None
    limit: tuple[Settings, Build] | None
    group_override: tuple[Settings, Settings]
    newest_setting: tuple[str, Any]
    bad_values: tuple[BadValue, ...]
    bad_overrides: tuple[BadValue, ...] = ()
    minimising: Settings = field(default_factory=dict)
    minimising_steps: int = 3000
    learning: Settings = field(default_factory=dict)
    for_model: Callable[..., Optimizer] | None = None
    couples_parameters: bool = False
    learns_from_gradients: bool = True
    is_transform: bool = False

    @property
    def plain(self) -> Settings:
        """The settings for tests that any settings would do for."""
        return next(iter(self.variants.values()))

    def optimize(self, model: nn.Module, **settings: Any) -> Optimizer:
        """The optimizer of a whole model."""
        return self.for_model(model, **settings) if self.for_model else self.build(list(model.parameters()), **settings)


class GradientsTransform(Protocol):
    """The slow twin of a gradient transform: ``g -> g'`` for the list of all tensors, in float64."""

    def transform(self, grads: list[Any]) -> list[Any]: ...


class TransformRun:
    """A gradient transform's slow twin over torch's own ``for`` loop optimizer, in float64."""

    def __init__(
        self,
        params: list[Tensor],
        settings: Settings,
        transform: Callable[..., GradientsTransform],
        state: Callable[[Any, int], dict[str, Any]],
    ) -> None:
        own = {key: value for key, value in settings.items() if not key.startswith("base_optimizer")}
        self.transform = transform(**own)
        self.params = [p.detach().double().cpu().clone() for p in params]
        self.base = settings["base_optimizer"](self.params, foreach=False, **settings["base_optimizer_kwargs"])
        self._state = state

    def step(self, grads: Sequence[Tensor | None]) -> None:
        wide = [None if g is None else g.detach().double().cpu().numpy() for g in grads]
        for p, g in zip(self.params, self.transform.transform(wide), strict=True):
            p.grad = None if g is None else torch.from_numpy(np.array(g))
        self.base.step()

    def state(self, i: int) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.array(value)) for name, value in self._state(self.transform, i).items()}


class Scaled(GradientTransform):
    """The simplest transform there is, ``g' = scale g``: a partner to nest with, and a test of the base class alone."""

    def __init__(
        self,
        params: Iterable[Any],
        base_optimizer: Build = SGD,
        base_optimizer_kwargs: Settings | None = None,
        scale: float = 0.5,
    ) -> None:
        super().__init__(params, base_optimizer, base_optimizer_kwargs, {"scale": scale})

    def _transform(self, params: list[Tensor], grads: list[Tensor], group: Settings) -> list[Tensor]:
        return [self._output(p, g).copy_(g).mul_(group["scale"]) for p, g in zip(params, grads, strict=True)]


class _Scaling:
    def __init__(self, scale: float = 0.5) -> None:
        self.scale = scale

    def transform(self, grads: list[Any]) -> list[Any]:
        return [None if g is None else g * self.scale for g in grads]


SGD_KWARGS: Settings = {"lr": 0.1, "momentum": 0.9}

FER = Case(
    name="fer",
    build=FEROptimizer,
    variants={
        "defaults over sgd": {"base_optimizer": SGD, "base_optimizer_kwargs": SGD_KWARGS},
        "adam": {"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 1e-2}, "fer_weight": 1.0, "memory_size": 4},
        "weight decay": {
            "base_optimizer": AdamW,
            "base_optimizer_kwargs": {"lr": 1e-2, "weight_decay": 0.1},
            "fer_weight": 0.5,
            "consistency_threshold": 0.2,
            "memory_size": 3,
        },
        "l2 and nesterov": {
            "base_optimizer": SGD,
            "base_optimizer_kwargs": {**SGD_KWARGS, "weight_decay": 1e-2, "nesterov": True},
            "fer_weight": 2.0,
            "consistency_threshold": 0.0,
            "memory_size": 10,
        },
        "last gradient only": {
            "base_optimizer": SGD,
            "base_optimizer_kwargs": {"lr": 0.1},
            "consistency_threshold": 1.0,
            "memory_size": 1,
        },
    },
    reference=lambda params, settings: TransformRun(
        params, settings, ConsistencyFER, lambda fer, i: {"memory": fer.memories[i]}
    ),
    limit=(
        {"base_optimizer": SGD, "base_optimizer_kwargs": {**SGD_KWARGS, "weight_decay": 0.01}, "fer_weight": 0.0},
        lambda params: SGD(params, **SGD_KWARGS, weight_decay=0.01),
    ),
    group_override=(
        {"lr": 0.01, "fer_weight": 0.7, "consistency_threshold": 0.5, "memory_size": 2},
        {
            "base_optimizer": SGD,
            "base_optimizer_kwargs": {**SGD_KWARGS, "lr": 0.01},
            "fer_weight": 0.7,
            "consistency_threshold": 0.5,
            "memory_size": 2,
        },
    ),
    newest_setting=("memory_size", 1000),
    bad_values=(
        BadValue({"base_optimizer_kwargs": {"lr": -0.1}}, ValueError, r"lr must be >= 0.*got -0\.1"),
        BadValue({"base_optimizer_kwargs": {"lr": "fast"}}, TypeError, r"lr must be a number.*'fast'"),
        BadValue({"base_optimizer_kwargs": 1e-3}, TypeError, r"base_optimizer_kwargs must be .*0\.001"),
        BadValue({"fer_weight": -0.1}, ValueError, r"fer_weight must be >= 0.*got -0\.1"),
        BadValue({"fer_weight": math.inf}, ValueError, r"fer_weight must be .*got inf"),
        BadValue({"fer_weight": math.nan}, ValueError, r"fer_weight must be .*got nan"),
        BadValue({"fer_weight": True}, TypeError, r"fer_weight must be a number, got True"),
        BadValue({"consistency_threshold": 1.1}, ValueError, r"consistency_threshold must be .*<= 1.*got 1\.1"),
        BadValue({"consistency_threshold": -1.1}, ValueError, r"consistency_threshold must be >= -1.*got -1\.1"),
        BadValue({"consistency_threshold": math.nan}, ValueError, r"consistency_threshold must be .*got nan"),
        BadValue({"memory_size": 0}, ValueError, r"memory_size must be >= 1.*got 0"),
        BadValue({"memory_size": 2.5}, TypeError, r"memory_size must be an integer, got 2\.5"),
        BadValue({"base_optimizer": "adam"}, TypeError, r"base_optimizer must be .*'adam'"),
        BadValue({"base_optimizer": nn.ReLU, "base_optimizer_kwargs": {}}, TypeError, "base_optimizer must .*ReLU"),
        BadValue({"base_optimizer": nn.Linear}, TypeError, "base_optimizer must .*Linear"),
        BadValue(
            {"base_optimizer": torch.optim.LBFGS}, ValueError, "base_optimizer must step without a closure.*LBFGS"
        ),
        BadValue({"base_optimizer": FEROptimizer, "base_optimizer_kwargs": {}}, ValueError, "cannot wrap.*fer_weight"),
    ),
    bad_overrides=(
        BadValue({"lr": -1.0}, ValueError, r"lr must be >= 0.*got -1\.0"),
        BadValue({"fer_weight": -1.0}, ValueError, r"fer_weight must be >= 0.*got -1\.0"),
        BadValue({"consistency_threshold": 2}, ValueError, "consistency_threshold must be .*got 2"),
        BadValue({"memory_size": 0}, ValueError, "memory_size must be >= 1.*got 0"),
    ),
    minimising={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 0.02}, "memory_size": 10},
    learning={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 5e-3}},
    is_transform=True,
)

SCALED = Case(
    name="scaled",
    build=Scaled,
    variants={
        "sgd": {"base_optimizer": SGD, "base_optimizer_kwargs": SGD_KWARGS},
        "weight decay": {"base_optimizer": AdamW, "base_optimizer_kwargs": {"lr": 1e-2}, "scale": 2.0},
    },
    reference=lambda params, settings: TransformRun(params, settings, _Scaling, lambda scaling, i: {}),
    limit=(
        {"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 1e-2, "weight_decay": 0.01}, "scale": 1.0},
        lambda params: Adam(params, lr=1e-2, weight_decay=0.01, fused=True),
    ),
    group_override=(
        {"lr": 0.01, "scale": 2.0},
        {"base_optimizer": SGD, "base_optimizer_kwargs": {**SGD_KWARGS, "lr": 0.01}, "scale": 2.0},
    ),
    newest_setting=("scale", 0.5),
    bad_values=(BadValue({"base_optimizer_kwargs": {"lr": -1}}, ValueError, "lr must be >= 0.*got -1"),),
    bad_overrides=(BadValue({"lr": -1.0}, ValueError, r"lr must be >= 0.*got -1\.0"),),
    minimising={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 0.02}},
    learning={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 5e-3}},
    is_transform=True,
)

CASES = (FER, SCALED)
FROM_GRADIENTS = tuple(case for case in CASES if case.learns_from_gradients)
SEPARABLE = tuple(case for case in FROM_GRADIENTS if not case.couples_parameters)
WITH_REFERENCE = tuple(case for case in CASES if case.reference is not None)
WITH_LIMIT = tuple(case for case in CASES if case.limit is not None)
TRANSFORMS = tuple(case for case in CASES if case.is_transform)

"""What a row of the table of algorithms under test says, and how a gradient transform's slow twin is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

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


SGD_KWARGS: Settings = {"lr": 0.1, "momentum": 0.9}

"""What a row of the contract tests says, and how a gradient transform's slow twin is run.

**A new algorithm** is one new file ``tests/cases_<topic>.py`` with its :class:`Case` at module level, and usually a
slow twin in ``tests/reference/``. Nothing else has to be edited: ``cases.py`` finds the file, and every test in
``test_contract.py`` and ``test_contract_training.py`` runs over the row. To run one row alone::

    python -m pytest tests/test_contract.py tests/test_contract_training.py -k "fer"

**A row outside this folder** is tested in the same way. Put ``cases_<topic>.py`` into any folder; it can import the
modules next to it by their names. Then, from the root of the repository::

    CONTRACT_CASES=path/to/folder python -m pytest tests/test_contract.py tests/test_contract_training.py

runs the contract over the rows of that folder alone. From within a test, ``contract.run_contract(folder)`` does the
same, and returns what passed, what failed and what was skipped.

**A test that does not apply** to a row is named in ``not_applicable`` with the reason, and is reported as skipped. What
a row leaves out (``reference=None``, ``limit=None``, ``is_transform=False``, ...) is not skipped: the tests that need
it do not include the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        name: Shown in test ids; unique.
        build: ``build(params, **settings) -> Optimizer``.
        variants: Settings by name; the first is the one for tests of plumbing. At least one decays weights.
        reference: ``reference(params, settings)`` starts the slow twin; None where there is none.
        limit: Settings for which the algorithm must equal its base optimizer bit for bit, and that base.
        group_override: What a parameter group may override, and settings that do the same for all groups.
        newest_setting: The hyperparameter that an old checkpoint lacks, and the default that it must get.
        bad_values: Settings that must be refused.
        bad_overrides: What ``add_param_group`` must refuse.
        minimizing: Settings that reach a minimizer within ``minimizing_steps``.
        learning: Settings that learn the digits.
        for_model: ``for_model(model, **settings)``, where parameters alone are not enough.
        couples_parameters: Whether one parameter's update depends on another's gradient, so groups are not separate.
        learns_from_gradients: False for algorithms that need the forward pass; tests with made-up gradients do not
            include them.
        is_transform: Whether it is a gradient transform over a ``base_optimizer``, and nests.
        not_applicable: Contract tests that do not apply, each with the reason: ``{"test_name": "why not"}``.
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
    minimizing: Settings = field(default_factory=dict)
    minimizing_steps: int = 1000
    learning: Settings = field(default_factory=dict)
    for_model: Callable[..., Optimizer] | None = None
    couples_parameters: bool = False
    learns_from_gradients: bool = True
    is_transform: bool = False
    not_applicable: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for test, reason in self.not_applicable.items():
            if not reason.strip():
                raise ValueError(f"not_applicable of {self.name!r} must give a reason for {test!r}, got {reason!r}")

    @property
    def plain(self) -> Settings:
        """The settings for tests in which any settings would do."""
        return next(iter(self.variants.values()))

    def optimize(self, model: nn.Module, **settings: Any) -> Optimizer:
        """The optimizer of a whole model."""
        return self.for_model(model, **settings) if self.for_model else self.build(list(model.parameters()), **settings)


class SlowTransform(Protocol):
    """The slow twin of a gradient transform: ``g -> g'`` for the list of all tensors, in float64."""

    def transform(self, grads: list[Any]) -> list[Any]: ...


class TransformRun:
    """A gradient transform's slow twin over torch's own ``for`` loop optimizer, in float64."""

    def __init__(
        self,
        params: list[Tensor],
        settings: Settings,
        transform: Callable[..., SlowTransform],
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

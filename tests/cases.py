"""The table of algorithms under test: one row each, and ``test_contract.py`` runs every row through every test.

A new algorithm adds a reference under ``tests/reference``, its row in a ``cases_*.py`` of its own, and its name to
``CASES`` here. What a row leaves out (a reference, a limit) skips nothing silently: the lists at the end say which
tests a row takes part in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adam, AdamW

from advanced_optimizers._base import GradientTransform
from tests.case import SGD_KWARGS, BadValue, Build, Case, Settings, TransformRun
from tests.cases_fer import FER
from tests.cases_forward_signal import SIGPROP
from tests.cases_gradient_correction import GRADIENT_CORRECTION
from tests.cases_localized_learning import LOCALIZED


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

CASES = (FER, GRADIENT_CORRECTION, SCALED, LOCALIZED, SIGPROP)
FROM_GRADIENTS = tuple(case for case in CASES if case.learns_from_gradients)
SEPARABLE = tuple(case for case in FROM_GRADIENTS if not case.couples_parameters)
WITH_REFERENCE = tuple(case for case in CASES if case.reference is not None)
WITH_LIMIT = tuple(case for case in CASES if case.limit is not None)
TRANSFORMS = tuple(case for case in CASES if case.is_transform)

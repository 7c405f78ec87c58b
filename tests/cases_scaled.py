"""The row of the simplest gradient transform: it tests the base class alone, and other transforms nest with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adam, AdamW

from advanced_optimizers._base import GradientTransform
from tests.case import SGD_KWARGS, BadValue, Build, Case, Settings, TransformRun


class Scaled(GradientTransform):
    """``g' = scale * g``."""

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


class SlowScaled:
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
    reference=lambda params, settings: TransformRun(params, settings, SlowScaled, lambda scaling, i: {}),
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
    minimizing={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 0.02}},
    learning={"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 5e-3}},
    is_transform=True,
)

"""Controls of the convolutional optimizers: rows that say why, and transforms that the package does not offer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from advanced_optimizers._base import BaseOptimizer, GradientTransform, ParamsT
from advanced_optimizers._checks import check_range
from advanced_optimizers.convolutional import ConvolutionalSGD, ConvolutionalSGDv2
from advanced_optimizers.convolutional.kernels import gaussian
from advanced_optimizers.convolutional.smoothing import smooth_axes
from advanced_optimizers.experiments.studies.convolutional import PLAIN_SGD, MakeOptimizer, ours, plain, row
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.learners import Setting

_SIZE = 5  # taps, in every study


class Centered(GradientTransform):
    """Gradient centralization (Yong et al., arXiv 2004.01461): the mean over each output's weights is subtracted."""

    def __init__(self, params: ParamsT, base_optimizer: BaseOptimizer, base_optimizer_kwargs: dict[str, Any]) -> None:
        super().__init__(params, base_optimizer, base_optimizer_kwargs, {})

    def _transform(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        return [g - g.mean(dim=tuple(range(1, g.dim())), keepdim=True) if g.dim() > 1 else g for g in grads]


class PixelGrid(GradientTransform):
    """Smooths the weights of each unit of the first layer as the image that they are, by a Gaussian along both sides.

    Matrices whose inputs are not the pixels of an image, and vectors, are left as they are.
    """

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: BaseOptimizer,
        base_optimizer_kwargs: dict[str, Any],
        image_shape: tuple[int, int, int],
    ) -> None:
        self._image_shape = image_shape
        super().__init__(params, base_optimizer, base_optimizer_kwargs, {})

    def _transform(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        pixels = math.prod(self._image_shape)
        return [
            self._smoothed(p, g) if g.dim() == 2 and g.shape[1] == pixels else g
            for p, g in zip(params, grads, strict=True)
        ]

    def _smoothed(self, p: Tensor, grad: Tensor) -> Tensor:
        x = grad.reshape(-1, *self._image_shape[1:])
        kernel = torch.tensor(gaussian(_SIZE), dtype=x.dtype, device=x.device).expand(2, -1)
        y = smooth_axes(x, kernel, (1, 2), torch.empty_like(x), None)
        return self._output(p, grad).copy_(y.view(grad.shape))


Array = NDArray[np.float64]


class PublishedVersion2(GradientTransform):
    """Version 2 as its published code has it, which is not as it is described, made fast enough for the studies.

    One kernel along lines and one of two dimensions, shared by all tensors, as the softmax of free values that start as
    a normalized Gaussian: nearly boxes. On every fifth gradient of a tensor the values descend
    MSE(y, s) - cos(y, g) / 2 by central differences, one value after the other, tensor after tensor, where s is the
    average of the gradients including the present one. Mirror padding. The loss is computed from inner products of the
    shifted gradients instead of from one smoothed gradient per difference; ``tests/reference/convolutional_published``
    has the code's own way. Filters are seen as a line, as the code sees those that are smaller than its kernel.
    """

    _EVERY, _DIFFERENCE, _BETA, _SMALL = 5, 1e-3, 0.99, 1e-8

    def __init__(
        self,
        params: ParamsT,
        base_optimizer: BaseOptimizer,
        base_optimizer_kwargs: dict[str, Any],
        kernel_lr: float = 0.01,
    ) -> None:
        self.kernel_lr = check_range("kernel_lr", kernel_lr, low=0.0, high=math.inf, open_high=True)
        self._steps = 0
        line = np.exp(-0.5 * ((np.arange(_SIZE) - _SIZE // 2) / (_SIZE / 4)) ** 2)
        self._values: dict[int, Array] = {1: line / line.sum(), 2: np.outer(line, line).ravel() / line.sum() ** 2}
        super().__init__(params, base_optimizer, base_optimizer_kwargs, {})

    def kernel(self, axes: int) -> Array:
        """The kernel of one axis, (5,), or of two, (5, 5)."""
        return _softmax(self._values[axes]).reshape((_SIZE,) * axes)

    def _transform(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        self._steps += 1
        return [self._one(p, g) for p, g in zip(params, grads, strict=True)]

    def _one(self, p: Tensor, g: Tensor) -> Tensor:
        state = self.state[p]
        state["signal"] = g.clone() if "signal" not in state else state["signal"].lerp_(g, 1.0 - self._BETA)
        axes = 2 if g.dim() == 2 and min(g.shape) >= _SIZE else 1
        if g.numel() < _SIZE:
            return g
        x = g if axes == 2 else g.reshape(1, -1)
        padded = _mirrored(x, axes)
        y = _correlated(padded, self.kernel(axes).reshape(-1, _SIZE), torch.zeros_like(x))
        if self._steps % self._EVERY == 0:
            self._learn(_Products(padded, x, state["signal"].reshape(x.shape)), axes)
        return self._output(p, g).copy_(y.view(g.shape))

    def _learn(self, products: _Products, axes: int) -> None:
        values = self._values[axes]
        for k in range(values.size):
            here = values[k]
            values[k] = here + self._DIFFERENCE
            above = products.loss(_softmax(values))
            values[k] = here - self._DIFFERENCE
            below = products.loss(_softmax(values))
            values[k] = here - self.kernel_lr * (above - below) / (2 * self._DIFFERENCE)

    def state_dict(self) -> dict[str, Any]:
        """Adds the values behind the two kernels, and the number of steps."""
        values = {axes: own.tolist() for axes, own in self._values.items()}
        return {**super().state_dict(), "values": values, "steps": self._steps}

    def _load_extra(self, state_dict: dict[str, Any]) -> None:
        super()._load_extra(state_dict)
        self._values = {axes: np.array(values) for axes, values in state_dict["values"].items()}
        self._steps = state_dict["steps"]


class _Products:
    """The inner products from which the loss of any kernel follows: y is linear in the taps."""

    def __init__(self, padded: Tensor, x: Tensor, signal: Tensor) -> None:
        shifts = F.unfold(padded[None, None], (padded.shape[0] - len(x) + 1, _SIZE))[0]  # (taps, elements)
        self.gram = (shifts @ shifts.T).double().numpy()
        self.with_gradient = (shifts @ x.reshape(-1)).double().numpy()
        self.with_signal = (shifts @ signal.reshape(-1)).double().numpy()
        self.gradient = float(torch.linalg.vector_norm(x, dtype=torch.float64))
        self.signal = float(signal.double().square().sum())
        self.count = x.numel()

    def loss(self, w: Array) -> float:
        """MSE(y, s) - cos(y, g) / 2 for the taps of a kernel, (taps,)."""
        power = float(w @ self.gram @ w)
        length = math.sqrt(max(power, 0.0))
        small = min(length, self.gradient) < PublishedVersion2._SMALL
        cosine = 1.0 if small else float(w @ self.with_gradient) / (length * self.gradient)
        return (power - 2.0 * float(w @ self.with_signal) + self.signal) / self.count - 0.5 * cosine


def _softmax(values: Array) -> Array:
    powers = np.exp(values - values.max())
    return np.asarray(powers / powers.sum())


def _mirrored(x: Tensor, axes: int) -> Tensor:
    """A matrix with its last axis, or both, continued by reflection about the last element: d c b | a b c d | c b a."""
    r = _SIZE // 2
    sides = (r, r, r, r) if axes == 2 else (r, r, 0, 0)
    return F.pad(x[None, None], sides, mode="reflect")[0, 0]


def _correlated(padded: Tensor, kernel: Array, out: Tensor) -> Tensor:
    """The correlation of a padded matrix with a kernel (rows, 5), added to ``out``."""
    rows, columns = out.shape
    for i, taps in enumerate(kernel.tolist()):
        for j, tap in enumerate(taps):
            out.add_(padded[i : i + rows, j : j + columns], alpha=tap)
    return out


# ---- the rows --------------------------------------------------------------------------------------------------------


def _permuted(optimizer: Callable[..., Optimizer], **settings: Any) -> MakeOptimizer:
    """One of the package's classes, whose kernels see the axes in a random order, another one for each seed."""
    return lambda setting, lr: ours(optimizer, permute_axes=setting.config.seed, **settings)(setting, lr)


def _over_sgd(optimizer: Callable[..., Optimizer], setting: Setting, lr: float, **settings: Any) -> Optimizer:
    return optimizer(setting.model.parameters(), torch.optim.SGD, {"lr": lr, **PLAIN_SGD}, **settings)


def _centered(setting: Setting, lr: float) -> Optimizer:
    return _over_sgd(Centered, setting, lr)


def _grid(setting: Setting, lr: float) -> Optimizer:
    return _over_sgd(PixelGrid, setting, lr, image_shape=setting.image_shape)


def _published(setting: Setting, lr: float) -> Optimizer:
    kernel_lr = setting.config.hyperparameters.get("kernel_lr", 0.01)
    return _over_sgd(PublishedVersion2, setting, lr, kernel_lr=kernel_lr)


_BOX = {"adaptive_kernel": False}
_GAUSS = {"kernel_lr": 0.0}
_MAKE: dict[str, tuple[str, MakeOptimizer]] = {
    "conv-box": ("Fixed box, flat", ours(ConvolutionalSGD, **_BOX)),
    "conv-box-last": ("Fixed box, last axis", ours(ConvolutionalSGD, axes=(-1,), **_BOX)),
    "conv-box-permuted": ("Fixed box, last axis permuted", _permuted(ConvolutionalSGD, axes=(-1,), **_BOX)),
    "conv-gauss": ("Fixed Gaussian, both axes", ours(ConvolutionalSGDv2, **_GAUSS)),
    "conv-gauss-permuted": ("Fixed Gaussian, both axes permuted", _permuted(ConvolutionalSGDv2, **_GAUSS)),
    "conv-gauss-length": ("Fixed Gaussian, length kept", ours(ConvolutionalSGDv2, norm_preserving=True, **_GAUSS)),
    "conv-grid": ("Fixed Gaussian, pixel grid", _grid),
    "conv-centered": ("Gradient centralization", _centered),
    # What is left of a step along white axes: the center of the box, and of the box of two dimensions.
    "conv-momentum-fifth": ("SGD at a fifth of the rate", plain),
    "conv-momentum-25th": ("SGD at a 25th of the rate", plain),
}

TOPIC = Topic(
    title="Convolutional optimizers: controls",
    algorithms={
        "conv-v2-published": row("ConvolutionalSGDv2, published code", _published, options=frozenset({"kernel_lr"})),
        **{name: row(f"{label} (control)", make, control=True) for name, (label, make) in _MAKE.items()},
    },
)

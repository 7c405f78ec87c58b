"""What the convolutional optimizers train in their studies, how, and what each epoch of a run records about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from advanced_optimizers import ConvolutionalSGD, ConvolutionalSGDv2, LocalLossConvSGD
from advanced_optimizers._base import WrappedOptimizer
from advanced_optimizers.convolutional.kernels import gaussian
from advanced_optimizers.convolutional.smoothing import smooth_axis
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.learners import BackpropLearner, Setting, known_mean
from advanced_optimizers.experiments.training.models import ImageShape, Model, scaled

# ---- the published test networks -------------------------------------------------------------------------------------

# What the published IllConditionedNet multiplies the initial weights of its three layers with.
_ILL_CONDITIONED = (10.0, 0.1, 5.0)


def _dense(inputs: int, hidden: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """Linear layers with ReLU between them, on images as vectors."""
    sizes = [inputs, *hidden]
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], num_classes))


def _of_hidden_layers(
    image_shape: ImageShape, num_classes: int, width: float, *, hidden: tuple[int, ...]
) -> nn.Sequential:
    return _dense(math.prod(image_shape), tuple(scaled(units, width) for units in hidden), num_classes)


def _ill_conditioned(image_shape: ImageShape, num_classes: int, width: float) -> nn.Sequential:
    """Two hidden layers of about a third and a sixth of the inputs, with initial weights of unlike scales."""
    inputs = math.prod(image_shape)
    hidden = (min(256, max(64, inputs // 3)), min(128, max(32, inputs // 6)))
    model = _of_hidden_layers(image_shape, num_classes, width, hidden=hidden)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for layer, scale in zip(linear, _ILL_CONDITIONED, strict=True):
            layer.weight.mul_(scale)
    return model


MODELS = {
    "simplenet": Model(label="SimpleNet", build=partial(_of_hidden_layers, hidden=(128, 128))),
    "deepnet": Model(label="DeepNet", build=partial(_of_hidden_layers, hidden=(64,) * 6)),
    "illconditioned": Model(label="IllConditionedNet", build=_ill_conditioned),
}


# ---- how they train --------------------------------------------------------------------------------------------------

# Smoothed gradients are compared with raw ones at every 25th step, so that a step stays cheap.
EVERY = 25
# The alignment of gradients is an average over so many batches per epoch.
BATCHES = 20

Measures = dict[str, list[float]]


class FollowedLearner(BackpropLearner):
    """Ordinary training whose optimizer also hears each batch's loss, as the published demonstrations tell it."""

    def update(self, loss: Tensor) -> None:
        """Takes one step of the optimizer with the gradients of a loss."""
        self.optimizer.step(lambda: loss)  # type: ignore[arg-type, return-value]


class SmoothingLearner(FollowedLearner):
    """The same, with a record of the gradients, of what the optimizer makes of them, and of what is memorized.

    Runs that are measured on the test set record, per epoch:

    - ``gradient_norm``, ``gradient_norm_cv``: mean, and standard deviation over mean, of the length of the raw gradient
      over the steps of the epoch; ``gradient_norm_spread``: the standard deviation of the epochs' means so far, which
      the source calls stability;
    - ``smoothed_length``, ``smoothed_cosine``: means of |Wg| / |g| and cos(g, Wg), all tensors together, over every
      25th step; ``least_cosine``: the lowest cosine so far; ``ascending``: the share of tensors, over these steps of
      the epoch, whose smoothed gradient points uphill;
    - ``kernel_center``: the center tap of the second layer's kernel (along its inputs), where there is one;
    - with noisy labels, ``right_accuracy`` and ``memorized``: the accuracy on the training images whose labels are
      right, and the share of the others whose wrong label is predicted.

    Args:
        setting: The model and the run.
        optimizer: Any torch optimizer over the model's parameters.
    """

    def __init__(self, setting: Setting, optimizer: Optimizer) -> None:
        super().__init__(setting, optimizer)
        self.records = setting.config.split == "test"
        self.measures: Measures = {}  # of the epoch so far, one number per step or measured step
        self.norms: list[float] = []  # of the epochs so far
        self.least = math.inf
        self.training = training_images(setting.config) if self.records and setting.config.label_noise else None
        innermost = optimizer
        while isinstance(innermost, WrappedOptimizer):
            innermost = innermost.base
        self.seen: list[Tensor] = []  # what the innermost optimizer steps with
        innermost.register_step_pre_hook(lambda stepping, args, kwargs: self._see(stepping))

    def _see(self, stepping: Optimizer) -> None:
        if self._is_compared:
            self.seen = gradients(stepping)

    @property
    def _is_compared(self) -> bool:
        """Whether the gradients of the present step are compared: at the first of an epoch, and at every 25th."""
        return self.records and len(self.measures.get("gradient_norm", ())) % EVERY == 0

    def update(self, loss: Tensor) -> None:
        """Takes one step of the optimizer with the gradients of a loss."""
        if not self.records:
            super().update(loss)
            return
        raw = gradients(self.optimizer)
        super().update(loss)
        if self._is_compared:
            self._compare(raw, self.seen)
        self._note(gradient_norm=float(torch.nn.utils.get_total_norm(raw)))

    def _note(self, **values: float) -> None:
        for name, value in values.items():
            self.measures.setdefault(name, []).append(value)

    def _compare(self, raw: Sequence[Tensor], smoothed: Sequence[Tensor]) -> None:
        inner = torch.stack([(g * y).sum() for g, y in zip(raw, smoothed, strict=True)]).tolist()
        lengths = [float(torch.nn.utils.get_total_norm(list(each))) for each in (raw, smoothed)]
        if min(lengths) == 0.0 or not all(map(math.isfinite, lengths)):
            return
        cosine = sum(inner) / math.prod(lengths)
        self.least = min(self.least, cosine)
        ascending = sum(value < 0.0 for value in inner) / len(inner)
        self._note(smoothed_length=lengths[1] / lengths[0], smoothed_cosine=cosine, ascending=ascending)

    def end_epoch(self) -> dict[str, float]:
        """Adds what the class records."""
        curves = super().end_epoch()
        if not self.records:
            return curves
        norms = self.measures.get("gradient_norm", [])
        self.norms.append(known_mean(norms))
        curves |= {
            "gradient_norm": self.norms[-1],
            "gradient_norm_cv": spread(norms) / self.norms[-1] if self.norms[-1] else math.nan,
            "gradient_norm_spread": spread(self.norms),
            **{
                name: known_mean(self.measures.get(name, []))
                for name in ("smoothed_length", "smoothed_cosine", "ascending")
            },
            "least_cosine": self.least,
            "kernel_center": kernel_center(self.optimizer),
        }
        if self.training is not None:
            curves |= memorized(self.predict, *self.training)
        self.measures = {}
        return curves

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of model, optimizer and schedule, and the record so far."""
        own = {"measures": self.measures, "norms": self.norms, "least": self.least}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores model, optimizer, schedule and record."""
        super().load_state_dict(state_dict)
        self.measures = {name: list(values) for name, values in state_dict["measures"].items()}
        self.norms, self.least = list(state_dict["norms"]), state_dict["least"]


class AlignmentLearner(SmoothingLearner):
    """Training that also records what smoothing would do to the noise of the first layer's mini-batch gradients.

    ``aligned_pixels`` and ``aligned_units``: cos(W g_B, g) - cos(g_B, g) for the gradient g over all training images
    and g_B over a batch, a mean over batches and over the epochs so far, where W smooths along the inputs (pixels) or
    along the outputs (hidden units) with a Gaussian of five taps. Only for runs with noisy labels and dense layers.
    """

    def __init__(self, setting: Setting, optimizer: Optimizer) -> None:
        super().__init__(setting, optimizer)
        self.batch_size = setting.config.batch_size
        self.alignments: list[tuple[float, float]] = []

    def end_epoch(self) -> dict[str, float]:
        """Adds the two alignments."""
        curves = super().end_epoch()
        if self.training is None:
            return curves
        self.alignments.append(self._alignment(*self.training[:2]))
        pixels, units = zip(*self.alignments, strict=True)
        return {**curves, "aligned_pixels": known_mean(pixels), "aligned_units": known_mean(units)}

    def _alignment(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        whole = self._first_gradient(images, labels)
        size = self.batch_size
        batches = [
            self._first_gradient(images[at : at + size], labels[at : at + size])
            for at in range(0, min(BATCHES * size, len(images)), size)
        ]
        gains = [[alignment_gain(g, whole, dim) for dim in (1, 0)] for g in batches]
        pixels, units = zip(*gains, strict=True)
        return known_mean(pixels), known_mean(units)

    def _first_gradient(self, images: Tensor, labels: Tensor) -> Tensor:
        weight = next(p for p in self.model.parameters() if p.dim() == 2)
        (gradient,) = torch.autograd.grad(F.cross_entropy(self.model(images), labels), weight)
        return gradient

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of model, optimizer and schedule, and the record so far."""
        return {**super().state_dict(), "alignments": self.alignments}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores model, optimizer, schedule and record."""
        super().load_state_dict(state_dict)
        self.alignments = [(pixels, units) for pixels, units in state_dict["alignments"]]


# ---- what is measured ------------------------------------------------------------------------------------------------


def gradients(optimizer: Optimizer) -> list[Tensor]:
    """The gradients that the parameters of an optimizer have now."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def spread(values: Sequence[float]) -> float:
    """The standard deviation of numbers, with n in the denominator (the source: n - 1); NaN without any."""
    known = [value for value in values if math.isfinite(value)]
    center = known_mean(known)
    return math.sqrt(known_mean([(value - center) ** 2 for value in known])) if known else math.nan


def kernel_center(optimizer: Optimizer) -> float:
    """The center tap of the kernel along the inputs of the second weight matrix; NaN where there is no such kernel."""
    if isinstance(optimizer, ConvolutionalSGD):
        kernel = optimizer.get_kernel(effective=True)
    elif isinstance(optimizer, LocalLossConvSGD | ConvolutionalSGDv2):
        matrices = [i for i, p in enumerate(p for g in optimizer.param_groups for p in g["params"]) if p.dim() > 1]
        kernels: Mapping[int, Tensor] = (
            optimizer.get_kernels() if isinstance(optimizer, LocalLossConvSGD) else optimizer.get_kernels()["2d"]
        )
        if len(matrices) < 2 or matrices[1] not in kernels:
            return math.nan
        kernel = kernels[matrices[1]]
        kernel = kernel.sum(dim=0) if kernel.dim() == 2 else kernel  # the kernel along the outputs has the sum 1
    else:
        return math.nan
    return float(kernel[len(kernel) // 2])


def training_images(config: RunConfig) -> tuple[Tensor, Tensor, Tensor]:
    """The images that a run trains on, without augmentation, their labels in the run, and which of them are right."""
    dataset = data.load(config.dataset)
    if config.data_fraction < 1.0:
        dataset = data.take_fraction(dataset, config.data_fraction)
    noisy = data.corrupt_labels(dataset.labels, config.label_noise, dataset.num_classes, config.seed)
    (batch,) = data.Batches(dataset.images, noisy, dataset.mean, dataset.std, len(noisy))
    return batch.images, noisy, noisy == dataset.labels


def memorized(predict: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, right: Tensor) -> dict[str, float]:
    """The accuracy on images whose labels are right, and the share of the others whose wrong label is predicted."""
    as_labeled = predict(images).argmax(dim=1) == labels
    return {
        "right_accuracy": float(as_labeled[right].double().mean()),
        "memorized": float(as_labeled[~right].double().mean()),
    }


def alignment_gain(g: Tensor, whole: Tensor, dim: int) -> float:
    """How much closer smoothing along an axis brings a mini-batch's gradient to the whole one, in the cosine."""
    theta = torch.tensor(gaussian(5), dtype=g.dtype, device=g.device)
    smoothed = smooth_axis(g, theta, dim, torch.empty_like(g))
    cosines = [float(torch.cosine_similarity(each.flatten(), whole.flatten(), dim=0)) for each in (smoothed, g)]
    return cosines[0] - cosines[1]


TOPIC = Topic(
    title="Convolutional optimizers: training",
    algorithms={},
    models=MODELS,
    metrics=(
        Metric("best_test_accuracy", "test accuracy of the best epoch", True, best=1.0),
        Metric("gradient_norm", "mean length of the gradient", False, "", "", 1.0, 3),
        Metric("gradient_norm_spread", "spread of the epochs' mean gradient lengths", False, "", "", 1.0, 3),
        Metric("gradient_norm_cv", "relative spread of the gradient's length in the last epoch", False, "", "", 1.0, 3),
        Metric("smoothed_length", "length of the smoothed over the raw gradient", True, "", "", 1.0, 3),
        Metric("smoothed_cosine", "cosine of the smoothed and the raw gradient", True, "", "", 1.0, 3),
        Metric("least_cosine", "lowest cosine of the smoothed and the raw gradient", True, "", "", 1.0, 3),
        Metric("ascending", "share of tensors smoothed out of descent", False, "%", "points", 100.0, 2),
        Metric("kernel_center", "center tap of the second layer's kernel", True, "", "", 1.0, 3),
        Metric("right_accuracy", "accuracy on training images with right labels", True),
        Metric("memorized", "share of wrong labels memorized", False),
        Metric("aligned_pixels", "gain of alignment, smoothed along pixels", True, "", "", 1.0, 4),
        Metric("aligned_units", "gain of alignment, smoothed along hidden units", True, "", "", 1.0, 4),
    ),
    curves=(
        Curve("memorized", "memorized", "share of the wrong labels that are memorized, by epoch", by_base=False),
        Curve("kernel_center", "kernel-center", "center tap of the second layer's kernel, by epoch", by_base=False),
    ),
)

"""Batch normalization, max-norm and dropout, taken apart: statements 21 to 24 of the lecture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advanced_optimizers.experiments.demonstrations.noise import mlp, normalized, part_of, train_and_watch


class BatchNormByHand(NamedTuple):
    """What batch normalization computes in training, by its formula.

    Attributes:
        output: The normalized batch, (B, C).
        running_mean: The new moving average of the means.
        running_var: The new moving average of the variances.
    """

    output: Tensor
    running_mean: Tensor
    running_var: Tensor


def batch_norm_by_hand(x: Tensor, momentum: float = 0.1, eps: float = 1e-5) -> BatchNormByHand:
    """One training step of a new layer (scale 1, shift 0, moving averages 0 and 1) on a batch (B, C).

    It divides by the *biased* variance of the batch, and remembers the *unbiased* one. The momentum is the weight of
    the new value.
    """
    output = (x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + eps).sqrt()
    return BatchNormByHand(output, momentum * x.mean(dim=0), (1 - momentum) + momentum * x.var(dim=0))


def project(weight: Tensor, largest: float) -> Tensor:
    """Every unit's incoming weights, shortened to a norm: the rows of (outputs, inputs), by ``torch.renorm``."""
    return torch.renorm(weight, p=2, dim=0, maxnorm=largest)


def dropout_moments(p: float = 0.5, samples: int = 100_000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Mean and mean square of activations without dropout, with it in training, and with it in evaluation."""
    torch.manual_seed(seed)
    x, layer = torch.rand(samples) + 0.5, nn.Dropout(p)
    seen = {"without": x, "training": layer.train()(x), "evaluation": layer.eval()(x)}
    return {name: (float(values.mean()), float(values.square().mean())) for name, values in seen.items()}


class Prediction(NamedTuple):
    """How good predicted probabilities are: accuracy, and mean negative log-likelihood."""

    accuracy: float
    nll: float


def trained_with_dropout(dataset: str, images: int, epochs: int = 30) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A network with one hidden layer and dropout of 0.5, trained; and the test images and labels."""
    part = part_of(dataset, images)
    torch.manual_seed(0)
    model = mlp(part.images[0].numel(), dropout=0.5)
    train_and_watch(model, part, epochs, lr=3e-3)
    _, _, test_images, test_labels = normalized(part)
    return model, test_images, test_labels


@torch.no_grad()
def ensemble(
    model: nn.Module, images: Tensor, labels: Tensor, masks: int = 100, seed: int = 0
) -> Mapping[str, Prediction]:
    """Predictions by one mask, by means over masks, and by the network that evaluation uses."""
    torch.manual_seed(seed)
    model.train()
    logs = torch.stack([model(images).log_softmax(dim=1) for _ in range(masks)])
    model.eval()
    kinds = {
        "one mask": logs[0],
        "mean of 10": logs[:10].logsumexp(dim=0) - math.log(10),
        f"mean of {masks}": logs.logsumexp(dim=0) - math.log(masks),
        f"geometric mean of {masks}": logs.mean(dim=0).log_softmax(dim=1),
        "evaluation": model(images).log_softmax(dim=1),
    }
    return {
        name: Prediction(float((log.argmax(dim=1) == labels).double().mean()), float(F.nll_loss(log, labels)))
        for name, log in kinds.items()
    }


@torch.no_grad()
def geometric_mean_error(inputs: int = 8, classes: int = 5, seed: int = 0) -> float:
    """Dropout of 0.5 before a linear layer and a softmax: the normalized geometric mean over *all* masks, against
    evaluation. Returns the largest difference of a probability.
    """
    torch.manual_seed(seed)
    layer, x = nn.Linear(inputs, classes, dtype=torch.float64), torch.randn(3, inputs, dtype=torch.float64)
    every = torch.arange(2**inputs)[:, None] >> torch.arange(inputs) & 1
    logs = torch.stack([layer(x * mask * 2).log_softmax(dim=1) for mask in every])
    return float((logs.mean(dim=0).softmax(dim=1) - layer(x).softmax(dim=1)).abs().max())

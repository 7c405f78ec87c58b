"""Penalties as priors, and which of them make weights zero: statements 16, 17 and 17b of the lecture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from advanced_optimizers._checks import check_range
from advanced_optimizers.experiments.demonstrations.trajectories import MakeOptimizer


class Penalized(NamedTuple):
    """The weight of y = w x + noise, found twice: as the most probable one under a prior, and with a penalty."""

    most_probable: float
    penalized: float


def one_weight(kind: str, strength: float, samples: int = 50, seed: int = 0) -> Penalized:
    """Ridge or lasso in one dimension, against the maximum of the posterior, which is searched for numerically.

    The noise has variance 1. The penalized loss is ``mean (y - w x)^2 / 2 + strength * penalty``, and the prior is
    N(0, 1 / (strength n)) for ``l2`` with the penalty w^2 / 2, or Laplace with scale 1 / (strength n) for ``l1`` with
    the penalty |w|.

    Args:
        kind: ``l1`` or ``l2``.
        strength: Of the penalty, > 0.
        samples: n.
        seed: Of the data.
    """
    check_range("strength", strength, low=0.0, open_low=True)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=samples)
    y = 0.7 * x + rng.normal(size=samples)
    scale = strength * samples

    def minus_log_posterior(w: float) -> float:
        prior = scale * w * w / 2 if kind == "l2" else scale * abs(w)
        return float(((y - w * x) ** 2).sum() / 2 + prior)

    probable = float(minimize_scalar(minus_log_posterior, bracket=(-2.0, 0.1, 2.0), tol=1e-12).x)
    xy, xx = float((x * y).mean()), float((x * x).mean())
    # The closed forms: shrunk for l2, soft-thresholded for l1.
    closed = xy / (xx + strength) if kind == "l2" else np.sign(xy) * max(0.0, abs(xy) - strength) / xx
    return Penalized(probable, float(closed))


FEATURES, TRUE = 50, 5


def few_true_features(samples: int = 200, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Samples (n, 50) and labels (n,) of a logistic regression in which only the first five features matter."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, FEATURES, generator=generator, dtype=torch.float64)
    truth = torch.zeros(FEATURES, dtype=torch.float64)
    truth[:TRUE] = torch.tensor([1.5, -1.5, 1.0, -1.0, 1.0], dtype=torch.float64)
    return x, (torch.rand(samples, generator=generator) < torch.sigmoid(x @ truth)).double()


def selected(kind: str, inverse_strength: float) -> tuple[int, int]:
    """How many of the 50 weights scikit-learn leaves nonzero, and how many of the five true ones.

    Args:
        kind: ``l1`` or ``l2``.
        inverse_strength: scikit-learn's C, > 0.
    """
    x, y = (t.numpy() for t in few_true_features())
    ratio = {"l1": 1.0, "l2": 0.0}[kind]
    model = LogisticRegression(solver="saga", l1_ratio=ratio, C=inverse_strength, max_iter=5000, tol=1e-6)
    weights = model.fit(x, y).coef_[0]
    return int((weights != 0).sum()), int((weights[:TRUE] != 0).sum())


class Zeros(NamedTuple):
    """Of the 50 weights: how many are exactly zero, and how many are smaller than 0.01."""

    exact: int
    small: int


def l1_by(
    make: MakeOptimizer, strength: float = 0.025, lr: float = 0.1, steps: int = 3000, *, proximal: bool = False
) -> Zeros:
    """The same problem with an L1 penalty, minimized by torch.

    Args:
        make: ``make(params, lr=lr)`` builds the optimizer.
        strength: Of the penalty.
        lr: The learning rate.
        steps: Steps on all samples.
        proximal: Do not differentiate the penalty, but after each step on the rest move every weight by
            ``lr * strength`` toward zero, where it stops (``softshrink``). That is right for gradient descent, whose
            steps are ``lr`` times the gradient.
    """
    x, y = few_true_features()
    weights = nn.Parameter(torch.zeros(FEATURES, dtype=torch.float64))
    optimizer = make([weights], lr=lr)
    for _ in range(steps):
        loss = F.binary_cross_entropy_with_logits(x @ weights, y)
        if not proximal:
            loss = loss + strength * weights.abs().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if proximal:
            with torch.no_grad():
                weights.copy_(F.softshrink(weights, lr * strength))
    found = weights.detach()
    return Zeros(int((found == 0).sum()), int((found.abs() < 0.01).sum()))

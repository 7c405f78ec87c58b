"""What normalization does and what it does not: statements 18, 19 and 20 of the lecture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, Ridge
from torch.nn import functional as F

from advanced_optimizers.experiments.demonstrations.noise import mlp, part_of


def condition_numbers() -> dict[str, float]:
    """The condition number of the Gram matrix of scikit-learn's diabetes data, raw and normalized in three ways.

    The first axis of the loss's bowl is that many times as steep as the last one.
    """
    x = load_diabetes(scaled=False).data
    centered = x - x.mean(axis=0)
    tables = {
        "raw": x,
        "centered": centered,
        "/ standard deviation": centered / x.std(axis=0),
        "/ variance": centered / x.var(axis=0),
    }
    return {name: float(np.linalg.cond(table.T @ table)) for name, table in tables.items()}


class Rescaled(NamedTuple):
    """What a factor of 1,000 on one feature changes.

    Attributes:
        least_squares: The largest change of a prediction, in standard deviations of the target.
        ridge: The same with an L2 penalty.
        first_axis: The share of that feature in the first axis of a PCA.
    """

    least_squares: float
    ridge: float
    first_axis: float


def rescale_one_feature(factor: float = 1000.0, feature: int = 2, penalty: float = 10.0) -> Rescaled:
    """Fits before and after one feature of the standardized diabetes data is multiplied.

    Args:
        factor: What it is multiplied by.
        feature: Which one.
        penalty: Ridge's alpha.
    """
    data = load_diabetes(scaled=False)
    x, y = (data.data - data.data.mean(axis=0)) / data.data.std(axis=0), data.target / data.target.std()
    other = x.copy()
    other[:, feature] *= factor

    def change(model: LinearRegression | Ridge) -> float:
        before, after = (model.fit(table, y).predict(table) for table in (x, other))
        return float(np.abs(before - after).max())

    axis = PCA(n_components=1).fit(other).components_[0]
    return Rescaled(change(LinearRegression()), change(Ridge(alpha=penalty)), float(axis[feature] ** 2))


class Fit(NamedTuple):
    """Accuracies on training and test images."""

    train: float
    test: float


def accuracy_by_scale(dataset: str, images: int, epochs: int = 3, lr: float = 0.01) -> dict[str, Fit]:
    """The same network and SGD on gray levels of 0 to 255, of 0 to 1, and standardized.

    Args:
        dataset: A key of ``data.DATASETS`` with images of one channel.
        images: How many of its training images.
        epochs: Passes over them, in batches of 50.
        lr: SGD's learning rate.
    """
    part = part_of(dataset, images)
    found = {}
    scales = {"0 to 255": (0.0, 1 / 255), "0 to 1": (0.0, 1.0), "standardized": (part.mean[0], part.std[0])}
    for name, (mean, std) in scales.items():
        x, test = ((t.permute(0, 3, 1, 2).float() / 255 - mean) / std for t in (part.images, part.test_images))
        torch.manual_seed(0)
        model = mlp(x[0].numel())
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for _ in range(epochs):
            for chosen in torch.randperm(len(x)).split(50):
                optimizer.zero_grad()
                F.cross_entropy(model(x[chosen]), part.labels[chosen]).backward()
                optimizer.step()
        with torch.no_grad():
            right = [
                float((model(inputs).argmax(dim=1) == labels).double().mean())
                for inputs, labels in ((x, part.labels), (test, part.test_labels))
            ]
        found[name] = Fit(*right)
    return found

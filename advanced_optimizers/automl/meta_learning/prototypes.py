r"""Prototypical networks: a class is the mean of its examples' embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from advanced_optimizers._checks import check_choice, check_integer
from advanced_optimizers.automl.meta_learning.checks import (
    check_class_labels,
    check_features,
    check_positive,
    check_support_labels,
)

DISTANCES = ("squared-euclidean", "euclidean", "cosine")


class PrototypicalNetworks(nn.Module):
    r"""Classifies by the distance between an embedding and the mean embedding of each class.

    .. math::
        c_k = \frac{1}{|S_k|} \sum_{(x_i, y_i) \in S_k} f(x_i), \qquad
        p(y = k \mid x) = \operatorname{softmax}_k\bigl(-\lVert f(x) - c_k \rVert^2\bigr)

    Trained by :meth:`loss` on episodes, each of which is a small task of its own: a few classes, a few examples of
    each, and queries. It helps to train with more classes than are tested, and as many examples of each.

    Args:
        input_dim: Features per example, >= 1; with an ``encoder`` it may be None, and examples of any shape are taken.
        hidden_dim: Width of the built-in encoder (two hidden layers with ReLU, and the embedding), >= 1.
        encoder: f, instead of the built-in one: (examples, ...) -> (examples, features).
        distance: ``squared-euclidean``; ``euclidean``, its root; ``cosine``, one minus the cosine.
        temperature: What the negative distances are multiplied by to give logits, > 0.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import PrototypicalNetworks
        >>> network = PrototypicalNetworks(input_dim=4)
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> predictions, distances = network(torch.randn(4, 4), torch.randn(3, 4), 2, support_labels=labels)
        >>> predictions.shape, distances.shape
        (torch.Size([3]), torch.Size([3, 2]))

    References:
        Snell, Swersky, Zemel, *Prototypical Networks for Few-shot Learning*, NeurIPS 2017, arXiv 1703.05175, equations
        1 and 2.

    Departures from the paper:
        The paper's encoder is four convolutions; pass one. Its choices other than the squared distance are ours to
        compare with.

    Limitations:
        An encoder with batch normalization sees support and queries as one batch in training mode, as in the authors'
        code: ``eval()`` before testing, or queries help each other. Distances are for one episode at a time.
    """

    def __init__(
        self,
        input_dim: int | None,
        hidden_dim: int = 64,
        *,
        encoder: nn.Module | None = None,
        distance: str = "squared-euclidean",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if encoder is not None and not isinstance(encoder, nn.Module):
            raise TypeError(f"encoder must be a torch.nn.Module, or None, got {encoder!r}")
        if encoder is None or input_dim is not None:
            input_dim = check_integer("input_dim", input_dim, 1)  # type: ignore[arg-type]  # None is refused
        self.input_dim = input_dim
        self.encoder = (
            _built_in(input_dim or 1, check_integer("hidden_dim", hidden_dim, 1)) if encoder is None else encoder
        )
        self.distance = check_choice("distance", distance, DISTANCES)
        self.temperature = check_positive("temperature", temperature)

    def forward(
        self, support_set: Tensor, query_set: Tensor, num_classes: int, *, support_labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The nearest class of each query.

        Args:
            support_set: Examples of all classes, (examples, ...). Without ``support_labels``, a matrix whose **last
                column** is the class, which is taken off before encoding: (examples, input_dim + 1).
            query_set: (queries, ...); never with a class column.
            num_classes: N; classes are 0, ..., N - 1, and the support set has examples of each.
            support_labels: (examples,), the classes; then whole rows of ``support_set`` are features.

        Returns:
            The predicted classes (queries,), int64, and the distances (queries, num_classes).

        Raises:
            ValueError: A class has no example, a label is not a class, a set is empty, has other features than
                ``input_dim``, or is not finite.
        """
        distances = self._distances(support_set, query_set, num_classes, support_labels)
        return distances.argmin(dim=1), distances

    def loss(
        self,
        support_set: Tensor,
        query_set: Tensor,
        num_classes: int,
        query_labels: Tensor,
        *,
        support_labels: Tensor | None = None,
    ) -> Tensor:
        """The mean of -log p of the queries' classes.

        Args:
            support_set: See :meth:`forward`.
            query_set: See :meth:`forward`.
            num_classes: See :meth:`forward`.
            query_labels: (queries,), in [0, num_classes).
            support_labels: See :meth:`forward`.
        """
        distances = self._distances(support_set, query_set, num_classes, support_labels)
        labels = check_class_labels("query_labels", query_labels, len(distances), distances.shape[1])
        return cross_entropy(-self.temperature * distances, labels)

    def prototypes(self, support_set: Tensor, num_classes: int, *, support_labels: Tensor | None = None) -> Tensor:
        """The mean embedding of each class, (num_classes, features); arguments as for :meth:`forward`."""
        features, labels = self._split(support_set, support_labels, num_classes)
        return class_means(self.encoder(features), labels, check_integer("num_classes", num_classes, 1))

    def _distances(self, support_set: Tensor, query_set: Tensor, num_classes: int, labels: Tensor | None) -> Tensor:
        features, labels = self._split(support_set, labels, num_classes)
        check_features("query_set", query_set, self.input_dim)
        own, others = embed_together(self.encoder, features, query_set)
        prototypes = class_means(own, labels, check_integer("num_classes", num_classes, 1))
        return distances_to(others, prototypes, self.distance)

    def _split(self, support_set: Tensor, labels: Tensor | None, num_classes: int) -> tuple[Tensor, Tensor]:
        """The features of a support set, and its classes."""
        if labels is not None:
            check_features("support_set", support_set, self.input_dim)
            return support_set, check_support_labels(labels, len(support_set), num_classes)
        if self.input_dim is None:
            raise ValueError("support_labels must be given where the encoder takes examples of any shape, got None")
        check_features("support_set", support_set, self.input_dim + 1)
        return support_set[:, :-1], check_support_labels(support_set[:, -1], len(support_set), num_classes)


# The spelling of the source text.
Prototypicalnetworks = PrototypicalNetworks


def embed_together(encoder: nn.Module, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """The embeddings of a support set and of queries, from one pass over both."""
    if support.shape[1:] != query.shape[1:]:
        raise ValueError(
            f"query_set must have examples of the shape of support_set's, {tuple(support.shape[1:])}, "
            f"got {tuple(query.shape[1:])}"
        )
    embedded = encoder(torch.cat((support, query)))
    return embedded[: len(support)], embedded[len(support) :]


def class_means(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """The mean of the rows of each class.

    Args:
        embeddings: (examples, features).
        labels: (examples,), int64, in [0, num_classes), each of them at least once.
        num_classes: N.

    Returns:
        (N, features).
    """
    sums = embeddings.new_zeros(num_classes, embeddings.shape[1]).index_add(0, labels, embeddings)
    return sums / torch.bincount(labels, minlength=num_classes).to(embeddings.dtype)[:, None]


def distances_to(embeddings: Tensor, others: Tensor, distance: str) -> Tensor:
    """One of ``DISTANCES`` between rows.

    Args:
        embeddings: (queries, features).
        others: (rows, features).
        distance: Its name.

    Returns:
        (queries, rows).
    """
    if distance == "cosine":
        return 1.0 - normalize(embeddings, dim=1) @ normalize(others, dim=1).T
    squared = (embeddings[:, None] - others).square().sum(dim=2)
    return squared if distance == "squared-euclidean" else squared.clamp_min(1e-12).sqrt()


def _built_in(input_dim: int, hidden_dim: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(input_dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, hidden_dim),
    )

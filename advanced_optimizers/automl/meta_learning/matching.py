r"""Matching networks: a query takes the classes of the examples that it resembles."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import nll_loss, normalize, one_hot

from advanced_optimizers._checks import check_bool, check_choice, check_integer
from advanced_optimizers.automl.meta_learning.checks import (
    check_class_labels,
    check_features,
    check_positive,
    check_support_labels,
)
from advanced_optimizers.automl.meta_learning.prototypes import distances_to, embed_together

SIMILARITIES = ("cosine", "squared-euclidean")


class MatchingNetworks(nn.Module):
    r"""Classifies by attention over the examples.

    .. math::
        a(x, x_i) = \operatorname{softmax}_i\bigl(\tau \cos(f(x), g(x_i))\bigr), \qquad
        p(y \mid x) = \sum_i a(x, x_i) \, [y_i = y]

    With :math:`\tau = 1`, as published, a cosine can hardly tell: even where the right example has the cosine 1 and the
    N - 1 others 0, its class gets no more than :math:`e / (e + N - 1)`, 0.405 of 5 classes. Large :math:`\tau` take the
    nearest example, small ones the frequencies of the classes.

    Args:
        encoder: (examples, ...) -> (examples, features), f and g where there is no full context.
        full_context: Whether the embeddings depend on the whole support set: g by a bidirectional LSTM over it, f by an
            LSTM that attends to it. The outcome then depends on the order of the examples.
        temperature: :math:`\tau`, > 0; it multiplies.
        embedding_dim: Features of the encoder, >= 1; needed by ``full_context``.
        num_readouts: Steps of the attending LSTM, >= 1.
        learn_temperature: Whether :math:`\tau` is trained, too, beginning at ``temperature``; it stays positive.
        similarity: ``cosine``, or ``squared-euclidean``, the negative squared distance.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from advanced_optimizers.automl import MatchingNetworks
        >>> network = MatchingNetworks(nn.Linear(4, 8), temperature=10.0)
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> predictions, log_p = network(torch.randn(4, 4), torch.randn(3, 4), 2, support_labels=labels)
        >>> log_p.exp().sum(dim=1).allclose(torch.ones(3))
        True

    References:
        Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, *Matching Networks for One Shot Learning*, NeurIPS 2016,
        arXiv 1606.04080, equations 1 to 6.

    Departures from the paper:
        The temperature, and squared distances. The equations of the full context are recalled, not checked against the
        paper again: the attending LSTM takes the embedding and the readout side by side as its input, which is the same
        linear map as the paper's hidden state next to the readout.

    Limitations:
        As for :class:`.PrototypicalNetworks`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        full_context: bool = False,
        temperature: float = 1.0,
        embedding_dim: int | None = None,
        num_readouts: int = 5,
        learn_temperature: bool = False,
        similarity: str = "cosine",
    ) -> None:
        super().__init__()
        if not isinstance(encoder, nn.Module):
            raise TypeError(f"encoder must be a torch.nn.Module, got {encoder!r}")
        self.encoder = encoder
        self.similarity = check_choice("similarity", similarity, SIMILARITIES)
        log_temperature = torch.tensor(check_positive("temperature", temperature)).log()
        self.log_temperature = nn.Parameter(
            log_temperature, requires_grad=check_bool("learn_temperature", learn_temperature)
        )
        check_integer("num_readouts", num_readouts, 1)
        self.context: FullContext | None = None
        if check_bool("full_context", full_context):
            if embedding_dim is None:
                raise ValueError("embedding_dim must be the features of the encoder with full_context, got None")
            self.context = FullContext(check_integer("embedding_dim", embedding_dim, 1), num_readouts)

    def forward(
        self, support_set: Tensor, query_set: Tensor, num_classes: int, *, support_labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The most probable class of each query.

        Args:
            support_set: Examples of all classes, (examples, ...).
            query_set: (queries, ...).
            num_classes: N; classes are 0, ..., N - 1, and the support set has examples of each.
            support_labels: (examples,), the classes.

        Returns:
            The predicted classes (queries,), int64, and the logarithms of all probabilities (queries, num_classes).

        Raises:
            ValueError: A class has no example, a label is not a class, or a set is empty or not finite.
        """
        check_features("support_set", support_set)
        check_features("query_set", query_set)
        labels = check_support_labels(support_labels, len(support_set), num_classes)
        log_a = self.log_attention(support_set, query_set)
        others = one_hot(labels).T == 0  # (N, examples)
        # In logarithms: a sum of attention that rounds to zero would have none.
        log_p = log_a[:, None].masked_fill(others, -torch.inf).logsumexp(dim=2)
        return log_p.argmax(dim=1), log_p

    def loss(
        self, support_set: Tensor, query_set: Tensor, num_classes: int, query_labels: Tensor, *, support_labels: Tensor
    ) -> Tensor:
        """The mean of -log p of the queries' classes.

        Args:
            support_set: See :meth:`forward`.
            query_set: See :meth:`forward`.
            num_classes: See :meth:`forward`.
            query_labels: (queries,), in [0, num_classes).
            support_labels: See :meth:`forward`.
        """
        _, log_p = self(support_set, query_set, num_classes, support_labels=support_labels)
        return nll_loss(log_p, check_class_labels("query_labels", query_labels, len(log_p), log_p.shape[1]))

    def log_attention(self, support_set: Tensor, query_set: Tensor) -> Tensor:
        """The logarithm of a, (queries, examples)."""
        g, f = embed_together(self.encoder, support_set, query_set)
        if self.context is not None:
            f, g = self.context(f, g)
        if self.similarity == "cosine":  # normalize has an eps: an embedding of zeros has the cosine 0 with all
            similarities = normalize(f, dim=1) @ normalize(g, dim=1).T
        else:
            similarities = -distances_to(f, g, "squared-euclidean")
        return (self.log_temperature.exp() * similarities).log_softmax(dim=1)


class FullContext(nn.Module):
    r"""Embeddings in the light of the whole support set.

    .. math::
        g_i = \overrightarrow h_i + \overleftarrow h_i + g'_i, \qquad
        h_k = \operatorname{LSTM}([f', r_{k-1}], h_{k-1}) + f', \quad
        r_{k} = \sum_i \operatorname{softmax}_i(h_k \cdot g_i) \, g_i

    Args:
        embedding_dim: Features, >= 1.
        num_readouts: Steps k, >= 1.
    """

    def __init__(self, embedding_dim: int, num_readouts: int) -> None:
        super().__init__()
        self.num_readouts = num_readouts
        self.over_support = nn.LSTM(embedding_dim, embedding_dim, bidirectional=True)
        self.attending = nn.LSTMCell(2 * embedding_dim, embedding_dim)

    def forward(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings of queries (queries, features) and of the support set (examples, features) in context."""
        both_ways, _ = self.over_support(g)
        forth, back = both_ways.chunk(2, dim=1)
        g = forth + back + g
        hidden, cell, readout = f, torch.zeros_like(f), g.mean(dim=0).expand_as(f)
        for _ in range(self.num_readouts):
            found, cell = self.attending(torch.cat((f, readout), dim=1), (hidden, cell))
            hidden = found + f
            readout = (hidden @ g.T).softmax(dim=1) @ g
        return hidden, g

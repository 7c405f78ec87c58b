"""Prototypical and matching networks: references, identities, and what changes nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid
from torch import Tensor, nn

from advanced_optimizers.automl import MatchingNetworks, PrototypicalNetworks, Prototypicalnetworks
from advanced_optimizers.automl.meta_learning.prototypes import class_means
from tests.reference import meta_learning as reference

N = 3
LABELS = torch.tensor([0, 2, 1, 1, 0, 2, 2])


@pytest.fixture
def episode() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 4, generator=generator).double(), torch.randn(5, 4, generator=generator).double()


def prototypical(**arguments: Any) -> PrototypicalNetworks:
    torch.manual_seed(0)
    return PrototypicalNetworks(4, 8, **arguments).double()


def matching(**arguments: Any) -> MatchingNetworks:
    torch.manual_seed(0)
    return MatchingNetworks(nn.Linear(4, 8), **arguments).double()


def log_p(network: nn.Module, support: Tensor, query: Tensor, labels: Tensor = LABELS) -> Tensor:
    found = network(support, query, N, support_labels=labels)[1].detach()
    return (-found).log_softmax(dim=1) if isinstance(network, PrototypicalNetworks) else found


def test_prototypes_against_the_loop_and_against_scikit_learn(episode: tuple[Tensor, Tensor]) -> None:
    support, query = episode
    network = prototypical()
    predictions, distances = network(support, query, N, support_labels=LABELS)
    own, others = (network.encoder(part).detach().numpy() for part in (support, query))
    expected = reference.prototype_probabilities(own, LABELS.tolist(), others, N)
    np.testing.assert_allclose((-distances).softmax(dim=1).detach().numpy(), expected, rtol=1e-10)
    np.testing.assert_array_equal(predictions, NearestCentroid().fit(own, LABELS.numpy()).predict(others))


def test_squared_distances_are_a_linear_classifier(episode: tuple[Tensor, Tensor]) -> None:
    support, query = episode
    network = prototypical()
    z, c = network.encoder(query), network.prototypes(support, N, support_labels=LABELS)
    linear = (2.0 * z @ c.T - c.square().sum(dim=1)).log_softmax(dim=1).detach()
    torch.testing.assert_close(log_p(network, support, query), linear)


def test_the_last_column_may_hold_the_classes(episode: tuple[Tensor, Tensor]) -> None:
    support, query = episode
    network = Prototypicalnetworks(4).double()
    with_column = torch.cat((support, LABELS[:, None].double()), dim=1)
    torch.testing.assert_close(network(with_column, query, N), network(support, query, N, support_labels=LABELS))


def test_matching_against_the_loop(episode: tuple[Tensor, Tensor]) -> None:
    support, query = episode
    network = matching(temperature=3.0)
    own, others = (network.encoder(part).detach().numpy() for part in (support, query))
    expected = reference.matching_probabilities(own, LABELS.tolist(), others, N, 3.0)
    np.testing.assert_allclose(log_p(network, support, query).exp().numpy(), expected, rtol=1e-6)


def test_with_one_example_per_class_both_are_one(episode: tuple[Tensor, Tensor]) -> None:
    support, query, labels = episode[0][:N], episode[1], torch.arange(N)
    prototypes = PrototypicalNetworks(None, encoder=nn.Identity())
    examples = MatchingNetworks(nn.Identity(), similarity="squared-euclidean")
    torch.testing.assert_close(log_p(examples, support, query, labels), log_p(prototypes, support, query, labels))


@pytest.mark.parametrize("network", [prototypical(), prototypical(distance="cosine"), matching(temperature=10.0)])
def test_order_and_names_of_classes_do_not_matter(network: nn.Module, episode: tuple[Tensor, Tensor]) -> None:
    support, query = episode
    order, names = torch.randperm(7, generator=torch.Generator().manual_seed(1)), torch.tensor([2, 0, 1])
    found = log_p(network, support, query)
    torch.testing.assert_close(log_p(network, support[order], query, LABELS[order]), found)
    torch.testing.assert_close(log_p(network, support, query, names[LABELS])[:, names], found)
    doubled = log_p(network, support.repeat(2, 1), query, LABELS.repeat(2))
    torch.testing.assert_close(doubled, found)


def test_moving_all_embeddings_changes_nothing_and_scaling_squares(episode: tuple[Tensor, Tensor]) -> None:
    support, query = episode
    network = PrototypicalNetworks(None, encoder=nn.Identity())
    distances = network(support, query, N, support_labels=LABELS)[1]
    torch.testing.assert_close(network(support + 5.0, query + 5.0, N, support_labels=LABELS)[1], distances)
    torch.testing.assert_close(network(3.0 * support, 3.0 * query, N, support_labels=LABELS)[1], 9.0 * distances)


def test_means_of_classes_against_a_loop(episode: tuple[Tensor, Tensor]) -> None:
    loop = torch.stack([episode[0][k == LABELS].mean(dim=0) for k in range(N)])
    torch.testing.assert_close(class_means(episode[0], LABELS, N), loop)


def test_temperatures_go_from_frequencies_to_the_nearest(episode: tuple[Tensor, Tensor]) -> None:
    support, query = episode
    cold = log_p(matching(temperature=1e-9), support, query).exp()
    torch.testing.assert_close(cold, (torch.bincount(LABELS) / 7.0).double().expand_as(cold), atol=1e-6, rtol=0.0)
    sharp = matching(temperature=1e5)
    f, g = (nn.functional.normalize(sharp.encoder(part), dim=1) for part in (query, support))
    assert torch.equal(log_p(sharp, support, query).argmax(dim=1), LABELS[(f @ g.T).argmax(dim=1)])


def test_published_cosines_can_hardly_tell() -> None:
    """Even the right example at cosine 1 and the others at 0 give no more than e / (e + N - 1)."""
    network, axes = MatchingNetworks(nn.Identity()), torch.eye(5)
    found = network(axes, axes, 5, support_labels=torch.arange(5))[1].exp().diagonal()
    torch.testing.assert_close(found, torch.full((5,), math.e / (math.e + 4.0)))


def test_an_embedding_of_zeros_has_finite_probabilities() -> None:
    found = MatchingNetworks(nn.Identity())(torch.eye(2), torch.zeros(1, 2), 2, support_labels=torch.arange(2))[1]
    torch.testing.assert_close(found.exp(), torch.full((1, 2), 0.5))


def test_the_full_context_sees_the_support_set_in_order(episode: tuple[Tensor, Tensor]) -> None:
    support, query = episode
    network = matching(full_context=True, embedding_dim=8, temperature=10.0)
    found, flipped = log_p(network, support, query), log_p(network, support.flip(0), query, LABELS.flip(0))
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(5).double())
    assert not torch.allclose(found, flipped, atol=1e-4)
    # A query's embedding depends on the support set, and on no other query.
    torch.testing.assert_close(log_p(network, support, query[:1]), found[:1])


@pytest.mark.parametrize(
    "network",
    [prototypical(), matching(learn_temperature=True), matching(full_context=True, embedding_dim=8)],
)
def test_the_loss_reaches_every_parameter(network: nn.Module, episode: tuple[Tensor, Tensor]) -> None:
    support, query = episode
    network.loss(support, query, N, torch.tensor([0, 1, 2, 0, 1]), support_labels=LABELS).backward()
    learned = [p for p in network.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learned)


def test_one_example_is_certain() -> None:
    found = MatchingNetworks(nn.Identity())(torch.eye(1), torch.eye(1), 1, support_labels=torch.tensor([0]))
    torch.testing.assert_close(found[1], torch.zeros(1, 1))


@pytest.mark.parametrize("make", [lambda e: PrototypicalNetworks(None, encoder=e), MatchingNetworks])
def test_untrained_it_is_at_chance_and_it_learns(make: Any) -> None:
    torch.manual_seed(0)
    network = make(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16)))
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)

    def loss() -> Tensor:  # classes differ in the first two of six coordinates; the rest is noise
        centers = torch.cat((torch.randn(4, 2), torch.zeros(4, 4)), dim=1)
        support, query = (centers.repeat(2, 1) + torch.randn(8, 6) * torch.tensor([0.1] * 2 + [1.0] * 4) for _ in "sq")
        return network.loss(support, query, 4, torch.arange(4).repeat(2), support_labels=torch.arange(4).repeat(2))

    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        losses.append(loss())
        losses[-1].backward()
        optimizer.step()
    first, last = (torch.stack(part).mean().item() for part in (losses[:10], losses[-30:]))
    assert first == pytest.approx(math.log(4), abs=0.35)
    assert last < 0.85 * first

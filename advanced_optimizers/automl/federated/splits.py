"""Ways to split a data set among clients: alike, a few classes each, or classes in random proportions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Dirichlet

from advanced_optimizers._checks import check_integer, check_range

_DRAWS = 1000
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def split_iid(samples: int, num_clients: int, *, seed: int = 0) -> list[Tensor]:
    """Deals samples to clients at random; their numbers differ by at most one.

    Args:
        samples: How many there are.
        num_clients: How many clients, >= 1 and at most ``samples``.
        seed: Of the split, >= 0.

    Returns:
        Each client's indices, int64; every index is in one of them, once.

    Raises:
        ValueError: There are more clients than samples, or a number is too small.
    """
    check_integer("samples", samples, 1)
    _check_num_clients(num_clients, samples)
    return list(torch.randperm(samples, generator=_generator(seed)).tensor_split(num_clients))


def split_shards(targets: Tensor, num_clients: int, *, shards: int = 2, seed: int = 0) -> list[Tensor]:
    """Sorts the samples by class, cuts them into equal shards, and deals each client the same number of shards.

    With 2 shards, a client mostly has two classes: the split of McMahan et al. (AISTATS 2017), section 3.

    Args:
        targets: Classes, integers (n,).
        num_clients: How many clients, >= 1.
        shards: Shards per client, >= 1; all clients' shards together are at most as many as samples.
        seed: Of the dealing, >= 0.

    Returns:
        Each client's indices, int64; every index is in one of them, once.

    Raises:
        TypeError: ``targets`` is not a tensor of integers.
        ValueError: There are more shards than samples, or a number is too small.
    """
    _check_classes(targets)
    _check_num_clients(num_clients, len(targets))
    total = num_clients * check_integer("shards", shards, 1)
    if total > len(targets):
        raise ValueError(
            f"shards must be at most the {len(targets)} samples divided by the {num_clients} clients, got {shards}"
        )
    pieces = targets.argsort(stable=True).tensor_split(total)
    dealt = torch.randperm(total, generator=_generator(seed)).view(num_clients, shards)
    return [torch.cat([pieces[piece] for piece in own]) for own in dealt.tolist()]


def split_dirichlet(
    targets: Tensor, num_clients: int, alpha: float, *, min_samples: int = 10, seed: int = 0
) -> list[Tensor]:
    r"""Splits each class among the clients in proportions that are drawn from a Dirichlet distribution.

    For each class c, :math:`p_c \sim \operatorname{Dir}(\alpha, \dots, \alpha)`, and client k gets the share
    :math:`p_{ck}` of the class. A small :math:`\alpha` gives clients of few classes and of very unequal sizes. The
    split is drawn again until each client has ``min_samples``.

    Args:
        targets: Classes, integers (n,).
        num_clients: How many clients, >= 1.
        alpha: The concentration, > 0.
        min_samples: What the smallest client has at least, >= 1.
        seed: Of the split, >= 0.

    Returns:
        Each client's indices, int64; every index is in one of them, once.

    Raises:
        TypeError: ``targets`` is not a tensor of integers.
        ValueError: A number is out of range, or none of 1,000 splits gave each client ``min_samples``.

    References:
        Yurochkin et al., *Bayesian Nonparametric Federated Learning of Neural Networks*, ICML 2019. Others draw each
        client's proportions of classes instead, with equal sizes.
    """
    _check_classes(targets)
    _check_num_clients(num_clients, len(targets))
    check_range("alpha", alpha, 0.0, math.inf, open_low=True, open_high=True)
    check_integer("min_samples", min_samples, 1)
    concentration = torch.full((num_clients,), float(alpha), dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):  # torch's distributions take no generator
        torch.manual_seed(check_integer("seed", seed, 0))
        for _ in range(_DRAWS if min_samples * num_clients <= len(targets) else 0):
            parts = _by_proportions(targets, Dirichlet(concentration))
            if min(len(part) for part in parts) >= min_samples:
                return parts
    raise ValueError(
        f"min_samples must be so small that a split of {len(targets)} samples among {num_clients} clients can be drawn "
        f"with alpha={alpha}, got {min_samples}: lower it, or take a larger alpha or fewer clients"
    )


def _by_proportions(targets: Tensor, proportions: Dirichlet) -> list[Tensor]:
    pieces = []
    for label in targets.unique():
        own = (targets == label).nonzero().flatten()
        ends = (len(own) * proportions.sample().cumsum(0)).round().long()
        pieces.append(own[torch.randperm(len(own))].tensor_split(ends[:-1]))
    return [torch.cat(own) for own in zip(*pieces, strict=True)]


def check_integers(name: str, values: object) -> None:
    """A tensor of at least one integer."""
    if not isinstance(values, Tensor) or values.dtype not in _INTEGERS:
        kind = values.dtype if isinstance(values, Tensor) else repr(values)
        raise TypeError(f"{name} must be a tensor of integers, got {kind}")
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} must hold at least one integer in one axis, got shape {tuple(values.shape)}")


def _check_classes(targets: Tensor) -> None:
    check_integers("targets", targets)


def _check_num_clients(num_clients: int, samples: int) -> None:
    if check_integer("num_clients", num_clients, 1) > samples:
        raise ValueError(f"num_clients must be at most the number of samples, {samples}, got {num_clients}")


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(check_integer("seed", seed, 0))

"""A client's data, in the form in which it trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from advanced_optimizers._checks import check_integer
from advanced_optimizers.automl.federated.splits import check_integers


@runtime_checkable
class HasData(Protocol):
    """What a client must have: ``data``, whose length is its weight, and ``data_loader`` with pairs of batches."""

    @property
    def data(self) -> Sized:
        """The samples."""

    @property
    def data_loader(self) -> Iterable[Any]:
        """Batches ``(inputs, targets)``; each pass over it is an epoch."""


@dataclass(frozen=True)
class Client:
    """A client: any object with these two attributes will do.

    Attributes:
        data: Its samples; their number is the client's weight in the average.
        data_loader: Batches of them, ``(inputs, targets)``, such as a ``DataLoader``. Each pass over it is an epoch.
    """

    data: Sized
    data_loader: Iterable[Any]


@dataclass(frozen=True)
class Batches:
    """Batches of samples in memory, in another order in each pass; the order is drawn from torch's generator.

    Attributes:
        inputs: The samples, (n, ...).
        targets: Their targets, (n, ...).
        batch_size: Samples per batch; the last one may have fewer.
    """

    inputs: Tensor
    targets: Tensor
    batch_size: int

    def __len__(self) -> int:
        """The number of batches."""
        return -(-len(self.inputs) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in torch.randperm(len(self.inputs)).split(self.batch_size):
            yield self.inputs[batch], self.targets[batch]


def make_clients(inputs: Tensor, targets: Tensor, parts: Sequence[Tensor], batch_size: int = 10) -> list[Client]:
    """Makes a client of each part of a data set that is in memory.

    Args:
        inputs: All samples, (n, ...).
        targets: Their targets, (n, ...).
        parts: Which of them each client has: indices, as :func:`split_iid` and the other splits return them.
        batch_size: Samples per batch, >= 1.

    Returns:
        One client per part, with a copy of its samples; batches are shuffled in each epoch.

    Raises:
        TypeError: ``inputs`` or ``targets`` is not a tensor, or a part is not one of integers.
        ValueError: ``targets`` has another length than ``inputs``, or a part is empty.
        IndexError: A part has an index that is out of range.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import make_clients, split_iid
        >>> x, y = torch.randn(100, 4), torch.randint(3, (100,))
        >>> [len(client.data) for client in make_clients(x, y, split_iid(len(x), 3))]
        [34, 33, 33]
    """
    for name, tensor in (("inputs", inputs), ("targets", targets)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, got {tensor!r}")
    if len(inputs) != len(targets):
        raise ValueError(f"targets must have one row per input, {len(inputs)}, got {len(targets)}")
    batch_size = check_integer("batch_size", batch_size, 1)
    clients = []
    for number, part in enumerate(parts):
        check_integers(f"parts[{number}]", part)
        clients.append(Client(part, Batches(inputs[part], targets[part], batch_size)))
    return clients


def check_clients(clients: Iterable[Any]) -> list[HasData]:
    """At least one client, each with samples and a loader."""
    found = list(clients) if isinstance(clients, Iterable) else clients
    if not isinstance(found, list):
        raise TypeError(f"clients must be a list of clients, got {clients!r}")
    if not found:
        raise ValueError("clients must be a list of at least one client, got []")
    for number, client in enumerate(found):
        if not isinstance(client, HasData) or not isinstance(client.data, Sized):
            raise TypeError(
                f"clients must have .data with a length and .data_loader with batches (inputs, targets), got "
                f"{type(client).__name__} as clients[{number}]"
            )
        if len(client.data) == 0:
            raise ValueError(f"clients must have at least one sample each, got clients[{number}] with 0")
    return found

"""Federated learning: clients train one model on data that they keep, and a server averages what they learned.

- :class:`FederatedAveraging`: rounds of sampling clients, local training (FedAvg, FedProx) and averaging. A client that
  fails, hangs or returns NaN is left out of its round.
- :class:`Client`, :func:`make_clients`: a client's data, and clients from tensors and a split.
- :func:`split_iid`, :func:`split_shards`, :func:`split_dirichlet`: who has which samples.
- :mod:`.flower`: the same training and the same averaging for clients on other machines, on Flower's engine.
"""

from advanced_optimizers.automl.federated.averaging import (
    ClientLeftOutWarning,
    FederatedAveraging,
    NoClientFinishedError,
    Round,
)
from advanced_optimizers.automl.federated.client import Client, make_clients
from advanced_optimizers.automl.federated.splits import split_dirichlet, split_iid, split_shards

__all__ = [
    "Client",
    "ClientLeftOutWarning",
    "FederatedAveraging",
    "NoClientFinishedError",
    "Round",
    "make_clients",
    "split_dirichlet",
    "split_iid",
    "split_shards",
]

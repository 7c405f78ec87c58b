"""Bad calls of federated averaging and of the splits."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from advanced_optimizers.automl import (
    Client,
    FederatedAveraging,
    make_clients,
    split_dirichlet,
    split_iid,
    split_shards,
)
from tests.bad_calls import BadCall

CLIENT = Client(range(3), [])
TARGETS = torch.arange(20) % 4
X = torch.zeros(20, 2)


def federation(clients: Any = None, **options: Any) -> FederatedAveraging:
    return FederatedAveraging(nn.Linear(2, 4), [CLIENT] if clients is None else clients, **options)


def aggregate(*models: Any, weights: Any = (1, 1)) -> object:
    return federation().aggregate_models(models or [nn.Linear(2, 4), nn.Linear(2, 4)], weights)


class WithState(nn.Linear):
    def get_extra_state(self) -> object:
        return {"version": 2}

    def set_extra_state(self, state: object) -> None:
        pass


def with_nan() -> nn.Linear:
    model = nn.Linear(2, 4)
    nn.init.constant_(model.bias, math.nan)
    return model


BAD_CALLS = [
    BadCall("FederatedAveraging", "clients", "[]", lambda: federation([])),
    BadCall("FederatedAveraging", "clients", "7", lambda: federation(7)),
    BadCall("FederatedAveraging", "clients", "clients[1]", lambda: federation([CLIENT, Client([], [])])),
    BadCall("FederatedAveraging", "clients", "Linear as clients[0]", lambda: federation([nn.Linear(2, 2)])),
    BadCall("FederatedAveraging", "clients", "Client as clients[0]", lambda: federation([Client(5, [])])),  # type: ignore[arg-type]
    BadCall("FederatedAveraging", "global_model", "'mlp'", lambda: FederatedAveraging("mlp", [CLIENT])),  # type: ignore[arg-type]
    BadCall("FederatedAveraging", "global_model", "ReLU", lambda: FederatedAveraging(nn.ReLU(), [CLIENT])),
    BadCall("FederatedAveraging", "global_model", "dict", lambda: FederatedAveraging(WithState(2, 2), [CLIENT])),
    BadCall("FederatedAveraging", "fraction", "0", lambda: federation(fraction=0)),
    BadCall("FederatedAveraging", "fraction", "1.5", lambda: federation(fraction=1.5)),
    BadCall("FederatedAveraging", "lr", "0.0", lambda: federation(lr=0.0)),
    BadCall("FederatedAveraging", "lr", "nan", lambda: federation(lr=math.nan)),
    BadCall("FederatedAveraging", "proximal_mu", "-0.1", lambda: federation(proximal_mu=-0.1)),
    BadCall("FederatedAveraging", "proximal_mu", "20.0", lambda: federation(lr=0.1, proximal_mu=20.0)),
    BadCall("FederatedAveraging", "weighting", "'sizes'", lambda: federation(weighting="sizes")),
    BadCall("FederatedAveraging", "loss_fn", "'mse'", lambda: federation(loss_fn="mse")),
    BadCall("FederatedAveraging", "optimizer", "'sgd'", lambda: federation(optimizer="sgd")),
    BadCall("FederatedAveraging", "seed", "-1", lambda: federation(seed=-1)),
    BadCall("FederatedAveraging", "time_limit", "0", lambda: federation(time_limit=0)),
    BadCall("FederatedAveraging", "engine", "'loky'", lambda: federation(engine="loky")),
    BadCall("federated_round", "num_epochs", "0", lambda: federation().federated_round(0)),
    BadCall("federated_round", "num_epochs", "1.5", lambda: federation().federated_round(1.5)),  # type: ignore[arg-type]
    BadCall("train_client", "num_epochs", "-1", lambda: federation().train_client(CLIENT, -1)),
    BadCall("train_client", "clients", "with 0", lambda: federation().train_client(Client([], []), 1)),
    BadCall("aggregate_models", "client_models", "[]", lambda: federation().aggregate_models([], [])),
    BadCall("aggregate_models", "client_models[1]", "'bias'", lambda: aggregate(nn.Linear(2, 4), nn.ReLU())),
    BadCall("aggregate_models", "client_models[0]", "(3, 2)", lambda: aggregate(nn.Linear(2, 3), nn.Linear(2, 4))),
    BadCall("aggregate_models", "client_models[1]", "NaN", lambda: aggregate(nn.Linear(2, 4), with_nan())),
    BadCall("aggregate_models", "client_models[1]", "None", lambda: aggregate(nn.Linear(2, 4), None)),
    BadCall("aggregate_models", "weights", "[-1, 2]", lambda: aggregate(weights=[-1, 2])),
    BadCall("aggregate_models", "weights", "[0, 0]", lambda: aggregate(weights=[0, 0])),
    BadCall("aggregate_models", "weights", "nan", lambda: aggregate(weights=[math.nan, 1])),
    BadCall("aggregate_models", "weights", "got 3", lambda: aggregate(weights=[1, 1, 1])),
    BadCall("aggregate_models", "weights", "['a', 1]", lambda: aggregate(weights=["a", 1])),
    BadCall("aggregate_models", "weights", "None", lambda: aggregate(weights=None)),
    BadCall("make_clients", "inputs", "[1.0]", lambda: make_clients([1.0], TARGETS, [TARGETS])),  # type: ignore[arg-type]
    BadCall("make_clients", "targets", "got 4", lambda: make_clients(X, TARGETS[:4], [TARGETS])),
    BadCall("make_clients", "parts[1]", "(0,)", lambda: make_clients(X, TARGETS, [TARGETS, TARGETS[:0]])),
    BadCall("make_clients", "parts[0]", "float32", lambda: make_clients(X, TARGETS, [torch.ones(3)])),
    BadCall("make_clients", "parts[0]", "torch.bool", lambda: make_clients(X, TARGETS, [TARGETS > 1])),
    BadCall("make_clients", "batch_size", "0", lambda: make_clients(X, TARGETS, [TARGETS], batch_size=0)),
    BadCall("split_iid", "samples", "0", lambda: split_iid(0, 1)),
    BadCall("split_iid", "num_clients", "11", lambda: split_iid(10, 11)),
    BadCall("split_iid", "seed", "-1", lambda: split_iid(10, 2, seed=-1)),
    BadCall("split_shards", "shards", "got 3", lambda: split_shards(TARGETS, 10, shards=3)),
    BadCall("split_shards", "shards", "0", lambda: split_shards(TARGETS, 10, shards=0)),
    BadCall("split_shards", "targets", "float32", lambda: split_shards(TARGETS.float(), 10)),
    BadCall("split_shards", "targets", "(5, 4)", lambda: split_shards(TARGETS.view(5, 4), 2)),
    BadCall("split_shards", "num_clients", "21", lambda: split_shards(TARGETS, 21)),
    BadCall("split_dirichlet", "alpha", "0", lambda: split_dirichlet(TARGETS, 2, 0)),
    BadCall("split_dirichlet", "alpha", "inf", lambda: split_dirichlet(TARGETS, 2, math.inf)),
    BadCall("split_dirichlet", "min_samples", "got 11", lambda: split_dirichlet(TARGETS, 2, 1.0, min_samples=11)),
    BadCall("split_dirichlet", "min_samples", "got 3", lambda: split_dirichlet(TARGETS, 5, 0.01, min_samples=3)),
    BadCall("split_dirichlet", "num_clients", "0", lambda: split_dirichlet(TARGETS, 0, 1.0)),
]

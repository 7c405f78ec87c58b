"""A Flower app of a server and three clients that average a network with BatchNorm.

Each client has points of its own in the plane, in two classes, and another number of them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from torch import nn

from advanced_optimizers.automl.federated import Client, make_clients
from advanced_optimizers.automl.federated.flower import FlowerAveraging, client_app

SIZES = (40, 100, 260)
LEARNING_RATE = 0.1


def make_model() -> nn.Module:
    """The network, always with the same initial weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))


def make_client(number: int) -> Client:
    """A client's points; a real one would read its own files here."""
    generator = torch.Generator().manual_seed(number)
    points = torch.randn(SIZES[number], 2, generator=generator) + number
    classes = (points[:, 0] * points[:, 1] > number).long()
    return make_clients(points, classes, [torch.arange(len(points))], batch_size=20)[0]


client = client_app(make_model, make_client, lr=LEARNING_RATE)
server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """What the server does."""
    config = context.run_config
    strategy = FlowerAveraging(make_model(), num_clients=len(SIZES))
    model = strategy.run(grid, int(config["num-rounds"]), int(config["num-epochs"]))
    if config["save-to"]:
        path = Path(str(config["save-to"]))
        torch.save(model.state_dict(), path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

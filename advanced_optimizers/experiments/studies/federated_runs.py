"""Federated runs: rounds of clients that share a data set in one of several ways, and the controls beside them."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from advanced_optimizers.automl.federated import (
    Client,
    ClientLeftOutWarning,
    FederatedAveraging,
    NoClientFinishedError,
    make_clients,
    split_dirichlet,
    split_iid,
    split_shards,
)
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.studies.tuned_kind import TunedConfig

# McMahan et al.'s "2NN".
HIDDEN = 200
# The share of the training samples that trials are measured on, and the accuracy up to which bytes are counted.
HELD_OUT, TARGET = 1 / 6, 0.9
SHARDS, ALPHA = 2, 0.1
# What is measured after each round.
MEASURED = ("train_loss", "test_accuracy", "test_loss", "megabytes", "megabytes_needed", "left_out")
# How many clients are trained alone.
ALONE = 3


@dataclass(frozen=True, kw_only=True)
class FederatedRun(TunedConfig):
    """Rounds of federated averaging, or as many gradients of samples without a federation.

    Attributes:
        dataset: Whose training samples the clients share.
        division: How: ``iid``, ``shards`` (two each, of samples sorted by class) or ``dirichlet`` (alpha = 0.1).
        method: ``federated``, ``central`` (as many steps on all samples) or ``alone`` (three clients by themselves, an
            epoch per round; their mean is measured).
        clients: How many there are.
        fraction: The share of them that is sampled for a round.
        rounds: How many rounds.
        epochs: Local epochs.
        batch_size: Samples per step; 0 for all that a client has.
        proximal_mu: FedProx's mu.
        weighting: ``size`` or ``uniform``.
        drop_out: The probability that a sampled client fails.
        corrupt: The probability that a sampled client trains on NaN.
        held_out: Whether it is a trial, measured on training samples that are held out.
    """

    kind = "federated"

    division: str = "iid"
    method: str = "federated"
    clients: int = 100
    fraction: float = 0.1
    rounds: int = 20
    epochs: int = 1
    batch_size: int = 10
    proximal_mu: float = 0.0
    weighting: str = "size"
    drop_out: float = 0.0
    corrupt: float = 0.0

    @property
    def task(self) -> str:
        """Dataset and division."""
        return f"{self.dataset}-{self.division}-clients"

    @property
    def points(self) -> int:
        """It is measured after each round."""
        return self.rounds

    @property
    def extent(self) -> str:
        """Clients, rounds and local epochs."""
        return f"{self.clients} clients, {self.rounds} rounds, {self.epochs} local epochs"

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Trains, and measures after each round."""
        sets = read_sets(self.dataset, self.held_out)
        model = two_layers(sets.train[0].shape[1], sets.num_classes).to(device)
        match self.method:
            case "central":
                return _central(self, sets, model)
            case "alone":
                return _alone(self, sets, model)
            case _:
                return _federated(self, sets, model)


# ---- data and model -------------------------------------------------------------------------------------------------

Samples = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Sets:
    """Pixels with mean 0 and deviation 1, (n, pixels), and classes.

    Attributes:
        train: What the clients share.
        test: What is measured on.
        num_classes: How many classes.
        megabytes: The size of the training samples as they are stored, a byte per pixel.
    """

    train: Samples
    test: Samples
    num_classes: int
    megabytes: float


@lru_cache(maxsize=2)
def read_sets(dataset: str, held_out: bool) -> Sets:
    """The samples of a data set; which ones are held out for trials is the same for all."""
    source = data.load(dataset)

    def pixels(images: Tensor) -> Tensor:
        return ((images[..., 0].float() / 255 - source.mean[0]) / source.std[0]).flatten(1)

    train, test = (pixels(source.images), source.labels), (pixels(source.test_images), source.test_labels)
    if held_out:
        order = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(0))
        aside, kept = order.split([int(HELD_OUT * len(order)), len(order) - int(HELD_OUT * len(order))])
        train, test = (train[0][kept], train[1][kept]), (train[0][aside], train[1][aside])
    return Sets(train, test, source.num_classes, source.images.numel() / 1e6)


def two_layers(inputs: int, num_classes: int) -> nn.Module:
    """Two hidden layers; their initial weights are drawn first in a run: all algorithms of a seed share them."""
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, num_classes)
    )


def divide(run: FederatedRun, targets: Tensor) -> list[Tensor]:
    """Which samples each client has."""
    match run.division:
        case "shards":
            return split_shards(targets, run.clients, shards=SHARDS, seed=run.seed)
        case "dirichlet":
            smallest = min(10, len(targets) // (20 * run.clients))
            return split_dirichlet(targets, run.clients, ALPHA, min_samples=max(smallest, 1), seed=run.seed)
        case _:
            return split_iid(len(targets), run.clients, seed=run.seed)


def clients_of(run: FederatedRun, samples: Samples) -> list[Client]:
    """The clients; those that may fail draw whether they do from torch's generator, which each round seeds."""
    inputs, targets = samples
    parts = divide(run, targets)
    clients = make_clients(inputs, targets, parts, run.batch_size or max(len(part) for part in parts))
    if not run.drop_out and not run.corrupt:
        return clients
    return [
        replace(client, data_loader=Unreliable(client.data_loader, run.drop_out, run.corrupt)) for client in clients
    ]


@dataclass(frozen=True)
class Unreliable:
    """Batches that may not come, or come with NaN.

    Attributes:
        batches: What should come.
        drop_out: The probability that a pass over them raises.
        corrupt: The probability that a pass has NaN.
    """

    batches: Iterable[Samples]
    drop_out: float
    corrupt: float

    def __iter__(self) -> Iterator[Samples]:
        draw = float(torch.rand(()))
        if draw < self.drop_out:
            raise ConnectionError("it dropped out")
        spoiled = draw < self.drop_out + self.corrupt
        for inputs, targets in self.batches:
            yield (inputs * math.nan if spoiled else inputs), targets


# ---- runs -----------------------------------------------------------------------------------------------------------


def _averaging(run: FederatedRun, model: nn.Module, clients: Sequence[Client]) -> FederatedAveraging:
    return FederatedAveraging(
        model,
        clients,
        lr=float(run.hyperparameters["lr"]),
        fraction=run.fraction if run.method == "federated" else 1.0,
        proximal_mu=run.proximal_mu,
        weighting=run.weighting,
        optimizer=partial(SGD, fused=True),
        seed=run.seed,
    )


def _federated(run: FederatedRun, sets: Sets, model: nn.Module) -> Iterator[Mapping[str, float]]:
    federation = _averaging(run, model, clients_of(run, sets.train))
    megabytes, needed, left_out = 0.0, 0.0, 0
    for _ in range(run.rounds):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClientLeftOutWarning)  # they are counted
            try:
                done = federation.federated_round(run.epochs)
            except NoClientFinishedError:  # of reliable clients, none does where the learning rate is too high
                yield dict.fromkeys(MEASURED, math.nan)
                return
        measured = measure([model], sets.test)
        megabytes += done.megabytes
        left_out += len(done.left_out)
        if not needed and measured["test_accuracy"] >= TARGET:
            needed = megabytes
        yield {
            "train_loss": done.train_loss,
            **measured,
            "megabytes": megabytes,
            "megabytes_needed": needed or megabytes,
            "left_out": left_out / (federation.rounds * len(done.clients)),
        }


def _central(run: FederatedRun, sets: Sets, model: nn.Module) -> Iterator[Mapping[str, float]]:
    """As many steps as a round's clients take together, on batches of all samples; the data are sent once."""
    inputs, targets = sets.train
    optimizer = SGD(model.parameters(), lr=float(run.hyperparameters["lr"]), fused=True)
    steps = run.epochs * round(run.fraction * len(inputs) / run.batch_size)
    left = torch.empty(0, dtype=torch.int64)
    for _ in range(run.rounds):
        total = 0.0
        for _ in range(steps):
            if len(left) < run.batch_size:
                left = torch.randperm(len(inputs))
            batch, left = left.split([run.batch_size, len(left) - run.batch_size])
            optimizer.zero_grad()
            loss = cross_entropy(model(inputs[batch]), targets[batch])
            loss.backward()
            optimizer.step()
            total += loss.item()
        yield _with_bytes({"train_loss": total / steps, **measure([model], sets.test)}, sets.megabytes)


def _alone(run: FederatedRun, sets: Sets, model: nn.Module) -> Iterator[Mapping[str, float]]:
    """An epoch per round for each of some clients, by itself: nothing is sent."""
    models = [copy.deepcopy(model) for _ in range(ALONE)]
    clients = clients_of(run, sets.train)[:ALONE]
    own = [_averaging(run, one, [client]) for one, client in zip(models, clients, strict=True)]
    for _ in range(run.rounds):
        loss = sum(federation.federated_round(run.epochs).train_loss for federation in own) / ALONE
        yield _with_bytes({"train_loss": loss, **measure(models, sets.test)}, 0.0)


def _with_bytes(measured: Mapping[str, float], megabytes: float) -> dict[str, float]:
    return {**measured, "megabytes": megabytes, "megabytes_needed": megabytes, "left_out": 0.0}


@torch.no_grad()
def measure(models: Sequence[nn.Module], test: Samples) -> dict[str, float]:
    """The mean accuracy and loss of models."""
    inputs, targets = test
    scores = [model.eval()(inputs) for model in models]
    return {
        "test_accuracy": sum(float((own.argmax(1) == targets).float().mean()) for own in scores) / len(scores),
        "test_loss": sum(float(cross_entropy(own, targets)) for own in scores) / len(scores),
    }


# Its algorithms, studies and claims are those of ``federated``.
TOPIC = Topic(title="Federated runs", algorithms={})

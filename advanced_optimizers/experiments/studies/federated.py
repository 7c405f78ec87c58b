"""Federated averaging: ways to divide the data, local epochs, FedProx, clients that fail, and what is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from advanced_optimizers.experiments.evidence.metrics import Metric
from advanced_optimizers.experiments.records.config import Hyperparameters, KindConfig
from advanced_optimizers.experiments.studies.claims.federated import CLAIMS, MARGINS, MNIST_MEGABYTES
from advanced_optimizers.experiments.studies.federated_runs import FederatedRun
from advanced_optimizers.experiments.studies.kind_study import KindTask, TradeOff
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.studies.tuned_kind import TunedKindStudy
from advanced_optimizers.experiments.training.algorithms import Algorithm

RATES, STATED_RATE = (0.03, 0.1, 0.3), 0.01
# Rounds with one local epoch. A fifth of them with five local epochs are as much work.
ROUNDS, EPOCHS = 20, 5

# What each algorithm does differently from FedAvg with one local epoch; ten times the clients are added below.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "fed-avg": {},
    "fed-sgd": {"batch_size": 0},
    "fed-central": {"method": "central"},
    "fed-alone": {"method": "alone"},
    "fed-stated-rate": {},
    "fed-many": {},
    "fed-quarter-lost": {"drop_out": 0.25},
    "fed-half-lost": {"drop_out": 0.5},
    "fed-nan": {"corrupt": 0.1},
    "fed-uniform": {"weighting": "uniform"},
    "fed-few": {},
    "fed-epochs": {"epochs": EPOCHS},
    "fed-prox-0.01": {"epochs": EPOCHS, "proximal_mu": 0.01},
    "fed-prox-0.1": {"epochs": EPOCHS, "proximal_mu": 0.1},
}
# Those that do a fifth of the rounds.
_FEW_ROUNDS = (
    "fed-few",
    "fed-stated-rate",
    "fed-many",
    "fed-nan",
    "fed-epochs",
    "fed-prox-0.01",
    "fed-prox-0.1",
)
# Those that ask what a disturbance does to FedAvg take its learning rate, and so does a client alone.
_AS_FEDAVG = {**dict.fromkeys(("fed-quarter-lost", "fed-half-lost", "fed-alone"), "fed-avg"), "fed-nan": "fed-few"}


@dataclass(frozen=True, kw_only=True)
class FederatedStudy(TunedKindStudy):
    """A comparison whose trials have a quarter of the rounds, but at least two."""

    def trials(self, task: KindTask, algorithm: str) -> list[KindConfig]:
        """See :class:`.TunedKindStudy`."""
        found: list[Any] = super().trials(task, algorithm)
        return [replace(trial, rounds=max(trial.rounds // 4, 2)) for trial in found]


@dataclass(frozen=True)
class _Scale:
    """How large a profile's federations are; where classes are in random proportions, half of the rounds must do."""

    dataset: str
    clients: int
    fraction: float
    rounds: int

    def task(self, division: str, *left_out: str) -> KindTask:
        """The task of a division."""
        rounds = self.rounds // 2 if division == "dirichlet" else self.rounds

        def config(algorithm: str, seed: int) -> FederatedRun:
            return FederatedRun(
                algorithm=algorithm,
                seed=seed,
                dataset=self.dataset,
                division=division,
                clients=self.clients * 10 if algorithm == "fed-many" else self.clients,
                fraction=self.fraction,
                rounds=rounds // EPOCHS if algorithm in _FEW_ROUNDS else rounds,
                **OPTIONS[algorithm],
            )

        return KindTask(
            task=f"{self.dataset}-{division}-clients",
            reads=(self.dataset,),
            config=config,
            protocol={
                "Clients": self.clients,
                "Clients per round": round(self.clients * self.fraction),
                "Rounds": rounds,
                "Batch": FederatedRun.batch_size,
            },
            left_out=frozenset(left_out),
        )


_NOT_DIRICHLET = ("fed-sgd", "fed-alone", "fed-quarter-lost", "fed-half-lost")
_COMPARED = ("fed-avg", *_NOT_DIRICHLET, "fed-central", "fed-uniform")
_BY_ROUNDS = ("fed-avg", *_FEW_ROUNDS)


def _tasks(scale: _Scale) -> tuple[tuple[KindTask, ...], tuple[KindTask, ...]]:
    return (
        (
            scale.task("iid", "fed-uniform", "fed-quarter-lost"),
            scale.task("shards", "fed-uniform", "fed-central"),
            scale.task("dirichlet", *_NOT_DIRICHLET, "fed-central"),
        ),
        (
            scale.task("iid", "fed-prox-0.01", "fed-prox-0.1"),
            scale.task("shards", "fed-stated-rate", "fed-many", "fed-nan"),
        ),
    )


_METRICS = (
    Metric("megabytes", "data sent both ways", False, "MB", "MB", 1.0, 1),
    Metric("megabytes_needed", "data sent until 90 % of accuracy", False, "MB", "MB", 1.0, 1),
    Metric("left_out", "share of clients left out", False, "%", "points", 100.0, 1),
)
_OVER_BYTES = TradeOff("megabytes", "test_accuracy", log=True, marked=MNIST_MEGABYTES)


def _studies() -> tuple[FederatedStudy, ...]:
    built = []
    for profile, scale, seeds, rates in (
        ("full", _Scale("mnist", 100, 0.1, ROUNDS), SEEDS, RATES),
        ("quick", _Scale("digits", 20, 0.25, 10), SEEDS[:2], RATES[1:2]),
    ):
        points: dict[str, tuple[Hyperparameters, ...]] = {
            **{name: tuple({"lr": rate} for rate in rates) for name in OPTIONS if name not in _AS_FEDAVG},
            "fed-stated-rate": ({"lr": STATED_RATE},),
        }
        whole, few = _tasks(scale)
        for name, title, tasks, algorithms, metrics in (
            ("federated", "Is a federation worth it, and what do its clients cost?", whole, _COMPARED, _METRICS),
            (
                "federated-rounds",
                "What a few rounds come to, by local epochs, FedProx, clients and learning rate",
                few,
                _BY_ROUNDS,
                (),
            ),
        ):
            built.append(
                FederatedStudy(
                    name=name,
                    title=title,
                    profile=profile,
                    tasks=tasks,
                    algorithms=algorithms,
                    seeds=seeds,
                    points={algorithm: points[algorithm] for algorithm in algorithms if algorithm in points},
                    tuned_as=_AS_FEDAVG,
                    metrics=("test_accuracy", *(metric.column for metric in metrics)),
                    curves=("test_accuracy",),
                    trade_offs=(_OVER_BYTES,) if metrics else (),
                    counts="round",
                )
            )
    return tuple(built)


def _row(label: str, baseline: str = "fed-avg", *, control: bool = False) -> Algorithm:
    return Algorithm(label=label, baseline=baseline, timed=False, control=control)


_FEW = "A fifth of the rounds"
_ALGORITHMS = {
    "fed-avg": Algorithm(label="FedAvg", baseline=None, timed=False),
    "fed-sgd": _row("FedSGD"),
    "fed-central": _row("Centralized SGD (control)", control=True),
    "fed-alone": _row("Each client alone (control)", control=True),
    "fed-quarter-lost": _row("FedAvg, a quarter drops out"),
    "fed-half-lost": _row("FedAvg, half drop out"),
    "fed-uniform": _row("FedAvg, uniform weights"),
    "fed-few": Algorithm(label=_FEW, baseline=None, timed=False),
    "fed-stated-rate": _row(f"{_FEW}, learning rate {STATED_RATE}", "fed-few"),
    "fed-many": _row(f"{_FEW}, ten times the clients", "fed-few"),
    "fed-nan": _row(f"{_FEW}, a tenth send NaN", "fed-few"),
    "fed-epochs": _row(f"{_FEW}, {EPOCHS} local epochs", "fed-few"),
    "fed-prox-0.01": _row(f"{_FEW}, {EPOCHS} local epochs, FedProx 0.01", "fed-few"),
    "fed-prox-0.1": _row(f"{_FEW}, {EPOCHS} local epochs, FedProx 0.1", "fed-few"),
}

TOPIC = Topic(
    title="Federated learning",
    tasks={
        "mnist-iid-clients": "MNIST, IID clients",
        "mnist-shards-clients": "MNIST, 2 shards per client",
        "mnist-dirichlet-clients": "MNIST, Dirichlet 0.1",
    },
    algorithms=_ALGORITHMS,
    studies=_studies(),
    claims=CLAIMS,
    metrics=_METRICS,
    margins={"test_accuracy": MARGINS},
)

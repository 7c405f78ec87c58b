"""Hyperparameter search: random, spread, TPE and successive halving on the project's own training loop, in epochs."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from advanced_optimizers.experiments.evidence.claim import Claim, each, improvement_rule
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.evidence.rules import compare_metric
from advanced_optimizers.experiments.records.config import Hyperparameters, KindConfig, RunConfig
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies.kind_study import KindStudy, KindTask
from advanced_optimizers.experiments.studies.search_strategies import LONGEST, STRATEGIES, promising
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range
from advanced_optimizers.experiments.training.loop import train

# Far wider than the ranges of the studies, so that there is something to find: SGD with Nesterov's momentum.
SPACE = {
    "lr": Range(low=1e-3, high=3.0, log=True),
    "momentum_gap": Range(low=0.01, high=0.5, log=True),
    "weight_decay": Range(low=1e-6, high=0.1, log=True),
}
# Epochs between two points of a curve: those of a whole trial.
EVERY = LONGEST


@dataclass(frozen=True, kw_only=True)
class HyperparameterSearch(KindConfig):
    """One search, and a run on the test set with what it has chosen.

    What a search would choose is the best of its longest trials so far, by accuracy on held-out training images. A
    trial that ends beyond the budget does not count.

    Attributes:
        dataset: What is trained on.
        model: A key of ``training.models.MODELS``.
        budget: Epochs of all trials together.
    """

    kind = "hyperparameter-search"

    dataset: str = "digits"
    model: str = "mlp"
    budget: int = 81

    @property
    def task(self) -> str:
        """Dataset and model, and that it is a search."""
        return f"{self.dataset}-{self.model}-search"

    @property
    def points(self) -> int:
        """One per epochs of a whole trial."""
        return self.budget // EVERY

    @property
    def extent(self) -> str:
        """The budget."""
        return f"{self.budget} epochs"

    @property
    def datasets(self) -> tuple[str, ...]:
        """The one dataset."""
        return (self.dataset,)

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Searches; what would be chosen is trained at full length to be measured, which is not counted as spent."""
        with tempfile.TemporaryDirectory() as folder:
            store, generator = RunStore(Path(folder)), random.Random(self.seed)
            search = STRATEGIES[self.algorithm](SPACE, partial(self._trial, store, device), generator)
            trials: list[RunRecord] = []
            ends: list[int] = [0]
            for spent in range(EVERY, self.budget + 1, EVERY):
                while ends[-1] < spent:
                    trials.append(next(search))
                    ends.append(ends[-1] + epochs_of(trials[-1]))
                within = [trial for trial, end in zip(trials, ends[1:], strict=True) if end <= spent]
                yield {**self._measured(store, device, incumbent(within)), "trials": float(len(within))}

    def _measured(self, store: RunStore, device: str, chosen: RunRecord | None) -> dict[str, float]:
        """What has been chosen, trained at full length; all 0 if every trial has diverged."""
        if chosen is None:
            return dict.fromkeys(("best_so_far", "test_accuracy"), 0.0)
        own = chosen.config.hyperparameters
        held_out = self._trial(store, device, own, LONGEST)
        tested = train(self._run(own, LONGEST, self.seed, "test"), store, device)
        return {
            "best_so_far": held_out.final["test_accuracy"] or 0.0,
            "test_accuracy": tested.final["test_accuracy"] or 0.0,
        }

    def _trial(self, store: RunStore, device: str, hyperparameters: Hyperparameters, epochs: int) -> RunRecord:
        return train(self._run(hyperparameters, epochs, 100 + self.seed, "validation"), store, device)

    def _run(self, hyperparameters: Hyperparameters, epochs: int, seed: int, split: str) -> RunConfig:
        return RunConfig(
            dataset=self.dataset,
            model=self.model,
            algorithm="sgd",
            hyperparameters=hyperparameters,
            seed=seed,
            epochs=epochs,
            batch_size=64,
            split=split,
        )


def incumbent(trials: list[RunRecord]) -> RunRecord | None:
    """The best of the longest trials that have not diverged; None where all have."""
    longest = max((epochs_of(trial) for trial in trials if trial.status == "completed"), default=0)
    best = promising([trial for trial in trials if epochs_of(trial) == longest], 1)
    return best[0] if best else None


def epochs_of(trial: RunRecord) -> int:
    """How long a trial was to be."""
    epochs = trial.config.content["epochs"]
    assert isinstance(epochs, int)
    return epochs


# ---- the topic ------------------------------------------------------------------------------------------------------

TASK, RANDOM = "digits-mlp-search", "search-random"
# One of 288 held-out images is a third of a point, so that a point is what three of them are.
MARGINS = {TASK: 0.01}


def _study(profile: str, budget: int, seeds: tuple[int, ...]) -> KindStudy:
    def config(algorithm: str, seed: int) -> HyperparameterSearch:
        return HyperparameterSearch(algorithm=algorithm, seed=seed, budget=budget)

    protocol = {"Epochs of all trials": budget, "Epochs of a whole trial": LONGEST, "Hyperparameters": len(SPACE)}
    return KindStudy(
        name="hyperparameter-search",
        title="Which search finds the best hyperparameters in the fewest epochs?",
        profile=profile,
        tasks=(KindTask(task=TASK, reads=("digits",), config=config, protocol=protocol),),
        algorithms=tuple(STRATEGIES),
        seeds=seeds,
        metrics=("best_so_far", "test_accuracy"),
        curves=("best_so_far",),
    )


def _claim(key: str, short: str, text: str, compared: str, *algorithms: str) -> Claim:
    comparisons = each(dict.fromkeys(algorithms, RANDOM), (TASK,), margins=MARGINS)
    rule = improvement_rule("accuracy on held-out images of what a search has chosen", compared, "1 point")
    return Claim(
        key=key,
        method="Search",
        short=short,
        study="hyperparameter-search",
        text=text,
        source="our question",
        rule=rule.replace(" of the last epoch on the test set", ", trained for nine epochs"),
        decide=partial(compare_metric, metric="best_so_far", comparisons=comparisons),
    )


TOPIC = Topic(
    title="Hyperparameter search",
    tasks={TASK: "Digits, perceptron, search"},
    algorithms={
        RANDOM: Algorithm(label="Random search, whole trials", baseline=None, timed=False),
        "search-spread": Algorithm(label="Points spread evenly", baseline=RANDOM, timed=False),
        "search-tpe": Algorithm(label="TPE, whole trials", baseline=RANDOM, timed=False),
        "search-halving": Algorithm(label="Successive halving", baseline=RANDOM, timed=False),
        "search-asynchronous": Algorithm(label="ASHA", baseline=RANDOM, timed=False),
    },
    studies=(_study("quick", 27, SEEDS[:2]), _study("full", 81, SEEDS)),
    claims=(
        _claim(
            "search-tpe",
            "TPE over random search",
            "TPE finds better hyperparameters than random search in as many epochs.",
            "TPE against random search, both after 81 epochs of trials",
            "search-tpe",
        ),
        _claim(
            "search-halving",
            "halving over random search",
            "Successive halving finds better hyperparameters than random search in as many epochs.",
            "successive halving, in brackets and asynchronous, against random search, all after 81 epochs of trials",
            "search-halving",
            "search-asynchronous",
        ),
    ),
    metrics=(
        Metric("best_so_far", "held-out accuracy of what is chosen", True, best=1.0),
        Metric("trials", "trials", True, "", "", 1.0, 0),
    ),
    curves=(
        Curve(
            "best_so_far",
            "best-so-far",
            "held-out accuracy of what is chosen along the search",
            by_base=False,
            over="budget in whole trials",
        ),
    ),
    margins={"best_so_far": MARGINS, "test_accuracy": MARGINS},
)

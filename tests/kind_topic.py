"""A topic whose runs train nothing: guesses of a number, by halves and at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.studies.kind_study import KindStudy, KindTask
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm


@dataclass(frozen=True, kw_only=True)
class Guessing(KindConfig):
    """Guesses of a number in [0, 1] that is drawn.

    Attributes:
        guesses: How many there are.
        broken: What is wrong with it, for tests.
    """

    kind = "guessing"

    guesses: int = 4
    broken: str = ""

    @property
    def task(self) -> str:
        return "digits-guess"

    @property
    def points(self) -> int:
        return self.guesses

    @property
    def datasets(self) -> tuple[str, ...]:
        return ("digits",)

    def measure(self, device: str) -> Iterator[dict[str, float]]:
        number, low, high, nearest = float(torch.rand(())), 0.0, 1.0, 1.0
        for guess in range(self.guesses - (self.broken == "short")):
            chosen = (low + high) / 2 if self.algorithm == "guess-halves" else float(torch.rand(()))
            nearest = min(nearest, abs(chosen - number))
            low, high = (chosen, high) if chosen < number else (low, chosen)
            loss = {"train_loss": float("nan") if guess else 1.0} if self.broken == "nan" else {}
            yield {"guess_error": nearest, **({"more": 1.0} if self.broken == "uneven" and guess else {}), **loss}


def _study(profile: str, seeds: tuple[int, ...]) -> KindStudy:
    return KindStudy(
        name="guessing",
        title="Do halves find the number?",
        profile=profile,
        tasks=(
            KindTask(
                task="digits-guess",
                reads=("digits",),
                config=lambda algorithm, seed: Guessing(algorithm=algorithm, seed=seed),
                protocol={"Guesses": 4},
            ),
        ),
        algorithms=("guess-random", "guess-halves"),
        seeds=seeds,
        metrics=("guess_error",),
        curves=("guess_error",),
    )


TOPIC = Topic(
    title="Guessing",
    algorithms={
        "guess-random": Algorithm(label="At random", baseline=None),
        "guess-halves": Algorithm(label="By halves", baseline="guess-random"),
    },
    studies=(_study("quick", (0, 1)), _study("full", (0, 1, 2, 3, 4))),
    metrics=(Metric("guess_error", "error", False, "", "", 1.0, 4),),
    curves=(Curve("guess_error", "error-by-guess", "error by guess", by_base=False, over="guess"),),
)

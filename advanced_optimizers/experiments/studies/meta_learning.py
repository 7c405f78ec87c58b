"""Learning to learn by gradient steps: ten points of a sine wave, up to twenty steps, the error of the rest.

The trials that set the lengths and margins used one seed, and are not part of the records. What was cut, since all
runs of the full profile have to fit into a quarter of an hour of one core: 8,000 meta-batches are 2,000; an arm with
ten inner steps in training, an inner rate of 0.001, and the control that is told amplitude and phase.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from advanced_optimizers.automl.meta_learning import MAML, MetaSGD, Reptile
from advanced_optimizers.automl.meta_learning.inner_loop import InnerLoop, QueryLoop
from advanced_optimizers.experiments.data.sinusoids import sinusoid_tasks
from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.studies.claims.meta_learning import CLAIMS, ERROR, STUDY, WAVES
from advanced_optimizers.experiments.studies.kind_study import KindStudy, KindTask
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm

SHOTS, TASKS, HIDDEN = 10, 25, 40
# The most gradient steps in a test, those whose errors are compared, and the points that the error is a mean over.
STEPS, COMPARED, GRID = 20, (1, 5, 10, 20), 100
# An error of this or more, or none, counts as this: the task has diverged. It is the square of the largest amplitude; a
# prediction of zero has 4.25 in the mean over the tasks.
DIVERGED = 25.0
# The baselines' rates of fine-tuning, of which the best on other tasks is taken.
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)


@dataclass(frozen=True, kw_only=True)
class SinusoidRun(KindConfig):
    """Meta-training on sine waves, and tests on others.

    A curve has the errors after 1, 2, ..., 20 gradient steps on ten points of a new wave.

    Attributes:
        iterations: Meta-batches of 25 waves.
        test_tasks: The waves that the error is a mean over.
    """

    kind = "sinusoid"

    iterations: int = 2000
    test_tasks: int = 600

    @property
    def task(self) -> str:
        """The one task."""
        return "sinusoid-10-shot"

    @property
    def points(self) -> int:
        """One per gradient step of a test."""
        return STEPS

    @property
    def extent(self) -> str:
        """The meta-batches."""
        return f"{self.iterations} meta-batches"

    @property
    def datasets(self) -> tuple[str, ...]:
        """None: the waves are drawn."""
        return ()

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Trains, then yields the mean squared error after each gradient step, and beside it those compared."""
        begun = time.process_time()
        learner = METHODS[self.algorithm](self, device)
        seconds = time.process_time() - begun
        errors, diverged = errors_by_step(learner, self.test_tasks, seed=10_000 + self.seed, device=device)
        compared = {f"mse_after_{step}": errors[step] for step in COMPARED}
        fixed = {"mse_before": errors[0], **compared, "diverged": diverged, "training_seconds": seconds}
        for step in range(1, STEPS + 1):
            yield {"mse": errors[step], **fixed}


def network() -> nn.Module:
    """1-40-40-1 with ReLU, as in the paper, from torch's initial weights."""
    return nn.Sequential(nn.Linear(1, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))


def drawn_sets(
    tasks: int, generator: torch.Generator, device: str, grid: int = 0
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Support sets of ten points, and query sets of ten other points or of a grid over the whole range."""
    x, y = sinusoid_tasks(tasks, SHOTS if grid else 2 * SHOTS, generator, grid=grid)
    x, y = x.to(device), y.to(device)
    return (x[:, :SHOTS], y[:, :SHOTS]), (x[:, SHOTS:], y[:, SHOTS:])


def errors_by_step(learner: InnerLoop, tasks: int, seed: int, device: str) -> tuple[list[float], float]:
    """The mean squared error after 0, 1, ... gradient steps, and the share of tasks that diverged by the last."""
    support, query = drawn_sets(tasks, torch.Generator().manual_seed(seed), device, grid=GRID)
    with warnings.catch_warnings():  # that Meta-SGD diverges beyond its steps is a result
        warnings.simplefilter("ignore")
        outputs = learner.outputs_by_step(support, query[0], STEPS)
    each = (outputs - query[1][:, None]).square().mean(dim=(2, 3)).nan_to_num(nan=DIVERGED).clamp_max(DIVERGED)
    return each.mean(dim=0).tolist(), float((each[:, -1] >= DIVERGED).float().mean())


# ---- the methods --------------------------------------------------------------------------------------------------


def meta_trained(make: Callable[[nn.Module], QueryLoop], steps: int) -> Callable[[SinusoidRun, str], InnerLoop]:
    """Training by the loss after some steps; a learner that diverges in training stays where it was."""

    def method(run: SinusoidRun, device: str) -> InnerLoop:
        generator = torch.Generator().manual_seed(run.seed)
        learner = make(network().to(device)).to(device)
        optimizer = torch.optim.Adam(learner.parameters(), 1e-3)
        for _ in range(run.iterations):
            support, query = drawn_sets(TASKS, generator, device)
            optimizer.zero_grad()
            try:
                learner.meta_batch(support, query, steps).backward()
            except RuntimeError:  # the loss of a support set is no longer finite
                break
            optimizer.step()
        return learner

    return method


def reptile(run: SinusoidRun, device: str) -> InnerLoop:
    """Reptile with ten steps of 0.02 on ten points of each wave, and an outer rate that falls from 1 to 0."""
    generator = torch.Generator().manual_seed(run.seed)
    learner = Reptile(network().to(device), 0.02, loss=mse_loss)
    optimizer = torch.optim.SGD(learner.parameters(), 1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1.0 - k / run.iterations)
    for _ in range(run.iterations):
        support, _ = drawn_sets(TASKS, generator, device)
        optimizer.zero_grad()
        learner.meta_batch(support, 10)
        optimizer.step()
        schedule.step()
    return learner


def pretrained(run: SinusoidRun, device: str) -> InnerLoop:
    """Ordinary training on the same waves all together; then fine-tuning with the best of several rates."""
    generator, model = torch.Generator().manual_seed(run.seed), network().to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(run.iterations):
        for x, y in drawn_sets(TASKS, generator, device):
            optimizer.zero_grad()
            mse_loss(model(x), y).backward()
            optimizer.step()
    return _best_rate(model, run, device)


def untrained(run: SinusoidRun, device: str) -> InnerLoop:
    """The initial weights, and the best of the same rates."""
    return _best_rate(network().to(device), run, device)


def _best_rate(model: nn.Module, run: SinusoidRun, device: str) -> InnerLoop:
    """The rate with the least error after ten steps, on tasks that are neither for training nor for tests."""
    learners = [MAML(model, rate, loss=mse_loss) for rate in RATES]
    errors = [errors_by_step(learner, 100, seed=20_000 + run.seed, device=device)[0][10] for learner in learners]
    return min(zip(errors, range(len(learners)), learners, strict=True))[2]


def _maml(lr: float, *, first_order: bool = False) -> Callable[[nn.Module], QueryLoop]:
    return lambda model: MAML(model, lr, first_order=first_order, loss=mse_loss)


METHODS: dict[str, Callable[[SinusoidRun, str], InnerLoop]] = {
    "fine-tuning": untrained,
    "pretraining": pretrained,
    "maml": meta_trained(_maml(0.01), steps=1),
    "maml-5-steps": meta_trained(_maml(0.01), steps=5),
    "maml-first-order": meta_trained(_maml(0.01, first_order=True), steps=1),
    "meta-sgd": meta_trained(lambda model: MetaSGD(model, 0.01, loss=mse_loss), steps=1),
    "reptile": reptile,
    "maml-lr-0.001": meta_trained(_maml(0.001), steps=1),
    "maml-lr-0.1": meta_trained(_maml(0.1), steps=1),
    "maml-lr-0.5": meta_trained(_maml(0.5), steps=1),
}


# ---- the topic ------------------------------------------------------------------------------------------------------

PRETRAINING = "pretraining"
# Label, and whether it only shows what a part contributes.
_WAVES = {
    PRETRAINING: ("Pretraining, fine-tuning", False),
    "fine-tuning": ("Fine-tuning alone", True),
    "maml": ("MAML", False),
    "maml-first-order": ("MAML, first order", False),
    "maml-5-steps": ("MAML, five steps", False),
    "maml-lr-0.1": ("MAML, steps of 0.1", True),
    "maml-lr-0.5": ("MAML, steps of 0.5", True),
    "meta-sgd": ("Meta-SGD", False),
    "reptile": ("Reptile", False),
}
# Meta-batches of the methods that take several steps in each, so that none takes much longer than MAML: their share.
_SHARES = {"maml-5-steps": 0.4, "reptile": 0.2}


def _waves(profile: str, iterations: int, test_tasks: int, seeds: tuple[int, ...]) -> KindStudy:
    def config(algorithm: str, seed: int) -> SinusoidRun:
        share = _SHARES.get(algorithm, 1.0)
        return SinusoidRun(algorithm=algorithm, seed=seed, iterations=round(share * iterations), test_tasks=test_tasks)

    protocol = {"Meta-batches": iterations, "Waves each": TASKS, "Points": SHOTS, "Test tasks": test_tasks}
    return KindStudy(
        name=STUDY,
        title="From which weights do a few gradient steps lead far?",
        profile=profile,
        tasks=(KindTask(task=WAVES, reads=(), config=config, protocol=protocol),),
        algorithms=tuple(_WAVES),
        seeds=seeds,
        metrics=("mse_after_1", "mse_after_10", "training_seconds"),
        curves=("mse",),
    )


def _error(step: int) -> Metric:
    words = f"squared error after {step} step" + ("s" if step > 1 else "")
    return Metric(f"mse_after_{step}", words, False, "", "", 1.0, 3)


TOPIC = Topic(
    title="Learning to learn",
    tasks={
        "sinusoid-10-shot": "Sine waves, 10 points",
    },
    algorithms={
        name: Algorithm(
            label=label, baseline=None if name == PRETRAINING else PRETRAINING, timed=False, control=control
        )
        for name, (label, control) in _WAVES.items()
    },
    studies=(
        _waves("quick", iterations=20, test_tasks=20, seeds=SEEDS[:2]),
        _waves("full", iterations=2000, test_tasks=600, seeds=SEEDS),
    ),
    claims=CLAIMS,
    metrics=(
        *(_error(step) for step in COMPARED),
        Metric("mse", "squared error", False, "", "", 1.0, 3),
        Metric("diverged", "share of diverged tasks", False, best=0.0),
    ),
    curves=(
        Curve("mse", "error-by-step", "squared error by gradient step", by_base=False, over="gradient step", log=True),
    ),
    margins={f"mse_after_{step}": {WAVES: ERROR} for step in COMPARED},
)

"""Runs of a last task with few images, after four others: what did they teach, and what do they lose?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from advanced_optimizers.automl.continual import ElasticWeightConsolidation, ProgressiveNeuralNetwork
from advanced_optimizers.experiments.data.task_sequences import Stage, stages_of
from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.studies.continual_runs import RATE
from advanced_optimizers.experiments.studies.learning_runs import batches_of, network

# EWC's strength is the one that the source text has by default; nothing is tuned in these runs.
STRENGTH, FISHER_IMAGES = 1000.0, 300
PAIRS = 5


@dataclass(frozen=True, kw_only=True)
class TransferRun(KindConfig):
    """Five tasks of two classes each; the last one has few images.

    Attributes:
        dataset: Whose images it is about.
        images: Training images of all classes together, for the first four tasks.
        last_images: Training images of the last task.
        epochs: Passes over each of the first four.
        steps: Training steps of the last task, by batches of at most 32.
        hidden: Units of each of the two hidden layers of a column.
    """

    kind = "continual-transfer"

    dataset: str = "mnist"
    images: int = 20_000
    last_images: int = 20
    epochs: int = 3
    steps: int = 200
    hidden: int = 64

    @property
    def task(self) -> str:
        """Dataset and images of the last task."""
        return f"{self.dataset}-transfer-{self.last_images}"

    @property
    def points(self) -> int:
        """One: the end."""
        return 1

    @property
    def extent(self) -> str:
        """Images and steps of the last task."""
        return f"{self.last_images} images, {self.steps} steps"

    @property
    def datasets(self) -> tuple[str, ...]:
        """The one dataset."""
        return (self.dataset,)

    @property
    def stages(self) -> list[Stage]:
        """The tasks' images; the last one has all of them, of which a run takes the first."""
        return stages_of(self.dataset, "split-task", PAIRS, self.images, 1, False, self.seed)

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Learns the last task, and measures it and the earlier ones."""
        learner, outputs = learned_before(self)
        *old, last = self.stages
        train_loss = learner.learn_last(last.inputs[: self.last_images], last.labels[: self.last_images], self)
        knows_old = len(outputs) > 0
        now = [learner.outputs(number, stage.test_inputs) for number, stage in enumerate(old)] if knows_old else []
        before, after = _mean_accuracy(outputs, old), _mean_accuracy(now, old)
        changed = [(a != b).any(dim=1).float().mean() for a, b in zip(outputs, now, strict=True)]
        yield {
            "train_loss": train_loss,
            "test_accuracy": _accuracy(learner.outputs(PAIRS - 1, last.test_inputs), last),
            "old_accuracy": after,
            "old_lost": before - after,
            "old_changed": float(torch.stack(changed).mean()) if changed else math.nan,
            "total_parameters": float(learner.parameters),
        }


def _accuracy(outputs: Tensor, stage: Stage) -> float:
    return float((outputs.argmax(dim=1) == stage.test_labels).float().mean())


def _mean_accuracy(outputs: list[Tensor], stages: list[Stage]) -> float:
    each = [_accuracy(own, stage) for own, stage in zip(outputs, stages, strict=False)]
    return sum(each) / len(each) if each else math.nan


# ---- learners -----------------------------------------------------------------------------------------------------


class Learner:
    """A network that learns the tasks; ``before`` says whether it learns the first four, too."""

    before = True

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def parameters(self) -> int:
        """Of the whole network, at present."""
        return sum(p.numel() for p in self.model.parameters())

    def logits(self, number: int, inputs: Tensor) -> Tensor:
        """Of a task, (batch, 2)."""
        raise NotImplementedError

    def begin(self, number: int) -> Iterable[nn.Parameter]:
        """Makes ready for a task; returns what it trains."""
        return self.model.parameters()

    def loss(self, loss: Tensor) -> Tensor:
        """What is minimized."""
        return loss

    def end(self, number: int, stage: Stage) -> None:
        """What is done when a task has been learned."""

    @torch.no_grad()
    def outputs(self, number: int, inputs: Tensor) -> Tensor:
        """The logits of a task in evaluation."""
        self.model.eval()
        return self.logits(number, inputs)

    def learn(self, number: int, stage: Stage, run: TransferRun) -> None:
        """One of the first four."""
        generator = torch.Generator().manual_seed(1000 * run.seed + number)
        every = (batch for _ in range(run.epochs) for batch in batches_of(len(stage.inputs), 128, generator))
        self._train(number, stage.inputs, stage.labels, every)
        self.end(number, stage)

    def learn_last(self, inputs: Tensor, labels: Tensor, run: TransferRun) -> float:
        """The last one."""
        generator = torch.Generator().manual_seed(1000 * run.seed + PAIRS)

        def batches() -> Iterator[Tensor]:
            while True:
                yield from batches_of(len(inputs), min(32, len(inputs)), generator)

        return self._train(PAIRS - 1, inputs, labels, islice(batches(), run.steps))

    def _train(self, number: int, inputs: Tensor, labels: Tensor, batches: Iterable[Tensor]) -> float:
        optimizer = torch.optim.Adam(list(self.begin(number)), lr=RATE, fused=True)
        self.model.train()
        losses = []
        for batch in batches:
            loss = cross_entropy(self.logits(number, inputs[batch]), labels[batch])
            losses.append(loss.item())
            optimizer.zero_grad()
            self.loss(loss).backward()
            optimizer.step()
        return sum(losses) / len(losses)


class Columns(Learner):
    """A column per task."""

    def __init__(self, inputs: int, hidden: int) -> None:
        self.net = ProgressiveNeuralNetwork(inputs, hidden, output_dim=2, num_layers=2)
        self.hidden = hidden
        super().__init__(self.net)

    def logits(self, number: int, inputs: Tensor) -> Tensor:
        """See :class:`Learner`."""
        return self.net(inputs, number)

    def begin(self, number: int) -> Iterable[nn.Parameter]:
        """See :class:`Learner`."""
        while len(self.net.columns) <= number:
            self.net.add_column(self.net.input_dim, self.hidden, output_dim=2)
        return self.net.trainable_parameters()


class RandomColumns(Columns):
    """A control: the earlier columns are as they were drawn."""

    before = False


class OneColumn(Learner):
    """From scratch: as the last column alone."""

    before = False

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(network(inputs, hidden, 2))

    def logits(self, number: int, inputs: Tensor) -> Tensor:
        """See :class:`Learner`."""
        return self.model(inputs)


class Shared(Learner):
    """One network with two outputs per task."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(network(inputs, hidden, 2 * PAIRS))

    def logits(self, number: int, inputs: Tensor) -> Tensor:
        """See :class:`Learner`."""
        return self.model(inputs)[:, 2 * number : 2 * number + 2]


class Wide(Shared):
    """The same, with as many parameters as five columns."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, width_of(inputs, columns_size(inputs, hidden)))


class Elastic(Shared):
    """The same, with elastic weight consolidation."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden)
        self.ewc = ElasticWeightConsolidation(self.model, STRENGTH)

    def loss(self, loss: Tensor) -> Tensor:
        """See :class:`Learner`."""
        return self.ewc.ewc_loss(loss) if self.ewc.tasks else loss

    def end(self, number: int, stage: Stage) -> None:
        """See :class:`Learner`."""
        own = slice(2 * number, 2 * number + 2)
        self.ewc.compute_fisher_information(
            [stage.inputs], max_samples=FISHER_IMAGES, logits=lambda output: output[:, own]
        )


METHODS: dict[str, Callable[[int, int], Learner]] = {
    "transfer-scratch": OneColumn,
    "transfer-progressive": Columns,
    "transfer-random": RandomColumns,
    "transfer-finetuning": Shared,
    "transfer-ewc": Elastic,
    "transfer-wide": Wide,
}


def columns_size(inputs: int, hidden: int, columns: int = PAIRS) -> int:
    """The parameters of a progressive network of two hidden layers and two outputs, by the formula.

    A column has (d + 1) h + (h + 1) h + (h + 1) 2, and the laterals between two columns h^2 + 2 h.
    """
    column = (inputs + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * 2
    return columns * column + columns * (columns - 1) // 2 * (hidden * hidden + 2 * hidden)


def width_of(inputs: int, size: int) -> int:
    """The units per hidden layer with which one network with all outputs has nearest to so many parameters."""

    def parameters(h: int) -> int:
        return (inputs + 1) * h + (h + 1) * h + (h + 1) * 2 * PAIRS

    return min(range(1, 2000), key=lambda h: abs(parameters(h) - size))


# ---- what runs share ----------------------------------------------------------------------------------------------


class Before(NamedTuple):
    """A learner that has learned the first four tasks, and what it then says about their test images."""

    learner: Learner
    outputs: list[Tensor]


def learned_before(run: TransferRun) -> Before:
    """A copy, as the last task has several sizes."""
    own = ("kind", "hyperparameters", "last_images")
    kept = _learned_before(**{name: value for name, value in run.content.items() if name not in own})
    return Before(deepcopy(kept.learner), kept.outputs)


@lru_cache(maxsize=len(METHODS))  # a seed's runs follow each other, size by size
def _learned_before(**shared: Any) -> Before:
    run = TransferRun(**shared)
    torch.manual_seed(run.seed)
    learner = METHODS[run.algorithm](run.stages[0].inputs.shape[1], run.hidden)
    if not learner.before:
        return Before(learner, [])
    old = run.stages[:-1]
    for number, stage in enumerate(old):
        learner.learn(number, stage, run)
    return Before(learner, [learner.outputs(number, stage.test_inputs) for number, stage in enumerate(old)])

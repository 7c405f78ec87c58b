"""What the searches of cells on images have in common: their data, and how a cell is trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from advanced_optimizers.automl.architecture_search import Genotype, Shape, accuracy, retrain
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.studies.kind_study import KindTask

# What a run on each dataset is like. Images of half the side and a stem of stride 2 leave cells of 8x8 and 4x4: a
# first-order search then takes half a minute, and the whole study about 25 minutes of one core.
FULL: Mapping[str, Any] = {"dataset": "cifar10-jpeg", "images": 4000, "test_images": 2000, "pool": 2, "stem_stride": 2}
QUICK: Mapping[str, Any] = {
    "dataset": "digits",
    "images": 120,
    "test_images": 100,
    "batch_size": 32,
    "channels": 4,
    "search_epochs": 2,
    "epochs": 3,
    "repeats": 1,
}


class Parts(NamedTuple):
    """The batches of a run: the two halves of the training images, all of them, and test images."""

    weights: data.Batches
    architecture: data.Batches
    all: data.Batches
    test: data.Batches


@dataclass(frozen=True, kw_only=True)
class CellTraining(KindConfig):
    """What searches of cells on images have in common: the data, the frame around the cells, and how they are trained.

    Attributes:
        dataset: A key of ``data.DATASETS``.
        images: Training images; half of them train weights during a search, the others the architecture.
        test_images: Images that found cells are tested on, once.
        pool: Side of the squares that images are averaged over beforehand.
        channels: Of the first cell.
        stem_stride: Of the first convolution.
        batch_size: Images per step.
        search_epochs: Passes of a search over its half.
        epochs: Passes of the training from scratch.
        cells: Cells that random sampling trains, or random cells of equal size.
        repeats: Trainings of a found cell; its accuracy is their mean.
    """

    kind = "cell-training"

    dataset: str
    images: int
    test_images: int
    pool: int = 1
    channels: int = 8
    stem_stride: int = 1
    batch_size: int = 64
    search_epochs: int = 5
    epochs: int = 5
    cells: int = 3
    repeats: int = 2

    @property
    def task(self) -> str:
        """As in ``digits-cells``."""
        return f"{self.dataset}-cells"

    @property
    def datasets(self) -> tuple[str, ...]:
        """The one dataset."""
        return (self.dataset,)

    @property
    def shape(self) -> Shape:
        """The frame around the cells, for the dataset's images."""
        images = data.load(self.dataset).images
        return Shape(images.shape[-1], 10, self.channels, 2, self.stem_stride)

    def parts(self) -> Parts:
        """The batches; which half an image is in depends on the seed."""
        loaded = data.load(self.dataset)
        train = data.take_fraction(loaded, min(1.0, self.images / len(loaded.labels)))
        tested = torch.randperm(len(loaded.test_labels), generator=torch.Generator().manual_seed(0))[: self.test_images]
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(train.labels), generator=generator)
        halves = order.chunk(2)
        images = self._pooled(train.images)

        def batches(indices: Tensor) -> data.Batches:
            return data.Batches(
                images[indices],
                train.labels[indices],
                loaded.mean,
                loaded.std,
                self.batch_size,
                shuffle=True,
                generator=generator,
                drop_last=True,
            )

        test = (self._pooled(loaded.test_images[tested]), loaded.test_labels[tested], loaded.mean, loaded.std, 500)
        return Parts(batches(halves[0]), batches(halves[1]), batches(order), data.Batches(*test))

    def _pooled(self, images: Tensor) -> Tensor:
        if self.pool == 1:
            return images
        pooled = avg_pool2d(images.permute(0, 3, 1, 2).float(), self.pool).round().to(torch.uint8)
        return pooled.permute(0, 2, 3, 1).contiguous()

    def trained(self, genotype: Genotype, parts: Parts) -> float:
        """Test accuracy of a cell that is trained from scratch on all training images."""
        return accuracy(retrain(genotype, parts.all, self.epochs, shape=self.shape), parts.test)


def cells_task(
    kind: type[CellTraining], algorithms: Sequence[str], settings: Mapping[str, Any], **protocol: str
) -> KindTask:
    """The task of a study of cells, described as its runs are set up.

    Args:
        kind: The kind of its runs.
        algorithms: Their names; the first one's setting describes all.
        settings: Of every run.
        **protocol: Further fields that the description shows, and what they are called.
    """

    def config(algorithm: str, seed: int) -> CellTraining:
        return kind(algorithm=algorithm, seed=seed, **settings)

    example = config(algorithms[0], 0)
    shown = {
        "images": "Training images",
        "test_images": "Test images",
        "search_epochs": "Search epochs",
        "epochs": "Training epochs",
        **protocol,
    }
    described = {text: getattr(example, name) for name, text in shown.items()}
    return KindTask(task=example.task, reads=example.datasets, config=config, protocol=described)

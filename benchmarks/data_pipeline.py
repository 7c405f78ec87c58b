"""Images per second of this project's batches and of torchvision's transforms in a DataLoader with two workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from advanced_optimizers.experiments.data.datasets import Batches
from advanced_optimizers.experiments.records.machine import threads
from benchmarks.result import Result, Rows, cpu_environment, number_of_threads
from benchmarks.timing import Spread, Timed, interleaved, ratios, spread, timed

WORKERS = 2
BATCH_SIZE = 128
REFERENCE = f"torchvision and DataLoader, {WORKERS} workers"
_SIDE = 32
_MEAN, _STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


class TorchvisionImages(Dataset[tuple[torch.Tensor, int]]):
    """Images in memory, each turned into a PIL image and transformed when it is read, as torchvision's CIFAR10 does."""

    def __init__(self, images: np.ndarray, labels: list[int], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.images = images
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def run(quick: bool) -> Result:
    """Times epochs of both over the same random images; the content of the images does not affect the speed."""
    count, rounds = (1_000, 2) if quick else (20_000, 5)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, _SIDE, _SIDE, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    all_threads = torch.get_num_threads()
    contenders: dict[str, Timed] = {}
    for number in sorted({1, all_threads}):
        name = f"this project's Batches, {number_of_threads(number)}"
        contenders[name] = timed(_on_threads(number, project_batches(images, labels)))
    loader = torchvision_batches(images, labels)
    contenders[REFERENCE] = timed(lambda: consume(loader))
    consume(loader)  # starts the workers, which then serve all epochs
    seconds = interleaved(contenders, rounds)
    measurements = [
        {
            "pipeline": name,
            "images": count,
            "seconds": values,
            "images_per_second": count / spread(values).median,
            # a ratio of speeds, so that more is better
            "ratio_to_reference": spread(ratios(seconds[REFERENCE], values))._asdict(),
        }
        for name, values in seconds.items()
    ]
    return Result(
        name="data_pipeline",
        caption=(
            f"Data pipeline: {count:,} images of {_SIDE}x{_SIDE}x3 in batches of {BATCH_SIZE}, shuffled, cropped at "
            f"random with padding 4, mirrored and normalized; median of {rounds} epochs, the pipelines in turn. Ratio: "
            f"images a second to {REFERENCE} (with quartiles), epoch by epoch."
        ),
        rows=_rows(measurements),
        measurements=measurements,
        environment=cpu_environment(),
    )


def project_batches(images: torch.Tensor, labels: torch.Tensor) -> Batches:
    """Returns the pipeline that the studies use."""
    generator = torch.Generator().manual_seed(0)
    return Batches(images, labels, _MEAN, _STD, BATCH_SIZE, generator=generator, shuffle=True, augment=True)


def torchvision_batches(images: torch.Tensor, labels: torch.Tensor) -> DataLoader[Any]:
    """Returns the pipeline that most training scripts use, with the same augmentation."""
    transform = transforms.Compose(
        [
            transforms.RandomCrop(_SIDE, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(_MEAN, _STD),
        ]
    )
    dataset = TorchvisionImages(images.numpy(), labels.tolist(), transform)
    return DataLoader(dataset, BATCH_SIZE, shuffle=True, num_workers=WORKERS, persistent_workers=True)


def consume(batches: Iterable[Any]) -> int:
    """Makes all batches of an epoch and drops them; returns the number of images."""
    return sum(len(batch[0]) for batch in batches)


def _on_threads(number: int, batches: Batches) -> Callable[[], object]:
    def epoch() -> None:
        with threads(number):
            consume(batches)

    return epoch


def _rows(measurements: list[dict[str, Any]]) -> Rows:
    rows = []
    for m in measurements:
        ratio = Spread(**m["ratio_to_reference"])
        rows.append(
            {
                "Pipeline": m["pipeline"],
                "Images a second": f"{m['images_per_second']:,.0f}",
                "Ratio": f"{ratio.median:.1f} ({ratio.low:.1f}-{ratio.high:.1f})",
            }
        )
    return rows

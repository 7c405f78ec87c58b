"""Datasets as uint8 tensors in memory, and their batches as whole-batch tensor operations.

Nothing here works on one image at a time: a batch is one gather from the dataset's tensor, cropped, flipped and
normalized on the way. The files behind the datasets are read by ``files`` and ``archives``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from advanced_optimizers._checks import check_integer, check_range, unknown_name
from advanced_optimizers.experiments.data.archives import ARCHIVES, read_archive
from advanced_optimizers.experiments.data.files import Arrays, DataError, checksum, default_root, read_torchvision
from advanced_optimizers.experiments.data.omniglot import read_omniglot

__all__ = [
    "DATASETS",
    "VALIDATION_FRACTION",
    "Batch",
    "Batches",
    "DataError",
    "Dataset",
    "corrupt_labels",
    "load",
    "split_validation",
    "supply",
    "take_fraction",
]

# Display names, in the order of tables and figures.
DATASETS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar10-jpeg": "cifar10-jpeg",
    "cifar10-jpeg-own": "cifar10-jpeg-own",
    "cifar100": "CIFAR-100",
    "digits": "Digits",
    "omniglot": "Omniglot",
}

# The files of datasets that a user supplies, by name; see ``supply``.
_SUPPLIED: dict[str, Path] = {}

# The share of the training images that tuning holds out.
VALIDATION_FRACTION = 0.1
# Gives label noise its own random stream, apart from the shuffling with the same seed. Otherwise both would draw one
# permutation, and the first batches of a run would hold exactly the noisy labels.
_LABEL_NOISE_STREAM = 0x1ABE1


@dataclass(frozen=True)
class Dataset:
    """Images and labels of one dataset, in memory. Callers share its tensors: do not write to them.

    Attributes:
        name: One of ``DATASETS``.
        images: Training images, uint8, shape (N, H, W, C).
        labels: Training labels, int64, shape (N,), in [0, num_classes).
        test_images: Held-out images, uint8, shape (M, H, W, C).
        test_labels: Held-out labels, int64, shape (M,).
        num_classes: Number of classes.
        mean: Mean of pixel / 255 per channel, over all training images that ``load`` read.
        std: Standard deviation of pixel / 255 per channel, over the same images.
        checksum: SHA-256 (hexadecimal) of the bytes of the four tensors, in the order above.
    """

    name: str
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    checksum: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image as a network sees it: (C, H, W)."""
        height, width, channels = self.images.shape[1:]
        return channels, height, width


def load(name: str, root: str | Path | None = None) -> Dataset:
    """Read a dataset from disk (or, for ``digits``, from scikit-learn), once per process.

    Args:
        name: One of ``DATASETS``. ``cifar10-jpeg`` is a JPEG re-encoding of CIFAR-10: similar, but not identical.
            ``cifar10-jpeg-own`` is another one, which ``python -m advanced_optimizers.experiments.data.jpeg`` makes.
        root: Folder of the data files. Default: the environment variable ``ADVANCED_OPTIMIZERS_DATA``, or else the
            folder ``data`` of the project that the working directory is in.

    Raises:
        ValueError: There is no dataset of that name.
        DataError: A file is missing and cannot be downloaded, is truncated, or fails its checksum.
    """
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    return _load(name, Path(root).expanduser().resolve() if root is not None else default_root())


def supply(name: str, label: str, file: Path) -> None:
    """Makes a user's own data a dataset.

    Args:
        name: Its name, which should hold a hash of the data: a name is loaded once per process.
        label: Its display name.
        file: The arrays of :class:`.Arrays` by name, as ``numpy.savez`` writes them.
    """
    DATASETS[name] = label
    _SUPPLIED[name] = file


def split_validation(dataset: Dataset, fraction: float = VALIDATION_FRACTION) -> Dataset:
    """Hold out a fixed, class-balanced part of the training images, which replaces the test images.

    Args:
        dataset: The dataset whose training images are split; the result does not contain its test images.
        fraction: Fraction of the training images to hold out, in (0, 1); both parts get at least one image.
    """
    check_range("fraction", fraction, 0.0, 1.0, open_low=True, open_high=True)
    order = _stratified_order(dataset.labels)
    held_out, kept = _cut(order, min(max(1, round(fraction * len(order))), len(order) - 1))
    return _with_tensors(
        dataset,
        dataset.images[kept],
        dataset.labels[kept],
        dataset.images[held_out],
        dataset.labels[held_out],
    )


def take_fraction(dataset: Dataset, fraction: float) -> Dataset:
    """Keep a fixed, class-balanced part of the training images; smaller parts are subsets of larger ones.

    Args:
        dataset: The dataset; its test images are kept.
        fraction: Fraction of the training images to keep, in (0, 1].
    """
    check_range("fraction", fraction, 0.0, 1.0, open_low=True)
    order = _stratified_order(dataset.labels)
    kept, _ = _cut(order, max(1, round(fraction * len(order))))
    return _with_tensors(
        dataset,
        dataset.images[kept],
        dataset.labels[kept],
        dataset.test_images,
        dataset.test_labels,
    )


def corrupt_labels(labels: Tensor, fraction: float, num_classes: int, seed: int) -> Tensor:
    """Replace exactly ``round(fraction * N)`` labels with another class, drawn uniformly (symmetric label noise).

    Args:
        labels: int64, shape (N,), in [0, num_classes). Not modified.
        fraction: Fraction of the labels to replace, in [0, 1).
        num_classes: Number of classes, at least 2.
        seed: Determines which labels are replaced, and with what; the same seed produces the same noise.

    Returns:
        A new tensor of labels, shape (N,).
    """
    check_range("fraction", fraction, 0.0, 1.0, open_high=True)
    check_integer("num_classes", num_classes, 2)
    generator = torch.Generator().manual_seed(seed ^ _LABEL_NOISE_STREAM)
    chosen = torch.randperm(len(labels), generator=generator)[: round(fraction * len(labels))]
    # A shift by 1 .. num_classes - 1 reaches each other class once and never the label itself.
    shift = torch.randint(1, num_classes, chosen.shape, generator=generator)
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + shift) % num_classes
    return noisy


class Batch(NamedTuple):
    """One batch: images (B, C, H, W) float32, labels (B,) int64, and their positions in the dataset (B,) int64."""

    images: Tensor
    labels: Tensor
    indices: Tensor


class Batches:
    """The batches of one epoch; iterate again for the next epoch.

    Every random draw comes from ``generator``, in a fixed order: first the epoch's permutation, then for each batch its
    crop offsets and its flips. The same generator state therefore yields the same batches, bit for bit, on any device.

    Args:
        images: uint8, shape (N, H, W, C).
        labels: int64, shape (N,).
        mean: Mean of pixel / 255 per channel.
        std: Standard deviation of pixel / 255 per channel, > 0.
        batch_size: Images per batch, at least 1; the last batch may have fewer.
        generator: Source of all random draws; required by ``shuffle`` and ``augment``.
        shuffle: Draw a new order for each epoch.
        augment: Crop at random from the image padded with black (4 pixels on each side; 1 if the image has a side of
            less than 16 pixels), and mirror left to right with probability 1/2.
        device: Where the images are kept and the batches are made.
        drop_last: Leave out the last batch if it is not full.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        shuffle: bool = False,
        augment: bool = False,
        device: str | torch.device = "cpu",
        drop_last: bool = False,
    ) -> None:
        _check_images(images, labels, mean, std)
        check_integer("batch_size", batch_size, 1)
        if drop_last and batch_size > len(images):
            raise ValueError(
                f"batch_size must be at most the {len(images)} images when drop_last is set, got {batch_size}"
            )
        if generator is None and (shuffle or augment):
            raise ValueError("generator must be a torch.Generator when shuffle or augment is set, got None")
        self.batch_size = batch_size
        self.generator = generator
        self.shuffle = shuffle
        self.augment = augment
        self.device = torch.device(device)
        self.drop_last = drop_last
        self._count, self._height, self._width, self._channels = images.shape
        self._padding = 4 if min(self._height, self._width) >= 16 else 1
        self._labels = labels.to(self.device)
        self._images = images.to(self.device).contiguous()
        if augment:
            sides = (self._padding,) * 4
            self._images = torch.nn.functional.pad(self._images, (0, 0, *sides))
        # (x / 255 - mean) / std = x * scale + shift, with scale and shift repeated for a whole image: with an innermost
        # dimension of three channels instead, the same two operations take eight times as long.
        pixels = self._height * self._width
        scale = [1 / (255 * s) for s in std]
        shift = [-m / s for m, s in zip(mean, std, strict=True)]
        self._scale = torch.tensor(scale, device=self.device).repeat(pixels)
        self._shift = torch.tensor(shift, device=self.device).repeat(pixels)

    def __len__(self) -> int:
        full = self._count // self.batch_size
        return full if self.drop_last else math.ceil(self._count / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        if self.shuffle:
            order = self._draw(torch.randperm, self._count)
        else:
            order = torch.arange(self._count, device=self.device)
        for indices in order.split(self.batch_size)[: len(self)]:
            pixels = self._augmented(indices) if self.augment else self._images.index_select(0, indices)
            yield Batch(self._normalized(pixels), self._labels.index_select(0, indices), indices)

    def _normalized(self, pixels: Tensor) -> Tensor:
        """uint8 (B, H, W, C) -> float32 (B, C, H, W), a view of channels-last memory."""
        flat = pixels.view(len(pixels), -1).float().mul_(self._scale).add_(self._shift)
        return flat.view(-1, self._height, self._width, self._channels).permute(0, 3, 1, 2)

    def _augmented(self, indices: Tensor) -> Tensor:
        """Crop and mirror the images at ``indices`` in one gather of pixels: uint8 (B, H, W, C)."""
        batch = len(indices)
        offsets = self._draw(torch.randint, 2 * self._padding + 1, (2, batch))
        flips = self._draw(torch.randint, 2, (batch,)).bool()
        padded_height, padded_width = self._images.shape[1:3]
        rows = torch.arange(self._height, device=self.device)
        columns = torch.arange(self._width, device=self.device)
        # Mirroring means reading the columns of the crop backward.
        columns = torch.where(flips[:, None], self._width - 1 - columns, columns)
        corner = (indices * padded_height + offsets[0]) * padded_width + offsets[1]
        row_starts = corner[:, None] + rows * padded_width
        gather = row_starts[:, :, None] + columns[:, None, :]
        pixels = self._images.view(-1, self._channels).index_select(0, gather.view(-1))
        return pixels.view(batch, self._height, self._width, self._channels)

    def _draw(self, function: Any, *arguments: Any) -> Tensor:
        """Draw on the generator's device, so that the numbers do not depend on the device of the images."""
        assert self.generator is not None
        drawn: Tensor = function(*arguments, generator=self.generator, device=self.generator.device)
        return drawn.to(self.device)


def _check_images(images: Tensor, labels: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
        raise ValueError(
            f"images must be uint8 of shape (N, H, W, C) with N >= 1, got {images.dtype} of shape {tuple(images.shape)}"
        )
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels must be int64 of shape ({len(images)},), one per image, "
            f"got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != images.shape[-1]:
            raise ValueError(f"{name} must have one value for each of the {images.shape[-1]} channels, got {values}")
    for value in std:
        check_range("std", value, 0.0, open_low=True)


@lru_cache(maxsize=4)
def _load(name: str, root: Path) -> Dataset:
    if name == "digits":
        arrays = _read_digits()
    elif name in _SUPPLIED:
        arrays = _read_supplied(name, _SUPPLIED[name])
    elif name in ARCHIVES:
        arrays = read_archive(name, root)
    elif name == "omniglot":
        arrays = read_omniglot(root)
    else:
        arrays = read_torchvision(name, root)
    mean, std = _channel_statistics(arrays.images)
    return Dataset(name, *arrays, mean, std, checksum(*arrays[:4]))


def _read_digits() -> Arrays:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Gray levels 0 to 16 -> 0 to 255.
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(-1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    test, train = _cut(_stratified_order(labels), round(len(labels) / 5))
    return Arrays(images[train], labels[train], images[test], labels[test], 10)


def _read_supplied(name: str, file: Path) -> Arrays:
    try:
        with np.load(file) as content:
            images, labels, test_images, test_labels = (torch.from_numpy(content[k]) for k in Arrays._fields[:4])
            return Arrays(images, labels, test_images, test_labels, int(content["num_classes"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(f"{file}, the images of {name}, cannot be read ({error}): delete it and begin again") from error


def _with_tensors(
    dataset: Dataset, images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor
) -> Dataset:
    return replace(
        dataset,
        images=images,
        labels=labels,
        test_images=test_images,
        test_labels=test_labels,
        checksum=checksum(images, labels, test_images, test_labels),
    )


def _channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixel / 255 per channel, from exact integer sums."""
    count = images.shape[0] * images.shape[1] * images.shape[2]
    total = images.sum(dim=(0, 1, 2), dtype=torch.int64).tolist()
    squares = sum(part.int().square().sum(dim=(0, 1, 2)) for part in images.split(1000))
    means = [t / count for t in total]
    stds = [math.sqrt(s / count - m * m) for s, m in zip(torch.as_tensor(squares).tolist(), means, strict=True)]
    return tuple(m / 255 for m in means), tuple(s / 255 for s in stds)


def _stratified_order(labels: Tensor) -> np.ndarray:
    """A fixed permutation such that the first ``n`` items have the class proportions of the whole, for any ``n``."""
    # NumPy never changes the stream of RandomState, so the split is the same with every version of every library.
    shuffled = np.random.RandomState(0).permutation(len(labels))
    place = np.empty(len(labels))
    for value in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels.numpy()[shuffled] == value)
        place[members] = (np.arange(len(members)) + 0.5) / max(1, len(members))
    return shuffled[np.argsort(place, kind="stable")]


def _cut(order: np.ndarray, size: int) -> tuple[Tensor, Tensor]:
    """The first ``size`` indices of ``order`` and the rest, each in increasing order."""
    first, rest = np.sort(order[:size]), np.sort(order[size:])
    return torch.from_numpy(first), torch.from_numpy(rest)

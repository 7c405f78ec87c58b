"""What a search asks of its data: batches of images and labels, and two sets that do not overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

# Yields (images, labels, ...): a DataLoader, a list of batches, or anything else that can be read once per epoch.
Loader = Iterable[Sequence[Tensor]]


def check_loaders(train: Loader, val: Loader) -> None:
    """Raises a ValueError that names the loader if one is empty, or if both draw from the same samples.

    Overlap is found between the same object twice, and between the index sets of two ``DataLoader``. Of other iterables
    it is not visible: keep them apart yourself.
    """
    if train is val:
        raise ValueError("val_loader must hold other samples than train_loader, got the same object twice")
    for name, loader in (("train_loader", train), ("val_loader", val)):
        if next(iter(loader), None) is None:
            raise ValueError(f"{name} must have at least one batch, got none")
    (train_data, train_indices), (val_data, val_indices) = _samples(train), _samples(val)
    if train_data is None or train_data is not val_data:
        return
    common = set(train_indices) & set(val_indices)
    if common:
        raise ValueError(
            f"val_loader must hold other samples than train_loader, but they share {len(common)} of the same dataset: "
            "give each its own torch.utils.data.Subset"
        )


def _samples(loader: Any) -> tuple[Any, Iterable[int]]:
    """The dataset at the bottom of a loader, and which of its samples it reads; None if that is not visible."""
    data = getattr(loader, "dataset", None)
    if data is None or not hasattr(data, "__len__"):
        return None, ()
    own = getattr(getattr(loader, "sampler", None), "indices", None)
    indices: Sequence[int] = range(len(data)) if own is None else list(own)
    while hasattr(data, "indices") and hasattr(data, "dataset"):  # a Subset, possibly of a Subset
        indices, data = [int(data.indices[i]) for i in indices], data.dataset
    return data, indices


def endless(loader: Loader) -> Iterator[Sequence[Tensor]]:
    """The loader's batches, over and over."""
    while True:
        yield from loader


def images_and_labels(batch: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Both on the device.

    Raises:
        ValueError: The batch has a single image, of which batch normalization cannot learn a variance.
    """
    images, labels = batch[0].to(device), batch[1].to(device)
    if images.ndim != 4 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"a batch must be images (B, C, H, W) and labels (B,), got {tuple(images.shape)} and {tuple(labels.shape)}"
        )
    if len(images) < 2:
        raise ValueError("a batch must have at least 2 images for batch normalization, got 1: use drop_last=True")
    return images, labels


def check_finite(loss: Tensor, network: nn.Module, images: Tensor, weights: Tensor | None = None) -> None:
    """Raises a ValueError that names the first operation with a non-finite output if the loss is not finite."""
    if torch.isfinite(loss):
        return
    found: list[str] = []

    def look(name: str, output: Tensor) -> None:
        if not torch.isfinite(output).all():
            found.append(name)

    handles = [
        operation.register_forward_hook(lambda module, inputs, output, name=f"{path}: {name}": look(name, output))
        for path, mixed in network.named_modules()
        if hasattr(mixed, "names") and hasattr(mixed, "ops")
        for name, operation in zip(mixed.names, mixed.ops, strict=True)
    ]
    with torch.no_grad():
        network(images) if weights is None else network(images, weights)
    for handle in handles:
        handle.remove()
    where = f"the first operation with an output that is not finite is {found[0]}" if found else "no operation's is"
    raise ValueError(
        f"the loss must be finite, got {float(loss.detach())}: {where}; try a lower lr, and check the images"
    )

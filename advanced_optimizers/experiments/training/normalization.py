"""BatchNorm's running statistics where a step evaluates the network at more than one point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a model has running statistics of batches."""
    return bool(_batch_norms(model))


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keeps the running statistics as they are; batches are normalized with their own, as in training."""
    layers = _batch_norms(model)
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


@torch.no_grad()
def reestimate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replaces the running statistics by the mean over batches at the present weights.

    Args:
        model: Its mode is training afterwards.
        batches: Training images (B, C, H, W). Without any, the statistics stay.
    """
    layers = _batch_norms(model)
    momenta = [layer.momentum for layer in layers]
    model.train()
    started = False
    for images in batches:
        if not started:
            for layer in layers:
                layer.reset_running_stats()
                layer.momentum = None  # the mean over all batches since the reset
            started = True
        model(images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def _batch_norms(model: nn.Module) -> list[_BatchNorm]:
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]

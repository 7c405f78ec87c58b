"""The parts of a SigProp network: layers that carry two streams, the target generator, and the outputs."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advanced_optimizers.forward_signal.losses import LocalLoss, at_least_float32, similarities

__all__ = [
    "ClassifierOutput",
    "NeutralOutput",
    "SigPropLayer",
    "SigPropSignalLayer",
    "Signals",
    "TargetGenerator",
    "TargetOutput",
]

_BATCH_NORMS = (nn.modules.batchnorm._NormBase,)  # BatchNorm and InstanceNorm, of any dimension
# These have weights but do not start a layer: they belong to the layer before them.
_ATTACHED = (*_BATCH_NORMS, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.PReLU)
_ACTIVATIONS = (
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Hardtanh, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
    *(nn.Tanh, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid),
)


class Signals(NamedTuple):
    """What a layer passes on: activations (B, ...), targets (contexts, ...), and its loss, a scalar or None."""

    h: Tensor
    t: Tensor
    loss: Tensor | None


class TargetGenerator(nn.Module):
    r"""Turns contexts into the targets of the first layer, :math:`t_1 = f(\mathrm{LN}(S_1 c + d_1))`.

    Args:
        num_classes: Length of a context.
        shape: Shape of the first layer's activations, without the batch dimension.
        activation: :math:`f`.
    """

    def __init__(self, num_classes: int, shape: tuple[int, ...], activation: nn.Module) -> None:
        super().__init__()
        self.shape = shape
        self.projection = nn.Linear(num_classes, math.prod(shape))
        self.norm = nn.LayerNorm(math.prod(shape))
        self.activation = activation

    def forward(self, contexts: Tensor) -> Tensor:
        """(contexts, num_classes) -> (contexts, *shape); images have their channels last in memory."""
        t = self.norm(self.projection(contexts))
        channels, *positions = self.shape
        if positions:
            t = t.view(-1, *positions, channels).movedim(-1, 1)
        out: Tensor = self.activation(t)
        return out


class SigPropLayer(nn.Module):
    r"""One layer for both streams: :math:`[h_i, t_i] = f(W_i\,[h_{i-1}, t_{i-1}])`, trained by its own loss.

    Args:
        block: The layer's modules: weights, then norm, activation, dropout, pooling.
        loss: Compares the two streams.
        num_classes: Number of rows of ``t`` that belong to classes; further rows are contexts that only the output
            uses.
    """

    def __init__(self, block: nn.Module, loss: LocalLoss, num_classes: int) -> None:
        super().__init__()
        self.block = block
        self.loss = loss
        self.num_classes = num_classes

    def forward(self, h: Tensor) -> Tensor:
        """Returns only the activations, as at inference."""
        out: Tensor = self.block(h)
        return out

    def targets(self, t: Tensor) -> Tensor:
        """Returns the layer's targets, computed from the incoming ones."""
        with _target_mode(self.block):
            out: Tensor = self.block(t)
        return out

    def propagate(self, h: Tensor, t: Tensor, y: Tensor) -> Signals:
        """Passes both streams through the layer and compares them; no gradient flows back into ``h`` or ``t``."""
        with _autocast_without_cache(h.device.type):
            h1, t1 = self(h.detach()), self.targets(t.detach())
            loss = self.loss(h1, self._of_classes(t1), self._of_classes(t), y)
        return Signals(h1, t1, loss)

    def _of_classes(self, t: Tensor) -> Tensor:
        return t if len(t) == self.num_classes else t[: self.num_classes]  # a slice of all rows has a gradient to copy

    def extra_repr(self) -> str:
        """The loss, for ``repr``."""
        return f"loss={self.loss.name}"


class SigPropSignalLayer(SigPropLayer):
    """The first layer, whose targets come from the generator and not from its own weights."""

    def __init__(self, block: nn.Module, loss: LocalLoss, num_classes: int, generator: TargetGenerator) -> None:
        super().__init__(block, loss, num_classes)
        self.generator = generator

    def targets(self, t: Tensor) -> Tensor:
        """Returns the first targets, computed from the contexts."""
        out: Tensor = self.generator(t)
        return out


class ClassifierOutput(nn.Module):
    """Option B: an ordinary classifier, trained on the activations of the last layer, which it does not change."""

    uses_targets = False

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def scores(self, h: Tensor, t: Tensor) -> Tensor:
        """Returns logits (B, num_classes); the targets are not used."""
        out: Tensor = self.linear(h)
        return out

    def propagate(self, h: Tensor, t: Tensor, y: Tensor) -> Signals:
        """Returns the scores in place of activations, and their cross-entropy."""
        with _autocast_without_cache(h.device.type):
            scores = at_least_float32(self.scores(h.detach(), t.detach()))
        return Signals(scores, t, F.cross_entropy(scores, y))


class NeutralOutput(ClassifierOutput):
    r"""Option A.iii: compares with the target of one neutral context, :math:`y = V (h_N \odot t_N^*) + d`.

    The neutral context is uniform, :math:`c^* = 1/C`. The comparison is that of an inner product, but feature by
    feature: a single number could not tell C classes apart, so a trained layer reads the classes from the features.
    """

    uses_targets = True

    def scores(self, h: Tensor, t: Tensor) -> Tensor:
        """Returns logits (B, num_classes); the neutral target is the last one."""
        out: Tensor = self.linear(h * t[-1])
        return out


class TargetOutput(nn.Module):
    r"""Option A.i: compares with the target of each class, :math:`y_k = \langle h_N, t_N^k \rangle`; has no weights.

    Args:
        temperature: The temperature of the loss, so that the scores are the logits of its softmax.
    """

    uses_targets = True

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def scores(self, h: Tensor, t: Tensor) -> Tensor:
        """Returns logits (B, num_classes)."""
        with torch.autocast(h.device.type, enabled=False):
            return similarities(at_least_float32(h), at_least_float32(t), self.temperature)

    @torch.no_grad()
    def propagate(self, h: Tensor, t: Tensor, y: Tensor) -> Signals:
        """Returns the scores in place of activations; there is nothing to learn, so the loss is None."""
        return Signals(self.scores(h, t), t, None)


def split_into_blocks(model: nn.Sequential) -> list[nn.Sequential]:
    """Cuts a sequential before each module that learns; modules before the first of them belong to its block.

    Norms and PReLU have weights but do not start a layer, and frozen weights learn nothing: both go with the layer
    before them.
    """
    modules = list(model)
    starts = [i for i, module in enumerate(modules) if _starts_a_block(module)]
    cuts = [0, *starts[1:], len(modules)] if starts else []
    return [nn.Sequential(*modules[a:b]) for a, b in pairwise(cuts)]


def last_activation(block: nn.Module) -> nn.Module:
    """Returns a copy of the block's last activation, for the first targets to pass through as well; or the identity."""
    found = [module for module in block.modules() if isinstance(module, _ACTIVATIONS)]
    return copy.deepcopy(found[-1]) if found else nn.Identity()


def _starts_a_block(module: nn.Module) -> bool:
    return not isinstance(module, _ATTACHED) and any(p.requires_grad for p in module.parameters())


@contextmanager
def _target_mode(block: nn.Module) -> Iterator[None]:
    """Makes a block deterministic for the targets: no dropout, and norms that use the targets' own statistics.

    The running statistics are those of the activations: the targets neither change nor use them.
    """
    before: list[tuple[nn.Module, dict[str, Any]]] = []
    try:
        for module in block.modules():
            wanted = {"training": False}
            if isinstance(module, _BATCH_NORMS):
                wanted = {"training": True, "track_running_stats": False}
            before.append((module, {name: getattr(module, name) for name in wanted}))
            _set_attributes(module, wanted)
        yield
    finally:
        for module, values in before:
            _set_attributes(module, values)


def _set_attributes(module: nn.Module, values: dict[str, Any]) -> None:
    if type(module).__setattr__ is nn.Module.__setattr__:
        vars(module).update(values)  # ends there too, after a search for parameters, buffers and modules of that name
        return
    for name, value in values.items():
        setattr(module, name, value)


def _autocast_without_cache(device_type: str) -> AbstractContextManager[Any]:
    """Returns the caller's autocast, but with weights cast anew at each use.

    The cache lives as long as the caller's context. Within that context, weights that a layer has just updated would be
    used as they were before. Without the cache, the gradients of a weight from the two streams are also summed in the
    precision of the weight.
    """
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, torch.get_autocast_dtype(device_type), cache_enabled=False)

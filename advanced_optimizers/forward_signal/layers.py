"""What a SigProp network is made of: layers that carry two streams, the generator of targets, and the outputs."""

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
# They have weights but no layer of their own: they belong to the weights before them.
_ATTACHED = (*_BATCH_NORMS, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.PReLU)
_ACTIVATIONS = (
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Hardtanh, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish),
    *(nn.Tanh, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid),
)


class Signals(NamedTuple):
    """What a layer hands on: activations (B, ...), targets (contexts, ...), and its loss, scalar or None."""

    h: Tensor
    t: Tensor
    loss: Tensor | None


class TargetGenerator(nn.Module):
    r"""Turns contexts into the first layer's targets, :math:`t_1 = f(\mathrm{LN}(S_1 c + d_1))`.

    Args:
        num_classes: Length of a context.
        shape: Shape of the first layer's activations, without the batch.
        activation: :math:`f`.
    """

    def __init__(self, num_classes: int, shape: tuple[int, ...], activation: nn.Module) -> None:
        super().__init__()
        self.shape = shape
        self.projection = nn.Linear(num_classes, math.prod(shape))
        self.norm = nn.LayerNorm(math.prod(shape))
        self.activation = activation

    def forward(self, contexts: Tensor) -> Tensor:
        """(contexts, num_classes) -> (contexts, *shape), images with their channels last in memory."""
        t = self.norm(self.projection(contexts))
        channels, *positions = self.shape
        if positions:
            t = t.view(-1, *positions, channels).movedim(-1, 1)
        out: Tensor = self.activation(t)
        return out


class SigPropLayer(nn.Module):
    r"""One layer of both streams: :math:`[h_i, t_i] = f(W_i\,[h_{i-1}, t_{i-1}])`, trained by its own loss.

    Args:
        block: The layer's modules: weights, then norm, activation, dropout, pooling.
        loss: Compares the two streams.
        num_classes: Rows of ``t`` that are classes; further ones are contexts that only the output uses.
    """

    def __init__(self, block: nn.Module, loss: LocalLoss, num_classes: int) -> None:
        super().__init__()
        self.block = block
        self.loss = loss
        self.num_classes = num_classes

    def forward(self, h: Tensor) -> Tensor:
        """The activations alone, as at inference."""
        out: Tensor = self.block(h)
        return out

    def targets(self, t: Tensor) -> Tensor:
        """The layer's targets, from those that come in."""
        with _target_mode(self.block):
            out: Tensor = self.block(t)
        return out

    def propagate(self, h: Tensor, t: Tensor, y: Tensor) -> Signals:
        """Carries both streams through the layer and compares them; no gradient flows back into ``h`` or ``t``."""
        with _autocast_without_cache(h.device.type):
            h1, t1 = self(h.detach()), self.targets(t.detach())
            loss = self.loss(h1, t1[: self.num_classes], t[: self.num_classes], y)
        return Signals(h1, t1, loss)

    def extra_repr(self) -> str:
        """The loss, as ``repr`` shows it."""
        return f"loss={self.loss.name}"


class SigPropSignalLayer(SigPropLayer):
    """The first layer, whose targets come from the generator in the place of its own weights."""

    def __init__(self, block: nn.Module, loss: LocalLoss, num_classes: int, generator: TargetGenerator) -> None:
        super().__init__(block, loss, num_classes)
        self.generator = generator

    def targets(self, t: Tensor) -> Tensor:
        """The first targets, from the contexts."""
        out: Tensor = self.generator(t)
        return out


class ClassifierOutput(nn.Module):
    """Option B: an ordinary classifier, trained on the last layer's activations, which it does not change."""

    uses_targets = False

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def scores(self, h: Tensor, t: Tensor) -> Tensor:
        """Logits (B, num_classes); the targets are not used."""
        out: Tensor = self.linear(h)
        return out

    def propagate(self, h: Tensor, t: Tensor, y: Tensor) -> Signals:
        """The scores in the place of activations, and their cross-entropy."""
        with _autocast_without_cache(h.device.type):
            scores = at_least_float32(self.scores(h.detach(), t.detach()))
        return Signals(scores, t, F.cross_entropy(scores, y))


class NeutralOutput(ClassifierOutput):
    r"""Option A.iii: compares with the target of one neutral context, :math:`y = V (h_N \odot t_N^*) + d`.

    The neutral context is uniform, :math:`c^* = 1/C`. The comparison is the inner product's, feature by feature; one
    number alone could not tell C classes apart, so a trained layer reads the classes from it.
    """

    uses_targets = True

    def scores(self, h: Tensor, t: Tensor) -> Tensor:
        """Logits (B, num_classes); the neutral target is the last one."""
        out: Tensor = self.linear(h * t[-1])
        return out


class TargetOutput(nn.Module):
    r"""Option A.i: compares with the targets of every class, :math:`y_k = \langle h_N, t_N^k \rangle`; has no weights.

    Args:
        temperature: That of the loss, so that the scores are logits of the loss's softmax.
    """

    uses_targets = True

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def scores(self, h: Tensor, t: Tensor) -> Tensor:
        """Logits (B, num_classes)."""
        with torch.autocast(h.device.type, enabled=False):
            return similarities(at_least_float32(h), at_least_float32(t), self.temperature)

    @torch.no_grad()
    def propagate(self, h: Tensor, t: Tensor, y: Tensor) -> Signals:
        """The scores in the place of activations; nothing to learn, so no loss."""
        return Signals(self.scores(h, t), t, None)


def split_into_blocks(model: nn.Sequential) -> list[nn.Sequential]:
    """Cuts a sequential before each module that learns; what stands before the first one belongs to it.

    Norms and PReLU have weights but are no layer, frozen weights learn nothing: both go with the layer before them.
    """
    modules = list(model)
    starts = [i for i, module in enumerate(modules) if _starts_a_block(module)]
    cuts = [0, *starts[1:], len(modules)] if starts else []
    return [nn.Sequential(*modules[a:b]) for a, b in pairwise(cuts)]


def last_activation(block: nn.Module) -> nn.Module:
    """A copy of the block's own activation, for the first targets to pass through as well; or the identity."""
    found = [module for module in block.modules() if isinstance(module, _ACTIVATIONS)]
    return copy.deepcopy(found[-1]) if found else nn.Identity()


def _starts_a_block(module: nn.Module) -> bool:
    return not isinstance(module, _ATTACHED) and any(p.requires_grad for p in module.parameters())


@contextmanager
def _target_mode(block: nn.Module) -> Iterator[None]:
    """Makes a block deterministic for the targets: no dropout, and norms that use the targets' own statistics.

    The running statistics are those of the activations: the targets neither move nor use them.
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
    for name, value in values.items():
        setattr(module, name, value)


def _autocast_without_cache(device_type: str) -> AbstractContextManager[Any]:
    """The caller's autocast, but weights are cast anew at each use.

    The cache lives as long as the caller's context: within it, weights that a layer has just updated would be used as
    they were before. And the two streams' gradients of a weight are summed in its own precision this way.
    """
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, torch.get_autocast_dtype(device_type), cache_enabled=False)

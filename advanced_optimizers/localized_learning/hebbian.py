"""The localized rules of LoCal+SGD: weight updates from a layer's own input and pre-activation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Layer: TypeAlias = nn.Linear | nn.Conv2d
Rule: TypeAlias = Callable[[Layer, Tensor, Tensor, torch.Generator], Tensor]


def is_eligible(module: nn.Module) -> TypeGuard[Layer]:
    """Whether a module is a ``Linear`` or ``Conv2d`` that computes ``z = W a + b`` with a weight of its own.

    A subclass that overrides ``forward`` does not count, and neither does a layer whose weight is computed from other
    parameters.
    """
    plain = type(module).forward in (nn.Linear.forward, nn.Conv2d.forward)
    return plain and isinstance(module._parameters.get("weight"), nn.Parameter)


def hebbian(layer: Layer, a: Tensor, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""The plain Hebbian product of input and pre-activation, not normalized.

    .. math::
        \text{Linear: } \Delta W = \sum_b z_b a_b^T, \qquad
        \text{Conv2d: } \Delta W_{oc} = \sum_{b, x} z_{b o x} \cdot \text{patch}_x(a_{b c})

    For a convolution this is backpropagation's weight gradient with :math:`z` in place of the output's gradient. The
    same kernel computes it, in the precision of ``z``; for float16, whose sums over positions would overflow, in
    float32.

    Args:
        layer: The layer that computed ``z`` from ``a``.
        a: Its input: (B, ..., in_features), or (B, C, H, W).
        z: Its output, bias included: (B, ..., out_features), or (B, O, H', W').
        generator: Unused; all rules have the same arguments.

    Returns:
        A tensor with the weight's shape, in the weight's precision or float32, whichever is higher.
    """
    precision = torch.float32 if z.dtype == torch.float16 else z.dtype
    a, z = a.to(precision), z.to(precision)
    product = _linear(a, z) if isinstance(layer, nn.Linear) else _convolution(layer, a, z)
    return product.to(torch.promote_types(layer.weight.dtype, torch.float32))


def oja(layer: Layer, a: Tensor, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Oja's rule, :math:`\Delta W_o = \sum (z_o a^T - z_o^2 W_o)` over batch and positions; a filter is one row.

    The arguments and the result are as for :func:`hebbian`.
    """
    product = hebbian(layer, a, z)
    unit_last = z if isinstance(layer, nn.Linear) else z.movedim(1, -1)
    energy = unit_last.reshape(-1, product.shape[0]).to(product.dtype).square().sum(dim=0)
    return product - energy.view(-1, *[1] * (product.dim() - 1)) * layer.weight


def random(layer: Layer, a: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
    """A direction independent of ``a`` and ``z``: the control that shows what the rule itself contributes."""
    weight = layer.weight
    drawn = torch.randn(weight.shape, generator=generator, dtype=torch.promote_types(weight.dtype, torch.float32))
    return drawn.to(weight.device)


# A checkpoint holds the place of its rule here: append only.
RULES: dict[str, Rule | None] = {"hebbian": hebbian, "oja": oja, "random": random, "frozen": None}


class LayerObserver:
    """The forward hook of one layer: while ``active``, it sums the layer's directions since the last step.

    It observes a layer only in training mode with gradients enabled, so evaluation never changes a weight.

    Args:
        layer: The layer.
        rule: The rule by which it learns, or None if it does not learn.
        generator: For the random rule.
    """

    def __init__(self, layer: Layer, rule: Rule | None, generator: torch.Generator) -> None:
        self.layer = layer
        self.rule = rule
        self.generator = generator
        self.active = False
        self.direction: Tensor | None = None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        if self.active and self.rule is not None and module.training and torch.is_grad_enabled():
            a, z = self._as_batch(args[0] if args else kwargs["input"]), self._as_batch(output)
            with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
                direction = self.rule(self.layer, a, z, self.generator)
                self.direction = direction if self.direction is None else self.direction + direction

    def _as_batch(self, t: Tensor) -> Tensor:
        without_batch = 1 if isinstance(self.layer, nn.Linear) else 3
        return t.unsqueeze(0) if t.dim() == without_batch else t

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy of the model alone must not keep observing; a copied optimizer installs observers of its own.
        return NoObserver, ()


class NoObserver:
    """What a copied model has in place of its original's observers."""

    def __call__(self, *ignored: Any) -> None:
        """Does nothing."""


class Observers:
    """The observers of a model's layers.

    Args:
        layers: The layers to observe.
        rule: The rule by which they learn, or None if they do not learn.
        generator: For the random rule.

    Raises:
        ValueError: One of the layers is already observed.
    """

    def __init__(self, layers: Sequence[Layer], rule: Rule | None, generator: torch.Generator) -> None:
        if any(isinstance(hook, LayerObserver) for layer in layers for hook in layer._forward_hooks.values()):
            raise ValueError(
                "model must have one LocalizedOptimizer at a time, but one is already attached: call its detach() "
                "first, or build a new model"
            )
        self._learns = rule is not None
        self._observers = [LayerObserver(layer, rule, generator) for layer in layers]
        self._hooks = [o.layer.register_forward_hook(o, with_kwargs=True) for o in self._observers]

    def activate(self, params: Sequence[Tensor]) -> None:
        """Observes the layers whose weight is among ``params``, and no others."""
        localized = set(params)
        for observer in self._observers:
            observer.active = observer.layer.weight in localized

    @property
    def weights(self) -> list[Tensor]:
        """The weights for which a forward pass would yield directions, each once."""
        return list(dict.fromkeys(o.layer.weight for o in self._observers if o.active and self._learns))

    def collect(self) -> dict[Tensor, Tensor]:
        """The direction of each weight since the last call; directions of layers that share a weight are added."""
        sums: dict[Tensor, Tensor] = {}
        for observer in self._observers:
            if observer.direction is not None:
                weight = observer.layer.weight
                sums[weight] = observer.direction + sums[weight] if weight in sums else observer.direction
                observer.direction = None
        return sums

    def remove(self) -> None:
        """Removes the hooks."""
        for hook in self._hooks:
            hook.remove()
        self._observers, self._hooks = [], []


def move_weights(directions: Mapping[Tensor, Tensor], distance: float) -> None:
    """Moves each weight by ``distance`` along its direction, unless that is zero or not finite; waits once."""
    if directions:
        norms = [torch.linalg.vector_norm(direction) for direction in directions.values()]
        values = torch.stack([norm.to(norms[0].device) for norm in norms]).tolist()
        for (weight, direction), norm in zip(directions.items(), values, strict=True):
            if 0.0 < norm < math.inf:
                weight.add_(direction, alpha=distance / norm)


def _linear(a: Tensor, z: Tensor) -> Tensor:
    return z.reshape(-1, z.shape[-1]).T @ a.reshape(-1, a.shape[-1])


def _convolution(layer: nn.Conv2d, a: Tensor, z: Tensor) -> Tensor:
    pads = _pads(layer)
    padding = [before for before, _ in pads]
    if layer.padding_mode != "zeros" or any(before != after for before, after in pads):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        a = F.pad(a, [*pads[1], *pads[0]], mode=mode)
        padding = [0, 0]
    # The kernel reads only the weight's shape and memory layout. torch.nn.grad.conv2d_weight passes a weight in the
    # default layout, which takes longer if the layer's weight has another one.
    like = torch.empty_like(layer.weight, dtype=a.dtype)
    wanted = [False, True, False]
    stride, dilation = list(layer.stride), list(layer.dilation)
    product: Tensor = torch.ops.aten.convolution_backward(
        z, a, like, None, stride, padding, dilation, False, [0, 0], layer.groups, wanted
    )[1]
    return product


def _pads(layer: nn.Conv2d) -> list[tuple[int, int]]:
    """The padding before and after, for height and for width."""
    if layer.padding == "valid":
        return [(0, 0), (0, 0)]
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(p), int(p)) for p in layer.padding]

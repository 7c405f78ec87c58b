"""Where a model's parameters are: each belongs to a layer, also where a reparametrization computes the layer's weight.

``weight_norm``, ``spectral_norm`` and pruning replace a layer's weight by other parameters, from which they compute it:
the newer ones (``torch.nn.utils.parametrizations``) in a module of their own, the older ones (``torch.nn.utils``) under
other names. What muP asks of a weight, it asks of these parameters.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from advanced_optimizers.zero_shot_transfer.base_shapes import plain_name

WEIGHT_NORM, SPECTRAL_NORM, OTHER = "weight_norm", "spectral_norm", "a parametrization"


class Place(NamedTuple):
    """One parameter of one module.

    Attributes:
        module_name: The name of the module that has the parameter.
        module: That module.
        name: The parameter's name in the module.
        p: The parameter.
        key: Its name in base shapes, where a shared tensor has one name only.
        layer: The layer that it belongs to: the module, or the one whose tensor a parametrization computes from it.
        tensor: The name of the layer's tensor that it is, or that is computed from it.
        computed_by: What computes the tensor; empty if the parameter itself is the tensor.
    """

    module_name: str
    module: nn.Module
    name: str
    p: nn.Parameter
    key: str
    layer: nn.Module
    tensor: str
    computed_by: str

    @property
    def full_name(self) -> str:
        """The parameter's name in the model."""
        return f"{self.module_name}.{self.name}" if self.module_name else self.name

    @property
    def is_gain(self) -> bool:
        """Whether the parameter is the norm in ``weight_norm``, and not the direction."""
        return self.computed_by == WEIGHT_NORM and self.name in ("original0", f"{self.tensor}_g")

    @property
    def is_whole(self) -> bool:
        """Whether the parameter has the shape of the layer's tensor."""
        return not self.is_gain and (self.computed_by != OTHER or self.p.shape == self.value.shape)

    @property
    def value(self) -> Tensor:
        """The layer's tensor."""
        return getattr(self.layer, self.tensor)


def places_of(model: nn.Module) -> list[Place]:
    """Returns the place of every parameter, in the order of the modules; a tied parameter has several."""
    keys = {id(p): plain_name(name) for name, p in model.named_parameters()}
    owners = {
        id(computing): (layer, tensor)
        for layer in model.modules()
        if parametrize.is_parametrized(layer)
        for tensor, computing in layer.parametrizations.items()  # type: ignore[union-attr, operator]
    }
    places = []
    for module_name, module in model.named_modules():
        hooks = _computed_by_hooks(module)
        for name, p in module._parameters.items():
            if p is None:
                continue
            layer, tensor, computed_by = module, *hooks.get(name, (name, ""))
            if id(module) in owners:
                layer, tensor = owners[id(module)]
                computed_by = _kind(module)
            places.append(Place(module_name, module, name, p, keys[id(p)], layer, tensor, computed_by))
    return places


def fans_of(layer: nn.Module) -> tuple[int, int]:
    """Returns which dimensions of a layer's weight are fan-in and fan-out."""
    return (0, 1) if isinstance(layer, _ConvTransposeNd | nn.Embedding | nn.EmbeddingBag) else (1, 0)


def _kind(computing: nn.Module) -> str:
    steps = list(computing.children())
    for cls, kind in ((_WeightNorm, WEIGHT_NORM), (_SpectralNorm, SPECTRAL_NORM)):
        if any(isinstance(step, cls) for step in steps):
            return kind
    return OTHER


def _computed_by_hooks(module: nn.Module) -> dict[str, tuple[str, str]]:
    """Maps the parameters of the older, hook-based functions to the tensor that they stand for and the function."""
    found: dict[str, tuple[str, str]] = {}
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            found |= {f"{hook.name}_{part}": (hook.name, WEIGHT_NORM) for part in "gv"}
        elif isinstance(hook, SpectralNorm):
            found[f"{hook.name}_orig"] = (hook.name, SPECTRAL_NORM)
        elif isinstance(hook, BasePruningMethod):
            found[f"{hook._tensor_name}_orig"] = (hook._tensor_name, OTHER)
    return found

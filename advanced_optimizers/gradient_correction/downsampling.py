"""Finds what down-samples in a model, by one forward pass with an example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from advanced_optimizers.gradient_correction.shapes import ChannelsLastError, input_of, shrinks
from advanced_optimizers.gradient_correction.watching import OwnFunctions, Place

# They act on the last dimension, which is not a side of their inputs.
_ON_FEATURES = (nn.Linear, nn.GLU)


class Downsampling(NamedTuple):
    """A call that down-samples.

    Attributes:
        place: Where it is in the model.
        hidden: An example of its input, (B, C, sides).
        weight: The weight of the last layer before it that has one.
    """

    place: Place
    hidden: Tensor
    weight: nn.Parameter | None


def find_downsampling(model: nn.Module, example_input: Tensor | None) -> list[Downsampling]:
    """Runs ``model(example_input)`` once and finds the calls that shrink a side of their input to half or less.

    These are calls of modules without children, and of functions (:func:`input_of` says which) in the forward pass of
    any other module. Each call counts for itself, so a module may be used several times. One whose input needs no
    gradient (the images) does not count. Of several with the same input (a convolution and its shortcut) only the
    first counts. The model runs in evaluation mode, so that nothing in it changes.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: There is no example input, the model cannot be called with it, or nothing in it down-samples.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {model!r}")
    if not isinstance(example_input, Tensor):
        raise ValueError(f"example_input must be a tensor that model can be called with, got {example_input!r}")
    if example_input.numel() == 0:
        raise ValueError(f"example_input must hold at least one sample, got shape {tuple(example_input.shape)}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(
            f"model must have parameters that require a gradient, but {type(model).__name__} has none, or all are "
            "frozen: unfreeze some first"
        )
    probe = _Probe(model)
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.enable_grad():
            model(example_input)
    except ChannelsLastError:
        raise
    except Exception as error:
        raise ValueError(
            f"example_input must be a tensor that model can be called with, got one of shape "
            f"{tuple(example_input.shape)} and {example_input.dtype}, with which {type(model).__name__} fails: {error}"
        ) from error
    finally:
        probe.detach()
        for module, mode in training.items():
            module.training = mode
    if not probe.found:
        raise ValueError(
            f"model must down-sample, but {type(model).__name__} has neither a module nor a function that halves a "
            "side of its input, (B, channels, sides), such as a strided convolution or a pooling: without model, the "
            "gradients of the parameters are corrected instead"
        )
    return probe.places()


class _Probe:
    """Hooks on a model that record what down-samples in its next forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self.found: list[Downsampling] = []
        self._names = {module: name or type(module).__name__ for name, module in model.named_modules()}
        self._calls: Counter[nn.Module] = Counter()
        self._functions: Counter[tuple[nn.Module, int]] = Counter()  # of each call
        self._weight: nn.Parameter | None = None
        self._weight_before: dict[nn.Module, nn.Parameter | None] = {}
        self._own: list[OwnFunctions] = []
        self._handles: list[RemovableHandle] = []
        for module in model.modules():
            self._handles.append(module.register_forward_pre_hook(self._before))
            self._own.append(OwnFunctions(module, partial(self._function, module)))
            if not list(module.children()):
                self._handles.append(module.register_forward_hook(self._after))

    def detach(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
        for own in self._own:
            own.detach()

    def places(self) -> list[Downsampling]:
        """What was found, with the number of calls of each module."""
        return [each._replace(place=self._completed(each.place)) for each in self.found]

    def _completed(self, place: Place) -> Place:
        calls = self._calls[place.module]
        which = f" (call {place.call + 1} of {calls})" if calls > 1 else ""
        function = f"{place.name} in " if place.function is not None else ""
        return place._replace(
            calls=calls,
            functions=self._functions[place.module, place.call],
            name=f"{function}{self._names[place.module]}{which}",
        )

    def _before(self, module: nn.Module, inputs: Any) -> None:
        self._calls[module] += 1
        self._weight_before[module] = self._weight

    def _function(
        self,
        module: nn.Module,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        output: Any,
        /,
    ) -> None:
        name = getattr(function, "__name__", "")
        hidden, call = input_of(function, args, kwargs), self._calls[module] - 1
        if hidden is not None:
            shown = "slice" if name == "__getitem__" else name
            place = Place(module, call, function=self._functions[module, call], name=shown)
            self._functions[module, call] += 1
            if shrinks(hidden, output):
                self._add(place, hidden, self._weight)
        if name == "linear" or name.startswith("conv"):
            weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
            self._weight = weight if _is_weight(weight) else self._weight

    def _after(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        call = self._calls[module] - 1
        if inputs and _is_downsampling(module, inputs[0], output):
            # It counts as a whole, so the functions in it do not.
            self.found = [each for each in self.found if each.place[:2] != (module, call)]
            self._add(Place(module, call), inputs[0], self._weight_before[module])
        weight = getattr(module, "weight", None)
        self._weight = weight if _is_weight(weight) else self._weight

    def _add(self, place: Place, hidden: Tensor, weight: nn.Parameter | None) -> None:
        known = any(
            each.hidden.data_ptr() == hidden.data_ptr() and each.hidden.shape == hidden.shape for each in self.found
        )
        if hidden.requires_grad and not known:
            self.found.append(Downsampling(place, hidden.detach(), weight))


def _is_downsampling(module: nn.Module, hidden: Any, output: Any) -> bool:
    if isinstance(module, _ON_FEATURES) or not (isinstance(hidden, Tensor) and isinstance(output, Tensor)):
        return False
    is_view = output.untyped_storage().data_ptr() == hidden.untyped_storage().data_ptr()
    if is_view and output.numel() == hidden.numel():  # it moves dimensions
        return False
    return output.dim() == hidden.dim() and shrinks(hidden, output)


def _is_weight(weight: Any) -> bool:
    return isinstance(weight, nn.Parameter) and weight.dim() > 1

"""Hooks that show the functions which a module's forward pass calls, and the hidden states in front of given calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from advanced_optimizers.gradient_correction.shapes import input_of


class Show(Protocol):
    """Receives a function, its arguments and what it returned."""

    def __call__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, /
    ) -> None: ...


class OwnFunctions(TorchFunctionMode):
    """Shows each torch function that a module's forward pass calls itself; its submodules' functions are not shown.

    Args:
        module: The module.
        show: Called after each function.
    """

    def __init__(self, module: nn.Module, show: Show) -> None:
        super().__init__()
        self._show = show
        self._open, self._inside = 0, 0
        self._handles: list[RemovableHandle] = [
            module.register_forward_pre_hook(self._enter),
            module.register_forward_hook(self._leave, always_call=True),
        ]
        # A forward pass may call its submodules at any depth, as those inside of a ModuleList.
        for inner in module.modules():
            if inner is not module:
                self._handles.append(inner.register_forward_pre_hook(self._enter_submodule))
                self._handles.append(inner.register_forward_hook(self._leave_submodule, always_call=True))

    def detach(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls a function, as torch does while this object is entered, and shows it."""
        if torch.compiler.is_compiling():  # a traced call could be shown twice
            return torch.compiler.disable(self._call)(func, args, kwargs or {})
        return self._call(func, args, kwargs or {})

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = function(*args, **kwargs)
        if self._inside == 0:
            self._show(function, args, kwargs, output)
        return output

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self._inside = 0  # an exception may have left it anywhere
        self._open += 1
        self.__enter__()

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._open:  # not so if another hook raised before _enter
            self._open -= 1
            self.__exit__(None, None, None)

    def _enter_submodule(self, module: nn.Module, inputs: Any) -> None:
        self._inside += 1

    def _leave_submodule(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._inside -= 1


class Place(NamedTuple):
    """A call in the forward pass of a model: that of a module, or of a function in a module's own forward pass.

    Attributes:
        module: The module.
        call: Which of the module's calls, from 0.
        calls: How many there are in a forward pass of the model.
        function: Which of the functions that this call itself calls, of those with an
            :func:`~advanced_optimizers.gradient_correction.shapes.input_of`, from 0; None stands for the module.
        functions: How many there are in this call.
        name: What to call it in messages.
    """

    module: nn.Module
    call: int = 0
    calls: int = 1
    function: int | None = None
    functions: int = 0
    name: str = ""


Shown = tuple[Place, Callable[[Tensor], None]]


class Watch:
    """Shows the inputs of given calls in every forward pass of a model in training mode.

    Args:
        model: The model. A module that it calls several times has its calls counted from the start of each forward
            pass of the model.
        shown: Pairs of a place in the model and a function that gets the input there.
    """

    def __init__(self, model: nn.Module, shown: Sequence[Shown]) -> None:
        modules = dict.fromkeys(place.module for place, _ in shown)
        self._watches = [_ModuleWatch([pair for pair in shown if pair[0].module is module]) for module in modules]
        self._counted = [watch for watch in self._watches if watch.calls > 1]
        self._handles: list[RemovableHandle] = []
        if self._counted:
            self._handles.append(model.register_forward_pre_hook(self._begin))
            self._handles.append(model.register_forward_hook(self._end))

    def detach(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
        for watch in self._watches:
            watch.detach()

    def _begin(self, model: nn.Module, inputs: Any) -> None:
        for watch in self._counted:
            watch.seen = 0

    def _end(self, model: nn.Module, inputs: Any, output: Any) -> None:
        for watch in self._counted:
            watch.check_calls()


class _ModuleWatch:
    """The places in one module."""

    def __init__(self, shown: Sequence[Shown]) -> None:
        first = shown[0][0]
        self.module, self.calls, self.name = first.module, first.calls, first.name
        self.seen = 0  # calls of the module in this forward pass of the model
        self._shown = {(place.call, place.function): show for place, show in shown}
        self._expected = {place.call: place.functions for place, _ in shown if place.function is not None}
        self._call, self._functions = 0, 0
        self._handles: list[RemovableHandle] = [self.module.register_forward_pre_hook(self._before)]
        self._own: OwnFunctions | None = None
        if self._expected:
            self._own = OwnFunctions(self.module, self._function)
            self._handles.append(self.module.register_forward_hook(self._after))

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        if self._own is not None:
            self._own.detach()

    def check_calls(self) -> None:
        if self._acts() and self.seen != self.calls:
            raise ValueError(
                f"model must call its modules as often as with example_input, where it called {self.name} {self.calls} "
                f"times; in training it called it {self.seen} times. Give each call a module of its own"
            )

    def _acts(self) -> bool:
        return self.module.training and torch.is_grad_enabled()

    def _before(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._call = self.seen if self.calls > 1 else 0
        self._functions = 0
        self.seen += 1
        if self._acts() and self._call >= self.calls:
            raise ValueError(
                f"model must call {self.name} {self.calls} times in a forward pass, as with example_input, but it is "
                "called once more (activation checkpointing and calls of a part of the model do so too). Give each "
                "call a module of its own"
            )
        show = self._shown.get((self._call, None))
        if show is not None and self._acts():
            show(inputs[0])

    def _function(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, /
    ) -> None:
        hidden = input_of(function, args, kwargs)
        if hidden is None:
            return
        show = self._shown.get((self._call, self._functions))
        self._functions += 1
        if show is not None and self._acts():
            show(hidden)

    def _after(self, module: nn.Module, inputs: Any, output: Any) -> None:
        expected = self._expected.get(self._call, self._functions)
        if self._acts() and self._functions != expected:
            raise ValueError(
                f"model must call the same functions as with example_input, where one call of {self.name} had "
                f"{expected} that may down-sample; in training it has {self._functions}. Use modules, such as "
                "torch.nn.MaxPool2d, in place of these functions"
            )

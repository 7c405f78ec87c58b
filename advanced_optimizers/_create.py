"""The package's optimizers by name, for programs that choose one in a configuration.

The names are read off the package's public names, so a new optimizer is among them as soon as it is exported.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from types import FunctionType
from typing import Any, TypeAlias, get_type_hints

import torch
from torch import nn
from torch.optim import Optimizer

import advanced_optimizers
from advanced_optimizers._base import ParamsT
from advanced_optimizers._checks import unknown_name

__all__ = ["create_optimizer", "list_optimizers"]

# A class of optimizers, or a function that returns one.
Maker: TypeAlias = type[Optimizer] | FunctionType


def create_optimizer(name: str, model_or_params: nn.Module | ParamsT, /, **arguments: Any) -> Optimizer:
    """Creates one of this package's optimizers by its name.

    ``create_optimizer("fer", params, lr=1e-3, weight_decay=0.1, fer_weight=0.5)`` is ``FEROptimizer(params, Adam,
    {"lr": 1e-3, "weight_decay": 0.1}, fer_weight=0.5)``: what the optimizer does not take itself goes to the base
    optimizer that it wraps.

    Args:
        name: One of :func:`list_optimizers`. Upper and lower case, ``_`` and ``-`` make no difference.
        model_or_params: A model, or its parameters in any form that torch's optimizers take. From a model, an optimizer
            of parameters takes all of them. An optimizer that needs the forward pass (``localized``, ``sigprop``) or
            the base shapes (``mu_sgd``, ``mu_adam``, ``mu_adamw``, ``mu_transfer``) needs the model.
        **arguments: Those of the optimizer's class, or those of its own function, such as
            :func:`create_localized_optimizer`, or those of the base optimizer. ``base_optimizer`` may be the name of an
            optimizer of ``torch.optim``, such as ``"adamw"``.

    Raises:
        TypeError: ``name`` is not a string, or the optimizer needs the model and got parameters.
        ValueError: No optimizer or no argument has this name, or an argument is given twice; the message suggests the
            nearest name. Besides, whatever the optimizer itself raises.

    Example:
        >>> import torch
        >>> from advanced_optimizers import create_optimizer
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = create_optimizer("fer", model.parameters(), lr=0.1, base_optimizer="sgd", momentum=0.9)
        >>> type(optimizer.base).__name__, optimizer.param_groups[0]["momentum"]
        ('SGD', 0.9)
    """
    spelling, makers = _find(name)
    if isinstance(arguments.get("base_optimizer"), str):
        arguments["base_optimizer"] = _of_torch(arguments["base_optimizer"])
    if not isinstance(model_or_params, Iterable | nn.Module):
        raise TypeError(f"model_or_params must be a model or its parameters, got {model_or_params!r}")
    calls = [_Call(maker, arguments) for maker in makers]
    for call in calls:
        if not call.unknown:
            return call.make(spelling, model_or_params)
    known = sorted({argument for call in calls for argument in call.known})
    for argument in calls[0].unknown:
        if argument not in known:
            raise unknown_name(f"argument of {spelling!r}", argument, known, most=1, cutoff=0.6)
    first, other = calls[0].unknown[0], calls[1].unknown[0]
    raise ValueError(
        f"{first}={arguments[first]!r} cannot be given together with {other}={arguments[other]!r}: one is an argument "
        f"of {calls[1].maker.__name__}, the other of {calls[0].maker.__name__}"
    )


def list_optimizers(filter: str = "*") -> list[str]:
    """The names that :func:`create_optimizer` knows, sorted.

    Args:
        filter: Only names that match this pattern, in which ``*`` stands for anything: ``"mu_*"``.

    Raises:
        TypeError: ``filter`` is not a string.

    Example:
        >>> from advanced_optimizers import list_optimizers
        >>> list_optimizers("mu_*")
        ['mu_adam', 'mu_adamw', 'mu_sgd', 'mu_transfer']
    """
    if not isinstance(filter, str):
        raise TypeError(f"filter must be a pattern such as 'mu_*', got {filter!r}")
    return sorted(spelling for spelling, _ in _optimizers().values() if fnmatchcase(spelling, filter))


def takes_parameters(name: str) -> bool:
    """Whether an optimizer is made from parameters alone; the others need the model."""
    return next(iter(inspect.signature(maker_of(name)).parameters)) == "params"


def maker_of(name: str) -> Maker:
    """The class of an optimizer, or the function that makes it."""
    _, makers = _find(name)
    return makers[0]


def summary(name: str) -> str:
    """The first line of an optimizer's documentation."""
    return (maker_of(name).__doc__ or "").strip().partition("\n")[0]


# ---- names -----------------------------------------------------------------------------------------------------------


@cache
def _optimizers() -> dict[str, tuple[str, list[Maker]]]:
    """By name without separators: the name as it is spelled, and what makes the optimizer, the class first."""
    found: dict[str, tuple[str, list[Maker]]] = {}
    for public in advanced_optimizers.__all__:
        maker = getattr(advanced_optimizers, public)
        if maker is not create_optimizer and _makes_an_optimizer(maker):
            is_function = public.startswith("create_")
            spelling = public.removeprefix("create_").removesuffix("_optimizer") if is_function else _snake_case(public)
            # Capitals sort before create_, so a class comes before its function, which knows how its name is spelled.
            _, makers = found.get(_key(spelling), (spelling, []))
            found[_key(spelling)] = (spelling, [*makers, maker])
    return found


def _makes_an_optimizer(public: Any) -> bool:
    result = public if isinstance(public, type) else get_type_hints(public).get("return")
    return isinstance(result, type) and issubclass(result, Optimizer)


def _snake_case(name: str) -> str:
    """``GradientCorrectionOptimizer`` is ``gradient_correction``, and ``MuAdamW`` is ``mu_adamw``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][A-Za-z])", "_", name.removesuffix("Optimizer")).lower()


def _key(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()


def _find(name: str) -> tuple[str, list[Maker]]:
    if not isinstance(name, str):
        raise TypeError(f"name must be one of {list_optimizers()}, got {name!r}")
    if _key(name) not in _optimizers():
        raise unknown_name("optimizer", name, list_optimizers())
    return _optimizers()[_key(name)]


def _of_torch(name: str) -> type[Optimizer]:
    public = [value for value in vars(torch.optim).values() if isinstance(value, type)]
    known = {kind.__name__: kind for kind in public if issubclass(kind, Optimizer) and kind is not Optimizer}
    for own, kind in known.items():
        if own.lower() == name.lower():
            return kind
    raise unknown_name("base_optimizer in torch.optim", name, known)


# ---- arguments -------------------------------------------------------------------------------------------------------


class _Call:
    """A call of one maker: which arguments are its own, which go to its base optimizer, and which nobody knows."""

    def __init__(self, maker: Maker, arguments: dict[str, Any]) -> None:
        parameters = inspect.signature(maker).parameters
        self.maker = maker
        self.first, *own = parameters
        self.own = {name: value for name, value in arguments.items() if name in own}
        self.further = {name: value for name, value in arguments.items() if name not in own}
        self.wraps = "base_optimizer_kwargs" in own
        self.known = set(own)
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        if self.wraps:
            of_base = _parameters_of(arguments.get("base_optimizer", parameters["base_optimizer"].default))
            takes_any = takes_any or of_base is None
            self.known |= of_base or set()
        self.unknown = [] if takes_any else [name for name in self.further if name not in self.known]

    def make(self, spelling: str, model_or_params: nn.Module | ParamsT) -> Optimizer:
        """Makes the call."""
        first: Any = model_or_params
        if isinstance(model_or_params, nn.Module):
            first = model_or_params.parameters() if self.first == "params" else model_or_params
        elif self.first != "params":
            raise TypeError(f"{spelling!r} needs the model as the first argument, got {model_or_params!r}")
        nested = self.own.get("base_optimizer_kwargs") or {}
        if not (self.wraps and self.further and isinstance(nested, Mapping)):
            return self.maker(first, **self.own, **({} if self.wraps else self.further))
        for name in nested.keys() & self.further.keys():
            raise ValueError(
                f"{name} is given twice, as {self.further[name]!r} and in base_optimizer_kwargs as {nested[name]!r}: "
                "leave one out"
            )
        return self.maker(first, **{**self.own, "base_optimizer_kwargs": {**nested, **self.further}})


def _parameters_of(base_optimizer: Any) -> set[str] | None:
    """The names of a base optimizer's arguments, without that of the parameters; None if it takes any."""
    if not callable(base_optimizer):
        return None  # the optimizer itself says what is wrong with it
    parameters = list(inspect.signature(base_optimizer).parameters.values())
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return None if takes_any else {parameter.name for parameter in parameters[1:]}

"""Checks of arguments, and the errors that they raise: the one place where errors about values and names are worded."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:  # a torch built without distributed has no such class
    from torch.distributed import ProcessGroup

T = TypeVar("T")


def check_range(
    name: str,
    value: float,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Raises a ValueError that names the argument and its value if the value is out of range.

    Args:
        name: The argument's name, as the caller wrote it.
        value: A number: Python's, NumPy's or a tensor with one element. A boolean does not count as one.
        low: Smallest allowed value.
        high: Largest allowed value.
        open_low: Whether ``low`` itself is refused.
        open_high: Whether ``high`` itself is refused; with the default ``high`` this refuses infinity.

    Returns:
        The value as a Python number.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: ``value`` is NaN or out of range.
    """
    # With a tensor as learning rate, torch does not recompile a compiled step when the rate changes.
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if isinstance(number, bool) or not isinstance(number, Real):  # NumPy registers its numbers as such
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = number if type(number) in (int, float) else _as_python(number)
    above = number > low if open_low else number >= low
    below = number < high if open_high else number <= high
    if not (above and below):
        left = f"{'>' if open_low else '>='} {low}" if low != -math.inf else ""
        right = f"{'<' if open_high else '<='} {high}" if open_high or high != math.inf else ""
        wanted = " and ".join(bound for bound in (left, right) if bound) or "a number, not NaN"
        raise ValueError(f"{name} must be {wanted}, got {number!r}")
    return number


def _as_python(number: Real) -> float:
    return int(number) if isinstance(number, Integral) else float(number)


def check_integer(name: str, value: int, low: int) -> int:
    """Raises an error that names the argument unless ``value`` is an integer of at least ``low``.

    Args:
        name: The argument's name, as the caller wrote it.
        value: An integer: Python's, NumPy's or a tensor with one element, as ``labels.max() + 1`` is.
        low: Smallest allowed value.

    Returns:
        The value as a Python integer.
    """
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    return int(check_range(name, number, low))


def check_bool(name: str, value: bool) -> bool:
    """Raises a TypeError that names the argument unless ``value`` is True or False; ``"no"`` is not False."""
    is_numpys = type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_")
    if not (isinstance(value, bool) or is_numpys):  # torch is all that the package imports
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """Raises an error that names the argument and all choices unless ``value`` is one of the strings ``choices``."""
    if not isinstance(value, str) or value not in choices:
        error = ValueError if isinstance(value, str) else TypeError
        raise error(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}")
    return value


def check_iterable(name: str, value: Iterable[T], of: str) -> list[T]:
    """Reads an iterable once into a list, or raises a TypeError that names the argument.

    Args:
        name: The argument's name, as the caller wrote it.
        value: Any iterable but a string or a tensor, whose elements are rarely what the caller meant.
        of: What it must hold, in the plural, such as ``layer widths``.
    """
    if isinstance(value, str | bytes | Tensor) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a list of {of}, got {value!r}: put it in a list")
    return list(value)


def check_groups(groups: object) -> None:
    """Raises a TypeError unless ``groups``, which somebody assigns to ``param_groups``, is a list of group dicts."""
    if not isinstance(groups, list) or not all(isinstance(group, dict) and "params" in group for group in groups):
        raise TypeError(f"param_groups must be a list of group dicts with 'params', got {groups!r}")


def check_closure(closure: object) -> None:
    """Raises a TypeError unless ``closure`` is None or can be called."""
    if closure is not None and not callable(closure):
        raise TypeError(f"closure must be a function, or None, got {closure!r}")


def unknown_name(kind: str, name: object, known: Iterable[str], *, most: int = 3, cutoff: float = 0.4) -> ValueError:
    """The error for a name that is not in a table: it suggests the nearest names, or all names if none is near.

    Args:
        kind: What the name stands for, such as ``algorithm``.
        name: What the caller wrote, of any type.
        known: The names in the table.
        most: The largest number of near names to suggest.
        cutoff: How similar they must be, in [0, 1].
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=most, cutoff=cutoff) if isinstance(name, str) else []
    return ValueError(f"no {kind} is named {name!r}; did you mean {' or '.join(near or names)}?")


def check_known(kind: str, name: str, known: Collection[str]) -> str:
    """The name, if it is in a table; otherwise raises the error of :func:`unknown_name`."""
    if name not in known:
        raise unknown_name(kind, name, known)
    return name


def refuse_per_sample_gradients(name: str, groups: Iterable[Mapping[str, Any]]) -> None:
    """Raises a RuntimeError if Opacus makes a model private whose training does not go through its gradients alone.

    Opacus clips and adds noise to gradients. An update that comes from elsewhere would not be covered by the guarantee
    that it reports.

    Args:
        name: What trains the model, such as ``LocalizedOptimizer``.
        groups: An optimizer's; on their parameters, Opacus keeps the gradient of each sample as ``grad_sample``.
    """
    if any(hasattr(p, "grad_sample") for group in groups for p in group["params"]):
        raise RuntimeError(
            f"{name} cannot train a model that Opacus makes private: its own updates do not come from the clipped and "
            "noisy gradients, so they are not covered by the privacy guarantee: use another optimizer, or train "
            "without Opacus"
        )


def count_processes(group: ProcessGroup | None = None) -> int:
    """How many processes train together: those of a group, by default of the whole job; 1 outside any."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def check_process_group(group: ProcessGroup | None) -> ProcessGroup | None:
    """Raises a TypeError unless ``process_group`` is None or a group that this process belongs to."""
    if group is not None and not (dist.is_available() and isinstance(group, dist.ProcessGroup)):
        raise TypeError(
            "process_group must be a torch.distributed.ProcessGroup that contains this process, or None for all "
            f"processes, got {group!r}"
        )
    return group


def is_dtensor(tensor: Tensor) -> bool:
    """Whether a tensor is a ``DTensor``, one process's share of a larger one, as the parameters of FSDP2 are."""
    module = sys.modules.get("torch.distributed.tensor")  # slow to import, and without it there is no such tensor
    return module is not None and isinstance(tensor, module.DTensor)


def check_gradient(owner: str, p: Tensor, grad: Tensor, instead_of_sharded: Callable[[Tensor], str]) -> None:
    """Raises a ValueError unless an optimizer named ``owner`` can transform the gradient of ``p``.

    Args:
        owner: The name.
        p: The parameter.
        grad: The gradient.
        instead_of_sharded: Says of a sharded gradient what to use instead; nothing if it can be handled.
    """
    if grad.layout != torch.strided:
        raise ValueError(
            f"{owner} does not support sparse gradients, got one of shape {tuple(grad.shape)}: "
            "use sparse=False in the embedding, or a plain SparseAdam for it"
        )
    if grad.is_complex():
        raise ValueError(
            f"{owner} does not support complex gradients, got one of shape {tuple(grad.shape)}: "
            "optimize torch.view_as_real of the parameter"
        )
    if not is_dtensor(grad):
        return
    if remedy := instead_of_sharded(grad):
        raise ValueError(
            f"{owner} does not support sharded gradients, got a DTensor of shape {tuple(grad.shape)}: {remedy}"
        )
    of_grad, of_p = (getattr(each, "placements", ()) for each in (grad, p))
    if of_grad != of_p:
        raise ValueError(
            f"{owner} needs a gradient that is sharded as its parameter, got one of shape {tuple(grad.shape)} with the "
            f"placements {of_grad} for a parameter with {of_p}: redistribute it first"
        )

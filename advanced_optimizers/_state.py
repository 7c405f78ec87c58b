"""The state that a wrapper and its base optimizer share: how it is kept one, laid out, checked and read from a file."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor

State: TypeAlias = defaultdict[Any, Any]

# The key of a parameter's state under which a wrapper keeps that of its base optimizer.
BASE = "base"


def share_state(own: State, base: State, last: dict[Any, Any]) -> dict[Any, Any]:
    """Makes ``own[p]["base"]`` and ``base[p]`` one dict again, whichever of them was replaced or removed.

    Args:
        own: The wrapper's state.
        base: The base optimizer's.
        last: What this function returned last time: where both have changed since then, ``own`` counts.

    Returns:
        The dicts that are shared now, by parameter.
    """
    if _is_as_it_was(own, base, last):
        return last
    ours = {p: state[BASE] for p, state in own.items() if isinstance(state, dict) and BASE in state}
    if len(ours) == len(base) and all(base.get(p) is state for p, state in ours.items()):
        return ours
    for p in {**last, **ours, **base}:
        mine, theirs = ours.get(p), base.get(p)
        if mine is theirs:
            continue
        kept = theirs if mine is last.get(p) else mine
        if not isinstance(own.get(p, {}), dict):  # what a hook put into the state need not be a parameter's
            continue
        if kept is None:
            base.pop(p, None)
            own.get(p, {}).pop(BASE, None)
        else:
            own.setdefault(p, {})[BASE] = base[p] = kept
    return {p: state[BASE] for p, state in own.items() if isinstance(state, dict) and BASE in state}


def _is_as_it_was(own: State, base: State, last: dict[Any, Any]) -> bool:
    """Whether nothing was replaced, by the order of the parameters: to look each of them up takes long."""
    return len(own) == len(base) == len(last) and all(
        p is q is r and isinstance(state, dict) and state.get(BASE) is theirs is shared
        for (p, state), (q, theirs), (r, shared) in zip(own.items(), base.items(), last.items(), strict=True)
    )


# ---- layout ------------------------------------------------------------------------------------------------------


def laid_out_like(tensor: Tensor, p: Tensor) -> Tensor:
    """The same values in memory as ``p`` has its own."""
    return torch.empty_like(p, dtype=tensor.dtype).copy_(tensor)


def match_layout(state: dict[Any, Any], p: Tensor) -> None:
    """Lays out those tensors of a parameter's state that have one element for each of its own as the parameter is.

    A fused kernel pairs elements by their order in memory, and that of a parameter changes under the optimizer:
    ``model.to(memory_format=torch.channels_last)`` replaces ``p.data``, and so does loading a checkpoint into such a
    model.
    """
    strides = p.stride()
    for name, value in state.items():
        if isinstance(value, Tensor) and value.stride() != strides and value.shape == p.shape:
            state[name] = laid_out_like(value, p)


# ---- checkpoints -------------------------------------------------------------------------------------------------


def in_one_piece(state_dict: dict[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """A checkpoint in today's form, where an earlier version kept the base's whole ``state_dict`` under ``"base"``.

    It stored the groups twice, and those that it shows the user count. Raises as :func:`check_form` does.

    Args:
        state_dict: A checkpoint of either form.
        groups: The optimizer's parameter groups.
    """
    check_form(state_dict, groups)
    if BASE not in state_dict:
        return state_dict
    base = in_one_piece(state_dict[BASE], groups)
    state = dict(state_dict["state"])
    for key, of_base in base["state"].items():
        state[key] = {**state.get(key, {}), BASE: of_base}
    merged = [{**old, **group} for old, group in zip(base["param_groups"], state_dict["param_groups"], strict=True)]
    return {**{k: v for k, v in state_dict.items() if k != BASE}, "state": state, "param_groups": merged}


def check_form(state_dict: Any, groups: list[dict[str, Any]]) -> None:
    """Raises an error unless ``state_dict`` has torch's form and fits the parameter groups ``groups``."""
    if not isinstance(state_dict, dict):
        raise TypeError(f"state_dict must be a dict, got {state_dict!r}")
    for key, kind in (("state", dict), ("param_groups", list)):
        if key not in state_dict:
            raise ValueError(f"state_dict must have {key!r}, got the keys {sorted(map(str, state_dict))}")
        if not isinstance(state_dict[key], kind):
            raise TypeError(f"{key!r} of state_dict must be a {kind.__name__}, got {state_dict[key]!r}")
    saved = state_dict["param_groups"]
    if len(saved) != len(groups):
        raise ValueError(
            f"state_dict has a different number of parameter groups: it must have {len(groups)}, got {len(saved)}"
        )
    for i, (group, own) in enumerate(zip(saved, groups, strict=True)):
        if not isinstance(group, dict) or not isinstance(group.get("params"), list | tuple):
            raise TypeError(f"parameter group {i} of state_dict must be a dict with a list 'params', got {group!r}")
        if len(group["params"]) != len(own["params"]):
            raise ValueError(
                f"state_dict contains a parameter group that doesn't match the size of the optimizer's: group {i} must "
                f"have {len(own['params'])} params, got {len(group['params'])}"
            )


def base_of(key: Any, saved: dict[str, Any]) -> dict[str, Any]:
    """The base optimizer's part of a parameter's saved state; raises a TypeError unless it is a dict."""
    if not isinstance(saved[BASE], dict):
        raise TypeError(f"state_dict['state'][{key!r}][{BASE!r}] must be a dict, got {saved[BASE]!r}")
    base: dict[str, Any] = saved[BASE]
    return base


def check_shape(name: str, value: Any, shape: Iterable[int]) -> None:
    """Raises an error that names a loaded tensor unless ``value`` is one of that shape."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {value!r}")
    if value.shape != torch.Size(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(value.shape)}")


def check_fused(state_dict: dict[str, Any], groups: list[dict[str, Any]]) -> None:
    """Checks the tensors for a fused kernel, which reads as many elements of each as the parameter has."""
    for saved, group in zip(state_dict["param_groups"], groups, strict=True):
        for i, p in zip(saved["params"], group["params"], strict=True):
            for name, value in state_dict["state"].get(i, {}).items() if saved.get("fused") else ():
                if isinstance(value, Tensor) and value.dim() > 0:
                    check_shape(f"{name} of state_dict['state'][{i!r}]['base']", value, p.shape)


def on_device_of(p: Tensor, value: Any) -> Any:
    """A deep copy of a loaded value, its tensors on the parameter's device and in the precision in which they were.

    torch would cast them to the parameter's precision, which rounds a float32 memory of bfloat16 gradients.
    """
    if isinstance(value, Tensor):
        return value.detach().clone().to(p.device)
    if isinstance(value, dict):
        return {name: on_device_of(p, member) for name, member in value.items()}
    if isinstance(value, list):
        return [on_device_of(p, member) for member in value]
    return copy.deepcopy(value)

"""Checks of what a SigProp optimizer is given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from advanced_optimizers._checks import check_range
from advanced_optimizers.forward_signal.learning import parameters_of
from advanced_optimizers.forward_signal.network import SigPropSequential

__all__ = ["check_network", "check_rate", "check_state", "check_trainable", "with_shown_groups"]


def check_network(name: str, net: SigPropSequential) -> None:
    """Raises a TypeError that names the argument unless ``net`` is a SigProp network."""
    if isinstance(net, SigPropSequential):
        return
    hint = ""
    if isinstance(net, nn.Module):
        hint = ": wrap it in SigPropSequential(model, input_shape, num_classes)"
    if isinstance(getattr(net, "module", None), SigPropSequential):
        hint = ": pass the network inside it; the optimizer averages the gradients over processes by itself"
    got = type(net).__name__ if isinstance(net, nn.Module) else repr(net)
    raise TypeError(f"{name} must be a SigProp network, got {got}{hint}")


def check_trainable(net: nn.Module) -> None:
    """Raises a ValueError if there is nothing to train."""
    if not any(p.requires_grad for p in net.parameters()):
        raise ValueError(
            "net must have a parameter to train, got requires_grad=False for all of them: call net.requires_grad_()"
        )


def check_rate(name: str, lr: float) -> float:
    """Returns the learning rate as Python's number; a tensor stays one, so that a compiled step need not be traced."""
    number = check_range(name, lr, 0.0, math.inf, open_high=True)
    if isinstance(lr, Tensor):
        return lr
    return float(number) if isinstance(number, float) else number  # NumPy's float64 is a float too


def check_state(state: Any, base: Optimizer) -> None:
    """Raises an error that names what is wrong with the saved state of one base optimizer."""
    name = f"state_dict['bases'] of {type(base).__name__}"
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        raise TypeError(f"{name} must be a dict with 'state' and 'param_groups', got {state!r}")
    for group in state["param_groups"]:
        if "lr" in group:
            check_range(f"lr in {name}", group["lr"], 0.0, math.inf, open_high=True)
    params = parameters_of(base)
    fused = any(group.get("fused") for group in (*state["param_groups"], *base.param_groups))
    for i, p in zip((i for group in state["param_groups"] for i in group["params"]), params, strict=False):
        for key, value in state["state"].get(i, {}).items():
            elementwise = isinstance(value, Tensor) and value.dim() > 0 and fused
            if elementwise and value.shape != p.shape:  # the kernel reads as many elements as the parameter has
                raise ValueError(f"{key} in {name} must have the shape {tuple(p.shape)}, got {tuple(value.shape)}")


def with_shown_groups(saved: list[Any], shown: Any) -> list[Any]:
    """The base optimizers' states with the settings that a checkpoint shows under ``"param_groups"``: an edit counts.

    Args:
        saved: The state of each base optimizer, or None.
        shown: All their groups, in their order.
    """
    count = sum(len(state["param_groups"]) for state in saved if state is not None)
    if not isinstance(shown, list) or len(shown) != count or not all(isinstance(group, dict) for group in shown):
        raise ValueError(f"param_groups of state_dict must be the {count} groups of the base optimizers, got {shown!r}")
    settings = iter([{k: v for k, v in group.items() if k not in ("params", "param_names")} for group in shown])

    def merged(state: Any) -> Any:
        return {**state, "param_groups": [{**group, **next(settings)} for group in state["param_groups"]]}

    return [None if state is None else merged(state) for state in saved]

r"""muP's optimizers: torch's own, with one parameter group for each learning rate that the tables ask for.

Factors on the user's ``lr``, relative to the base model, in table 8. :math:`m` is the width multiplier (of the fan-in,
for a hidden weight), :math:`m_\text{out}` that of the fan-out, and :math:`L / L_0` the depth ratio in residual
branches:

====================================  ====================  =========================
parameter                             MuSGD                 MuAdam, MuAdamW
====================================  ====================  =========================
no infinite dimension                 1                     :math:`1 / \sqrt{L/L_0}`
one: input weights, biases, norms     :math:`m`             :math:`1 / \sqrt{L/L_0}`
one: output weights                   :math:`m`             :math:`1 / \sqrt{L/L_0}`
two: hidden weights                   :math:`m_\text{out} / m`  :math:`1 / (m \sqrt{L/L_0})`
====================================  ====================  =========================

``weight_decay`` gets the inverse factor, so that ``lr * weight_decay`` is the same for all parameters. With
``decoupled_wd=True`` it is left alone, for optimizers that do not multiply it by ``lr``. Tables 3 and 9 store a
parameter as :math:`w / \theta`. Then ``lr`` is divided by :math:`\theta^2` (SGD) or :math:`\theta` (Adam), and
``weight_decay`` and ``eps`` follow, so that the network stays the same function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from advanced_optimizers._base import BaseOptimizer, ParamsT, build_optimizer, ready_for_fused
from advanced_optimizers._checks import check_bool, check_range
from advanced_optimizers.zero_shot_transfer.base_shapes import MuShape
from advanced_optimizers.zero_shot_transfer.module_state import is_rescaled, mu_shapes, rescaling_due
from advanced_optimizers.zero_shot_transfer.settings import (
    check_group_names,
    checked_settings,
    scaled,
    user_groups,
    warn_of_kind,
)

__all__ = ["MuAdam", "MuAdamW", "MuSGD", "mu_learning_rates"]


# ReduceLROnPlateau leaves a learning rate as it is once it would change it by no more than 1e-8, so at
# 1e-8 / (1 - factor) in each group; this covers factors up to 0.9.
LEFT_ALONE = 1e-7


class Factors(NamedTuple):
    """What the user's settings are multiplied by in the group of one parameter."""

    lr: float
    weight_decay: float
    eps: float


def sgd_factors(shape: MuShape, decoupled_wd: bool) -> Factors:
    """The table's column for SGD."""
    m = shape.width_mult
    lr = (shape.fan_out_mult / m if len(shape.infinite) == 2 else m) / shape.theta**2
    return Factors(lr, 1.0 if decoupled_wd else 1.0 / lr, 1.0)


def adam_factors(shape: MuShape, decoupled_wd: bool, is_l2: bool) -> Factors:
    """The table's column for Adam; with ``is_l2`` the decay is a part of the gradient that Adam normalizes."""
    m = shape.width_mult if len(shape.infinite) == 2 else 1.0
    m *= math.sqrt(shape.depth_ratio)
    weight_decay = m * shape.theta ** (2 if is_l2 else 1)
    return Factors(1.0 / m / shape.theta, 1.0 if decoupled_wd else weight_decay, shape.theta)


def MuSGD(
    model: nn.Module,
    params: ParamsT | None = None,
    impl: BaseOptimizer = SGD,
    *,
    decoupled_wd: bool = False,
    **kwargs: Any,
) -> Optimizer:
    r"""SGD, or another optimizer whose step is proportional to the gradient, with muP's learning rates.

    Args:
        model: A model on which ``set_base_shapes`` was called; it may be inside ``DistributedDataParallel`` or FSDP.
        params: Which of its parameters to train, in any form that torch's optimizers take, groups with their own
            settings included. All of them by default.
        impl: The optimizer: a class, or a function ``(params, **kwargs) -> Optimizer``. ``torch.optim.Muon`` belongs
            here too, for the hidden weights: its step has a size of its own, and muP's factor for SGD,
            :math:`m_\text{out} / m = 1`, is right for it.
        decoupled_wd: Whether ``impl`` decays weights by ``weight_decay`` itself, not by ``lr * weight_decay``.
        **kwargs: Passed to ``impl``, as they were tuned on the base model: ``lr``, ``momentum``, ``weight_decay``, ...

    Returns:
        The optimizer. Its groups also contain ``lr_multiplier`` (what ``lr`` was multiplied by) and ``mu_group`` (the
        index of the user's group that they come from).

    Raises:
        RuntimeError: The model has no base shapes, or it was on the ``meta`` device when it got them, so that its
            parameters are still to be rescaled. At ``step``: the groups' learning rates are no longer in muP's ratios.
        TypeError: ``model`` is not a module, or ``impl`` is not an optimizer.
        ValueError: A parameter does not belong to the model, or a setting is out of range.

    Warns:
        UserWarning: ``impl`` is one of torch's optimizers that does not scale as SGD does.

    Example:
        >>> import torch
        >>> from advanced_optimizers import MuSGD, set_base_shapes
        >>> model = set_base_shapes(torch.nn.Linear(4, 8), torch.nn.Linear(4, 2))
        >>> optimizer = MuSGD(model, lr=0.1, momentum=0.9)
        >>> [(group["lr"], group["lr_multiplier"]) for group in optimizer.param_groups]
        [(0.4, 4.0)]

    Departures from the ``mup`` package:
        The package takes the parameters, because they carry their shapes there; here modules carry them, so the
        function takes the model. A schedule that sets the same absolute learning rate for all groups
        (``OneCycleLR(max_lr=0.1)``, ``group["lr"] = 0.1``, ``CosineAnnealingLR(eta_min=...)``) turns muP off in the
        package; here ``step`` raises an error. See :func:`mu_learning_rates`.

    Limitations:
        Clipping the norm of the whole gradient is not the same in the three tables. After ``add_param_group``, the next
        ``step`` raises an error. torch does not copy or pickle an optimizer's hooks, so the ratios of a copy are not
        checked, although its groups are correct, and a fused copy does not follow a model whose layout in memory
        changes (``channels_last``). The ratios are not checked either if a learning rate is a tensor, or at most 1e-7:
        ``ReduceLROnPlateau`` lowers a rate no further when it would change by less than 1e-8, and the groups arrive
        there one after the other.
    """
    check_bool("decoupled_wd", decoupled_wd)
    return _build("MuSGD", model, params, impl, kwargs, lambda shape: sgd_factors(shape, decoupled_wd))


def MuAdam(
    model: nn.Module,
    params: ParamsT | None = None,
    impl: BaseOptimizer = Adam,
    *,
    decoupled_wd: bool = False,
    **kwargs: Any,
) -> Optimizer:
    """Adam, or another optimizer that normalizes each entry of the gradient, with muP's learning rates.

    Like :func:`MuSGD`, but for an Adam-like ``impl``. On the CPU, Adam and AdamW are built with ``fused=True`` unless
    ``fused``, ``foreach`` or ``differentiable`` is given.

    Args:
        model: As for :func:`MuSGD`.
        params: As for :func:`MuSGD`.
        impl: The optimizer. Not ``torch.optim.Muon``, which belongs in :func:`MuSGD`; nor ``torch.optim.Adafactor``,
            whose step is proportional to the weights' own size, which no function here accounts for.
        decoupled_wd: As for :func:`MuSGD`.
        **kwargs: Passed to ``impl``.

    Raises:
        RuntimeError: As for :func:`MuSGD`.
        TypeError: As for :func:`MuSGD`.
        ValueError: As for :func:`MuSGD`.

    Warns:
        UserWarning: ``impl`` is one of torch's optimizers that does not scale as Adam does.

    Limitations:
        With weight decay, prefer :func:`MuAdamW`: decay that passes through Adam's normalization degrades with width
        late in training, as users of the ``mup`` package report. ``eps`` is the same at all widths, as in that package.
    """
    check_bool("decoupled_wd", decoupled_wd)
    is_l2 = not (isinstance(impl, type) and issubclass(impl, AdamW)) and not kwargs.get("decoupled_weight_decay", False)
    return _build("MuAdam", model, params, impl, kwargs, lambda shape: adam_factors(shape, decoupled_wd, is_l2))


def MuAdamW(model: nn.Module, params: ParamsT | None = None, *, decoupled_wd: bool = False, **kwargs: Any) -> Optimizer:
    """AdamW with muP's learning rates: ``MuAdam(impl=AdamW)``.

    torch's AdamW multiplies ``weight_decay`` by ``lr``, so by default ``weight_decay`` gets the inverse factor of
    ``lr``.

    Args:
        model: As for :func:`MuSGD`.
        params: As for :func:`MuSGD`.
        decoupled_wd: Whether to leave ``weight_decay`` as it is, which makes the decay of hidden weights weaker with
            width.
        **kwargs: Passed to ``AdamW``.

    Raises:
        RuntimeError: As for :func:`MuSGD`.
        TypeError: As for :func:`MuSGD`.
        ValueError: As for :func:`MuSGD`.
    """
    check_bool("decoupled_wd", decoupled_wd)
    if "impl" in kwargs:
        raise TypeError(f"MuAdamW has no argument impl, got {kwargs['impl']!r}: use MuAdam(model, impl=...)")
    return _build("MuAdamW", model, params, AdamW, kwargs, lambda shape: adam_factors(shape, decoupled_wd, is_l2=False))


def mu_learning_rates(optimizer: Optimizer, lr: float) -> list[float]:
    """Returns the learning rate of each group if the base model's is ``lr``, for schedules that set absolute ones.

    Args:
        optimizer: From :func:`MuSGD`, :func:`MuAdam` or :func:`MuAdamW`.
        lr: The base model's learning rate.

    Raises:
        TypeError: ``optimizer`` is not an optimizer.
        ValueError: ``lr`` is negative or infinite, or the optimizer is not from one of these functions.

    Example:
        >>> import torch
        >>> from advanced_optimizers import MuSGD, mu_learning_rates, set_base_shapes
        >>> model = set_base_shapes(torch.nn.Linear(4, 8), torch.nn.Linear(4, 2))
        >>> optimizer = MuSGD(model, lr=0.1)
        >>> max_lr = mu_learning_rates(optimizer, 0.5)
        >>> schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=max_lr, total_steps=100)
    """
    lr = check_range("lr", lr, low=0.0, open_high=True)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must come from MuSGD, MuAdam or MuAdamW, got {optimizer!r}")
    if not all("lr_multiplier" in group for group in optimizer.param_groups):
        raise ValueError(
            "optimizer must come from MuSGD, MuAdam or MuAdamW: its groups have no lr_multiplier, got "
            f"{type(optimizer).__name__}"
        )
    return [lr * group["lr_multiplier"] for group in optimizer.param_groups]


def _build(
    name: str,
    model: nn.Module,
    params: ParamsT | None,
    impl: BaseOptimizer,
    kwargs: dict[str, Any],
    factors: Callable[[MuShape], Factors],
) -> Optimizer:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"{name} takes the model, whose modules know their base shapes, got {type(model).__name__}: pass the model "
            "first, and parameters or groups as params="
        )
    if not callable(impl) or (isinstance(impl, type) and not issubclass(impl, Optimizer)):
        raise TypeError(f"impl must be a torch.optim.Optimizer class (or a function that builds one), got {impl!r}")
    warn_of_kind(name, impl, kwargs)
    kwargs = checked_settings(kwargs)
    shapes = _shapes_by_tensor(model)
    _check_nothing_is_due(model)
    groups: list[dict[str, Any]] = []
    scales: list[Factors] = []
    for number, group in enumerate(user_groups(model.parameters() if params is None else params)):
        split: dict[Factors, list[Any]] = {}
        for member in group["params"]:
            split.setdefault(factors(_shape_of(member, shapes)), []).append(member)
        groups += [{**group, "params": members, "mu_group": number} for members in split.values()]
        scales += split
    optimizer = build_optimizer(impl, groups, **kwargs)
    for group in groups:
        check_group_names(group, optimizer.defaults)
    for group, scale in zip(optimizer.param_groups, scales, strict=True):
        if "lr" not in group:
            raise ValueError(f"impl must have a learning rate named lr, {impl!r} has {sorted(group)}")
        group["lr"] = scaled("lr", group["lr"], scale.lr)
        group["lr_multiplier"] = scale.lr
        for setting, factor in (("weight_decay", scale.weight_decay), ("eps", scale.eps)):
            if setting in group and factor != 1.0:
                group[setting] = scaled(setting, group[setting], factor)
    optimizer.register_step_pre_hook(_check_lr_ratios)
    optimizer.register_step_pre_hook(_lay_out)
    return optimizer


def _lay_out(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    ready_for_fused(optimizer)


def _shapes_by_tensor(model: nn.Module) -> dict[int, MuShape]:
    shapes: dict[int, MuShape] = {}
    for module in model.modules():
        for name, shape in mu_shapes(module).items():
            p = module._parameters.get(name)
            if p is not None:
                shapes.setdefault(id(p), shape)
    if not shapes and any(mu_shapes(module) for module in model.modules()):
        raise RuntimeError(
            f"{type(model).__name__} has base shapes, but none of the parameters that they belong to: FSDP needs "
            "use_orig_params=True"
        )
    if not shapes:
        raise RuntimeError(f"{type(model).__name__} has no base shapes: call set_base_shapes on it first")
    return shapes


def _check_nothing_is_due(model: nn.Module) -> None:
    """Refuses weights that had no values when they should have been rescaled, and have some now."""
    if any(is_rescaled(module) for module in model.modules()):  # in the checkpoint that was loaded
        return
    due = [
        f"{module_name}.{name}" if module_name else name
        for module_name, module in model.named_modules()
        for name in sorted(rescaling_due(module))
        for p in [module._parameters.get(name)]
        if p is not None and not p.is_meta and bool(p.detach().any())  # zeros are right at any scale
    ]
    if due:
        raise RuntimeError(
            "the model was on the meta device when it got its base shapes, so its initial weights were never rescaled: "
            f"{', '.join(due)}. Give it its base shapes again, now that it has weights, or with rescale_params=False "
            "if they come from a checkpoint"
        )


def _shape_of(member: Any, shapes: dict[int, MuShape]) -> MuShape:
    name, p = member if isinstance(member, tuple) and len(member) == 2 else ("a parameter", member)
    if not isinstance(p, Tensor):
        raise TypeError(f"params must contain tensors, got {member!r}")
    if id(p) not in shapes:
        raise ValueError(
            f"params contains {name} of shape {tuple(p.shape)} without a base shape: it does not "
            "belong to the model, or its layer was added or changed after set_base_shapes"
        )
    return shapes[id(p)]


def _check_lr_ratios(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Raises an error unless the groups' learning rates are still one number times their multipliers."""
    base: dict[int, float] = {}
    for number, group in enumerate(optimizer.param_groups):
        if "lr_multiplier" not in group:
            raise RuntimeError(
                f"group {number} was added by add_param_group, without muP's multipliers: pass all groups as params= "
                "when you create the optimizer"
            )
        if isinstance(group["lr"], Tensor) or group["lr"] <= LEFT_ALONE:
            continue
        lr = group["lr"] / group["lr_multiplier"]
        expected = base.setdefault(group["mu_group"], lr)
        if not math.isclose(lr, expected, rel_tol=1e-6):
            raise RuntimeError(
                f"the groups' learning rates {[g['lr'] for g in optimizer.param_groups]} are no longer in muP's ratios "
                f"{[g['lr_multiplier'] for g in optimizer.param_groups]}: a schedule set an absolute one. Use a "
                "schedule that multiplies (LambdaLR, StepLR, CosineAnnealingLR with eta_min=0), or pass it "
                "mu_learning_rates(optimizer, lr) instead of one number, also for min_lr (ReduceLROnPlateau)"
            )

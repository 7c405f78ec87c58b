"""The package's optimizers in timm's registry, for ``timm.optim.create_optimizer_v2`` and timm's training script."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from timm.optim import OptimInfo, get_optimizer_class, get_optimizer_info
from timm.optim import list_optimizers as names_in_timm
from timm.optim._optim_factory import default_registry  # the only way to timm's registry
from torch.optim import Optimizer

from advanced_optimizers import create_optimizer, list_optimizers
from advanced_optimizers._base import ParamsT
from advanced_optimizers._checks import unknown_name
from advanced_optimizers._create import maker_of, summary, takes_parameters

__all__ = ["register_optimizers"]


def register_optimizers() -> list[str]:
    """Adds the optimizers of parameters to timm's registry; a second call changes nothing.

    The names are those of :func:`~advanced_optimizers.list_optimizers` without ``_``, at which timm splits a name:
    ``fer``, ``gradientcorrection``. Weight decay without biases and norms, layer decay, ``lookahead_fer`` and timm's
    schedulers work as with timm's own optimizers. ``base_optimizer`` may be a name in timm's registry, such as
    ``"lamb"``; from the command line, ``--opt fer --opt-kwargs base_optimizer=lamb fer_weight=0.5``. What the optimizer
    does not take itself goes to its base.

    timm gives an optimizer parameters only, so the optimizers that need the model are not registered.

    Returns:
        The names, sorted.

    Example:
        >>> import timm.optim
        >>> import torch
        >>> from advanced_optimizers.integrations.timm import register_optimizers
        >>> register_optimizers()
        ['convolutionalsgd', 'convolutionalsgdv2', 'fer', 'gradientcorrection', 'locallossconvsgd']
        >>> model = torch.nn.Linear(4, 2)
        >>> optimizer = timm.optim.create_optimizer_v2(model, "fer", lr=1e-3, weight_decay=0.05)
        >>> [group["weight_decay"] for group in optimizer.param_groups]
        [0.0, 0.05]
    """
    ours = {name.replace("_", ""): name for name in list_optimizers() if takes_parameters(name)}
    for name in ours.keys() - set(names_in_timm()):
        over_sgd = "momentum" in inspect.signature(maker_of(ours[name])).parameters
        make = partial(_create, ours[name])
        info = OptimInfo(name, make, summary(ours[name]), has_betas=not over_sgd, has_momentum=over_sgd)
        default_registry.register(info)
    return sorted(ours)


def _create(name: str, params: ParamsT, **arguments: Any) -> Optimizer:
    base = arguments.get("base_optimizer")
    if isinstance(base, str):
        if base.lower() not in names_in_timm():
            raise unknown_name("base_optimizer in timm", base, names_in_timm(), cutoff=0.6)
        if get_optimizer_info(base).has_momentum:
            arguments.setdefault("momentum", 0.9)  # timm's default
        arguments["base_optimizer"] = get_optimizer_class(base)
    return create_optimizer(name, params, **arguments)

"""What a contender of the comparison is: an optimizer of torch or of another package, as a row of the table.

Packages of others are imported when a learner is built, never before. Some of them accept any keyword and ignore those
that they do not know, so names are checked against the signature first.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

from torch import nn
from torch.optim import Optimizer

from advanced_optimizers._base import build_optimizer
from advanced_optimizers._checks import unknown_name
from advanced_optimizers.experiments.records.config import Hyperparameters
from advanced_optimizers.experiments.training.algorithms import Algorithm, Range
from advanced_optimizers.experiments.training.closure_learner import ClosureLearner
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting
from advanced_optimizers.experiments.training.mode_learner import ModeLearner

# (model, hyperparameters of the run, steps of the run) -> optimizer
Make: TypeAlias = Callable[[nn.Module, Hyperparameters, int], Optimizer]
# How weight decay acts: added to the gradient; on the weights, times the learning rate; as a division by
# 1 + lr * decay; or whatever the optimizer inside does.
Decay: TypeAlias = Literal["none", "coupled", "decoupled", "proximal", "base's"]
Kind: TypeAlias = Literal["plain", "modes", "closure"]

# The extra of the project that installs the packages of others.
EXTRA = "peers"
# A momentum of 0.9 or 0.99 is searched by its distance from 1.
_GAPS = {"momentum_gap": "momentum", "beta1_gap": "betas"}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One row of the comparison.

    Attributes:
        label: Its name in tables and figures.
        baseline: The anchor that it is compared with, or None if it is one.
        make: Builds the optimizer.
        space: The one-dimensional search space: the rate alone, all else as its authors have it.
        default: The value of ``rate`` that its constructor has.
        decay: Its convention for weight decay.
        trap: What goes wrong unnoticed, and what is done about it here; empty if nothing does.
        full: What the wider search space adds; at most two more.
        rate: The hyperparameter that plays the learning rate's part.
        schedule: The schedule that it needs; None for the task's.
        kind: ``plain``; ``modes`` if it switches between training and evaluation; ``closure`` if it evaluates the loss
            a second time.
        passes: Forward and backward passes per step.
        package: The package that it comes from, if not torch's.
    """

    label: str
    baseline: str | None
    make: Make = field(repr=False)
    space: Range
    default: float
    decay: Decay
    trap: str = ""
    full: Mapping[str, Range] = field(default_factory=dict)
    rate: str = "lr"
    schedule: str | None = None
    kind: Kind = "plain"
    passes: int = 1
    package: str | None = None

    def row(self) -> Algorithm:
        """Its row in the table of algorithms."""
        return Algorithm(
            label=self.label,
            baseline=self.baseline,
            search_space={self.rate: self.space},
            full_space=self.full,
            rate=self.rate,
            schedule=self.schedule,
            passes=self.passes,
            package=self.package,
            build=self._build,
            timed=False,
        )

    def _build(self, setting: Setting) -> Learner:
        optimizer = self.make(setting.model, setting.config.hyperparameters, setting.total_steps)
        if self.kind == "modes":
            return ModeLearner(setting, optimizer)
        if self.kind == "closure":
            return ClosureLearner(setting, optimizer, gradients_first=True)
        return BackpropLearner(setting, optimizer)


def made_by(kind: str, /, **fixed: Any) -> Make:
    """Returns a function that builds an optimizer with the run's hyperparameters.

    Args:
        kind: Package and class, such as ``torch.optim:SGD``.
        **fixed: Further arguments; those that are functions are called with the number of steps of the run.
    """
    return partial(_make, kind, fixed)


def _make(
    kind: str, fixed: Mapping[str, Any], model: nn.Module, hyperparameters: Hyperparameters, steps: int
) -> Optimizer:
    settled = {name: value(steps) if callable(value) else value for name, value in fixed.items()}
    return construct(kind, list(model.parameters()), **with_gaps(settled, hyperparameters))


def construct(kind: str, params: Any, /, **arguments: Any) -> Optimizer:
    """Builds an optimizer after its arguments' names have been checked.

    Args:
        kind: Package and class, such as ``torch.optim:SGD``.
        params: The parameters, or groups of them.
        **arguments: The other arguments.

    Raises:
        ModuleNotFoundError: The package is not installed; the message says how to install it.
        ValueError: The class has no argument of a name; the message suggests the nearest.
    """
    optimizer = find(kind)
    check_names(optimizer, arguments)
    return build_optimizer(optimizer, params, **arguments)


def find(kind: str) -> Any:
    """The class that ``package:Class`` names.

    Raises:
        ModuleNotFoundError: The package is not installed; the message says how to install it.
    """
    package, _, name = kind.partition(":")
    try:
        return getattr(importlib.import_module(package), name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModuleNotFoundError(
            f"{name} needs the package {package}, which is not installed: pip install 'advanced-optimizers[{EXTRA}]'",
            name=package,
        ) from error


def check_names(optimizer: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raises a ValueError for an argument that an optimizer's signature does not name, whatever ``**kwargs`` takes."""
    parameters = inspect.signature(optimizer).parameters
    named = [name for name, parameter in parameters.items() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    for name in arguments:
        if name not in named:
            raise unknown_name(f"argument of {getattr(optimizer, '__name__', optimizer)}", name, named)


def with_gaps(settled: Mapping[str, Any], hyperparameters: Hyperparameters) -> dict[str, Any]:
    """The arguments of an optimizer: what is settled, and a run's hyperparameters with ``*_gap`` counted from 1.

    ``momentum_gap`` sets ``momentum``, and ``beta1_gap`` the first of ``betas``.
    """
    arguments = {**settled, **{name: value for name, value in hyperparameters.items() if name not in _GAPS}}
    for gap, name in _GAPS.items():
        if gap in hyperparameters:
            value = 1.0 - float(hyperparameters[gap])
            arguments[name] = (value, *settled["betas"][1:]) if name == "betas" else value
    return arguments

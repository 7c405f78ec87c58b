"""A user's optimizer, network and data as rows of the project's tables, in this process and in every other."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import nn
from torch.optim import Optimizer

from advanced_optimizers.experiments.compare.code import Code, CompareError
from advanced_optimizers.experiments.compare.spaces import around, read_spaces
from advanced_optimizers.experiments.data.datasets import supply
from advanced_optimizers.experiments.records.config import SCHEDULES, Hyperparameters
from advanced_optimizers.experiments.records.machine import SOURCES
from advanced_optimizers.experiments.studies.contender import Contender
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, Algorithm, Range
from advanced_optimizers.experiments.training.closure_learner import ClosureLearner
from advanced_optimizers.experiments.training.learners import BackpropLearner, Learner, Setting
from advanced_optimizers.experiments.training.mode_learner import ModeLearner
from advanced_optimizers.experiments.training.models import MODELS, ImageShape, Model

# How an optimizer uses a closure: not at all; first of all, as torch has it; or after it has moved the weights with the
# gradients that it was given, as SAM does.
Closure: TypeAlias = Literal["no", "first", "moved"]

_RATE = "lr"
_STEPS = "total_steps"
_MODEL, _PARAMS = ("model",), ("params", "parameters")
# What a user calls a schedule that is the optimizer's own business.
_OWN_SCHEDULE = {"own": "constant"}


@dataclass(frozen=True)
class OwnOptimizer:
    """A user's optimizer. Called, it becomes known to the process.

    Attributes:
        code: A class ``(params, lr, ...)`` or a factory ``(model, lr, ...)``.
        label: Its name in tables and figures.
        space: What is tuned.
        rate: The hyperparameter that plays the learning rate's part.
        fixed: Hyperparameters that every run has.
        schedule: The schedule that it needs; None for the task's.
        baseline: The anchor that figures draw it with.
        closure: How it uses a closure.
        passes: Forward and backward passes per step.
        said: What was assumed about it, in sentences.
    """

    code: Code
    label: str
    space: Mapping[str, Range]
    rate: str
    fixed: Mapping[str, Any]
    schedule: str | None
    baseline: str
    closure: Closure = "no"
    passes: int = 1
    said: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """What a configuration calls it."""
        return self.code.key

    @property
    def untuned(self) -> Hyperparameters:
        """What is tuned, with the values of its signature; empty if one of them has none there."""
        names = parameters_of(self.code.load(), self.code)
        values: dict[str, Any] = {name: names[name].default if name in names else None for name in self.space}
        return values if all(isinstance(value, float | int) for value in values.values()) else {}

    def __call__(self) -> None:
        """Makes it an algorithm of this process."""
        SOURCES[self.name] = self.code.texts
        ALGORITHMS[self.name] = Algorithm(
            label=self.label,
            baseline=self.baseline,
            search_space=self.space,
            build=self.build,
            rate=self.rate,
            schedule=self.schedule,
            passes=self.passes,
            fixed=self.fixed,
            timed=False,
        )

    def make(self, model: nn.Module, hyperparameters: Mapping[str, Any], steps: int) -> Optimizer:
        """The optimizer of a run of so many steps.

        Raises:
            CompareError: It cannot be built, or is none of torch's.
        """
        function, arguments = self.code.load(), dict(hyperparameters)
        names = parameters_of(function, self.code)
        self._check_names(names, arguments)
        if _STEPS in names:
            arguments.setdefault(_STEPS, steps)
        first = model if next(iter(names)) in _MODEL else list(model.parameters())
        try:
            made = function(first, **arguments)
        except Exception as error:
            shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise CompareError(f"{self.code.name}({shown}) raised {type(error).__name__}: {error}") from error
        if not isinstance(made, Optimizer):
            raise CompareError(
                f"{self.code.name}() must return a torch.optim.Optimizer, it returned {type(made).__name__}"
            )
        if not all(_RATE in group for group in made.param_groups):
            raise CompareError(f"the param_groups of {self.code.name} have no 'lr', which a schedule needs: add it")
        return made

    def _check_names(self, names: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any]) -> None:
        named = [name for name, p in list(names.items())[1:] if p.kind is not p.VAR_KEYWORD]
        for name in arguments:
            if name not in named:
                raise CompareError(
                    f"{self.code.name}() got the hyperparameter {name!r}, which its signature does not name "
                    f"({', '.join(named)}): whatever **kwargs takes may be ignored unseen"
                )

    def build(self, setting: Setting, **further: Any) -> Learner:
        """The learner of a run, with the run's hyperparameters and perhaps further arguments."""
        optimizer = self.make(setting.model, {**setting.config.hyperparameters, **further}, setting.total_steps)
        if callable(getattr(optimizer, "train", None)):
            return ModeLearner(setting, optimizer)
        if self.closure != "no":
            return ClosureLearner(setting, optimizer, gradients_first=self.closure == "moved")
        return BackpropLearner(setting, optimizer)


@dataclass(frozen=True)
class OwnModel:
    """A user's network, ``build(image_shape, num_classes)``. Called, it becomes known to the process."""

    code: Code

    @property
    def name(self) -> str:
        """What a configuration calls it."""
        return self.code.key

    def __call__(self) -> None:
        """Makes it a model of this process."""
        SOURCES[self.name] = self.code.texts
        MODELS[self.name] = Model(label=f"{self.code.file}:{self.code.name}", build=self._build)

    def _build(self, image_shape: ImageShape, num_classes: int, width: float) -> nn.Module:
        try:
            model = self.code.load()(image_shape, num_classes)
        except CompareError:
            raise
        except Exception as error:
            raise CompareError(
                f"{self.code.name}({image_shape}, {num_classes}) of {self.code.file} raised "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(model, nn.Module):
            raise CompareError(f"{self.code.name}() of {self.code.file} must return a torch.nn.Module, got {model!r}")
        return model


@dataclass(frozen=True)
class OwnData:
    """A user's images as a dataset. Called, it becomes known to the process.

    Attributes:
        name: What a configuration calls it.
        label: Its display name.
        file: The images, materialized; every process that trains must be able to read it.
        test_images: How many there are.
        code: What made it; None for a folder.
        said: What was converted, in sentences.
    """

    name: str
    label: str
    file: Path
    test_images: int
    code: Code | None = None
    said: tuple[str, ...] = field(default=(), compare=False)

    def __call__(self) -> None:
        """Makes it a dataset of this process."""
        if self.code is not None:
            SOURCES[self.name] = self.code.texts
        supply(self.name, self.label, self.file)


def own_optimizer(
    code: Code,
    baseline: str,
    *,
    spaces: Mapping[str, Range],
    fixed: Hyperparameters,
    schedule: str | None,
) -> OwnOptimizer:
    """A user's optimizer with what its file, the options and its constructor say; options come before the file.

    Raises:
        CompareError: What they say cannot be, or the rate has neither a range nor a default.
    """
    said: list[str] = []
    stated = code.setting("SEARCH_SPACE")
    space = dict(read_spaces(stated, code.file)) if stated is not None else {}
    space |= {name: own for name, own in spaces.items() if name not in fixed}
    names = parameters_of(code.load(), code)
    if not space:
        space[_RATE] = around(_default_rate(names, code))
        said.append(
            f"search space: lr {space[_RATE].low:.3g} .. {space[_RATE].high:.3g}, ten octaves around its default; set "
            "SEARCH_SPACE or give --space to change it"
        )
    wanted = schedule or code.setting("SCHEDULE")
    wanted = _OWN_SCHEDULE.get(wanted, wanted)
    if wanted is not None and wanted not in SCHEDULES:
        raise CompareError(f"SCHEDULE of {code.file} must be one of {', '.join(SCHEDULES)}, got {wanted!r}")
    return OwnOptimizer(
        code=code,
        label=str(code.setting("LABEL") or code.name),
        space={name: own for name, own in space.items() if name not in fixed},
        rate=_RATE if _RATE in space else next(iter(space)),
        fixed=fixed,
        schedule=wanted,
        baseline=baseline,
        said=tuple(said),
    )


def parameters_of(function: Callable[..., Any], code: Code) -> Mapping[str, inspect.Parameter]:
    """The parameters of a user's class or factory, of which the first says which it is.

    Raises:
        CompareError: It is neither.
    """
    if not callable(function):
        raise CompareError(f"{code.name} of {code.file} must be a class or a function, it is {function!r}")
    names = inspect.signature(function).parameters
    first = next(iter(names), None)
    if first not in (*_MODEL, *_PARAMS):
        raise CompareError(
            f"{code.name} of {code.file} must be a class (params, lr, ...) or a factory (model, lr, ...), its first "
            f"parameter is {first!r}: name it params or model"
        )
    return names


def _default_rate(names: Mapping[str, inspect.Parameter], code: Code) -> float:
    default = names[_RATE].default if _RATE in names else None
    if isinstance(default, float | int) and not isinstance(default, bool) and default > 0:
        return float(default)
    raise CompareError(
        f'{code.name} has no default for lr, so its range is not known: add SEARCH_SPACE = {{"lr": (1e-4, 1e-1)}} to '
        f"{code.file}, or give --space lr=1e-4..1e-1"
    )


@dataclass(frozen=True)
class OwnContender:
    """A row of the comparison that a user made, with a schedule, a space and a kind of its own."""

    contender: Contender
    baseline: str

    @property
    def code(self) -> Code:
        """What identifies it: its description, and the source of what builds it."""
        made = self.contender.make
        function = made.func if isinstance(made, partial) else made
        bound = repr((made.args, made.keywords)) if isinstance(made, partial) else ""
        text = f"# {self.contender!r} {bound}\n{inspect.getsource(function)}"
        return Code(re.sub(r"[^\w.+-]+", "-", self.contender.label), {f"{self.contender.label}.py": text})

    @property
    def label(self) -> str:
        """Its name in tables and figures."""
        return self.contender.label

    @property
    def untuned(self) -> Hyperparameters:
        """Its rate as its constructor has it."""
        return {self.contender.rate: self.contender.default}

    @property
    def name(self) -> str:
        """What a configuration calls it."""
        return self.code.key

    def __call__(self) -> None:
        """Makes it an algorithm of this process."""
        SOURCES[self.name] = self.code.texts
        ALGORITHMS[self.name] = replace(self.contender.row(), baseline=self.baseline)

"""The table of algorithms: what each is called, compared with, tuned over, and how its learner is built.

To add an algorithm, add its row to ``ALGORITHMS`` and, if ordinary training does not do, its learner to ``learners``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from advanced_optimizers._base import build_optimizer
from advanced_optimizers._checks import unknown_name
from advanced_optimizers.experiments.training.learners import (
    BackpropLearner,
    FERLearner,
    FlippingLearner,
    GradientCorrectionLearner,
    Learner,
    LocalizedLearner,
    Setting,
    SigPropLearner,
)
from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.fer_optimizer import FEROptimizer
from advanced_optimizers.fer_optimizer.flipping import FlippingErrorReduction
from advanced_optimizers.forward_signal import SigPropSequential, create_sigprop_optimizer
from advanced_optimizers.gradient_correction import GradientCorrectionOptimizer
from advanced_optimizers.localized_learning import create_localized_optimizer
from advanced_optimizers.localized_learning.blocks import find_units, make_blocks
from advanced_optimizers.zero_shot_transfer import MuSGD, set_base_shapes


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where a hyperparameter is searched: from ``low`` to ``high``, on a logarithmic scale or not, integer or not."""

    low: float
    high: float
    log: bool = False
    integer: bool = False


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One row of ``ALGORITHMS``.

    Attributes:
        label: Its name in tables and figures.
        baseline: The algorithm that it is compared with, or None when it is a baseline itself.
        search_space: What tuning may choose; algorithms over the same base share the learning rate's range.
        options: Further hyperparameters that a configuration may set; they are not tuned.
        timed: Whether a stretch of each epoch beside the baseline tells its time; not where that depends on how
            training went, or where its epochs are the baseline's.
        control: Whether it is there to tell what a method's parts contribute, and makes no claim of its own.
        build: Makes the learner.
    """

    label: str
    baseline: str | None
    search_space: dict[str, Range]
    build: Callable[[Setting], Learner] = field(repr=False)
    options: frozenset[str] = frozenset()
    timed: bool = True
    control: bool = False


# The protocol's bases. Weight decay is part of the protocol, the learning rate is tuned.
_BASES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "fused": True}),
    "adam": (torch.optim.Adam, {}),
}
_LEARNING_RATES = {
    "sgd": Range(low=0.02, high=0.8, log=True),
    "adam": Range(low=5e-4, high=2e-2, log=True),
}


def _build_base(setting: Setting, base: str) -> torch.optim.Optimizer:
    optimizer, kwargs = _BASES[base]
    return build_optimizer(optimizer, setting.model.parameters(), lr=setting.config.hyperparameters["lr"], **kwargs)


def _baseline(base: str) -> Callable[[Setting], Learner]:
    return lambda setting: BackpropLearner(setting, _build_base(setting, base))


def _fer(base: str) -> Callable[[Setting], Learner]:
    def build(setting: Setting) -> Learner:
        optimizer, kwargs = _BASES[base]
        own = dict(setting.config.hyperparameters)
        lr = own.pop("lr")
        return FERLearner(setting, FEROptimizer(setting.model.parameters(), optimizer, {"lr": lr, **kwargs}, **own))  # type: ignore[arg-type]

    return build


def _flipping(base: str) -> Callable[[Setting], Learner]:
    def build(setting: Setting) -> Learner:
        own: dict[str, Any] = {k: v for k, v in setting.config.hyperparameters.items() if k != "lr"}
        criterion = FlippingErrorReduction(setting.num_samples, setting.num_classes, setting.config.epochs, **own)
        criterion.to(next(setting.model.parameters()).device)
        return FlippingLearner(setting, _build_base(setting, base), criterion)

    return build


def _correction(hidden: bool) -> Callable[[Setting], Learner]:
    def build(setting: Setting) -> Learner:
        optimizer, kwargs = _BASES["adam"]
        own: dict[str, Any] = dict(setting.config.hyperparameters)
        lr = own.pop("lr")
        device = next(setting.model.parameters()).device
        if hidden:
            own |= {"model": setting.model, "example_input": torch.zeros(2, *setting.image_shape, device=device)}
        return GradientCorrectionLearner(
            setting, GradientCorrectionOptimizer(setting.model.parameters(), optimizer, {"lr": lr, **kwargs}, **own)
        )

    return build


def _localized(
    mode: str, rule: str, highest: Callable[[int], int] | None = None, **options: Any
) -> Callable[[Setting], Learner]:
    """``highest`` gives the highest transition for a number of blocks; None leaves the default."""

    def build(setting: Setting) -> Learner:
        optimizer, kwargs = _BASES["sgd"]
        own: dict[str, Any] = {**options, **setting.config.hyperparameters}
        if highest is not None:
            own.setdefault("max_transition", highest(len(make_blocks(find_units(setting.model)))))
        return LocalizedLearner(
            setting,
            create_localized_optimizer(
                setting.model,
                own.pop("lr"),
                selection_mode=mode,
                rule=rule,
                total_epochs=setting.config.epochs,
                base_optimizer=optimizer,
                base_optimizer_kwargs=kwargs,
                **own,
            ),
        )

    return build


def _sigprop(setting: Setting) -> Learner:
    if not isinstance(setting.model, nn.Sequential):
        raise ValueError(f"model must be a Sequential for signal propagation, got {type(setting.model).__name__}")
    network = SigPropSequential(setting.model, setting.image_shape, setting.num_classes)
    network.to(next(setting.model.parameters()).device)  # the generator of targets is new
    own: dict[str, Any] = dict(setting.config.hyperparameters)
    optimizer = create_sigprop_optimizer(network, **own)
    return SigPropLearner(replace(setting, model=network), optimizer)


def _readout(setting: Setting) -> Learner:
    """Adam on the last layer alone; what is before it stays as it was initialised, normalisation's statistics aside."""
    *_, last = (module for module in setting.model.modules() if isinstance(module, nn.Linear))
    setting.model.requires_grad_(False)
    last.requires_grad_(True)
    return BackpropLearner(
        setting, build_optimizer(torch.optim.Adam, last.parameters(), lr=setting.config.hyperparameters["lr"])
    )


def _standard_sgd(setting: Setting) -> Learner:
    lr = setting.config.hyperparameters["lr"]
    return BackpropLearner(setting, build_optimizer(torch.optim.SGD, setting.model.parameters(), lr=lr, fused=True))


def _mup_sgd(setting: Setting) -> Learner:
    """SGD in muP, with the model of width 1 as its base."""
    with torch.device("meta"):  # shapes are all that is needed: no memory, no random numbers
        base = build_model(setting.config.model, setting.image_shape, setting.num_classes)
    # mlp3 draws muP's own initial weights at every width, since its output layer starts at zero.
    set_base_shapes(setting.model, base, rescale_params=False)
    return BackpropLearner(setting, MuSGD(setting.model, lr=setting.config.hyperparameters["lr"], fused=True))


_FER_SPACE = {
    "fer_weight": Range(low=0.03, high=1.0, log=True),
    "memory_size": Range(low=10, high=1000, log=True, integer=True),
}
_FLIPPING_SPACE = {"mu": Range(low=0.3, high=1.0), "gamma": Range(low=0.1, high=0.9)}

_CORRECTION_STRENGTH = Range(low=0.03, high=1.0, log=True)
_CORRECTION_SPACE = {
    "lr": _LEARNING_RATES["adam"],
    "gcw_strength": _CORRECTION_STRENGTH,
    "gcode_strength": _CORRECTION_STRENGTH,
}
_CORRECTION_OPTIONS = frozenset({"history_decay", "min_cosine", "predictor_lr", "train_every"})

_MLP3_RATE = Range(low=2.5e-4, high=1.0, log=True)
_HEBBIAN_RATE = Range(low=1e-5, high=1e-2, log=True)
_LOCALIZED_OPTIONS = frozenset({"weak_supervision_weight", "max_transition", "update_every"})

# Schedules of the static transition beside the default: how high it goes, and how.
_HALF: dict[str, Any] = {"highest": lambda blocks: blocks // 2}
_TWO: dict[str, Any] = {"highest": lambda blocks: min(2, blocks - 1), "power": 1.0}


def _localized_row(label: str, rule: str, mode: str = "static", **schedule: Any) -> Algorithm:
    return Algorithm(
        label=label,
        baseline="sgd",
        search_space={"lr": _LEARNING_RATES["sgd"], **({} if rule == "frozen" else {"hebbian_lr": _HEBBIAN_RATE})},
        build=_localized(mode, rule, **schedule),
        options=_LOCALIZED_OPTIONS,
        timed=mode == "static",
        control=rule in ("frozen", "random"),
    )


def _adam_control(label: str) -> Algorithm:
    """Adam under a protocol of its own, which the study gives it."""
    return Algorithm(
        label=label,
        baseline="adam",
        search_space={"lr": _LEARNING_RATES["adam"]},
        build=_baseline("adam"),
        timed=False,
        control=True,
    )


_BASE_LABELS = {"sgd": "SGD", "adam": "Adam"}

ALGORITHMS: dict[str, Algorithm] = {
    name: algorithm
    for base in _BASES
    for name, algorithm in {
        base: Algorithm(
            label=_BASE_LABELS[base],
            baseline=None,
            search_space={"lr": _LEARNING_RATES[base]},
            build=_baseline(base),
        ),
        f"fer-{base}": Algorithm(
            label=f"Gradient consistency over {_BASE_LABELS[base]}",
            baseline=base,
            search_space={"lr": _LEARNING_RATES[base], **_FER_SPACE},
            build=_fer(base),
            options=frozenset({"consistency_threshold"}),
        ),
        f"flipping-{base}": Algorithm(
            label=f"Flipping error reduction over {_BASE_LABELS[base]}",
            baseline=base,
            search_space={"lr": _LEARNING_RATES[base], **_FLIPPING_SPACE},
            build=_flipping(base),
            options=frozenset({"temperature", "init_epochs"}),
        ),
    }.items()
}
ALGORITHMS |= {
    "correction": Algorithm(
        label="Gradient correction, Adam",
        baseline="adam",
        search_space=_CORRECTION_SPACE,
        build=_correction(hidden=False),
        options=_CORRECTION_OPTIONS,
    ),
    "correction-hidden": Algorithm(
        label="Gradient and hidden correction, Adam",
        baseline="adam",
        search_space=_CORRECTION_SPACE,
        build=_correction(hidden=True),
        options=_CORRECTION_OPTIONS,
    ),
    "adam-longer": _adam_control("Adam, longer (control)"),
    "adam-longest": _adam_control("Adam, longest (control)"),
    "adam-wider": _adam_control("Adam, wider (control)"),
    "readout": Algorithm(
        label="Last layer only, Adam (control)",
        baseline="adam",
        search_space={"lr": _LEARNING_RATES["adam"]},
        build=_readout,
        control=True,
    ),
    "sigprop": Algorithm(
        label="Signal propagation, Adam",
        baseline="adam",
        search_space={"lr": _LEARNING_RATES["adam"], "signal_lr": _LEARNING_RATES["adam"]},
        build=_sigprop,
    ),
    "localized-static": _localized_row("Localized learning, static", "hebbian"),
    "localized-static-half": _localized_row("Localized learning, static, half the blocks", "hebbian", **_HALF),
    "localized-static-two": _localized_row("Localized learning, static, first two blocks", "hebbian", **_TWO),
    "localized-dynamic": _localized_row("Localized learning, dynamic", "hebbian", mode="dynamic"),
    "localized-frozen": _localized_row("Freezing, static (control)", "frozen"),
    "localized-frozen-half": _localized_row("Freezing, static, half the blocks (control)", "frozen", **_HALF),
    "localized-frozen-two": _localized_row("Freezing, static, first two blocks (control)", "frozen", **_TWO),
    "localized-random": _localized_row("Random updates, static (control)", "random"),
    "standard-sgd": Algorithm(
        label="SGD, standard parametrisation",
        baseline=None,
        search_space={"lr": _MLP3_RATE},
        build=_standard_sgd,
    ),
    "mup-sgd": Algorithm(
        label="SGD, muP",
        baseline="standard-sgd",
        search_space={"lr": _MLP3_RATE},
        build=_mup_sgd,
    ),
}

ALGORITHM_LABELS = {name: algorithm.label for name, algorithm in ALGORITHMS.items()}


def get_algorithm(name: str) -> Algorithm:
    """The algorithm of that name.

    Raises:
        ValueError: There is none; the nearest names are given.
    """
    if name not in ALGORITHMS:
        raise unknown_name("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]


def build_learner(setting: Setting) -> Learner:
    """The learner that a run's configuration asks for.

    Raises:
        ValueError: The algorithm is unknown, or a hyperparameter is missing, unknown or out of range.
    """
    algorithm = get_algorithm(setting.config.algorithm)
    given, known = set(setting.config.hyperparameters), set(algorithm.search_space) | algorithm.options
    if "lr" not in given:
        raise ValueError(f"hyperparameters must give lr, got {setting.config.hyperparameters}")
    if given - known:
        raise ValueError(
            f"hyperparameters of {setting.config.algorithm} are {sorted(known)}, got also {sorted(given - known)}"
        )
    return algorithm.build(setting)

"""Gradient correction in shorter runs and at fixed strengths: studies beside that of ``gradient_correction``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from advanced_optimizers.experiments.evidence.claim import (
    COURSEWORK,
    Claim,
    FormerRule,
    each,
    improvement_rule,
    shorter_rule,
)
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.rules import compare_accuracy, compare_shorter
from advanced_optimizers.experiments.studies.baselines import (
    CIFAR,
    DIGITS,
    DIGITS_CONV,
    MARGIN_WORDS,
    MARGINS,
    MNIST,
)
from advanced_optimizers.experiments.studies.gradient_correction import (
    CONTROL,
    CONVNET_TASK,
    FORMER_PAIR,
    FORMER_WORDS,
    PAPER,
    TARGETS,
    TASKS,
    adam_control,
    corrected,
    correction,
)
from advanced_optimizers.experiments.studies.study import in_both_profiles
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.training.algorithms import Algorithm

MNIST_TASK = TASKS[0]

# ---- the algorithms -------------------------------------------------------------------------------------------------

# "About 20 % fewer epochs", 8 of 10. Trials in proportion, rounded up to whole epochs, would be those of the full runs,
# so the hyperparameters are taken over from there.
SHORTER = 0.8
_SHORTER_AS = {
    "adam-shorter": "adam",
    "correction-shorter": "correction",
    "correction-hidden-shorter": "correction-hidden",
}
# The coursework's own strength, and half of it; tuning had chosen up to 0.48 in short trials. Only the rate is tuned.
STRENGTHS = {"weak": 0.05, "stated": 0.1}

# Each module alone, at the rate and the strengths that tuning chose for both.
_PARTS_AS = {"correction-hidden-gcw": "correction-hidden", "correction-hidden-gcode": "correction-hidden"}


def _part(label: str, **off: float) -> Algorithm:
    return replace(corrected(label, hidden=True, timed=False), build=correction(True, **off))


# None of them is timed: their steps are those of the tuned rows.
_ALGORITHMS = {
    "correction-shorter": corrected("Gradient correction, 20 % shorter, Adam", hidden=False, timed=False),
    "correction-hidden-shorter": corrected("Correction at down-sampling, 20 % shorter, Adam", hidden=True, timed=False),
    "adam-shorter": adam_control("Adam, 20 % shorter (control)"),
    **{
        f"correction-{name}": corrected(f"Gradient correction at {strength:g}, Adam", False, strength, timed=False)
        for name, strength in STRENGTHS.items()
    },
    **{
        f"correction-hidden-{name}": corrected(
            f"Correction at down-sampling at {strength:g}, Adam", True, strength, timed=False
        )
        for name, strength in STRENGTHS.items()
    },
    "correction-hidden-gcw": _part("Correction at down-sampling, GC-W alone", gcode_strength=0.0),
    "correction-hidden-gcode": _part("Correction at down-sampling, GC-ODE alone", gcw_strength=0.0),
    "adam-slightly-wider": adam_control("Adam, slightly wider (control)"),
}

# ---- the claims -----------------------------------------------------------------------------------------------------

_FORMER_EPOCHS = FormerRule(
    rule="The ratio of the epochs to a fixed test accuracy (98 % on mnist-mlp, 75 % on cifar10-jpeg-convnet), "
    f"{FORMER_WORDS}Adam, paired by seed (at least 5), with the 95 % interval of its geometric mean. A run that does "
    "not reach it counts with its length, and the ratio then only against the claim (the method's run) or only for it "
    "(the baseline's). Supported: every interval ends at or below 0.85 (at least 15 % fewer). Not supported: an "
    "interval starts above it. Otherwise, and whenever a run diverged, inconclusive.",
    verdict="not supported",
    result=f"Of 3 comparisons: 3 above. Least in favor: {FORMER_PAIR.format('Adam')}1.608 [1.519, 1.702] times (n = "
    "5).",
    why="The epoch at which a run comes to a fixed accuracy follows the length of its schedule, so runs of the same "
    "length do not show whether a shorter one is enough. The former rule stands as a claim of its own.",
)


_ALL, _PLACED = "all weights", "at down-sampling"


def _short(what: str, where: str) -> str:
    return where if what == _ALL else what


def _epochs_claim(key: str, algorithm: str, task: str, what: str, where: str, former: FormerRule | None) -> Claim:
    margin = MARGINS[task]
    return Claim(
        key=key,
        method="Gradient correction",
        short=f"20 % fewer epochs, {_short(what, where)}",
        study="correction-shorter",
        text=f"Gradient correction ({what}) needs about 20 % fewer epochs, on {where}.",
        source=PAPER,
        rule=shorter_rule(
            f"gradient correction over Adam ({what}) in 8 epochs against Adam in 10", "Adam in 8 epochs", where, margin
        ),
        decide=partial(
            compare_shorter,
            margin=margin,
            shorter=Comparison(task, algorithm, "adam"),
            control=Comparison(task, "adam-shorter", "adam"),
        ),
        former=former,
    )


def _strength_claim(key: str, prefix: str, task: str, what: str, where: str) -> Claim:
    rows = {f"{prefix}-{name}": "adam" for name in STRENGTHS}
    return Claim(
        key=key,
        method="Gradient correction",
        short=f"better at 0.05, 0.1, {_short(what, where)}",
        study="correction-stated",
        text="At the coursework's own strength of 0.1, and at half of it, gradient correction is an improvement "
        f"({what}, on {where}).",
        source=COURSEWORK,
        rule=improvement_rule(
            "test accuracy",
            f"gradient correction over Adam ({what}) with both strengths at 0.05 and with both at 0.1 at a tuned rate, "
            f"against Adam on {where}",
            MARGIN_WORDS,
        ),
        decide=partial(compare_accuracy, comparisons=each(rows, (task,), margins=MARGINS)),
    )


_CLAIMS = (
    _epochs_claim("correction-epochs", "correction-shorter", MNIST_TASK, _ALL, "MNIST", _FORMER_EPOCHS),
    _epochs_claim("correction-epochs-convnet", "correction-shorter", CONVNET_TASK, _ALL, "cifar10-jpeg", None),
    _epochs_claim("correction-epochs-hidden", "correction-hidden-shorter", CONVNET_TASK, _PLACED, "cifar10-jpeg", None),
    _strength_claim("correction-strengths", "correction", MNIST_TASK, _ALL, "MNIST"),
    _strength_claim("correction-strengths-convnet", "correction", CONVNET_TASK, _ALL, "cifar10-jpeg"),
    _strength_claim("correction-strengths-hidden", "correction-hidden", CONVNET_TASK, _PLACED, "cifar10-jpeg"),
    Claim(
        key="correction-chosen-strengths",
        method="Gradient correction",
        short="its strengths did the harm",
        study="correction-stated",
        text="At down-sampling layers, the accuracy is lost by the strengths that short trials chose.",
        source=CONTROL,
        rule=improvement_rule(
            "test accuracy",
            "gradient correction at down-sampling layers on cifar10-jpeg, with both strengths at 0.05 and with both at "
            "0.1, against the strengths that tuning chose",
            MARGIN_WORDS,
        ),
        decide=partial(
            compare_accuracy,
            comparisons=each(
                {f"correction-hidden-{name}": "correction-hidden" for name in STRENGTHS},
                (CONVNET_TASK,),
                margins=MARGINS,
            ),
        ),
    ),
    Claim(
        key="correction-chosen-gcw",
        method="Gradient correction",
        short="GC-W did the harm",
        study="correction-stated",
        text="At down-sampling layers, the accuracy is lost by GC-W on three weights, not by the hidden states.",
        source=CONTROL,
        rule=improvement_rule(
            "test accuracy",
            "GC-ODE alone at down-sampling layers on cifar10-jpeg, against both modules, at the rate and the strengths "
            "that tuning chose for both",
            MARGIN_WORDS,
        ),
        decide=partial(
            compare_accuracy,
            comparisons=each({"correction-hidden-gcode": "correction-hidden"}, (CONVNET_TASK,), margins=MARGINS),
        ),
    ),
    Claim(
        key="correction-equal-parameters",
        method="Gradient correction",
        short="better at equal parameters",
        study="correction-stated",
        text="On the ConvNet, gradient correction of all weights is worth the parameters that it adds.",
        source=CONTROL,
        rule=improvement_rule(
            "test accuracy",
            "gradient correction over Adam, of all weights, against Adam on the narrowest wider network that adds at "
            "least as many parameters, on cifar10-jpeg",
            MARGIN_WORDS,
        ),
        decide=partial(
            compare_accuracy, comparisons=each({"correction": "adam-slightly-wider"}, (CONVNET_TASK,), margins=MARGINS)
        ),
    ),
)

# ---- the studies ----------------------------------------------------------------------------------------------------

_TUNED = ("adam", "correction", "correction-hidden")
_AT_STRENGTHS = tuple(f"{row}-{name}" for row in ("correction", "correction-hidden") for name in STRENGTHS)

TOPIC = Topic(
    title="Gradient correction, shorter and weaker",
    algorithms=_ALGORITHMS,
    studies=(
        *in_both_profiles(
            name="correction-shorter",
            title="Does gradient correction do in 8 epochs what Adam does in 10?",
            full=(MNIST, CIFAR),
            quick=(DIGITS, DIGITS_CONV),
            algorithms=(*_TUNED, *_SHORTER_AS),
            # The MLP has no down-sampling layer.
            left_out=(("mlp", "correction-hidden"), ("mlp", "correction-hidden-shorter")),
            longer={(model, name): SHORTER for model in ("mlp", "convnet") for name in _SHORTER_AS},
            tuned_as=_SHORTER_AS,
            targets={**TARGETS, "digits-mlp": 0.9, "digits-convnet": 0.9},
        ),
        *in_both_profiles(
            name="correction-stated",
            title="Does gradient correction help at fixed, small strengths?",
            full=(MNIST, CIFAR),
            quick=(DIGITS, DIGITS_CONV),
            algorithms=(*_TUNED, *_AT_STRENGTHS, *_PARTS_AS, "adam-slightly-wider"),
            # On the MLP, one more unit adds more parameters than the correction: ``adam-wider`` is the control there.
            left_out=(
                *(("mlp", name) for name in (*_TUNED, *_AT_STRENGTHS, *_PARTS_AS) if "hidden" in name),
                ("mlp", "adam-slightly-wider"),
            ),
            tuned_as=_PARTS_AS,
            # One more channel in the last stage: 1463 more parameters where the correction of all weights adds 840.
            wider={("convnet", "adam-slightly-wider"): 1.01},
            curves=("test_accuracy", "prediction_gain"),
        ),
    ),
    claims=_CLAIMS,
)

"""The claims about selective localized learning (LoCal+SGD)."""

from __future__ import annotations

from functools import partial

from advanced_optimizers.experiments.claim import (
    COURSEWORK,
    Claim,
    each,
    margin_rule,
    memory_rule,
    metric_rule,
    overhead_rule,
)
from advanced_optimizers.experiments.rules import compare_accuracy, compare_margin, compare_memory, compare_overhead

PAPER = "paper (Krithivasan et al., 2022)"
CONTROL = "our control"

# 1.5 times as fast.
PAPER_RATIO = 0.667
MARGIN = 0.005
# The coursework's 11.7 s an epoch against SGD's 12.3 s.
COURSEWORK_RATIO = 0.951
MEMORY_LIMIT = 1.0

_TASKS = ("mnist-mlp2", "cifar10-jpeg-convnet")
_STATIC = {"localized-static": "sgd"}
_BOTH = {"localized-static": "sgd", "localized-dynamic": "sgd"}
# On the MLP of three blocks, half of them is what the other schedule localizes too.
_HALF_TASKS = ("cifar10-jpeg-convnet",)
_HALF = {"localized-static-half": "sgd"}
_HALF_WORDS = "localized learning with the static transition up to half the blocks against SGD, on the ConvNet"
_TWO = {"localized-static-two": "sgd"}
_TWO_WORDS = "localized learning with a static transition that goes up to two blocks at an even pace against"
_CONTROLS = ("localized-frozen", "localized-random")
_WORDS = "localized learning with the static transition against SGD"

CLAIMS = (
    Claim(
        key="localized-speed",
        study="localized",
        text="LoCal+SGD trains up to 1.5 times as fast as SGD.",
        source=PAPER,
        rule=overhead_rule(f"{_WORDS} on both tasks", PAPER_RATIO, "1 / 1.5"),
        decide=partial(compare_overhead, limit=PAPER_RATIO, comparisons=each(_STATIC, _TASKS)),
    ),
    Claim(
        key="localized-fastest",
        study="localized",
        text="Localized learning is the fastest per epoch (11.7 s against 12.3 s for SGD).",
        source=COURSEWORK,
        rule=overhead_rule(f"{_WORDS} on both tasks", COURSEWORK_RATIO, "11.7 / 12.3"),
        decide=partial(compare_overhead, limit=COURSEWORK_RATIO, comparisons=each(_STATIC, _TASKS)),
    ),
    Claim(
        key="localized-accuracy",
        study="localized",
        text="LoCal+SGD loses about 0.5 points of accuracy.",
        source=PAPER,
        rule=margin_rule(
            "localized learning with the static and with the dynamic transition against SGD, on both tasks",
            MARGIN,
            "the paper's",
        ),
        decide=partial(compare_margin, margin=MARGIN, comparisons=each(_BOTH, _TASKS)),
    ),
    Claim(
        key="localized-memory",
        study="localized",
        text="Localized learning saves memory.",
        source=PAPER,
        rule=memory_rule(f"{_WORDS}, in the last epoch,", MEMORY_LIMIT, "no more than SGD"),
        decide=partial(compare_memory, limit=MEMORY_LIMIT, comparisons=each(_STATIC, _TASKS)),
    ),
    Claim(
        key="localized-half-accuracy",
        study="localized",
        text="Up to half the blocks, localized learning loses no more than 0.5 points of accuracy.",
        source=CONTROL,
        rule=margin_rule(_HALF_WORDS, MARGIN, "the paper's"),
        decide=partial(compare_margin, margin=MARGIN, comparisons=each(_HALF, _HALF_TASKS)),
    ),
    Claim(
        key="localized-half-speed",
        study="localized",
        text="Up to half the blocks, its epochs are still shorter than SGD's.",
        source=CONTROL,
        rule=overhead_rule(_HALF_WORDS, 1.0, "no more than SGD"),
        decide=partial(compare_overhead, limit=1.0, comparisons=each(_HALF, _HALF_TASKS)),
    ),
    Claim(
        key="localized-half-beats-freezing",
        study="localized",
        text="Up to half the blocks, the localized updates are worth more than freezing.",
        source=CONTROL,
        rule=metric_rule(
            "test accuracy",
            "localized learning with the static transition up to half the blocks against freezing the same layers at "
            "the same epochs, on the ConvNet",
        ),
        decide=partial(
            compare_accuracy,
            comparisons=each({"localized-static-half": "localized-frozen-half"}, _HALF_TASKS),
        ),
    ),
    Claim(
        key="localized-two-accuracy",
        study="localized",
        text="Up to two blocks at an even pace, localized learning loses no more than 0.5 points of accuracy.",
        source=CONTROL,
        rule=margin_rule(f"{_TWO_WORDS} SGD, on both tasks", MARGIN, "the paper's"),
        decide=partial(compare_margin, margin=MARGIN, comparisons=each(_TWO, _TASKS)),
    ),
    Claim(
        key="localized-two-speed",
        study="localized",
        text="Up to two blocks at an even pace, its epochs are still shorter than SGD's.",
        source=CONTROL,
        rule=overhead_rule(f"{_TWO_WORDS} SGD, on both tasks", 1.0, "no more than SGD"),
        decide=partial(compare_overhead, limit=1.0, comparisons=each(_TWO, _TASKS)),
    ),
    Claim(
        key="localized-two-beats-freezing",
        study="localized",
        text="Up to two blocks at an even pace, the localized updates are worth more than freezing.",
        source=CONTROL,
        rule=metric_rule("test accuracy", f"{_TWO_WORDS} freezing the same layers at the same epochs, on both tasks"),
        decide=partial(compare_accuracy, comparisons=each({"localized-static-two": "localized-frozen-two"}, _TASKS)),
    ),
    Claim(
        key="localized-beats-freezing",
        study="localized",
        text="The localized updates are worth more than no updates, and than random ones.",
        source=CONTROL,
        rule=metric_rule(
            "test accuracy",
            "localized learning with the static transition against freezing the same layers at the same epochs, and "
            "against random updates of the same norm, on both tasks",
        ),
        decide=partial(
            compare_accuracy,
            comparisons=tuple(c for control in _CONTROLS for c in each({"localized-static": control}, _TASKS)),
        ),
    ),
)

"""The claims about selective localized learning (LoCal+SGD)."""

from __future__ import annotations

from functools import partial

from advanced_optimizers.experiments.evidence.claim import (
    COURSEWORK,
    Claim,
    each,
    margin_rule,
    memory_rule,
    metric_rule,
    overhead_rule,
)
from advanced_optimizers.experiments.evidence.rules import (
    compare_accuracy,
    compare_margin,
    compare_memory,
    compare_overhead,
)

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
_CONTROLS = ("localized-frozen", "localized-random")
_WORDS = "localized learning with the static transition against SGD"


def _of_schedule(name: str, words: str, compared: str, tasks: tuple[str, ...], where: str) -> tuple[Claim, ...]:
    """What is asked of a milder schedule: the accuracy lost, the time saved, and what freezing would give."""
    own, frozen = f"localized-static-{name}", f"localized-frozen-{name}"
    return (
        Claim(
            key=f"localized-{name}-accuracy",
            study="localized",
            text=f"{words}, localized learning loses no more than 0.5 points of accuracy.",
            source=CONTROL,
            rule=margin_rule(f"{compared} SGD, {where}", MARGIN, "the paper's"),
            decide=partial(compare_margin, margin=MARGIN, comparisons=each({own: "sgd"}, tasks)),
        ),
        Claim(
            key=f"localized-{name}-speed",
            study="localized",
            text=f"{words}, its epochs are still shorter than SGD's.",
            source=CONTROL,
            rule=overhead_rule(f"{compared} SGD, {where}", 1.0, "no more than SGD"),
            decide=partial(compare_overhead, limit=1.0, comparisons=each({own: "sgd"}, tasks)),
        ),
        Claim(
            key=f"localized-{name}-beats-freezing",
            study="localized",
            text=f"{words}, the localized updates are worth more than freezing.",
            source=CONTROL,
            rule=metric_rule("test accuracy", f"{compared} freezing the same layers at the same epochs, {where}"),
            decide=partial(compare_accuracy, comparisons=each({own: frozen}, tasks)),
        ),
    )


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
    *_of_schedule(
        "half",
        "Up to half the blocks",
        "localized learning with the static transition up to half the blocks against",
        _HALF_TASKS,
        "on the ConvNet",
    ),
    *_of_schedule(
        "two",
        "Up to two blocks at an even pace",
        "localized learning with a static transition that goes up to two blocks at an even pace against",
        _TASKS,
        "on both tasks",
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

"""The claims about localized learning, one for each schedule and task, and the rules that decide them.

Whether a schedule does anything depends on the task: on MNIST the default one localizes a block in the last epoch only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from advanced_optimizers.experiments.evidence.chains import compare_fastest
from advanced_optimizers.experiments.evidence.claim import (
    COURSEWORK,
    Claim,
    claimed_gain_words,
    each,
    improvement_rule,
    margin_rule,
    memory_rule,
    overhead_rule,
)
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.rules import (
    compare_accuracy,
    compare_margin,
    compare_memory,
    compare_overhead,
)
from advanced_optimizers.experiments.studies.baselines import MARGIN_WORDS, MARGINS
from advanced_optimizers.experiments.studies.baselines import TOPIC as BASELINES
from advanced_optimizers.experiments.studies.claims.localized_learning_former import FORMER

PAPER = "paper (Krithivasan et al., 2022)"
CONTROL = "our control"

# The paper states 1.5 times as fast.
PAPER_RATIO = 0.667
MARGIN = 0.005
# The coursework states 11.7 s per epoch, and 12.3 s for SGD.
COURSEWORK_RATIO = 0.951
MEMORY_LIMIT = 1.0
# Test accuracy in the coursework's table; it names no networks.
CLAIMED = {"mnist-mlp2": 0.963, "cifar10-jpeg-convnet": 0.705}

_MNIST, _CONVNET = "mnist-mlp2", "cifar10-jpeg-convnet"
_TASKS = (_MNIST, _CONVNET)
# What a claim's key ends with, what its short text ends with, and what its text calls the task.
_ENDINGS = {_CONVNET: ("", "", "cifar10-jpeg"), _MNIST: ("-mnist", ", MNIST", "MNIST")}


@dataclass(frozen=True)
class _Schedule:
    """One way in which the transition moves.

    Attributes:
        key: What stands for it in the keys of its claims.
        short: What stands for it in their short texts.
        words: What it is, after "localized learning".
        algorithm: The algorithm with this schedule.
        controls: The controls with the same schedule, and what they do.
        tasks: Where it was run.
        source: Who claims something about it.
    """

    key: str
    short: str
    words: str
    algorithm: str
    controls: tuple[str, ...] = ()
    does: str = ""
    tasks: tuple[str, ...] = _TASKS
    source: str = CONTROL


_STATIC = _Schedule(
    key="",
    short="static",
    words="with the static transition",
    algorithm="localized-static",
    controls=("localized-frozen", "localized-random"),
    does="freezing the same layers at the same epochs, and random updates of the same norm",
    source=PAPER,
)
_HALF = _Schedule(
    key="-half",
    short="½ blocks",
    words="with the static transition up to half the blocks",
    algorithm="localized-static-half",
    controls=("localized-frozen-half",),
    does="freezing the same layers at the same epochs",
    tasks=(_CONVNET,),  # half of the MLP's three blocks is one block, as in the default schedule
)
_TWO = _Schedule(
    key="-two",
    short="2 blocks",
    words="with a static transition that goes up to two blocks at an even pace",
    algorithm="localized-static-two",
    controls=("localized-frozen-two",),
    does="freezing the same layers at the same epochs",
)
_DYNAMIC = _Schedule(
    key="-dynamic",
    short="dynamic",
    words="with the dynamic transition",
    algorithm="localized-dynamic",
    source=PAPER,
)


def _for_each_task(claim: Callable[[_Schedule, str], Claim], *schedules: _Schedule) -> tuple[Claim, ...]:
    """The claim about each schedule on each of its tasks, with the rule that it had before, if there was one."""
    claims = [claim(schedule, task) for schedule in schedules for task in reversed(schedule.tasks)]
    return tuple(replace(c, former=FORMER.get(c.key)) for c in claims)


def _accuracy(schedule: _Schedule, task: str) -> Claim:
    suffix, short, where = _ENDINGS[task]
    return Claim(
        key=f"localized{schedule.key}-accuracy{suffix}",
        method="Localized learning",
        short=f"half a point: {schedule.short}{short}",
        study="localized",
        text=f"LoCal+SGD loses about 0.5 points of accuracy: {schedule.words}, on {where}.",
        source=schedule.source,
        rule=margin_rule(f"localized learning {schedule.words} against SGD, on {where}", MARGIN, "the paper's"),
        decide=partial(compare_margin, margin=MARGIN, comparisons=each({schedule.algorithm: "sgd"}, (task,))),
    )


def _fastest(schedule: _Schedule, task: str) -> Claim:
    suffix, short, where = _ENDINGS[task]
    return Claim(
        key=f"localized{schedule.key}-fastest{suffix}",
        method="Localized learning",
        short=f"5 % faster: {schedule.short}{short}",
        study="localized",
        text=f"Localized learning takes 11.7 s per epoch where SGD takes 12.3 s: {schedule.words}, on {where}.",
        source=COURSEWORK,
        rule=overhead_rule(
            f"localized learning {schedule.words} against SGD on {where}", COURSEWORK_RATIO, "11.7 / 12.3"
        ),
        decide=partial(
            compare_overhead, limit=COURSEWORK_RATIO, comparisons=each({schedule.algorithm: "sgd"}, (task,))
        ),
    )


def _beats_freezing(schedule: _Schedule, task: str) -> Claim:
    suffix, short, where = _ENDINGS[task]
    pairs = [each({schedule.algorithm: control}, (task,), margins=MARGINS) for control in schedule.controls]
    return Claim(
        key=f"localized{schedule.key}-beats-freezing{suffix}",
        method="Localized learning",
        short=f"beats freezing: {schedule.short}{short}",
        study="localized",
        text=f"The localized updates are worth more than {schedule.does}: {schedule.words}, on {where}.",
        source=CONTROL,
        rule=improvement_rule(
            "test accuracy", f"localized learning {schedule.words} against {schedule.does}, on {where}", MARGIN_WORDS
        ),
        decide=partial(compare_accuracy, comparisons=tuple(c for pair in pairs for c in pair)),
    )


def _still_faster(schedule: _Schedule, text: str) -> Claim:
    where = "both tasks" if len(schedule.tasks) > 1 else "the ConvNet"
    return Claim(
        key=(key := f"localized{schedule.key}-speed"),
        former=FORMER[key],
        method="Localized learning",
        short=f"shorter epochs: {schedule.short}",
        study="localized",
        text=f"{text}, its epochs are still shorter than SGD's.",
        source=CONTROL,
        rule=overhead_rule(f"localized learning {schedule.words} against SGD, on {where}", 1.0, "no more than SGD"),
        decide=partial(compare_overhead, limit=1.0, comparisons=each({schedule.algorithm: "sgd"}, schedule.tasks)),
    )


def _above_sgd(schedule: _Schedule, task: str) -> Claim:
    suffix, short, where = _ENDINGS[task]
    sgd = BASELINES.algorithms["sgd"].claimed[task]
    gain = round(CLAIMED[task] - sgd, 4)
    return Claim(
        key=f"localized{schedule.key}-above-sgd{suffix}",
        method="Localized learning",
        short=f"{100 * CLAIMED[task]:.1f} %: above SGD{short}",
        study="localized",
        text=f"LocalLearning reaches {100 * CLAIMED[task]:.1f} %, {100 * gain:.1f} points more than SGD, on {where}.",
        source=COURSEWORK,
        rule=improvement_rule(
            "test accuracy",
            f"localized learning {schedule.words} against SGD, on {where}",
            MARGIN_WORDS,
            claimed_gain_words("over SGD"),
        ),
        decide=partial(
            compare_accuracy,
            comparisons=(
                Comparison(task, schedule.algorithm, "sgd", claimed=gain, claimed_from=sgd, margin=MARGINS[task]),
            ),
        ),
    )


def _below_adam(schedule: _Schedule, task: str) -> Claim:
    suffix, short, where = _ENDINGS[task]
    loss = round(BASELINES.algorithms["adam"].claimed[task] - CLAIMED[task], 4)
    return Claim(
        key=f"localized{schedule.key}-below-adam{suffix}",
        method="Localized learning",
        short=f"{100 * loss:.1f} points below Adam{short}",
        study="localized",
        text=f"LocalLearning reaches {100 * CLAIMED[task]:.1f} %, {100 * loss:.1f} points less than Adam, on {where}.",
        source=COURSEWORK,
        rule=margin_rule(
            f"localized learning {schedule.words} against Adam, on {where}", loss, "the coursework's, which is a loss"
        ),
        decide=partial(compare_margin, margin=loss, comparisons=each({schedule.algorithm: "adam"}, (task,))),
    )


# What was timed on the same network, of the rows of the coursework's table: SGD, Adam, FER, gradient correction.
_OTHERS = {_CONVNET: ("sgd", "adam", "fer-adam", "correction"), _MNIST: ("sgd", "adam")}


def _fastest_of_all(schedule: _Schedule, task: str) -> Claim:
    suffix, short, where = _ENDINGS[task]
    others = "SGD and Adam"
    if len(_OTHERS[task]) > 2:
        others = "SGD, Adam, gradient consistency over Adam and gradient correction over Adam"
    return Claim(
        key=f"localized{schedule.key}-fastest-of-all{suffix}",
        method="Localized learning",
        short=f"fastest of all{short}",
        study="localized",
        text=f"Localized learning is the fastest of all algorithms per epoch: {schedule.words}, on {where}.",
        source=COURSEWORK,
        rule=f"The ratio of the seconds of an epoch, localized learning {schedule.words} against each algorithm of the "
        f"coursework's table that was timed on the same network ({others}), on {where}. With SGD it was timed in "
        "turns: the median of the pairs, with its order-statistic interval. With the others it is a chain of ratios, "
        "localized learning to SGD, SGD to Adam, Adam to the method over it: the product of geometric means, with the "
        "95 % interval of a sum of independent means (Welch). SGD and Adam were not timed in turns; their ratio is "
        "that of their times in all measurements of methods over them, each counted once. Supported: every interval "
        "ends at or below 1. Not supported: a ratio is above it by the sign test or the t-test that belongs to the "
        "interval, with Holm's correction over all of the claim's comparisons. Otherwise inconclusive.",
        decide=partial(compare_fastest, task=task, algorithm=schedule.algorithm, others=_OTHERS[task]),
    )


CLAIMS = (
    Claim(
        key="localized-speed",
        former=FORMER["localized-speed"],
        method="Localized learning",
        short="1.5 times as fast",
        study="localized",
        text="LoCal+SGD trains up to 1.5 times as fast as SGD.",
        source=PAPER,
        rule=overhead_rule(f"localized learning {_STATIC.words} against SGD on both tasks", PAPER_RATIO, "1 / 1.5"),
        decide=partial(compare_overhead, limit=PAPER_RATIO, comparisons=each({_STATIC.algorithm: "sgd"}, _TASKS)),
    ),
    *_for_each_task(_fastest, _STATIC, _HALF, _TWO),
    *_for_each_task(_fastest_of_all, _STATIC),
    _still_faster(_HALF, "Up to half the blocks"),
    _still_faster(_TWO, "Up to two blocks at an even pace"),
    Claim(
        key="localized-memory",
        method="Localized learning",
        short="saves memory",
        study="localized",
        text="Localized learning saves memory.",
        source=PAPER,
        rule=memory_rule(
            f"localized learning {_STATIC.words} against SGD, in the last epoch,", MEMORY_LIMIT, "no more than SGD"
        ),
        decide=partial(compare_memory, limit=MEMORY_LIMIT, comparisons=each({_STATIC.algorithm: "sgd"}, _TASKS)),
    ),
    *_for_each_task(_accuracy, _STATIC, _HALF, _TWO, _DYNAMIC),
    *_for_each_task(_above_sgd, _STATIC),
    *_for_each_task(_below_adam, _STATIC),
    *_for_each_task(_beats_freezing, _STATIC, _HALF, _TWO),
)

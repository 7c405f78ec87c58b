"""The claims on continual learning, and the rules that decide them: the text's (C1 to C4, R1, R2), and ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim, at_the_end, each, improvement_rule, margin_rule
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.rules import compare_accuracy, compare_margin
from advanced_optimizers.experiments.evidence.stated import value_rule, value_within

TEXT, OURS = "text on AutoML", "our question"

PERMUTED = "mnist-permuted"
BY_TASK, BY_DOMAIN, BY_CLASS = SPLIT = ("mnist-split-task", "mnist-split-domain", "mnist-split-class")
SIZES = (10, 20, 100, 1000)
TRANSFER = tuple(f"mnist-transfer-{size}" for size in SIZES)
# The largest difference in accuracy that does not matter: about three standard errors of a test set of 10,000.
MARGIN = 0.01
MARGINS = dict.fromkeys((PERMUTED, *SPLIT, *TRANSFER), MARGIN)
_MARGIN_WORDS = "1 point"

# What fine-tuning must lose of the first task, what EWC must gain over it, and how near to joint training it must be.
_FORGOTTEN, _GAIN, _NEAR = 0.15, 0.06, 0.04
# What may be lost without being forgetting, the least accuracy of every task in a balance, and what counts as failure.
_KEPT, _BALANCED, _FAILED = 0.01, 0.9, 0.3
# Five columns of 64-64 units over 784 pixels, with two outputs each.
PARAMETERS = 314_890

_ACCURACY = "average test accuracy over all tasks"


def _compared(
    key: str,
    short: str,
    text: str,
    compared: str,
    comparisons: Sequence[Comparison],
    study: str = "continual",
    source: str = OURS,
) -> Claim:
    return Claim(
        key=key,
        method="Continual learning",
        short=short,
        study=study,
        text=text,
        source=source,
        rule=at_the_end(
            improvement_rule(_ACCURACY if study != "continual-transfer" else "accuracy", compared, _MARGIN_WORDS),
            "task",
        ),
        decide=partial(compare_accuracy, comparisons=tuple(comparisons)),
    )


def _as_good(
    key: str, short: str, text: str, compared: str, pairs: Mapping[str, str], margin: float, why: str
) -> Claim:
    return Claim(
        key=key,
        method="Continual learning",
        short=short,
        study="continual",
        text=text,
        source=OURS,
        rule=at_the_end(margin_rule(f"averaged over all tasks, {compared}", margin, why), "task"),
        decide=partial(compare_margin, margin=margin, comparisons=each(pairs, (PERMUTED,))),
    )


def _valued(
    key: str,
    short: str,
    text: str,
    quantity: str,
    range_words: str,
    metric: str,
    algorithm: str,
    low: float,
    high: float,
    *,
    task: str = PERMUTED,
    study: str = "continual",
    source: str = TEXT,
) -> Claim:
    return Claim(
        key=key,
        method="Continual learning",
        short=short,
        study=study,
        text=text,
        source=source,
        rule=value_rule(quantity, range_words),
        decide=partial(value_within, metric=metric, task=task, algorithm=algorithm, low=low, high=high),
    )


def _on(tasks: Sequence[str], algorithm: str, *baselines: str) -> tuple[Comparison, ...]:
    """An algorithm against each of the baselines on each task."""
    return tuple(pair for baseline in baselines for pair in each({algorithm: baseline}, tasks, margins=MARGINS))


_STANDARD = "about three standard errors of the test set"

CLAIMS = (
    _valued(
        "continual-forgetting",
        "C1: catastrophic forgetting",
        "C1. Catastrophic forgetting is a problem. (Read as: fine-tuning loses 15 points of the first of three tasks.)",
        "On permuted MNIST, what fine-tuning loses of the accuracy on the first task until the third has been learned",
        f"at or above {100 * _FORGOTTEN:g} points",
        "first_forgotten",
        "continual-finetuning",
        _FORGOTTEN,
        1.0,
    ),
    Claim(
        key="continual-gain",
        method="Continual learning",
        short="C2: elastic weights keep",
        study="continual",
        text="C2. EWC keeps old knowledge by elastic weights. (Read as: 6 points above fine-tuning on average.)",
        source=TEXT,
        rule=(
            f"On permuted MNIST, the difference in {_ACCURACY}, EWC (exact Fisher) against fine-tuning, paired by seed "
            f"(at least five), with its 95 % interval. Supported: the interval lies at or above {100 * _GAIN:g} "
            "points. Not supported: the gain is smaller by a paired t-test against it. Otherwise, and whenever a run "
            "diverged, inconclusive."
        ),
        decide=partial(
            compare_margin, margin=-_GAIN, comparisons=each({"continual-ewc": "continual-finetuning"}, (PERMUTED,))
        ),
    ),
    _valued(
        "continual-without",
        "C3: without forgetting",
        "C3. Continual learning without forgetting. (Read as: with EWC, earlier tasks lose at most one point.)",
        "On permuted MNIST, what earlier tasks lose of their accuracy with EWC (exact Fisher), on average",
        f"at or below {100 * _KEPT:g} point",
        "forgetting",
        "continual-ewc",
        -1.0,
        _KEPT,
    ),
    _valued(
        "continual-balance",
        "C4: old and new in balance",
        "C4. EWC balances old and new knowledge. (Read as: no task ends below 90 %.)",
        "On permuted MNIST, the lowest accuracy over the three tasks at the end, with EWC (exact Fisher)",
        f"at or above {100 * _BALANCED:g} %",
        "worst_task",
        "continual-ewc",
        _BALANCED,
        1.0,
    ),
    _as_good(
        "continual-joint",
        "EWC near joint training",
        "EWC comes within 4 points of training on all tasks together.",
        "EWC (exact Fisher) against joint training with as many steps",
        {"continual-ewc": "continual-joint"},
        _NEAR,
        "a gap that is small against what fine-tuning loses",
    ),
    _compared(
        "continual-fisher",
        "the Fisher, or any weights",
        "It is the Fisher information that does it: EWC is better than with the same importances at other weights.",
        "on permuted MNIST: EWC (exact Fisher) against EWC with the same numbers shuffled within each tensor, each "
        "with the best of five strengths",
        _on((PERMUTED,), "continual-ewc", "continual-shuffled"),
    ),
    _compared(
        "continual-distance",
        "the Fisher, or a distance",
        "EWC is better than a plain distance from the earlier weights.",
        "on permuted MNIST: EWC (exact Fisher) against an L2 penalty, each with the best of five strengths",
        _on((PERMUTED,), "continual-ewc", "continual-l2"),
    ),
    _as_good(
        "continual-sampled",
        "one label of the model",
        "One label per image, drawn from the model, does as well as all of them.",
        "EWC with sampled labels against exact Fisher information",
        {"continual-ewc-sampled": "continual-ewc"},
        MARGIN,
        _STANDARD,
    ),
    _as_good(
        "continual-empirical",
        "labels of the data",
        "The labels of the data do as well as the model's own.",
        "EWC with empirical against exact Fisher information",
        {"continual-ewc-empirical": "continual-ewc"},
        MARGIN,
        _STANDARD,
    ),
    _as_good(
        "continual-batch-mean",
        "squares of batch means",
        "Squaring the gradients of whole batches, which is wrong, costs nothing once the strength is tuned.",
        "EWC with squared batch gradients against exact Fisher information, each with the best of five strengths",
        {"continual-ewc-batch-mean": "continual-ewc"},
        MARGIN,
        _STANDARD,
    ),
    _as_good(
        "continual-online",
        "one penalty for all tasks",
        "Online EWC does as well as one penalty per task.",
        "online EWC against EWC (exact Fisher)",
        {"continual-ewc-online": "continual-ewc"},
        MARGIN,
        _STANDARD,
    ),
    _compared(
        "continual-replay",
        "EWC over replay of 200",
        "EWC is better than training again on 200 images that were kept.",
        "on permuted MNIST: EWC (exact Fisher) against replay of 200 images in all",
        _on((PERMUTED,), "continual-ewc", "continual-replay-200"),
    ),
    _compared(
        "continual-split-known",
        "EWC where tasks are known",
        "EWC is better than fine-tuning where the task is known, and where tasks share two outputs.",
        "on split MNIST in task- and domain-incremental form: EWC (exact Fisher) against fine-tuning",
        _on((BY_TASK, BY_DOMAIN), "continual-ewc", "continual-finetuning"),
        "continual-split",
    ),
    _valued(
        "continual-split-class",
        "EWC fails by class",
        "In class-incremental form, EWC fails: it stays below 30 %.",
        "On split MNIST in class-incremental form, the average test accuracy over all tasks at the end, with EWC "
        "(exact Fisher); chance between tasks is 20 %",
        f"at or below {100 * _FAILED:g} %",
        "test_accuracy",
        "continual-ewc",
        0.0,
        _FAILED,
        task=BY_CLASS,
        study="continual-split",
        source=OURS,
    ),
    _compared(
        "continual-split-replay",
        "replay of 200 over EWC",
        "On split classes, replay of 200 images is better than EWC.",
        "on split MNIST in all three forms: replay of 200 images in all against EWC (exact Fisher)",
        _on(SPLIT, "continual-replay-200", "continual-ewc"),
        "continual-split",
    ),
    _valued(
        "progressive-kept",
        "R1: nothing is forgotten",
        "R1. Progressive networks with lateral connections forget nothing. (Read as: bit for bit.)",
        "The share of test images of the first four tasks for which a progressive network's output has changed, "
        "be it by one bit, when the fifth task (100 images) has been learned",
        "at 0",
        "old_changed",
        "transfer-progressive",
        0.0,
        0.0,
        task=TRANSFER[2],
        study="continual-transfer",
    ),
    _compared(
        "progressive-architecture",
        "R2: a change of architecture",
        "R2. Changing the architecture for new tasks is a method. (Read as: better on the last task than one network "
        "that has as many parameters from the beginning.)",
        "on the last task with 10, 20, 100 and 1,000 images: a progressive network against a wider network of as many "
        "parameters that is fine-tuned from task to task",
        _on(TRANSFER, "transfer-progressive", "transfer-wide"),
        "continual-transfer",
        TEXT,
    ),
    _valued(
        "progressive-parameters",
        "parameters by the formula",
        "Five columns have K columns' parameters and K (K - 1) / 2 laterals'.",
        "The parameters of a progressive network with five columns",
        f"at {PARAMETERS:,}",
        "total_parameters",
        "transfer-progressive",
        PARAMETERS,
        PARAMETERS,
        task=TRANSFER[2],
        study="continual-transfer",
        source=OURS,
    ),
    _compared(
        "progressive-transfer",
        "transfer from columns",
        "What earlier columns learned helps a task with few images.",
        "on the last task with 10, 20, 100 and 1,000 images: a progressive network against its last column alone",
        _on(TRANSFER, "transfer-progressive", "transfer-scratch"),
        "continual-transfer",
    ),
    _compared(
        "progressive-random",
        "trained over random columns",
        "It is what they learned: trained earlier columns help more than random ones.",
        "on the last task with 10, 20, 100 and 1,000 images: a progressive network against one whose earlier columns "
        "stay as they were drawn",
        _on(TRANSFER, "transfer-progressive", "transfer-random"),
        "continual-transfer",
    ),
)

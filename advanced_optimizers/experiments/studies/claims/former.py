"""The rules of two topics that were changed after their runs had been seen, with what they had said."""

from __future__ import annotations

from collections.abc import Mapping

from advanced_optimizers.experiments.evidence.claim import FormerRule

_TIE = (
    "A difference that was not found was called a tie, which it may not be: there was no margin within which two "
    "methods count as equal. A claim that every comparison is better needs no correction for their number, and had one."
)
_TIMES = (
    "A geometric mean follows a pair that other work disturbed, and the printed ratio did not follow from the printed "
    "medians. Several ratios were tested against the limit without a correction."
)

FORMER: Mapping[str, FormerRule] = {
    "fer-beats-baselines": FormerRule(
        rule=(
            "The test accuracy of the last epoch on the test set, clean labels, on both tasks (cifar10-jpeg stands in "
            "for CIFAR-10): gradient consistency, the coursework's FER, over SGD against SGD, and over Adam (its "
            "default) against both Adam and SGD, paired by seed (at least 5), by a paired t-test at the level 0.05 "
            "with Holm's correction over all of the claim's comparisons. Supported: every comparison is better. Not "
            "supported: a comparison is worse or exactly equal in every seed, or it gains less over Adam than the "
            "coursework's table states (a paired t-test against that gain, with Holm's correction over the stated "
            "gains). Otherwise, and whenever a run diverged, inconclusive."
        ),
        verdict="not supported",
        result=(
            "Of 6 comparisons: 6 tie, 4 smaller than claimed. Least in favor: Gradient consistency over Adam against "
            "SGD on cifar10-jpeg, ConvNet, clean labels, -0.91 [-1.81, -0.01] points (n = 5, p = 0.291 after Holm)."
        ),
        why=(
            "A difference that was not found was called a tie, which it may not be; and on MNIST the stated gain over "
            "SGD, 1.9 points, is more than SGD leaves to 100 %, so no method could have reached it."
        ),
    ),
    "fer-overhead": FormerRule(
        rule=(
            "The ratio of the seconds of an epoch, gradient consistency over SGD and over Adam against their base on "
            "both tasks, from epochs run in turn in one process (at least 5 pairs), with the 95 % interval of its "
            "geometric mean. Supported: every interval ends at or below 1.053 (13.8 / 13.1). Not supported: an "
            "interval starts above it. Otherwise inconclusive."
        ),
        verdict="not supported",
        result=(
            "Of 4 comparisons: 2 above, 1 unclear, 1 within. Least in favor: Gradient consistency over SGD against SGD"
            " on MNIST, MLP, clean labels, 1.387 [1.282, 1.501] times (n = 9)."
        ),
        why=_TIMES,
    ),
    "fer-reduces-rfe": FormerRule(
        rule=(
            "The relative flipping error of the last epoch on the test set, the paper's loss over SGD against SGD and "
            "over Adam against Adam, on both tasks, with clean and 20 % wrong labels; lower is better, paired by seed "
            "(at least 5), by a paired t-test at the level 0.05 with Holm's correction over all of the claim's "
            "comparisons. Supported: every comparison is better. Not supported: a comparison is worse or exactly equal"
            " in every seed. Otherwise, and whenever a run diverged, inconclusive."
        ),
        verdict="inconclusive",
        result=(
            "Of 8 comparisons: 4 better, 4 tie. Least in favor: Flipping error reduction over SGD against SGD on "
            "MNIST, MLP, 20 % wrong labels, +1.17 [-2.92, +5.25] points (n = 5, p = 0.803 after Holm)."
        ),
        why=_TIE,
    ),
    "flipping-overhead": FormerRule(
        rule=(
            "The ratio of the seconds of an epoch, the paper's loss with SGD and with Adam against their base on both "
            "tasks, from epochs run in turn in one process (at least 5 pairs), with the 95 % interval of its geometric"
            " mean. Supported: every interval ends at or below 1.05 (our reading of negligible). Not supported: an "
            "interval starts above it. Otherwise inconclusive."
        ),
        verdict="not supported",
        result=(
            "Of 4 comparisons: 2 above, 2 within. Least in favor: Flipping error reduction over SGD against SGD on "
            "MNIST, MLP, clean labels, 1.212 [1.184, 1.240] times (n = 9)."
        ),
        why=_TIMES,
    ),
    "flipping-improves-accuracy": FormerRule(
        rule=(
            "The test accuracy of the last epoch on the test set, the paper's loss over SGD against SGD and over Adam "
            "against Adam, on both tasks, with clean and 20 % wrong labels, paired by seed (at least 5), by a paired "
            "t-test at the level 0.05 with Holm's correction over all of the claim's comparisons. Supported: every "
            "comparison is better. Not supported: a comparison is worse or exactly equal in every seed. Otherwise, and"
            " whenever a run diverged, inconclusive."
        ),
        verdict="not supported",
        result=(
            "Of 8 comparisons: 6 tie, 2 worse. Least in favor: Flipping error reduction over Adam against Adam on "
            "cifar10-jpeg, ConvNet, 20 % wrong labels, -1.32 [-1.60, -1.05] points (n = 5, p = 0.001 after Holm)."
        ),
        why=_TIE,
    ),
    "sigprop-time": FormerRule(
        rule=(
            "The ratio of the seconds of an epoch, signal propagation against backpropagation through the same "
            "network, both with Adam, on both tasks, from epochs run in turn in one process (at least 5 pairs), with "
            "the 95 % interval of its geometric mean. Supported: every interval ends at or below 1 (no more than "
            "backpropagation). Not supported: an interval starts above it. Otherwise inconclusive."
        ),
        verdict="not supported",
        result=(
            "Of 2 comparisons: 2 above. Least in favor: Signal propagation, Adam against Adam on MNIST, MLP of "
            "512-256, clean labels, 1.425 [1.389, 1.462] times (n = 9)."
        ),
        why=_TIMES,
    ),
    "sigprop-accuracy": FormerRule(
        rule=(
            "The difference in test accuracy of the last epoch, signal propagation against backpropagation through the"
            " same network, both with Adam, on both tasks, paired by seed (at least 5), with its 95 % interval. "
            "Supported: every interval lies above a loss of 2.35 points (the published gap). Not supported: an "
            "interval lies below it. Otherwise, and whenever a run diverged, inconclusive."
        ),
        verdict="not supported",
        result=(
            "Of 2 comparisons: 1 above, 1 within. Least in favor: Signal propagation, Adam against Adam on "
            "cifar10-jpeg, VGG, clean labels, -8.08 [-8.62, -7.54] points (n = 5, p < 0.001 after Holm)."
        ),
        why=(
            "One loss beyond the margin refutes the claim, so with two comparisons that test has to be corrected; it "
            "was not."
        ),
    ),
    "sigprop-learns-features": FormerRule(
        rule=(
            "The test accuracy of the last epoch on the test set, signal propagation against the same network with "
            "only its last layer trained, on both tasks, paired by seed (at least 5), by a paired t-test at the level "
            "0.05 with Holm's correction over all of the claim's comparisons. Supported: every comparison is better. "
            "Not supported: a comparison is worse or exactly equal in every seed. Otherwise, and whenever a run "
            "diverged, inconclusive."
        ),
        verdict="supported",
        result=(
            "Of 2 comparisons: 2 better. Least in favor: Signal propagation, Adam against Last layer only, Adam "
            "(control) on MNIST, MLP of 512-256, clean labels, +6.82 [+6.67, +6.96] points (n = 5, p < 0.001 after "
            "Holm)."
        ),
        why=_TIE,
    ),
}

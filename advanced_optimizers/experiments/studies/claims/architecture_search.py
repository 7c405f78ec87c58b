"""What is claimed of architecture search, and the rules that decide it: on a table, by gradient, with shared weights.

The sources are the teaching text on AutoML, the papers, and this project's own bars. Of the text's factor of 1,000 only
a necessary condition is tested: a search that is faster at all must be better at equal cost.
"""

from __future__ import annotations

from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim, each
from advanced_optimizers.experiments.evidence.comparisons import MIN_SEEDS, Comparison
from advanced_optimizers.experiments.evidence.rules import compare_metric
from advanced_optimizers.experiments.evidence.stated import value_within

TEXT, OURS = "teaching text on AutoML", "this project"
CELLS, WEIGHTS = "cifar10-jpeg-cells", "cifar10-jpeg-shared-weights"
TABLES = tuple(f"nasbench201-{table}" for table in ("cifar10", "cifar100", "imagenet16-120"))

# Two trainings of one small cell differ by up to four points, their means over five seeds by a fraction of that.
MARGIN, MARGIN_WORDS = 0.015, "1.5 points"
# A regret of a tenth of a point is below what one query is uncertain by.
TABLE_MARGIN, TABLE_MARGIN_WORDS = 0.001, "0.1 points"


def _compared(metric: str, compared: str, margin: str) -> str:
    return (
        f"The {metric}, {compared}, paired by seed (at least {MIN_SEEDS}), by a paired t-test at the level 0.05. "
        "Supported: every comparison is better. Not supported: one is worse, or equivalent within the margin by two "
        f"one-sided tests ({margin}), with Holm's correction over the claim's comparisons. Otherwise inconclusive."
    )


def _within(metric: str, whose: str, low: str) -> str:
    return (
        f"The {metric}, {whose}: the 95 % interval of its mean over the seeds (at least {MIN_SEEDS}). Supported: it "
        f"lies at or above {low}. Not supported: it lies below. Otherwise inconclusive."
    )


def _better(key: str, short: str, text: str, source: str, own: str, other: str, compared: str) -> Claim:
    return Claim(
        key=key,
        method="DARTS" if key.startswith("darts") else "Architecture search",
        short=short,
        study="architecture-search",
        text=text,
        source=source,
        rule=_compared("test accuracy of the retrained cells", compared, MARGIN_WORDS),
        decide=partial(
            compare_metric, metric="test_accuracy", comparisons=(Comparison(CELLS, own, other, margin=MARGIN),)
        ),
    )


def _above_chance(order: str) -> Claim:
    return Claim(
        key=f"darts-above-median-{order}",
        method="DARTS",
        short=f"above the median cell, {order} order",
        study="architecture-search",
        text="A cell that DARTS finds is at or above the median of random cells with as many parameters "
        f"({order} order).",
        source=OURS,
        rule=_within(
            "test accuracy of the found cell minus the median of the random cells nearest to it in parameters",
            f"{order}-order search, in the run itself",
            "0",
        ),
        decide=partial(value_within, metric="above_median", task=CELLS, algorithm=f"darts-{order}", low=0.0, high=1.0),
    )


SEARCH_CLAIMS = (
    _better(
        "darts-faster-than-random",
        "beats random search",
        "Search by gradient is 1,000 times faster than random search. (Tested: better at equal cost.)",
        TEXT,
        "darts-first",
        "random-search",
        "first-order DARTS against random search with early stopping, which gets as much computing",
    ),
    _better(
        "darts-beats-handmade",
        "beats a hand-made cell",
        "The architectures that DARTS finds are better than hand-made ones.",
        TEXT,
        "darts-first",
        "all-conv3x3",
        "first-order DARTS against the cell whose edges are all 3x3 convolutions",
    ),
    _better(
        "darts-second-better",
        "second order is better",
        "The second-order search finds better cells than the first-order one.",
        "arXiv 1806.09055, Table 1",
        "darts-second",
        "darts-first",
        "second-order against first-order DARTS, with as many epochs",
    ),
    _above_chance("first"),
    _above_chance("second"),
    Claim(
        key="darts-weight-is-importance",
        method="DARTS",
        short="weight is importance",
        study="architecture-search",
        text="The softmax weight of an operation is its importance.",
        source=TEXT,
        rule=_within(
            "rank correlation, over all edges and operations, of the weight with the rise of the validation loss when "
            "the operation is removed",
            "first-order search",
            "0.5",
        ),
        decide=partial(
            value_within, metric="weight_importance", task=CELLS, algorithm="darts-first", low=0.5, high=1.0
        ),
    ),
)

TABLE_CLAIMS = (
    Claim(
        key="reinforce-beats-random-table",
        method="REINFORCE",
        short="beats random, table",
        study="architecture-table",
        text="A policy trained by REINFORCE finds better cells than random search in 200 queries.",
        source=OURS,
        rule=_compared(
            "regret of the cell chosen after 200 queries, a mean of 20 searches",
            "REINFORCE without a bias against random search on the three tables of NAS-Bench-201",
            TABLE_MARGIN_WORDS,
        ),
        decide=partial(
            compare_metric,
            metric="regret_200",
            comparisons=each({"table-reinforce": "table-random"}, TABLES, margins=dict.fromkeys(TABLES, TABLE_MARGIN)),
        ),
    ),
)

WEIGHTS_CLAIMS = (
    Claim(
        key="enas-controller-efficient",
        method="ENAS",
        short="controller beats uniform",
        study="architecture-weights",
        text="Search with a recurrent controller is efficient.",
        source=TEXT,
        rule=_compared(
            "mean test accuracy of the sampled cells, each trained from scratch",
            "the trained controller against a uniform one with the same training of shared weights",
            MARGIN_WORDS,
        ),
        decide=partial(
            compare_metric,
            metric="test_accuracy",
            comparisons=(Comparison(WEIGHTS, "enas-controller", "enas-uniform", margin=MARGIN),),
        ),
    ),
    Claim(
        key="enas-weights-rank",
        method="ENAS",
        short="shared weights rank cells",
        study="architecture-weights",
        text="Accuracy with shared weights ranks cells as their own training does.",
        source="arXiv 1802.03268, section 2",
        rule=_within(
            "Kendall's tau between validation accuracy with the shared weights and test accuracy after training from "
            "scratch, over the cells of a run",
            "uniform controller",
            "0.5",
        ),
        decide=partial(value_within, metric="kendall_tau", task=WEIGHTS, algorithm="enas-uniform", low=0.5, high=1.0),
    ),
)

"""What a comparison comes out as: better, worse, equivalent within a margin, or undecided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from advanced_optimizers._checks import check_range
from advanced_optimizers.experiments.evidence.statistics import ALPHA, Interval, holm, t_quantile, t_tail

Outcome: TypeAlias = Literal["better", "worse", "equivalent", "undecided"]


class _Compared(Protocol):
    """What a judgment takes from a comparison."""

    @property
    def difference(self) -> Interval: ...
    @property
    def p(self) -> float: ...
    @property
    def degrees(self) -> float: ...


@dataclass(frozen=True)
class Judgment:
    """The outcome of a comparison, corrected for the other comparisons of its family.

    Attributes:
        p_holm: The p-value after Holm's correction.
        outcome: ``better``, ``worse``, ``equivalent`` within the margin, or ``undecided``.
    """

    p_holm: float
    outcome: Outcome


def equivalence_p(difference: Interval, margin: float, confidence: float = 0.95, degrees: float | None = None) -> float:
    """p-value of two one-sided t-tests (TOST) that a mean difference lies within ``(-margin, margin)``.

    Below 0.05, the 90 % interval of the difference lies inside the margin. Source: Schuirmann, Journal of
    Pharmacokinetics and Biopharmaceutics, 1987.

    Args:
        difference: A mean difference with its t-interval.
        margin: The largest difference that does not matter, > 0, in the unit of the difference.
        confidence: The coverage of the interval given.
        degrees: Its degrees of freedom, if not ``n - 1``.
    """
    check_range("margin", margin, 0.0, math.inf, open_low=True, open_high=True)
    check_range("confidence", confidence, 0.0, 1.0, open_low=True, open_high=True)
    distance = margin - abs(difference.estimate)
    degrees = difference.n - 1 if degrees is None else degrees
    error = difference.half_width / t_quantile(confidence, degrees)
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    # Of the two one-sided tests, the one against the nearer end of the margin has the larger p-value.
    return t_tail(distance / error, degrees)


def judge_within(
    comparisons: Sequence[_Compared],
    margins: Sequence[float | None],
    *,
    higher_is_better: bool,
    all_needed: bool = True,
    missing: int = 0,
    alpha: float = ALPHA,
) -> list[Judgment]:
    """Decides for each comparison of a family whether the algorithm is better, worse, equivalent, or none of these.

    A claim that *every* comparison is better needs all of them at once, an intersection-union test (Berger,
    Technometrics, 1982), so "better" is each one's own test at the level ``alpha``. One "worse" or one "equivalent" is
    enough to contradict the claim, so these two are corrected by Holm over the family, each kind of test on its own.
    Where each comparison is read by itself, as in a figure, one false "better" is one too many as well: it is then
    corrected too.

    Args:
        comparisons: All comparisons that are considered together.
        margins: For each, the largest difference that does not matter, > 0; None where equivalence is not tested.
        higher_is_better: Whether a positive difference is in the algorithm's favor.
        all_needed: Whether "better" counts only if every comparison is better.
        missing: Number of comparisons of the family whose values are not known yet; see :func:`holm`.
        alpha: The level of the tests, in (0, 1).

    Returns:
        One :class:`Judgment` per comparison, in the order given; what is neither is ``undecided``.
    """
    check_range("alpha", alpha, 0.0, 1.0, open_low=True, open_high=True)
    different = holm([c.p for c in comparisons], missing)
    equal = _equivalences(comparisons, margins, missing)
    judgments = []
    for comparison, p_different, p_equal in zip(comparisons, different, equal, strict=True):
        in_favor = (comparison.difference.estimate > 0) == higher_is_better
        outcome: Outcome = "undecided"
        if in_favor and (comparison.p if all_needed else p_different) < alpha:
            outcome = "better"
        elif not in_favor and p_different < alpha:
            outcome = "worse"
        elif p_equal < alpha:
            outcome = "equivalent"
        judgments.append(Judgment(p_different, outcome))
    return judgments


def _equivalences(comparisons: Sequence[_Compared], margins: Sequence[float | None], missing: int) -> list[float]:
    """The p-values of equivalence after Holm's correction over the comparisons with a margin; 1 for the others."""
    tested = {
        index: equivalence_p(comparison.difference, margin, degrees=comparison.degrees)
        for index, (comparison, margin) in enumerate(zip(comparisons, margins, strict=True))
        if margin is not None
    }
    corrected = dict(zip(tested, holm(list(tested.values()), missing), strict=True))
    return [corrected.get(index, 1.0) for index in range(len(comparisons))]

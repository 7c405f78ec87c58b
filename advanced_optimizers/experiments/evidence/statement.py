"""Statements of a source that is no paper: each gets a word, by argument or by the claims that runs decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from advanced_optimizers.experiments.evidence.comparisons import Verdict

Word: TypeAlias = Literal[
    "supported", "supported with a limit", "imprecise", "wrong", "not testable", "undecided", "pending"
]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement.

    Attributes:
        key: Its number, such as ``17b``.
        text: What the source says, in our words or, in quotation marks, in its own.
        finding: What we find, in a sentence or two; it holds whatever the runs say.
        word: The word, where a demonstration or an argument decides; None where claims do.
        claims: Keys of the claims that decide it.
        shown: Which part of which notebook shows it.
        garbled: Whether the wording is that of an automatic summary, which its source need not have used.
    """

    key: str
    text: str
    finding: str
    word: Word | None = None
    claims: tuple[str, ...] = ()
    shown: str = ""
    garbled: bool = False

    def __post_init__(self) -> None:
        if (self.word is None) != bool(self.claims):
            raise ValueError(
                f"statement {self.key} must have either a word or claims, got {self.word!r}, {self.claims}"
            )


def word_for(statement: Statement, verdicts: Mapping[str, Verdict]) -> Word:
    """The statement's word: its own, or that which follows from the verdicts on its claims.

    Pending while a claim is. Supported if all are, wrong if none is supported and none inconclusive, supported with a
    limit if some are supported, undecided otherwise.

    Args:
        statement: The statement.
        verdicts: By the keys of claims, at least the statement's.
    """
    if statement.word is not None:
        return statement.word
    found = [verdicts[key].status for key in statement.claims]
    if "pending" in found:
        return "pending"
    if set(found) == {"supported"}:
        return "supported"
    if "supported" in found:
        return "supported with a limit"
    return "undecided" if "inconclusive" in found else "wrong"

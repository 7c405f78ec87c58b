"""A document's outline: its headings, the numbers of its figures and tables, and the references to them.

Figures and tables are numbered in the order in which they stand in the files that have ``<!-- numbered -->``, one
count through all files of a language (an edition: the report, then its appendices). The text refers to them by name,
``Figure <!-- result:number figure=NAME -->12<!-- /result -->``, so no number can go stale.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from advanced_optimizers._checks import unknown_name

NUMBERED = "<!-- numbered -->"
# Kind and name of a figure or a table; a name is unique within its kind.
Numbered: TypeAlias = tuple[str, str]

_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
# 7, 7.2, A (of an appendix), A.1.
_SECTION = r"(?:\d+[a-z]?(?:\.\d+)*|[A-Z](?:\.\d+)*(?!\w))"
_SECTION_NUMBER = re.compile(rf"(?:Appendix |Приложение )?({_SECTION})\.? ")
_REFERENCE = re.compile(
    rf"\b(?i:sections?|appendix|appendices|раздел\w*|приложени\w*)\s({_SECTION})"
    rf"(?:(?:\s(?:and|to|и|до)\s|\u2013)({_SECTION}))?"
)


@dataclass(frozen=True)
class Outline:
    """The headings of a document, and the numbers of its figures and tables.

    Attributes:
        headings: Level and text of each.
        numbers: By kind and name.
        labels: What stands before a number, by kind.
    """

    headings: tuple[tuple[int, str], ...]
    numbers: Mapping[Numbered, int]
    labels: Mapping[str, str]

    @property
    def blocks(self) -> dict[str, Callable[..., str]]:
        """The blocks that need the document and not the results, which are their first argument, by key."""

        def number(_: object, figure: str = "", table: str = "") -> str:
            return self.number(figure, table)

        return {"contents": lambda _: self.contents(), "number": number}

    def contents(self) -> str:
        """A list of links to the chapters."""
        chapters = [title for level, title in self.headings if level == 2]
        return "\n".join(f"- [{title}](#{slug(title)})" for title in chapters)

    def number(self, figure: str = "", table: str = "") -> str:
        """The number of a figure or of a table.

        Raises:
            ValueError: None of this name, or not exactly one name is given.
        """
        if bool(figure) == bool(table):
            raise ValueError("number needs either figure=NAME or table=NAME")
        kind, name = ("figure", figure) if figure else ("table", table)
        known = {own: number for (own_kind, own), number in self.numbers.items() if own_kind == kind}
        if name not in known:
            raise unknown_name(kind, name, known)
        return str(known[name])

    def captioned(self, place: Numbered, caption: str, text: str) -> str:
        """A block's text with its number: before the caption of a figure, above a table."""
        label = f"{self.labels[place[0]]} {self.numbers[place]}."
        if place[0] == "figure":
            picture, gap, words = text.rpartition("\n\n*")
            return f"{picture}{gap}{label} {words}" if picture else f"**{label}** {text}"
        if not caption:  # the text begins with one
            return f"**{label}** {text}"
        return f"**{label}** {caption}\n\n{text}"


@dataclass(frozen=True)
class Edition:
    """What the numbered files of one language have in common.

    Attributes:
        places: Where each figure and table stands first, as ``file:line``, in their order.
        sections: The numbers of all sections.
        mentioned: The figures and tables that a reference names.
    """

    places: Mapping[Numbered, str]
    sections: frozenset[str]
    mentioned: frozenset[Numbered]

    def outline(self, text: str, labels: Mapping[str, str]) -> Outline:
        """The outline of one of its files.

        Args:
            text: The file, with code blanked.
            labels: What stands before a number, by kind.
        """
        numbers: dict[Numbered, int] = {}
        for place in self.places:
            numbers[place] = 1 + sum(kind == place[0] for kind, _ in numbers)
        return Outline(headings_of(text), numbers, labels)


def headings_of(text: str) -> tuple[tuple[int, str], ...]:
    """Level and text of each heading of a file, whose code is blanked."""
    return tuple((len(m.group(1)), m.group(2)) for m in _HEADING.finditer(text))


def sections_of(text: str) -> frozenset[str]:
    """The numbers of a file's sections."""
    return frozenset(match.group(1) for _, title in headings_of(text) if (match := _SECTION_NUMBER.match(title)))


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def unknown_sections(text: str, known: Collection[str]) -> Iterator[tuple[int, str]]:
    """Position and number of each section that the text refers to and that is not known; quotes are left out."""
    for match in _REFERENCE.finditer(text):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        for number in match.groups():
            if number and number not in known and not line.startswith(">"):
                yield match.start(), number

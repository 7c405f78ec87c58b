"""A document's outline: its headings, the numbers of its figures and tables, and the references to them.

Figures and tables are numbered in the order in which they stand in a file that has ``<!-- numbered -->``. The text
refers to them by name, ``Figure <!-- result:number figure=NAME -->12<!-- /result -->``, so no number can go stale.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from advanced_optimizers._checks import unknown_name

NUMBERED = "<!-- numbered -->"
# Kind and name of a figure or a table; a name is unique within its kind.
Numbered: TypeAlias = tuple[str, str]

_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_SECTION_NUMBER = re.compile(r"(\d+[a-z]?(?:\.\d+)*)\.? ")
_REFERENCE = re.compile(
    r"\b(?:sections?|раздел\w*)\s(\d+[a-z]?(?:\.\d+)*)"
    r"(?:(?:\s(?:and|to|и|до)\s|\u2013)(\d+[a-z]?(?:\.\d+)*))?",
    re.IGNORECASE,
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


def outline_of(text: str, places: Iterable[Numbered], labels: Mapping[str, str]) -> Outline:
    """The outline of a document.

    Args:
        text: The document, with code blanked.
        places: Its figures and tables, in order, each once.
        labels: What stands before a number, by kind.
    """
    numbers: dict[Numbered, int] = {}
    for place in places:
        numbers[place] = 1 + sum(kind == place[0] for kind, _ in numbers)
    return Outline(tuple((len(m.group(1)), m.group(2)) for m in _HEADING.finditer(text)), numbers, labels)


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def unknown_sections(text: str, outline: Outline) -> Iterator[tuple[int, str]]:
    """Position and number of each section that the text refers to and that has no heading; quotes are left out."""
    known = {match.group(1) for _, title in outline.headings if (match := _SECTION_NUMBER.match(title))}
    for match in _REFERENCE.finditer(text):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        for number in match.groups():
            if number and number not in known and not line.startswith(">"):
                yield match.start(), number


def never_mentioned(outline: Outline, mentioned: Iterable[Mapping[str, str]]) -> list[Numbered]:
    """The figures and tables that no reference names.

    Args:
        outline: Of the document.
        mentioned: The arguments of each reference.
    """
    named = {(kind, name) for arguments in mentioned for kind, name in arguments.items()}
    return [place for place in outline.numbers if place not in named]

"""What generated blocks say, in Russian: the same numbers and names, with the words of a dictionary.

The dictionary is the folder ``russian``, a file for each subject. An entry is one or more English lines and, after
``=``, the Russian line that stands for each of them; an empty one means that the English is kept, as for names. In
both, ``#`` is a number and ``{}`` a part that is translated on its own; ``#2`` and ``{2}`` in the Russian line change
their order. Entries with such parts are all in ``parts.txt``: where several of them fit, the first that can translate
all its parts is taken. Lines that begin with ``//`` are comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

from advanced_optimizers.experiments.report.tables.table_files import unbroken

DICTIONARY = Path(__file__).with_name("russian")

_NUMBER = re.compile(r"(?<![A-Za-z\d])[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?(?![A-Za-z\d])")
_CODE = re.compile(r"`[^`\n]+`")
_SLOT = re.compile(r"#(\d*)|\{(\d*)\}")
_CELL = re.compile(r"(?<!\\)\|")
_FIGURE = re.compile(r"!\[(.*)\]\((.*)\)")

# A translation: its words, and for each number in them the place of that number in the English text.
_Pieces = tuple[str | int, ...]


@dataclass(frozen=True)
class _Entry:
    """An English text, split at its parts that are translated on their own, and the Russian one."""

    literals: tuple[str, ...]
    russian: str

    def splits(self, text: str) -> Iterator[list[tuple[int, int]]]:
        """Every way in which the text can be this entry's: where its parts begin and end."""
        if text.startswith(self.literals[0]):
            yield from self._rest(text, len(self.literals[0]), 1)

    def _rest(self, text: str, begin: int, number: int) -> Iterator[list[tuple[int, int]]]:
        if number == len(self.literals):
            if begin == len(text):
                yield []
            return
        literal = self.literals[number]
        if number == len(self.literals) - 1:
            end = len(text) - len(literal)
            if text.endswith(literal) and end > begin:
                yield [(begin, end)]
            return
        end = text.find(literal, begin + 1)
        while end >= 0:
            yield from ([(begin, end), *rest] for rest in self._rest(text, end + len(literal), number + 1))
            end = text.find(literal, end + 1)


class Dictionary:
    """English phrases and their Russian ones.

    Args:
        text: The text of a dictionary, in the form that the module describes.

    Raises:
        ValueError: An entry has no Russian line, is there twice, or its numbers or parts differ between the languages.
    """

    def __init__(self, text: str) -> None:
        self._whole: dict[str, _Entry] = {}
        self._open: list[_Entry] = []
        for english, russian in _entries(text):
            entry = _entry(english, russian)
            if len(entry.literals) > 1:
                self._open.append(entry)
            elif english in self._whole:
                raise ValueError(f"the dictionary has {english!r} twice: remove one")
            else:
                self._whole[english] = entry
        self._pieces = cache(self._find)

    def phrase(self, text: str) -> str:
        """The Russian of one phrase: a cell, a caption, a sentence.

        Raises:
            ValueError: The dictionary does not cover it.
        """
        text = text.replace("\u00a0", " ")
        numbers = _NUMBER.findall(text)
        pieces = self._pieces(_NUMBER.sub("#", text))
        if pieces is None:
            raise ValueError(f"the dictionary has no Russian for {text!r}: add it to one of {DICTIONARY.name}/*.txt")
        return unbroken("".join(numbers[piece] if isinstance(piece, int) else piece for piece in pieces))

    def block(self, text: str) -> str:
        """The Russian of a generated block: of each cell of a table, each figure, and each other line.

        Raises:
            ValueError: The dictionary does not cover one of them.
        """
        return "\n".join(map(self._line, text.split("\n")))

    def _line(self, line: str) -> str:
        if line.startswith("|"):
            return "|".join(self._cell(cell) for cell in _CELL.split(line))
        if figure := _FIGURE.fullmatch(line):
            return f"![{self.phrase(figure.group(1))}]({figure.group(2)})"
        return self.phrase(line) if line.strip() else line

    def _cell(self, cell: str) -> str:
        words = cell.strip()
        return cell.replace(words, self.phrase(words)) if words else cell

    def _find(self, text: str) -> _Pieces | None:
        if not re.search("[A-Za-z]", _CODE.sub("", text)):
            return _numbered(text)
        if text in self._whole:
            return _filled(self._whole[text].russian, text, [], [])
        for entry in self._open:
            for places in entry.splits(text):
                parts = [self._pieces(text[begin:end]) for begin, end in places]
                if None not in parts:
                    return _filled(entry.russian, text, places, [part for part in parts if part is not None])
        lower = text[0].lower() + text[1:]
        pieces = self._pieces(lower) if lower != text else None
        if pieces and isinstance(pieces[0], str):
            return (pieces[0][0].upper() + pieces[0][1:], *pieces[1:])
        return None


@cache
def russian() -> Dictionary:
    """The dictionary of the project.

    Raises:
        ValueError: It is malformed.
    """
    return Dictionary("\n".join(path.read_text(encoding="utf-8") for path in sorted(DICTIONARY.glob("*.txt"))))


def _entries(text: str) -> Iterator[tuple[str, str]]:
    """The pairs of an English line and its Russian one."""
    waiting: list[str] = []
    for line in text.splitlines():
        if line.startswith("="):
            yield from ((english, line[1:].strip() or english) for english in waiting)
            waiting = []
        elif line.strip() and not line.startswith("//"):
            waiting.append(line.strip())
    if waiting:
        raise ValueError(f"the dictionary has no Russian line for {waiting[0]!r}: add one that begins with =")


def _entry(english: str, russian: str) -> _Entry:
    if _NUMBER.search(english):
        raise ValueError(f"the dictionary's {english!r} has a number: write # for it")
    entry = _Entry(tuple(english.split("{}")), russian)
    wanted = (list(range(english.count("#"))), list(range(len(entry.literals) - 1)))
    if tuple(map(sorted, _slots(russian))) != wanted:
        raise ValueError(f"the dictionary's {english!r} and {russian!r} differ in their numbers or parts")
    return entry


def _slots(russian: str) -> tuple[list[int], list[int]]:
    """Which numbers and which parts of the English text a Russian one has, in its order, from 0."""
    numbers: list[int] = []
    parts: list[int] = []
    for slot in _SLOT.finditer(russian):
        found, given = (numbers, slot.group(1)) if slot.group().startswith("#") else (parts, slot.group(2))
        found.append(int(given) - 1 if given else len(found))
    return numbers, parts


def _filled(russian: str, text: str, places: Sequence[tuple[int, int]], parts: Sequence[_Pieces]) -> _Pieces:
    """The Russian text with its parts, and for each of its numbers the place of that number in the English text."""
    own = [
        number
        for number, match in enumerate(re.finditer("#", text))
        if not any(begin <= match.start() < end for begin, end in places)
    ]
    numbers, fields = map(iter, _slots(russian))
    pieces: list[str | int] = []
    end = 0
    for slot in _SLOT.finditer(russian):
        pieces.append(russian[end : slot.start()])
        end = slot.end()
        if slot.group().startswith("#"):
            pieces.append(own[next(numbers)])
        else:
            field = next(fields)
            before = text.count("#", 0, places[field][0])
            pieces += [piece + before if isinstance(piece, int) else piece for piece in parts[field]]
    pieces.append(russian[end:])
    return tuple(piece for piece in pieces if piece != "")


def _numbered(text: str) -> _Pieces:
    """A text that is kept, with the places of its numbers."""
    number = count()
    return tuple(next(number) if piece == "#" else piece for piece in re.split("(#)", text) if piece)

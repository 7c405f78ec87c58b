"""The blocks of a file that the report fills: where they are, and what is wrong with their markers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "blanked", "line_of", "parse", "prose_of", "read"]

_COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
_OPEN = re.compile(r"<!-- result:([a-z][a-z-]*)((?: [a-z]+=[^\s>]+)*) -->")
_CLOSE = "<!-- /result -->"
_MARKS = {"<!-- results -->", "<!-- /results -->", "<!-- claimed -->", "<!-- /claimed -->"}
_CODE = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1[^\n]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A generated block of a file: its key, its arguments, and the position of its text."""

    key: str
    arguments: Mapping[str, str]
    marker: str
    line: int
    start: int
    end: int
    inline: bool
    line_end: str
    starts_line: bool


def parse(text: str) -> tuple[list[Block], list[str]]:
    """The blocks of a file, and the problems with its markers."""
    code = [match.span() for match in _CODE.finditer(text)]
    blocks: list[Block] = []
    problems: list[str] = []
    opened: re.Match[str] | None = None
    for match in _COMMENT.finditer(text):
        if any(start <= match.start() < end for start, end in code):
            continue
        comment, line = match.group(), line_of(text, match.start())
        opening = _OPEN.fullmatch(comment)
        if opening or comment == _CLOSE:
            if opened and opening:
                problems.append(f"{line_of(text, opened.start())}: {opened.group()} has no {_CLOSE}")
            elif not opened and not opening:
                problems.append(f"{line}: {_CLOSE} closes nothing")
            elif opened:
                blocks.append(_block(text, opened, match))
            opened = match if opening else None
        elif re.match(r"\s*/?\s*(results?|claimed)\b", match.group(1), re.IGNORECASE) and comment not in _MARKS:
            problems.append(f"{line}: malformed marker {comment}; write <!-- result:key name=value -->")
    if opened:
        problems.append(f"{line_of(text, opened.start())}: {opened.group()} has no {_CLOSE}")
    return blocks, problems


def _block(text: str, opening: re.Match[str], closing: re.Match[str]) -> Block:
    marker = _OPEN.fullmatch(opening.group())
    assert marker is not None  # the caller matched it
    start = opening.end()
    return Block(
        key=marker.group(1),
        arguments=dict(pair.split("=", 1) for pair in marker.group(2).split()),
        marker=opening.group(),
        line=line_of(text, opening.start()),
        start=start,
        end=closing.start(),
        inline=text[start] not in "\r\n",
        line_end="\r\n" if text.startswith("\r\n", start) else "\n",
        starts_line=not text[text.rfind("\n", 0, opening.start()) + 1 : opening.start()].strip(),
    )


def prose_of(text: str, blocks: Sequence[Block]) -> str:
    """The text with the contents of its blocks and its code replaced by blanks."""
    for block in blocks:
        text = blanked(text, block.start, block.end)
    for match in _CODE.finditer(text):
        text = blanked(text, *match.span())
    return text


def read(path: Path) -> str:
    """The text of a file, with its line ends as they are."""
    return path.read_bytes().decode()


def blanked(text: str, start: int, end: int) -> str:
    """The text with one part replaced by blanks; line breaks and positions stay the same."""
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]


def line_of(text: str, position: int) -> int:
    """The line of a position, counted from 1."""
    return text.count("\n", 0, position) + 1

"""The two languages of the README and the report, and how a block's English text becomes one of a document's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from advanced_optimizers.experiments.report.documents.translation import russian

# A Russian file has the name of the English one with this ending.
RUSSIAN = ".ru.md"
# The blocks with the texts of rules. These are long: a Russian document links to those of the English one, and drops
# the last column of a table of claims and rules.
RULES = frozenset({"rule", "rules", "shared-sentences", "former-rules"})
_LINK = "Тексты правил — в [английском издании](coursework_report_appendices.md#{})."
_APPENDICES = {"former-rules": "appendix-c-rules-that-were-changed"}


@dataclass(frozen=True)
class Language:
    """The words of a document.

    Attributes:
        name: Its name.
        labels: What stands before the number of a figure or a table, by kind.
        phrase: Makes an English phrase one of this language.
        block: The same for the text of a block, which is its second argument; the first is the block's key.
    """

    name: str
    labels: Mapping[str, str]
    phrase: Callable[[str], str]
    block: Callable[[str, str], str]


def language_of(name: str) -> Language:
    """The language of a file, by its name."""
    return _RUSSIAN if name.endswith(RUSSIAN) else _ENGLISH


def _russian_block(key: str, text: str) -> str:
    if key not in RULES:
        return russian().block(text)
    link = _LINK.format(_APPENDICES.get(key, "appendix-b-rules"))
    if key != "rules":
        return link
    claims = "\n".join(f"{row[: row.rindex(' | ')]} |" for row in text.split("\n"))
    return f"{russian().block(claims)}\n\n{link}"


_ENGLISH = Language("English", {"figure": "Figure", "table": "Table"}, lambda text: text, lambda key, text: text)
_RUSSIAN = Language(
    "Russian",
    {"figure": "Рисунок", "table": "Таблица"},
    lambda text: russian().phrase(text) if text else text,
    _russian_block,
)

"""A document that the report fills: its language, its outline, and the text of each of its blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from advanced_optimizers.experiments.report.blocks.blocks import ReportContext, render_block
from advanced_optimizers.experiments.report.documents.captions import caption_of, place_of
from advanced_optimizers.experiments.report.documents.languages import Language
from advanced_optimizers.experiments.report.documents.numbering import Outline


def english_texts(context: ReportContext) -> English:
    """The English texts of blocks, each generated once: the documents share most of them."""
    texts = cache(lambda key, arguments: render_block(context, key, dict(arguments)))
    return English(context, lambda key, arguments: texts(key, tuple(arguments.items())))


_Texts: TypeAlias = Callable[[str, Mapping[str, str]], str]


@dataclass(frozen=True)
class English:
    """The results, and the English text of a block by its key and its arguments."""

    context: ReportContext
    text: _Texts


@dataclass(frozen=True)
class Document:
    """A document of the report.

    Attributes:
        language: The language of its words.
        outline: Its headings and numbers; None if its figures and tables have no numbers.
        english: The English texts of blocks.
    """

    language: Language
    outline: Outline | None
    english: English

    def text(self, key: str, arguments: Mapping[str, str]) -> str:
        """The text of a block in the document's language, with its number if the document has an outline.

        Raises:
            ValueError: The block is malformed, or the language has no words for it.
        """
        own = self.outline.blocks if self.outline else {}
        if key in own:
            return render_block(self.english.context, key, arguments, own)
        text = self.language.block(key, self.english.text(key, arguments))
        if self.outline and (place := place_of(key, arguments)):
            return self.outline.captioned(place, self.language.phrase(caption_of(key, arguments)), text)
        return text

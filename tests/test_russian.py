"""The Russian README and report have the blocks, numbers, formulas, code and references of the English ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from advanced_optimizers.experiments.report.documents.languages import RULES, RUSSIAN
from advanced_optimizers.experiments.report.documents.numbering import slug
from advanced_optimizers.experiments.report.documents.translation import DICTIONARY, Dictionary, russian
from advanced_optimizers.experiments.report.report import FILES
from tests.test_formulas import CODE, FORMULA

ROOT = Path(__file__).parent.parent
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in FILES}
PAIRS = [(name.removesuffix(RUSSIAN) + ".md", name) for name in FILES if name.endswith(RUSSIAN)]
BLOCK = re.compile(r"(<!-- result:([a-z-]+)[^>]* -->)(.*?)<!-- /result -->", re.DOTALL)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
LABEL = re.compile(r"(\*+)(?:Table|Таблица|Figure|Рисунок) (\d+)\.(?:\*\* | )")
SMALL = Dictionary(
    """
    SGD
    Adam
    =
    better
    = лучше
    # of # runs
    = из #2 запусков #1
    {} against {}
    = «{}» против «{}»
    """.replace("    ", "")
)

both = pytest.mark.parametrize(("english", "translated"), PAIRS, ids=[pair[1] for pair in PAIRS])


def blocks(name: str) -> list[tuple[str, str, str]]:
    """The opening marker, the key and the text of each block."""
    return BLOCK.findall(TEXTS[name])


def without_label(text: str) -> tuple[list[str], str]:
    """The number of a figure or a table, and its text without it."""
    numbers = [match.group(2) for match in LABEL.finditer(text)]
    return numbers, LABEL.sub(lambda match: "*" if match.group(1) == "*" else "", text)


def code_blocks(name: str) -> list[str]:
    """The fenced code of a file without its comments, which are translated."""
    return [
        re.sub(r"\s+# .*", "", code) for code in re.findall(r"^```\w*\n.*?^```", TEXTS[name], re.DOTALL | re.MULTILINE)
    ]


def prose(name: str) -> str:
    """What is left of a file without its blocks, code, formulas, links and references."""
    text = TEXTS[name].split("\n## Литература")[0].split("\n## References")[0]
    for pattern in (BLOCK, CODE, FORMULA):
        text = pattern.sub(" ", text)
    return re.sub(r"\]\([^)]*\)|<!--.*?-->|\*[A-Z][^*\n]*\n?[^*\n]*\*", " ", text)


class TestBothLanguages:
    @both
    def test_the_blocks_are_the_same(self, english: str, translated: str) -> None:
        assert [marker for marker, _, _ in blocks(translated)] == [marker for marker, _, _ in blocks(english)]

    @both
    def test_a_block_is_that_of_the_other_language_through_the_dictionary(self, english: str, translated: str) -> None:
        for (marker, key, text), (_, _, found) in zip(blocks(english), blocks(translated), strict=True):
            (number, text), (own_number, found) = without_label(text), without_label(found)
            assert own_number == number, marker
            if key == "number":
                assert found == text, marker
            elif key in RULES:
                assert "(coursework_report_appendices.md#appendix-" in found, marker
            elif key != "contents":
                assert found == russian().block(text), marker
                assert sorted(NUMBER.findall(found)) == sorted(NUMBER.findall(text)), marker
                assert not re.search(r"«[^»]*[.;:«] ", found), marker  # only names are quoted

    @both
    def test_the_sections_have_the_same_numbers(self, english: str, translated: str) -> None:
        number = re.compile(r"^(#+) (?:Appendix |Приложение )?(\d+\w?(?:\.\d+)*|[A-Z](?=\.)|)", re.MULTILINE)
        numbers = [number.findall(CODE.sub("", TEXTS[name])) for name in (english, translated)]
        assert numbers[0] == numbers[1]

    @both
    def test_the_formulas_are_the_same(self, english: str, translated: str) -> None:
        formulas = [FORMULA.findall(CODE.sub("", TEXTS[name])) for name in (english, translated)]
        assert formulas[0] == formulas[1]

    @both
    def test_the_code_and_the_commands_are_the_same(self, english: str, translated: str) -> None:
        assert code_blocks(translated) == code_blocks(english)

    @both
    def test_the_sources_numbers_and_the_references_are_the_same(self, english: str, translated: str) -> None:
        for pattern in (r"<!-- claimed -->.*?<!-- /claimed -->", r"\barXiv:? ?\d{4}\.\d+", r"\bdoi:? ?10\.[^\s,;]+\w"):
            found, wanted = (re.findall(pattern, BLOCK.sub("", TEXTS[name])) for name in (translated, english))
            assert found == wanted

    @both
    def test_each_begins_with_a_link_to_the_other(self, english: str, translated: str) -> None:
        assert f"English | [Русский]({translated})" in TEXTS[english].splitlines()[:4]
        assert f"[English]({english}) | Русский" in TEXTS[translated].splitlines()[:4]

    @both
    def test_no_english_sentence_is_left(self, english: str, translated: str) -> None:
        sentences = re.compile(r"(?:\b[a-z]{2,}\s+){3,}[a-z]{2,}")
        assert sentences.findall(prose(translated)) == []
        assert sentences.findall(prose(english)) != []

    @both
    def test_links_lead_to_files_and_sections_that_exist(self, english: str, translated: str) -> None:
        for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)#?([^)\s]*)\)", CODE.sub("", TEXTS[translated])):
            assert (ROOT / target).exists(), target
            if anchor and target in FILES:
                assert anchor in map(slug, re.findall(r"^#+ (.+)$", TEXTS[target], re.MULTILINE)), anchor


class TestDictionary:
    def test_texts_with_parts_are_in_one_file_whose_order_says_which_comes_first(self) -> None:
        assert [path.name for path in DICTIONARY.glob("*.txt") if "{}" in path.read_text(encoding="utf-8")] == [
            "parts.txt"
        ]

    def test_numbers_and_parts_keep_their_values(self) -> None:
        assert SMALL.phrase("3 of 5 runs") == "из 5 запусков 3"
        assert SMALL.phrase("SGD against Adam") == "«SGD» против «Adam»"
        assert SMALL.phrase("Better") == "Лучше"
        assert SMALL.phrase("0.5 ± 0.1") == "0.5 ± 0.1".replace(" ", "\u00a0")

    def test_a_table_and_a_figure_keep_their_form(self) -> None:
        assert (
            SMALL.block("| SGD | better |\n| :--- | ---: |\n| - |  |") == "| SGD | лучше |\n| :--- | ---: |\n| - |  |"
        )
        assert SMALL.block("![better](figures/better.png)") == "![лучше](figures/better.png)"

    def test_what_it_does_not_cover_is_named(self) -> None:
        with pytest.raises(ValueError, match="has no Russian for 'SGD against Lion'"):
            SMALL.block("| SGD against Lion | 1 |")

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("better", "has no Russian line for 'better'"),
            ("better\n= лучше\nbetter\n= хуже", "has 'better' twice"),
            ("5 runs\n= запусков: 5", "'5 runs' has a number: write #"),
            ("# runs\n= запуски", "differ in their numbers or parts"),
            ("{} runs\n= запуски", "differ in their numbers or parts"),
        ],
    )
    def test_a_malformed_one_is_refused(self, text: str, problem: str) -> None:
        with pytest.raises(ValueError, match=re.escape(problem)):
            Dictionary(text)

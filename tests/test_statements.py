"""The table of the lecture's statements: complete, decided in one place, the same for notebook and report."""

from __future__ import annotations

from pathlib import Path

import pytest

from advanced_optimizers.experiments.evidence.comparisons import Status, Verdict
from advanced_optimizers.experiments.evidence.statement import Statement, word_for
from advanced_optimizers.experiments.report.blocks.blocks import ReportContext, render_block
from advanced_optimizers.experiments.report.display import show_statements
from advanced_optimizers.experiments.report.tables.statement_table import statements_table
from advanced_optimizers.experiments.report.tables.table_files import to_markdown
from advanced_optimizers.experiments.studies.registry import CLAIMS, TOPICS, register
from advanced_optimizers.experiments.studies.topic import Topic

STATEMENTS = TOPICS["lecture_statements"].statements
DECIDED = Statement(key="x", text="Text.", finding="Finding.", claims=("a", "b"))


def test_every_statement_is_there_once() -> None:
    expected = (
        [str(n) for n in range(1, 18)] + ["17b"] + [str(n) for n in range(18, 25)] + ["24b", "25", "26", "27", "REG"]
    )
    assert [s.key for s in STATEMENTS] == expected


def test_the_words_are_the_five() -> None:
    words = {s.word for s in STATEMENTS if s.word is not None}
    assert words == {"supported", "supported with a limit", "imprecise", "wrong", "not testable"}


def test_every_claim_of_the_summary_decides_a_statement() -> None:
    used = [key for s in STATEMENTS for key in s.claims]
    assert sorted(used) == sorted(key for key in CLAIMS if key.startswith("lecture") and "-moved-" not in key)
    assert {s.key for s in STATEMENTS if s.claims} == {"1", "7", "10", "11", "12", "13", "25", "REG"}


def test_what_is_shown_is_in_a_notebook_and_what_cannot_be_tested_is_not() -> None:
    for s in STATEMENTS:
        assert s.shown.startswith(("00,", "07,")) == (s.word != "not testable"), s.key


def test_what_the_summary_garbles_is_marked_as_the_summarys() -> None:
    verdicts = {key: Verdict("pending", "") for key in CLAIMS}
    table = statements_table(STATEMENTS, verdicts)
    starred = table.loc[table["The source says"].str.endswith("\\*"), "No."].tolist()
    assert starred == ["5", "9", "13", "18", "27"]
    assert "summary's, and need not be the lecturer's" in table.attrs["note"]
    assert "note" not in statements_table(STATEMENTS[:2], verdicts).attrs


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ("supported", "supported", "supported"),
        ("supported", "not supported", "supported with a limit"),
        ("supported", "inconclusive", "supported with a limit"),
        ("not supported", "not supported", "wrong"),
        ("not supported", "inconclusive", "undecided"),
        ("supported", "pending", "pending"),
    ],
)
def test_verdicts_make_a_word(first: Status, second: Status, word: str) -> None:
    assert word_for(DECIDED, {"a": Verdict(first, ""), "b": Verdict(second, "")}) == word


def test_a_statement_has_a_word_or_claims() -> None:
    with pytest.raises(ValueError, match="x must have either a word or claims, got None"):
        Statement(key="x", text="", finding="")
    with pytest.raises(ValueError, match="got 'wrong', "):
        Statement(key="x", text="", finding="", word="wrong", claims=("a",))


def test_a_statement_with_an_unknown_claim_is_refused() -> None:
    with pytest.raises(ValueError, match="no claim is named 'a'"):
        register("own", Topic(title="Own", algorithms={}, statements=(DECIDED,)))
    assert "own" not in TOPICS


def test_notebook_and_report_show_the_same_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = ReportContext(tmp_path)
    text = render_block(context, "statements", {"topic": "lecture_statements"})
    assert text == to_markdown(statements_table(STATEMENTS, context.verdicts))
    assert text.count("**pending**") == 8
    assert text.count("\n| ") == len(STATEMENTS) + 1


@pytest.mark.parametrize("topic", ["lecture", "nothing"])
def test_a_topic_without_statements_is_named(topic: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no topic is named '{topic}'"):
        render_block(ReportContext(tmp_path, studies=[]), "statements", {"topic": topic})
    with pytest.raises(ValueError, match=f"no topic is named '{topic}'"):
        show_statements(topic, "quick")

"""Figures and tables of a numbered document, its contents, and what refers to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from advanced_optimizers.experiments.report.blocks.blocks import ReportContext
from advanced_optimizers.experiments.report.documents.numbering import Edition, slug
from advanced_optimizers.experiments.report.report import check_report, update_report
from advanced_optimizers.experiments.report.results.recorded import StudyFigure

TEXT = """# Title

<!-- numbered -->

<!-- result:contents -->
<!-- /result -->

## 1. First

See Figure <!-- result:number figure=a -->?<!-- /result -->, Figure <!-- result:number figure=b -->?<!-- /result -->
and Table <!-- result:number table=shared-sentences -->?<!-- /result --> in section 2.1.

<!-- result:figure name=b -->
<!-- /result -->

<!-- result:shared-sentences -->
<!-- /result -->

## 2. Second: more

### 2.1 Part

<!-- result:figure name=a -->
<!-- /result -->
"""


class Results(ReportContext):
    """Results without any run, and two figures."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, studies=[])
        self.figures = {name: StudyFigure(f"what {name} shows", Figure, ()) for name in "ab"}


def filled(text: str, tmp_path: Path) -> str:
    path = tmp_path / "report.md"
    path.write_text(text)
    update_report([path], Results(tmp_path))
    return path.read_text()


def problems(text: str, tmp_path: Path) -> list[str]:
    """Those of the document; its figures are not drawn."""
    filled(text, tmp_path)
    found = check_report([tmp_path / "report.md"], Results(tmp_path))
    return [problem for problem in found if not problem.startswith("figures/")]


def test_numbers_follow_the_order_of_the_document(tmp_path: Path) -> None:
    text = filled(TEXT, tmp_path)
    assert "*Figure 1. What b shows.*" in text
    assert "*Figure 2. What a shows.*" in text
    assert "figure=a -->2<!--" in text
    assert "figure=b -->1<!--" in text
    assert "**Table 1.** Sentences" in text
    assert "table=shared-sentences -->1<!--" in text
    assert problems(text, tmp_path) == []


def test_contents_link_to_the_chapters(tmp_path: Path) -> None:
    assert "- [1. First](#1-first)\n- [2. Second: more](#2-second-more)\n<!--" in filled(TEXT, tmp_path)
    assert slug("7b. Results: the lecture's toolbox") == "7b-results-the-lectures-toolbox"


def test_a_file_without_the_mark_has_no_numbers(tmp_path: Path) -> None:
    assert "*What b shows.*" in filled(TEXT.replace("<!-- numbered -->", ""), tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("section 2.1", "section 2.2", "there is no section 2.2"),
        ("sections 1 and 2.1", "sections 1 and 3", "there is no section 3"),
        ("number figure=a", "number figure=c", "no figure is named 'c'"),
        ("number figure=a", "number", "either figure=NAME or table=NAME"),
        ("result:figure name=a", "result:figure name=b", "is there twice: refer to the one in report.md:"),
        ("in section 2.1", "in\n<!-- claimed -->1.5<!-- /claimed --> of section 2.1", "a mark starts a line"),
        ("result:figure name=a", "result:figure name=c", "the text never refers to this figure"),
    ],
)
def test_planted_faults(old: str, new: str, problem: str, tmp_path: Path) -> None:
    text = TEXT.replace("section 2.1", "sections 1 and 2.1") if old.startswith("sections") else TEXT
    assert problems(text, tmp_path) == []
    assert text.count(old) == 1
    assert any(problem in found for found in problems(text.replace(old, new), tmp_path))


def test_sections_of_quoted_works_are_left_alone(tmp_path: Path) -> None:
    assert problems(TEXT.replace("## 2. S", "> in section 7.3\n\n## 2. S"), tmp_path) == []


def test_a_figure_without_runs_keeps_its_number() -> None:
    outline = Edition({("figure", "a"): "report.md:3"}, frozenset(), frozenset()).outline("", {"figure": "Figure"})
    assert outline.captioned(("figure", "a"), "", "*no run yet*") == "**Figure 1.** *no run yet*"


def test_numbers_go_on_in_the_next_file_and_each_knows_the_sections_of_both(tmp_path: Path) -> None:
    report, appendices = tmp_path / "report.md", tmp_path / "report_appendices.md"
    first, second = TEXT.split("## 2. Second: more\n\n### 2.1 Part")
    report.write_text(first.replace("section 2.1", "section A.1"))
    appendices.write_text(f"# More\n\n<!-- numbered -->\n\n## Appendix A. Second\n\n### A.1 Part\n\nSection 1.{second}")
    files = [report, appendices]
    update_report(files, Results(tmp_path))
    assert "*Figure 2. What a shows.*" in appendices.read_text()
    assert "figure=a -->2<!--" in report.read_text()
    assert "Appendix" not in report.read_text()
    assert [found for found in check_report(files, Results(tmp_path)) if not found.startswith("figures/")] == []
    appendices.write_text(appendices.read_text().replace("### A.1", "### A.2").replace("name=a", "name=b"))
    found = "\n".join(check_report(files, Results(tmp_path)))
    assert "report.md:12: there is no section A.1" in found
    assert "is there twice: refer to the one in report.md:" in found

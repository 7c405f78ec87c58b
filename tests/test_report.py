from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from advanced_optimizers.experiments.evidence.comparisons import Status, Verdict
from advanced_optimizers.experiments.report.blocks import blocks as report_blocks
from advanced_optimizers.experiments.report.blocks.blocks import BLOCKS, ReportContext, render_block
from advanced_optimizers.experiments.report.blocks.contest_blocks import CONTEST_BLOCKS
from advanced_optimizers.experiments.report.report import (
    check_report,
    draw_figures,
    run_report,
    update_report,
)
from tests.report_project import README, STUDY, edit, make_project

EVERY_BLOCK = {
    "accuracy": {"study": "fer", "task": "mnist-mlp", "algorithm": "sgd", "noise": "0.2"},
    "value": {"study": "fer", "metric": "relative_flipping_error", "task": "mnist-mlp", "algorithm": "sgd"},
    "difference": {"study": "fer", "task": "mnist-mlp", "algorithm": "fer-sgd", "baseline": "sgd"},
    "ratio": {"study": "fer", "task": "mnist-mlp", "algorithm": "fer-sgd", "baseline": "sgd"},
    "pairing": {},
    "errors": {"claim": "fer-beats-baselines", "task": "mnist-mlp", "baseline": "sgd"},
    "verdict": {"claim": "fer-overhead"},
    "symbol": {"claim": "fer-overhead"},
    "legend": {},
    "reason": {"claim": "fer-overhead"},
    "rule": {"claim": "fer-overhead"},
    "table": {"study": "fer", "name": "fer-hyperparameters"},
    "figure": {"name": "fer-test-accuracy"},
    "edges": {},
    "runs": {"study": "fer"},
    "tally": {},
    "verdict-counts": {},
    "headlines": {"claims": "fer-overhead,fer-reduces-rfe"},
    "claims": {"topics": "fer,fer_stated"},
    "shared-sentences": {},
    "rules": {"topics": "fer"},
    "changed-rules": {},
    "former-rules": {},
    "differences": {"study": "fer", "pairs": "fer-sgd:sgd", "tasks": "mnist-mlp", "metrics": "time,test_accuracy"},
    "search-spaces": {},
    "trial-lengths": {},
    "processors": {},
    "protocol": {"study": "fer"},
    "file": {"path": "results/tables/fer-timing.md"},
}
OF_SWEEPS = {"optimum", "shift", "cost"}  # tested in test_sweep_results
OF_STATEMENTS = {"statements", "gains"}  # tested in test_statements and test_gains
OF_CONTESTS = set(CONTEST_BLOCKS)  # tested in test_referee_results


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose report has been filled from its records."""
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def context(reported: Path) -> ReportContext:
    """The results of that project; tests only read them."""
    return ReportContext(reported, [STUDY])


@pytest.fixture
def root(reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may damage."""
    monkeypatch.setattr(report_blocks, "STUDIES", {("fer", "full"): STUDY})
    return Path(shutil.copytree(reported, tmp_path / "project"))


def problems_of(text: str, tmp_path: Path) -> list[str]:
    """The problems of a README without any study behind it."""
    path = tmp_path / "README.md"
    path.write_text(text)
    return check_report([path], ReportContext(tmp_path, studies=[]))


class TestFilling:
    def test_an_inline_number_is_that_of_the_records(self, root: Path, context: ReportContext) -> None:
        frame = context.study("fer").frame
        runs = frame[(frame["algorithm"] == "fer-sgd") & (frame["label_noise"] == 0)]
        line = (root / "README.md").read_text().splitlines()[2]
        assert f"-->{100 * runs['test_accuracy'].mean():.2f} ± " in line
        assert "% (n = 5)<!-- /result --> on MNIST." in line

    def test_a_table_stands_on_lines_of_its_own(self, root: Path) -> None:
        text = (root / "README.md").read_text()
        table = (root / "results" / "tables" / "fer-test-accuracy.md").read_text()
        assert f"<!-- result:table study=fer name=fer-test-accuracy -->\n{table}<!-- /result -->\n" in text

    def test_a_table_can_have_some_of_its_rows(self, context: ReportContext) -> None:
        named = {"study": "fer", "name": "fer-hyperparameters"}
        rows = render_block(context, "table", named | {"tasks": "mnist-mlp", "algorithms": "sgd"}).splitlines()[2:]
        assert len(rows) == 1
        assert "| SGD |" in rows[0]
        with pytest.raises(ValueError, match="no algorithm is named 'Adam'"):
            render_block(context, "table", named | {"algorithms": "adam"})

    def test_a_figure_comes_with_its_caption(self, root: Path) -> None:
        text = (root / "coursework_report.md").read_text()
        assert "(figures/fer-test-accuracy.png)" in text
        assert "(20 runs)" in text

    def test_a_russian_file_has_the_same_numbers_in_its_own_words(self, root: Path) -> None:
        lines = [(root / name).read_text().splitlines() for name in ("README.md", "README.ru.md")]
        numbers = [re.findall(r"\d+\.\d+", line) for line in (lines[0][2], lines[1][2])]
        assert numbers[0] == numbers[1] != []
        assert lines[1][5].startswith("| Алгоритм | MNIST, MLP, чистые метки (%) |")
        edit(root / "README.ru.md", f"-->{numbers[1][0]}", "-->99.99")
        (problem,) = run_report(root, check=True)
        assert problem.startswith("README.ru.md:3: ")

    def test_the_rest_of_the_text_stays(self, root: Path) -> None:
        text = (root / "README.md").read_text()
        assert text.startswith("# Title\n\nFER reaches <!--")
        assert text.endswith(README[README.index("Needs Python") :])

    def test_checking_changes_nothing(self, root: Path) -> None:
        edit(root / "README.md", "(n = 5)<!-- /result --> on", "(n = 6)<!-- /result --> on")
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}
        assert run_report(root, check=True)
        assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()} == before

    def test_every_key_gives_text(self, context: ReportContext) -> None:
        assert set(EVERY_BLOCK) == set(BLOCKS) - OF_SWEEPS - OF_STATEMENTS - OF_CONTESTS
        for key, arguments in EVERY_BLOCK.items():
            assert render_block(context, key, arguments).strip()
        assert render_block(context, "verdict", {"claim": "fer-overhead"}) == "pending"
        assert render_block(context, "symbol", {"claim": "fer-overhead"}) == "…"
        assert "… pending" in render_block(context, "legend", {})

    def test_the_tally_counts_each_verdict_that_occurs(self, reported: Path) -> None:
        context = ReportContext(reported, [STUDY])
        assert render_block(context, "tally", {}) == "of 5 claims, 5 pending"
        statuses: tuple[Status, ...] = ("pending", "supported", "not supported", "supported")
        context.verdicts = {str(number): Verdict(status, "") for number, status in enumerate(statuses)}
        words = "of 4 claims, 2 supported, 1 not supported, 1 pending"
        assert render_block(context, "tally", {}) == words
        assert render_block(context, "ratio", EVERY_BLOCK["ratio"]).startswith("1.02")
        assert render_block(context, "runs", {"study": "fer"}).startswith(
            "24 of 24 runs loaded, recorded 2026-01-01 to 2026-01-05"
        )
        assert "2 trials of 3 epochs" in render_block(context, "protocol", {"study": "fer"})
        assert render_block(context, "pairing", {}).startswith("median correlation +0.")

    def test_a_study_whose_runs_are_being_trained_is_not_waited_for(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        running = replace(STUDY, name="running", tasks=(replace(STUDY.tasks[0], model="mlp2"),), in_progress=True)
        monkeypatch.setitem(report_blocks.STUDIES, ("running", "full"), running)
        assert not any("study running" in problem for problem in run_report(root, check=True))
        monkeypatch.setitem(report_blocks.STUDIES, ("running", "full"), replace(running, in_progress=False))
        assert any("study running" in problem for problem in run_report(root, check=True))

    def test_measurements_of_other_studies_are_left_out(self, root: Path) -> None:
        rows = (root / "results" / "tables" / "fer-overhead.md").read_text().splitlines()[2:]
        assert [row.startswith("|") for row in rows] == [True, False, False]

    def test_a_context_of_chosen_studies_draws_their_figures(self, root: Path, tmp_path: Path) -> None:
        context = ReportContext(root, [STUDY])
        assert set(context.figures) == {
            "fer-test-accuracy",
            "fer-test-accuracy-differences",
            "fer-relative-flipping-error",
            "fer-relative-flipping-error-differences",
            "fer-learning-curves",
            "fer-flipping-curves",
            "fer-consistency",
            "fer-overhead",
            "fer-trials",
            "verdicts",
        }
        chosen = {name: context.figures[name] for name in ("fer-test-accuracy", "fer-overhead")}
        accuracy, overhead = draw_figures(chosen, tmp_path / "figures")
        assert accuracy.read_bytes() == (root / "figures" / accuracy.name).read_bytes()
        sidecar = json.loads(overhead.with_suffix(".json").read_text())
        assert sidecar["sources"] == ["results/benchmarks/epoch_overhead.json"]

    def test_only_what_a_document_shows_is_drawn(self, root: Path, context: ReportContext) -> None:
        pictures = root / "figures"
        assert {path.name for path in pictures.iterdir()} == {"fer-test-accuracy.png", "fer-test-accuracy.json"}
        (pictures / "own.png").touch()
        draw_figures({"fer-overhead": context.figures["fer-overhead"]}, pictures)
        assert run_report(root, check=True) == []
        assert run_report(root, check=False) == []
        assert {path.stem for path in pictures.iterdir()} == {"fer-test-accuracy", "own"}


class TestDrift:
    def test_a_number_changed_by_hand(self, root: Path) -> None:
        text = (root / "README.md").read_text()
        start = text.index("noise=0 -->") + len("noise=0 -->")
        number = text[start : start + 5]
        edit(root / "README.md", f"noise=0 -->{number}", "noise=0 -->99.99")
        (problem,) = run_report(root, check=True)
        assert problem.startswith("README.md:3: <!-- result:accuracy study=fer task=mnist-mlp")
        assert f"should hold '{number}" in problem
        assert "found '99.99" in problem

    def test_a_verdict_changed_by_hand(self, root: Path, context: ReportContext) -> None:
        status = context.verdicts["fer-beats-baselines"].status
        edit(root / "coursework_report.md", f"-->{status}<!--", "-->supported<!--")
        (problem,) = run_report(root, check=True)
        assert "coursework_report.md:8" in problem

    @pytest.mark.parametrize("name", ["fer-test-accuracy.md", "fer-summary.csv"])
    def test_a_generated_file_changed_by_hand(self, root: Path, name: str) -> None:
        path = root / "results" / "tables" / name
        path.write_text(path.read_text().replace("\n", " \n", 1))
        assert run_report(root, check=True) == [f"results/tables/{name} differs from the records: run report"]

    def test_a_table_or_figure_that_is_gone(self, root: Path) -> None:
        (root / "results" / "tables" / "fer-timing.md").unlink()
        (root / "figures" / "fer-test-accuracy.png").unlink()
        problems = run_report(root, check=True)
        assert problems == [
            "results/tables/fer-timing.md is missing: run report",
            "figures/fer-test-accuracy.png is missing: run report",
        ]

    def test_filling_again_mends_all_of_it(self, root: Path) -> None:
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
        edit(root / "README.md", "(n = 5)<!-- /result --> on", "(n = 6)<!-- /result --> on")
        (root / "results" / "tables" / "fer-timing.md").unlink()
        (root / "figures" / "fer-test-accuracy.png").unlink()
        assert run_report(root, check=False) == []
        assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


class TestMarkers:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("a <!-- result:runs -->b", "README.md:1: <!-- result:runs --> has no <!-- /result -->"),
            ("a\n<!-- /result -->", "README.md:2: <!-- /result --> closes nothing"),
            ("a <!-- result:runs -->b <!-- result:runs -->c<!-- /result -->", "has no <!-- /result -->"),
            ("a <!--result:runs-->b<!-- /result -->", "malformed marker <!--result:runs-->"),
            ("a <!-- result runs -->b<!-- /result -->", "malformed marker <!-- result runs -->"),
            ("a <!-- result:runs study = fer -->b<!-- /result -->", "malformed marker"),
            ("a <!-- Result:runs -->b<!-- /result -->", "malformed marker"),
            ("a <!-- claimed: -->5<!-- /claimed -->", "malformed marker"),
        ],
    )
    def test_malformed(self, text: str, problem: str, tmp_path: Path) -> None:
        assert any(problem in found for found in problems_of(text, tmp_path))
        update_report([tmp_path / "README.md"], ReportContext(tmp_path, studies=[]))
        assert (tmp_path / "README.md").read_text() == text

    @pytest.mark.parametrize(
        ("marker", "problem"),
        [
            ("acuracy study=fer task=mnist-mlp", "no key is named 'acuracy'; did you mean accuracy"),
            ("accuracy study=fer task=mnist-mlp", "accuracy missing a required argument: 'algorithm'"),
            ("accuracy study=fer task=mnist-mlp algorithm=sgd sed=1", "got an unexpected keyword argument 'sed'"),
            ("accuracy study=fer task=mnist algorithm=sgd", "no task is named 'mnist'; did you mean mnist-mlp"),
            ("accuracy study=fer task=mnist-mlp algorithm=sgdd", "no algorithm is named 'sgdd'; did you mean sgd"),
            ("accuracy study=fer task=mnist-mlp algorithm=sgd noise=0.3", "no noise is named '0.3'"),
            ("accuracy study=fer task=mnist-mlp algorithm=flipping-sgd", "leaves out flipping-sgd on mnist-mlp"),
            ("value study=fer metric=accuracy task=mnist-mlp algorithm=sgd", "no metric is named 'accuracy'"),
            ("verdict claim=fer-is-great", "no claim is named 'fer-is-great'"),
            (
                "table study=fer name=fer-tset-accuracy",
                "no table is named 'fer-tset-accuracy'; did you mean fer-test-accuracy",
            ),
            ("figure name=fer-curves", "no figure is named 'fer-curves'"),
            ("runs study=mu", "no study is named 'mu'; did you mean fer"),
            ("file path=../secrets.txt", "path must be a file under results/"),
            ("table study=fer name=fer-timing", "it has several lines"),
        ],
    )
    def test_cannot_be_filled(self, context: ReportContext, tmp_path: Path, marker: str, problem: str) -> None:
        path = tmp_path / "README.md"
        text = f"A line with <!-- result:{marker} -->left<!-- /result -->.\n"
        path.write_text(text)
        update_report([path], context)
        assert path.read_text() == text
        (found,) = check_report([path], context)
        assert found.startswith(f"README.md:1: <!-- result:{marker} -->: ")
        assert problem in found

    def test_an_inline_block_must_not_start_a_line(self, context: ReportContext, tmp_path: Path) -> None:
        path = tmp_path / "README.md"
        path.write_text("First line\n<!-- result:runs study=fer -->24<!-- /result --> so far.\n")
        (found,) = check_report([path], context)
        assert found.startswith("README.md:2: ")
        assert "starts a line" in found

    def test_markers_inside_code_are_text(self, tmp_path: Path) -> None:
        text = "Write `<!-- result:runs -->` or\n```\n<!-- result:x -->1.5<!-- /result --> <!-- /result -->\n```\n"
        assert problems_of(text, tmp_path) == []


class TestNumbersWithoutRecords:
    @pytest.mark.parametrize(
        "text",
        [
            "It reaches 97.1 on MNIST.",
            "It reaches 97 % on MNIST.",
            "It reaches 97.1% on MNIST.",
            "| SGD | 95.2 ± 2 |",
            "1.5x faster",
            "a gain of +0.3 points",
            "torch is 1.5 times faster",
            "only 20 % of the time",
            "<!-- claimed -->97.1",
        ],
    )
    def test_refused(self, text: str, tmp_path: Path) -> None:
        (problem,) = problems_of(f"First line\n{text}\n", tmp_path)
        assert problem.startswith("README.md:2: ")
        assert "has no record behind it" in problem

    @pytest.mark.parametrize(
        "text",
        [
            "5 seeds, 10 epochs, AAAI 2022, 784-512-10, 3x3, 1,797 digits",
            "Python 3.10+, torch 2.6, PyTorch >= 2.6, version 0.1.0, v1.2 and 0.1.0",
            "arXiv 2203.08390, arXiv:2203.08390v1, doi 10.1609/aaai.v36i6.20603",
            "[paper](https://arxiv.org/abs/2203.08390) and https://example.org/1.5/x or <https://example.org/2.5>",
            "`fer_weight=0.1` and\n```python\nlr = 0.1\n```\nand\n~~~\n0.5\n~~~",
            "$\\tau = 0.9$ and\n$$w = 0.5,\n\\mu = 0.3$$",
            "## 1.2 Heading\nsection 1.2, Figure 3.1, tables 1.2 and 1.3, §2.1",
            "with 20 % wrong labels and 95 % intervals, or the 95 % t-interval",
            "the source says <!-- claimed -->97.1 against\n95.2 %<!-- /claimed -->",
            "<!-- a note: 0.5 -->",
            "[1]: https://example.org/1.5",
        ],
    )
    def test_allowed(self, text: str, tmp_path: Path) -> None:
        assert problems_of(text, tmp_path) == []

    def test_only_inside_the_results_where_a_file_marks_them(self, tmp_path: Path) -> None:
        text = "Momentum 0.9.\n<!-- results -->\nIt gains 0.7.\n<!-- /results -->\nIn 0.5 of cases.\n"
        assert [p.split(" ")[:2] for p in problems_of(text, tmp_path)] == [["README.md:3:", "0.7"]]

    def test_several_results_sections_and_an_open_one(self, tmp_path: Path) -> None:
        text = "<!-- results -->\n1.5\n<!-- /results -->\n2.5\n<!-- results -->\n3.5\n"
        assert [p.split(" ")[1] for p in problems_of(text, tmp_path)] == ["1.5", "3.5"]

    def test_a_number_next_to_a_block_is_refused(self, root: Path) -> None:
        edit(root / "README.md", "on MNIST.", "on MNIST, 0.5 more than before.")
        (problem,) = run_report(root, check=True)
        assert problem.startswith("README.md:3: 0.5 has no record")

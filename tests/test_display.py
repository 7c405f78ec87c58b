"""What a notebook shows: how a study is opened, and its tables and figures."""

from __future__ import annotations

import re
from base64 import b64decode
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from PIL import Image

from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report import display
from advanced_optimizers.experiments.report.results.recorded import RecordedStudy
from advanced_optimizers.experiments.report.results.study_results import StudyResults
from advanced_optimizers.experiments.report.results.sweep_results import SweepResults
from advanced_optimizers.experiments.studies.running import StudyError
from tests import synthetic_runs, synthetic_sweeps
from tests.experiments_helpers import TINY, TINY_RUNS, TINY_TRIALS
from tests.test_report import STUDY

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    results = StudyResults(STUDY, tmp_path_factory.mktemp("comparison"))
    for algorithm in STUDY.algorithms:
        for trial in STUDY.trial_configs(STUDY.tasks[0], algorithm):
            results.store.save(synthetic_runs.make_record(trial))
    for config in STUDY.final_configs(results.store):
        results.store.save(synthetic_runs.make_record(config))
    return results


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepResults:
    results = SweepResults(synthetic_sweeps.FULL, tmp_path_factory.mktemp("sweep"))
    for record in synthetic_sweeps.make_records():
        results.store.save(record)
    return results


@pytest.fixture(params=["comparison", pytest.param("sweep", marks=pytest.mark.slow)])
def results(request: pytest.FixtureRequest) -> RecordedStudy[Any]:
    """A study of each kind."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def tiny_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """A project of its own, in which the tiny study is named fer; the records of its quick profile."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(display, "get_study", lambda name, profile: {("fer", "quick"): TINY}[name, profile])
    return RunStore(tmp_path / ".scratch" / "quick" / "results" / "runs")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was displayed: the text of each output."""
    texts: list[str] = []
    monkeypatch.setattr(display, "display", lambda output: texts.append(output.data))
    monkeypatch.setattr(display, "clear_output", lambda: print("\f", end=""))
    return texts


def picture(html: str) -> bytes:
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return b64decode(data)


def test_a_figure_has_its_caption_below_and_as_alternative_text(results: RecordedStudy[Any], shown: list[str]) -> None:
    for name, figure in list(results.figures.items())[:3]:
        display.show_figure(results, name)
        html = shown.pop()
        (alternative,), (caption,) = re.findall(r'alt="([^"]+)"', html), re.findall(r"<em>(.+?)</em>", html)
        assert alternative.lower().rstrip(".") == figure.caption.lower().rstrip(".")
        words = unescape(caption).replace("\u00a0", " ")
        assert words == figure.full_caption
        assert figure.note in words
        assert not re.search(r"n = \d", caption)  # no browser breaks a line inside it
        assert caption[0].isupper()
        assert re.search(r"[^.]\.$", caption)
        assert html.index("<img") < html.index("<em>")


def test_a_shown_figure_is_what_the_file_of_it_would_be(results: RecordedStudy[Any], shown: list[str]) -> None:
    name = next(iter(results.figures))
    file = results.root / "figures" / f"{name}.png"
    file.unlink(missing_ok=True)
    display.show_figure(results, name)
    png = picture(shown.pop())
    assert png.startswith(PNG)
    assert not file.exists()
    assert png == results.figure(name).read_bytes()
    display.show_figure(results, name, small=True)
    small = picture(shown.pop())
    with Image.open(BytesIO(small)) as there, Image.open(BytesIO(png)) as full:
        assert there.width == pytest.approx(0.8 * full.width, abs=1)
        assert there.height == pytest.approx(0.8 * full.height, abs=1)
    assert len(small) < 0.8 * len(png)


def test_a_drawing_is_shown_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    figure, axis = plt.subplots()
    axis.plot([0, 1])
    plt.close(figure)
    display.show_drawing(figure, 'sizes <of> "layers"')
    html = shown.pop()
    assert picture(html).startswith(PNG)
    assert 'alt="Sizes &lt;of&gt; &quot;layers&quot;."' in html
    assert list(tmp_path.iterdir()) == []


def test_a_table_is_markdown_with_its_note(results: RecordedStudy[Any], shown: list[str]) -> None:
    name = next(name for name, table in results.tables.items() if "note" in table.attrs)
    display.show_table(results, name)
    table, note = shown.pop().split("\n\n")
    assert all(line.startswith("| ") for line in table.splitlines())
    assert note.replace("\u00a0", " ").startswith("*Mean ± half-width of the 95 % interval over the seeds, n = ")


def test_the_protocol_has_one_row_per_task(results: RecordedStudy[Any], shown: list[str]) -> None:
    display.show_protocol(results)
    assert len(shown.pop().splitlines()) == 2 + len(results.study.tasks)


def test_a_name_that_does_not_exist_is_answered_with_the_nearest(comparison: StudyResults) -> None:
    with pytest.raises(ValueError, match=r"no table is named .* did you mean fer-test-accuracy"):
        display.show_table(comparison, "fer-tets-accuracy")
    with pytest.raises(ValueError, match=r"no figure is named .* did you mean fer-learning-curves"):
        display.show_figure(comparison, "fer-learning-curve")


def test_opening_a_study_trains_what_is_missing_and_says_the_same_each_time(
    tiny_project: RunStore, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for _ in range(2):
        results = display.open_study("fer", "quick")
        captured = capsys.readouterr()
        progress, said = captured.out.split("\f")  # the cell is cleared between the two
        assert f"{TINY_RUNS - TINY_TRIALS}/{TINY_RUNS - TINY_TRIALS} [" in progress
        assert captured.err == ""
        printed.append(said)
    assert printed[0] == printed[1]
    assert printed[0].startswith(f"{TINY_RUNS} of {TINY_RUNS} runs loaded, recorded ")
    assert len(list(tiny_project.paths())) == TINY_RUNS
    assert results.missing == []


def test_printed_lines_fit_a_cell(
    tiny_project: RunStore, shown: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecordedStudy, "loaded", "9 of 9 runs loaded, on " + "a machine, " * 30)
    display.open_study("fer", "quick")
    lines = capsys.readouterr().out.split("\f")[1].splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 88


def test_a_failed_run_is_an_error(tiny_project: RunStore, shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("advanced_optimizers.experiments.studies.running.train_or_load", fail)
    with pytest.raises(StudyError, match="out of memory"):
        display.open_study("fer", "quick")

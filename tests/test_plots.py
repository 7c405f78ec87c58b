from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from advanced_optimizers.experiments.evidence.comparisons import RunData, baseline_comparisons, metric_evidence
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.evidence.metrics import Labels
from advanced_optimizers.experiments.records.frames import curves_frame, records_frame
from advanced_optimizers.experiments.report.figures import notes, plots
from advanced_optimizers.experiments.report.figures.style import make_styles, wrapped
from advanced_optimizers.experiments.studies.registry import CLAIMS
from tests.figure_texts import text_problems
from tests.synthetic_runs import EPOCHS, make_measurements, make_records

RECORDS = make_records()
FRAME, CURVES = records_frame(RECORDS), curves_frame(RECORDS)
MEASUREMENTS = make_measurements({("fer-sgd", "sgd"): 1.02, ("fer-adam", "adam"): 1.08})
EVIDENCE = metric_evidence(FRAME, "test_accuracy", baseline_comparisons(FRAME))
RATIOS = CLAIMS["fer-overhead"].decide(RunData(FRAME, MEASUREMENTS)).evidence
GROUPS = {"Over SGD": ["sgd", "fer-sgd", "flipping-sgd"], "Over Adam": ["adam", "fer-adam", "flipping-adam"]}

TRANSITIONS = CURVES.assign(transition=CURVES["epoch"].where(CURVES["algorithm"] == "fer-sgd"))
FLIPPING = CURVES[CURVES.task == "mnist-mlp"]
LONG = {name: f"{words} and a name that is much longer than others" for name, words in labels().items()}

FIGURES: dict[str, Callable[[Labels], Figure]] = {
    "learning curves": lambda names: plots.learning_curves(CURVES, labels=names, groups=GROUPS),
    "flipping errors": lambda names: plots.learning_curves(
        FLIPPING, "relative_flipping_error", labels=names, groups=GROUPS
    ),
    "consistency": lambda names: plots.learning_curves(CURVES, "consistency", labels=names),
    "transition": lambda names: plots.learning_curves(TRANSITIONS, "transition", labels=names),
    "accuracy over time": lambda names: plots.accuracy_over_time(CURVES, labels=names),
    "final accuracy": lambda names: plots.final_accuracy(FRAME, labels=names),
    "some differences": lambda names: plots.paired_differences(EVIDENCE[:14], labels=names),
    "paired differences": lambda names: plots.paired_differences(EVIDENCE, labels=names),
    "overhead": lambda names: plots.overhead(RATIOS, limit=1.05, labels=names),
    "overhead without a limit": lambda names: plots.overhead(RATIOS, limit=None, labels=names),
}
NOTES = {
    "learning curves": notes.learning_curves(CURVES),
    "flipping errors": notes.learning_curves(FLIPPING, "relative_flipping_error"),
    "consistency": notes.learning_curves(CURVES, "consistency"),
    "transition": notes.learning_curves(TRANSITIONS, "transition"),
    "accuracy over time": notes.accuracy_over_time(CURVES),
    "final accuracy": notes.final_accuracy(FRAME),
    "some differences": notes.paired_differences(EVIDENCE[:14]),
    "paired differences": notes.paired_differences(EVIDENCE),
    "overhead": notes.overhead(RATIOS, limit=1.05),
    "overhead without a limit": notes.overhead(RATIOS, limit=None),
}


@functools.cache
def drawn(name: str) -> Figure:
    return FIGURES[name](labels())


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(plt.Text) if text.get_text()]


def bytes_of(figure: Figure, folder: Path) -> bytes:
    return plots.save_figure(figure, folder / "figure.png", []).read_bytes()


class TestEveryFigure:
    @pytest.mark.parametrize("name", FIGURES)
    def test_axes_are_labeled_and_n_and_the_interval_are_explained(self, name: str) -> None:
        figure = drawn(name)
        assert len(figure.axes) in (2, 4, 8, 16)
        bottom, left = figure.axes[-1], figure.axes[0]
        assert bottom.get_xlabel()
        assert figure.get_supylabel() or [t.get_text() for t in left.get_yticklabels()]
        assert "interval" in NOTES[name]
        assert f"n = {9 if 'overhead' in name else 5}" in NOTES[name]

    @pytest.mark.parametrize("name", FIGURES)
    def test_the_caption_is_not_drawn(self, name: str) -> None:
        figure = drawn(name)
        assert figure.get_suptitle() == ""
        for sentence in NOTES[name].rstrip(".").split(". "):
            assert not any(sentence in text for text in texts(figure))

    @pytest.mark.parametrize("name", FIGURES)
    def test_fits_the_page_in_readable_letters(self, name: str) -> None:
        figure = drawn(name)
        width, height = figure.get_size_inches()
        assert width == 6.5
        assert height <= 9
        assert min(text.get_fontsize() for text in figure.findobj(plt.Text) if text.get_text()) >= 9

    @pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["labels", "long labels"])
    @pytest.mark.parametrize("name", FIGURES)
    def test_no_text_leaves_the_page_or_covers_another(self, name: str, long: bool) -> None:
        assert text_problems(FIGURES[name](LONG) if long else drawn(name)) == []

    @pytest.mark.slow
    @pytest.mark.parametrize("name", FIGURES)
    def test_drawn_twice_it_has_the_same_bytes(self, name: str, tmp_path: Path) -> None:
        assert bytes_of(drawn(name), tmp_path) == bytes_of(FIGURES[name](labels()), tmp_path)

    def test_none_stays_open_nor_changes_the_users_style(self) -> None:
        before = dict(plt.rcParams)
        FIGURES["overhead"](labels())
        assert plt.get_fignums() == []
        assert dict(plt.rcParams) == before

    def test_names_are_those_of_the_labels(self) -> None:
        labels = {"fer-sgd": "A long name", "mnist-mlp": "Digits"}
        shown = " ".join(texts(plots.final_accuracy(FRAME[:60], labels=labels)))
        assert "A long name" in shown
        assert "Digits" in shown


class TestWhatIsDrawn:
    def test_a_learning_curve_is_the_mean_over_the_seeds(self) -> None:
        figure = drawn("learning curves")
        wanted = CURVES[(CURVES.task == "mnist-mlp") & (CURVES.label_noise == 0) & (CURVES.algorithm == "sgd")]
        line = figure.axes[0].get_lines()[0]
        np.testing.assert_allclose(line.get_ydata(), 100 * wanted.groupby("epoch")["test_accuracy"].mean())
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 11))

    def test_the_band_is_the_t_interval(self) -> None:
        figure = drawn("learning curves")
        wanted = CURVES[(CURVES.task == "mnist-mlp") & (CURVES.label_noise == 0) & (CURVES.algorithm == "sgd")]
        last = 100 * wanted.loc[wanted.epoch == 10, "test_accuracy"]
        band = figure.axes[0].collections[0].get_paths()[0].vertices
        at_last = band[band[:, 0] == 10][:, 1]
        half = 2.776445 * last.std() / np.sqrt(5)
        assert (at_last.min(), at_last.max()) == pytest.approx((last.mean() - half, last.mean() + half))

    def test_groups_make_columns(self) -> None:
        figure = drawn("learning curves")
        assert [len(axis.get_lines()) for axis in figure.axes] == [3] * 8
        assert [axis.get_title().strip() for axis in figure.axes[:2]] == ["Over SGD", "Over Adam"]

    def test_a_panel_without_runs_keeps_the_epochs(self) -> None:
        records = [*make_records(tasks=["mnist-mlp"], label_noises=[0.0], seeds=[0])]
        records += make_records(tasks=["cifar10-jpeg-convnet"], algorithms=["adam"], label_noises=[0.0], seeds=[0])
        figure = plots.learning_curves(curves_frame(records), labels=labels(), groups=GROUPS)
        drawn_lines = [sum(len(line.get_xdata()) > 0 for line in axis.get_lines()) for axis in figure.axes]
        assert drawn_lines == [3, 3, 0, 1]
        assert {axis.get_xlim() for axis in figure.axes} == {(0.5, 10.5)}
        assert [t.get_text() for axis in figure.axes for t in axis.texts] == ["not run"]

    def test_rows_without_runs_say_so(self) -> None:
        some = FRAME[(FRAME["task"] == "mnist-mlp") & ((FRAME["label_noise"] == 0) | (FRAME["algorithm"] == "sgd"))]
        figure = plots.final_accuracy(some, labels=labels())
        assert [len(axis.texts) for axis in figure.axes] == [0, 5]
        some = FRAME[(FRAME["label_noise"] == 0) | ~FRAME["algorithm"].isin(["adam", "fer-sgd"])]
        evidence = metric_evidence(some, "test_accuracy", baseline_comparisons(some))
        figure = plots.paired_differences(evidence, labels=labels())
        assert [len(axis.texts) for axis in figure.axes] == [0, 3, 0, 3]

    def test_only_what_reports_it_is_in_the_consistency_figure(self) -> None:
        figure = drawn("consistency")
        assert [t.get_text() for t in figure.legends[0].get_texts()] == [labels()["fer-sgd"], labels()["fer-adam"]]

    def test_time_adds_up_over_the_epochs(self) -> None:
        axis = plots.accuracy_over_time(CURVES[CURVES.algorithm == "adam"], labels=labels()).axes[0]
        one = CURVES[(CURVES.task == "mnist-mlp") & (CURVES.label_noise == 0.0) & (CURVES.algorithm == "adam")]
        totals = one.groupby("seed")["cpu_seconds"].sum()
        (line,) = axis.lines
        assert len(line.get_xdata()) == EPOCHS
        assert line.get_xdata()[-1] == pytest.approx(totals.mean())
        assert line.get_ydata()[-1] == pytest.approx(100 * one[one.epoch == EPOCHS]["test_accuracy"].mean())

    def test_every_seed_is_a_dot(self) -> None:
        figure = drawn("final accuracy")
        dots = [line for line in figure.axes[0].get_lines() if line.get_alpha()]
        assert [len(line.get_xdata()) for line in dots] == [5] * 6
        sgd = FRAME[(FRAME.task == "mnist-mlp") & (FRAME.label_noise == 0) & (FRAME.algorithm == "sgd")]
        np.testing.assert_allclose(dots[0].get_xdata(), 100 * sgd["test_accuracy"])

    def test_n_is_a_range_where_a_run_diverged(self) -> None:
        records = [replace(RECORDS[0], status="diverged"), *RECORDS[1:30]]
        assert "n = 4 to 5 seeds" in notes.final_accuracy(records_frame(records))

    def test_what_is_undecided_is_hollow_and_the_claimed_gain_is_marked(self) -> None:
        verdict = CLAIMS["fer-beats-baselines"].decide(RunData(FRAME))
        figure = plots.paired_differences(verdict.evidence, labels=labels())
        rows = [row for row in verdict.evidence if row.comparison.task == "mnist-mlp"]
        lines = figure.axes[0].get_lines()
        styles = make_styles(["sgd", "adam", "fer-sgd", "fer-adam"])
        points = [line for line in lines if line.get_marker() in {style.marker for style in styles.values()}]
        hollow = [to_hex(line.get_markerfacecolor()) == "#ffffff" for line in points]
        assert hollow == [row.outcome == "undecided" for row in rows]
        assert any(hollow)
        assert not all(hollow)
        crosses = [line.get_xdata()[0] for line in lines if line.get_marker() == "x"]
        assert crosses == pytest.approx([100 * r.comparison.claimed for r in rows if r.comparison.claimed])

    def test_what_is_equivalent_is_half_filled_and_the_margin_is_a_band(self) -> None:
        compared = [replace(c, margin=0.02) for c in baseline_comparisons(FRAME) if c.task == "mnist-mlp"]
        evidence = metric_evidence(FRAME, "test_accuracy", compared, all_needed=False)
        assert {"better", "equivalent"} <= {row.outcome for row in evidence}
        figure = plots.paired_differences(evidence, labels=labels())
        for axis in figure.axes:
            (band,) = axis.patches
            assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-2.0, 2.0))
        points = [line for axis in figure.axes for line in axis.get_lines() if len(line.get_xdata()) == 1]
        halves = sum(line.get_fillstyle() == "left" for line in points)
        assert halves == sum(row.outcome == "equivalent" for row in evidence)
        words = [text.get_text() for text in figure.legends[0].get_texts()]
        assert words == ["better or worse", "equivalent", "undecided"]
        assert "within the margin (the band)" in notes.paired_differences(evidence)

    def test_the_caption_says_what_the_seeds_could_have_found(self) -> None:
        found = [100 * row.smallest_difference(corrected=True) for row in EVIDENCE]
        note = notes.paired_differences(EVIDENCE)
        assert f"{min(found):.2f} to {max(found):.2f} points after the correction" in note

    def test_two_seeds_and_one_task_are_enough(self) -> None:
        records = make_records(tasks=["mnist-mlp"], label_noises=[0.0], seeds=range(2))
        frame, curves = records_frame(records), curves_frame(records)
        assert "n = 2 seeds" in notes.learning_curves(curves)
        plots.learning_curves(curves, labels=labels())
        assert len(plots.final_accuracy(frame, labels=labels()).axes) == 1
        evidence = metric_evidence(frame, "test_accuracy", baseline_comparisons(frame))
        assert len(plots.paired_differences(evidence, labels=labels()).axes) == 1

    def test_one_seed_has_no_interval_and_is_drawn(self) -> None:
        records = make_records(tasks=["mnist-mlp"], seeds=[0])
        assert "n = 1 seeds" in notes.final_accuracy(records_frame(records))
        plots.final_accuracy(records_frame(records), labels=labels())
        plots.learning_curves(curves_frame(records), labels=labels())

    def test_nothing_to_draw_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="values of 'consistency', got none"):
            plots.learning_curves(curves_frame(make_records(algorithms=["sgd"])), "consistency", labels=labels())
        with pytest.raises(ValueError, match="completed runs, got none"):
            plots.final_accuracy(pd.DataFrame(), labels=labels())
        with pytest.raises(ValueError, match=r"rows of one metric, got \['ratio'\]"):
            plots.paired_differences(RATIOS, labels=labels())
        with pytest.raises(ValueError, match=r"must hold ratios, got \['test_accuracy'\]"):
            plots.overhead(EVIDENCE, limit=1.05, labels=labels())


def test_a_number_stays_with_the_word_before_it() -> None:
    assert wrapped("as stated in batches of 16", 24) == "as stated in batches\nof 16"


def test_a_saved_figure_lists_its_runs(tmp_path: Path) -> None:
    path = plots.save_figure(drawn("overhead"), tmp_path / "new" / "a.png", ["b", "a", "b"], ["x.json"])
    assert path.read_bytes().startswith(b"\x89PNG")
    assert b"Software" not in path.read_bytes()
    sidecar = json.loads((tmp_path / "new" / "a.json").read_text())
    assert sidecar == {"figure": "a.png", "run_ids": ["a", "b"], "sources": ["x.json"]}

from __future__ import annotations

import functools
import io
import json
import re
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
from advanced_optimizers.experiments.report.tables import table_files, tables
from advanced_optimizers.experiments.studies.registry import CLAIMS, get_study
from tests.figure_texts import text_problems
from tests.synthetic_runs import EPOCHS, GAINS, make_config, make_measurements, make_record, make_records

RECORDS = make_records()
FRAME, CURVES = records_frame(RECORDS), curves_frame(RECORDS)
MEASUREMENTS = make_measurements({("fer-sgd", "sgd"): 1.02, ("fer-adam", "adam"): 1.08})
EVIDENCE = metric_evidence(FRAME, "test_accuracy", baseline_comparisons(FRAME))
RATIOS = CLAIMS["fer-overhead"].decide(RunData(FRAME, MEASUREMENTS)).evidence
CLAIMED = {"mnist-mlp": {"sgd": 0.952, "adam": 0.968, "fer-adam": 0.971}, "cifar10-jpeg-convnet": {"sgd": 0.684}}
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
    def test_axes_are_labelled_and_n_and_the_interval_are_explained(self, name: str) -> None:
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

    @pytest.mark.parametrize("long", [False, True], ids=["labels", "long labels"])
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


class TestTables:
    def test_comparison_by_hand(self) -> None:
        values = (0.95, 0.96, 0.97, 0.96, 0.95)
        records = [make_record(make_config("mnist-mlp", "sgd", seed), value) for seed, value in enumerate(values)]
        table = tables.comparison_table(records_frame(records), labels=labels())
        # mean 0.958, std 0.0083666, half-width 2.776445 * 0.0083666 / sqrt(5) = 0.0103886
        assert table.columns.tolist() == ["Algorithm", "MNIST, MLP, clean labels (%)"]
        assert table.iloc[0].tolist() == ["SGD", "95.80 ± 1.04"]
        assert table.attrs["note"] == "Mean ± half-width of the 95 % interval over the seeds, n = 5."

    def test_only_a_cell_whose_n_is_not_the_notes_says_it(self) -> None:
        fewer = FRAME[(FRAME["algorithm"] != "adam") | (FRAME["seed"] < 3)]
        table = tables.comparison_table(fewer, labels=labels()).set_index("Algorithm")
        assert table.loc["Adam"].str.endswith(" (n = 3)").all()
        assert not table.drop(index="Adam").stack().str.contains("n =").any()
        assert table.attrs["note"].endswith("n = 5.")

    def test_one_seed_has_no_interval(self) -> None:
        table = tables.comparison_table(FRAME[FRAME["seed"] == 0], labels=labels())
        assert not table.stack().str.contains("±").any()
        assert table.attrs["note"] == "One seed: there is no interval."

    def test_only_a_clear_best_is_bold(self) -> None:
        column = "MNIST, MLP, clean labels (%)"
        table = tables.comparison_table(FRAME, labels=labels()).set_index("Algorithm")[column]
        assert GAINS["flipping-adam"] > GAINS["flipping-sgd"]
        assert not table.str.contains(r"\*\*").any()  # which of the two best is better is undecided
        clear = FRAME[FRAME["algorithm"] != "flipping-sgd"]
        table = tables.comparison_table(clear, labels=labels()).set_index("Algorithm")[column]
        assert table[table.str.contains(r"\*\*")].index.tolist() == [labels()["flipping-adam"]]
        few = clear[clear["seed"] < 4]
        assert "**" not in table_files.to_markdown(tables.comparison_table(few, labels=labels()))

    def test_the_best_is_the_lowest_where_lower_is_better(self) -> None:
        some = FRAME[FRAME["algorithm"].isin(["sgd", "flipping-sgd"])]
        table = tables.comparison_table(some, "relative_flipping_error", labels=labels()).set_index("Algorithm")
        assert table.loc[labels()["flipping-sgd"]].str.contains(r"\*\*").all()

    def test_claims_of_the_coursework_stand_beside_the_clean_column(self) -> None:
        table = tables.comparison_table(FRAME, labels=labels(), claimed=CLAIMED).set_index("Algorithm")
        column = table["MNIST, MLP, coursework's claim (%)"]
        names = ["SGD", "Adam", labels()["fer-adam"], labels()["fer-sgd"]]
        assert column[names].tolist() == [
            "95.2",
            "96.8",
            "97.1",
            "-",
        ]
        assert sum("claim" in name for name in table.columns) == 2

    def test_diverged_and_missing_runs_are_said(self) -> None:
        records = make_records(tasks=["mnist-mlp"], algorithms=["sgd", "adam"], label_noises=[0.0])
        records = [replace(records[0], status="diverged"), *records[1:]]
        frame = pd.concat([records_frame(records), FRAME[FRAME["task"] != "mnist-mlp"]])
        column = tables.comparison_table(frame, labels=labels()).set_index("Algorithm")["MNIST, MLP, clean labels (%)"]
        assert column["SGD"].endswith("(n = 4, 1 diverged)")
        assert column[labels()["fer-sgd"]] == "-"

    def test_rows_follow_the_labels(self) -> None:
        shuffled = FRAME.sample(frac=1, random_state=0)
        present = set(FRAME["algorithm"])
        assert tables.comparison_table(shuffled, labels=labels())["Algorithm"].tolist() == [
            words for name, words in labels().items() if name in present
        ]

    def test_summary_holds_the_numbers(self) -> None:
        table = tables.summary_table(FRAME, ["test_accuracy", "relative_flipping_error"], labels=labels())
        assert len(table) == 2 * 2 * 6 * 2
        row = table[(table["task"] == "mnist-mlp") & (table["label_noise"] == 0.2) & (table["algorithm"] == "adam")]
        row = row.set_index("metric").loc["test_accuracy"]
        runs = FRAME[(FRAME.task == "mnist-mlp") & (FRAME.label_noise == 0.2) & (FRAME.algorithm == "adam")]
        assert row["mean"] == pytest.approx(runs["test_accuracy"].mean())
        assert row["std"] == pytest.approx(runs["test_accuracy"].std())
        single = tables.summary_table(FRAME[FRAME["seed"] == 0], labels=labels())
        assert single["std"].isna().all()

    def test_hyperparameters_are_one_set(self) -> None:
        table = tables.hyperparameters_table(FRAME, labels=labels()).set_index(["Task", "Algorithm"])
        chosen = table.loc[("MNIST, MLP", labels()["fer-sgd"]), "Hyperparameters"]
        assert chosen == "lr = 0.1, fer_weight = 0.3, memory_size = 100"
        two = FRAME.assign(hp_lr=FRAME["seed"].astype(float))
        with pytest.raises(ValueError, match="one set of hyperparameters for sgd on mnist-mlp, got 5"):
            tables.hyperparameters_table(two, labels=labels())

    def test_timing_and_overhead(self) -> None:
        timing = tables.timing_table(FRAME, labels=labels())
        assert len(timing) == 2 * 6
        assert set(timing["Peak memory (MiB, median)"]) == {"512"}
        assert set(timing["n"]) == {10}
        ratios = tables.overhead_table(MEASUREMENTS, labels=labels())
        assert ratios["Ratio, median [interval]"][0].startswith("1.020")
        assert ratios["Base (s an epoch, median)"][0] == "2.00"
        assert ratios["Algorithm (s an epoch, base times ratio)"][0] == "2.04"
        assert "technical repeats on one machine" in ratios.attrs["note"]
        assert "96.1 % for n = 9" in ratios.attrs["note"]

    def test_the_printed_columns_of_an_overhead_give_the_printed_ratio(self) -> None:
        pairs = [[1.476, 1.020], [1.483, 1.010], [1.450, 1.056], [1.484, 1.002], [1.455, 1.030], [1.476, 1.013]]
        pairs += [[1.455, 1.019], [1.474, 1.387], [1.448, 1.030]]  # in one pair something else ran beside the base
        row = {"task": "mnist-mlp", "algorithm": "fer-sgd", "baseline": "sgd", "pairs": pairs}
        table = tables.overhead_table({"measurements": [row]}, labels=labels())
        base, own = (float(table.filter(like=name).iloc[0, 0]) for name in ("Base (s", "Algorithm (s"))
        ratio = float(table["Ratio, median [interval]"][0].split(" ")[0])
        assert own == pytest.approx(base * ratio, abs=0.005 * (1 + ratio))
        assert "Gradient consistency over SGD on MNIST, MLP, pair 8 (1.063)" in table.attrs["note"]
        assert table["n"][0] == 9  # it stays in

    def test_protocol_is_the_studys(self) -> None:
        table = tables.protocol_table(get_study("fer", "full"), labels=labels()).set_index("Task")
        assert table.loc["MNIST, MLP", "Epochs"] == 10
        assert table["Tuning, for each algorithm"].str.startswith("12 trials of 3 epochs").all()

    def test_markdown(self) -> None:
        frame = pd.DataFrame({"a|b": ["x\ny", None], "n": [1, 2], "v": [0.1234567891, float("nan")]})
        assert table_files.to_markdown(frame).splitlines() == [
            "| a\\|b | n | v |",
            "| :--- | ---: | ---: |",
            "| x y | 1 | 0.123457 |",
            "| - | 2 | - |",
        ]

    def test_a_note_stands_below_the_table_in_markdown_alone(self) -> None:
        table = table_files.noted(pd.DataFrame({"a": ["x"]}), "Over the seeds, n = 5.")
        assert table_files.to_markdown(table).splitlines()[2:] == ["| x |", "", "*Over the seeds, n\u00a0=\u00a05.*"]
        files = table_files.render_tables({"one": table})
        assert files["one.md"].endswith(".*\n")
        assert "seeds" not in files["one.csv"]
        assert "note" not in table_files.noted(pd.DataFrame({"a": ["x"]}), "").attrs

    @pytest.mark.parametrize(
        "value",
        [
            "98.49 ± 0.11",
            "(n = 4, 1 diverged)",
            "-4.90 ± 0.59",
            "+0.06 [-0.12, +0.24] points",
            "1.387 [1.282, 1.501] times",
            "7.5 (7.1 to 7.9)",
            "lr = 3.168e-05",
            "p < 0.001",
            "20 %",
            "13.1 s",
            "5 of 5 runs",
        ],
    )
    def test_values_do_not_break(self, value: str) -> None:
        text = f"It was {value}, on MNIST."
        (row,) = table_files.to_markdown(pd.DataFrame({"a": [text]})).splitlines()[2:]
        assert row == f"| It was {value.replace(' ', chr(0xA0))}, on MNIST. |"
        assert text in table_files.render_tables({"one": pd.DataFrame({"a": [text]})})["one.csv"]

    def test_no_value_of_a_studys_tables_breaks(self) -> None:
        for table in (
            tables.comparison_table(FRAME, labels=labels()),
            tables.hyperparameters_table(FRAME, labels=labels()),
            tables.overhead_table(MEASUREMENTS, labels=labels()),
        ):
            assert not re.search(r"\d [±\[%]|[=±] \d", table_files.to_markdown(table).partition("\n")[2])

    def test_tables_are_written_twice_over(self, tmp_path: Path) -> None:
        table = tables.summary_table(FRAME, labels=labels())
        paths = table_files.write_tables({"one": table}, tmp_path / "new")
        assert sorted(path.name for path in paths) == ["one.csv", "one.md"]
        read = pd.read_csv(io.StringIO((tmp_path / "new" / "one.csv").read_text()))
        pd.testing.assert_frame_equal(read.drop(columns=table_files.RUNS), table, rtol=1e-5)

"""What a sweep's records give: tables, figures, and the report's blocks."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.evidence.optima import find_optima, sweep_points
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.blocks.blocks import ReportContext, render_block
from advanced_optimizers.experiments.report.figures import notes, sweep_plots
from advanced_optimizers.experiments.report.results.sweep_results import SweepResults
from advanced_optimizers.zero_shot_transfer import CoordinateRow
from tests.figure_texts import text_problems
from tests.synthetic_sweeps import FULL, make_records

CIFAR = {"task": "cifar10-jpeg-mlp3"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with all records of the sweep."""
    root = tmp_path_factory.mktemp("project")
    store = RunStore(root / "results" / "runs")
    for record in make_records():
        store.save(record)
    return root


@pytest.fixture(scope="module")
def results(root: Path) -> SweepResults:
    return SweepResults(FULL, root)


def test_the_tables_say_where_the_optima_are(results: SweepResults) -> None:
    assert list(results.tables) == [f"mutransfer-{name}" for name in ("claims", "optima", "starts", "shifts", "cost")]
    optima = results.tables["mutransfer-optima"]
    assert set(optima["Task"][14:]) == {"cifar10-jpeg, three-layer MLP"}
    standard, mup = optima.iloc[-8], optima.iloc[-1]
    assert [(row["Algorithm"], row["Units"]) for row in (standard, mup)] == [
        ("SGD, standard parametrization", 4096),
        ("SGD, muP", 4096),
    ]
    assert mup["log2 of the best rate"] == "-4.50 ± 0.12"
    assert optima.attrs["note"].endswith("n = 3.")
    assert optima.iloc[0]["log2 of the best rate"] == "-5.50 ± 0.10 (n = 5)"
    assert mup["At the largest rate that trains"] == "no"
    wide = optima.attrs["Runs"][-1].split()
    assert {results.frame.set_index("run_id").loc[run_id, "algorithm"] for run_id in wide} == {"mup-sgd"}
    assert len({run_id for ids in optima.attrs["Runs"] for run_id in ids.split()}) == len(results.frame)


def test_the_tables_have_a_verdict_from_every_width_on(results: SweepResults) -> None:
    starts, shifts = (results.tables[f"mutransfer-{name}"] for name in ("starts", "shifts"))
    assert starts["From (units)"].tolist() == [64, 128, 256, 512, 1024, 2048] * 2
    assert starts["Verdict from here on"].tolist() == (["supported"] * 5 + ["inconclusive"]) * 2
    assert len(shifts) == 2 * 21
    last = shifts.iloc[-1]
    assert (last["From (units)"], last["To (units)"], last["n"]) == (2048, 4096, 3)
    assert last["SGD, standard parametrization (octaves)"] == "-0.90 [-0.90, -0.90]"
    assert set(shifts["SGD, muP: verdict"]) == {"stays"}


def test_the_table_of_costs_has_both_parametrizations_and_says_what_was_not_tried(results: SweepResults) -> None:
    cost = results.tables["mutransfer-cost"]
    assert cost["Tuned at (units)"].tolist() == [64, 128, 256, 512, 1024, 2048] * 4
    mup, standard = (cost[cost["Algorithm"] == labels()[name]] for name in ("mup-sgd", "standard-sgd"))
    assert set(mup["Verdict"]) == {"as good"}
    assert set(mup["Loss ratio"]) == {"1.00 [1.00, 1.00]"}
    assert mup["Time ratio"].iloc[0].startswith("0.145 [0.145, 0.145]")
    assert standard["Verdict"].iloc[-6:].tolist()[:2] == ["rate not tried at the widest"] * 2
    assert cost.attrs["note"].startswith("Geometric means over the seeds")


def test_the_protocol_is_the_sweeps(results: SweepResults) -> None:
    assert results.protocol["Units"].tolist() == ["64 to 4096"] * 2
    assert results.protocol["Seeds"].tolist() == ["5 up to 512 units, 3 above", "3"]


def test_without_runs_there_are_pending_claims_and_no_figures(tmp_path: Path) -> None:
    empty = SweepResults(FULL, tmp_path)
    assert list(empty.tables) == ["mutransfer-claims"]
    assert empty.figures == {}
    assert empty.loaded == f"0 of {len(FULL.configs(empty.store))} runs loaded"


def test_figures_are_drawn_from_all_runs(results: SweepResults) -> None:
    assert list(results.figures) == ["mutransfer-sweep", "mutransfer-optimum"]
    for kept in results.figures.values():
        assert len(kept.run_ids) == len(results.frame)
        figure = kept.draw()
        assert "n = 3 to 5 seeds" in kept.full_caption
        assert figure.get_suptitle() == ""
        assert text_problems(figure) == []
        assert plt.get_fignums() == []
    sweep = results.figures["mutransfer-sweep"].draw()
    assert [axis.get_title("left").splitlines()[1] for axis in sweep.axes] == [
        labels()["standard-sgd"],
        labels()["mup-sgd"],
    ] * 2
    shades, marks = ([text.get_text() for text in legend.get_texts()] for legend in sweep.legends)
    assert shades == [str(units) for units in FULL.tasks[0].units]
    assert marks == ["optimum, with its 95 % interval"]


def test_long_labels_fit_the_figures(results: SweepResults) -> None:
    long = {name: f"{words} and a name that is much longer than others" for name, words in labels().items()}
    for figure in (
        sweep_plots.loss_by_rate(results.points, labels=long),
        sweep_plots.optimum_by_width(results.optima, labels=long),
    ):
        assert text_problems(figure) == []


def test_the_optimum_hides_neither_its_curve_nor_its_interval(results: SweepResults) -> None:
    axis = sweep_plots.loss_by_rate(results.points, labels=labels()).axes[0]
    circles = [line for line in axis.lines if line.get_marker() == "o"]
    assert len(circles) == len(FULL.tasks[0].units)
    assert {line.get_markerfacecolor() for line in circles} == {"none"}


def test_the_figure_shows_the_lowest_loss_of_every_panel() -> None:
    columns = sweep_points(pd.DataFrame(), 64).columns
    rows = [
        ("digits-mlp3", algorithm, 64, 0, exponent, loss * (exponent + 5), 1.0)
        for algorithm, loss in (("standard-sgd", 1.0), ("mup-sgd", 0.001))
        for exponent in (-4, -3, -2)
    ]
    figure = sweep_plots.loss_by_rate(pd.DataFrame(rows, columns=columns), labels=labels())
    assert all(axis.get_ylim()[0] < 0.001 < 3.0 == axis.get_ylim()[1] for axis in figure.axes)


def test_figures_of_sweeps_that_diverged_are_drawn() -> None:
    points = sweep_points(pd.DataFrame(), 64).astype({"loss": float})
    rows = [("digits-mlp3", "mup-sgd", units, 0, k, float("inf"), 1.0) for units in (64, 128) for k in (-3, -2)]
    points = pd.DataFrame(rows, columns=points.columns)
    figure = sweep_plots.loss_by_rate(points, labels=labels())
    assert figure.legends[1].get_texts()[-1].get_text() == "runs diverged"
    (axis,) = figure.axes
    crosses = [line for line in axis.lines if line.get_marker() == "x"]
    assert sorted(float(line.get_xdata()[0]) for line in crosses) == [-3, -3, -2, -2]
    assert len({line.get_color() for line in crosses}) == 2
    sweep_plots.optimum_by_width(find_optima(points), labels=labels())


def test_a_censored_optimum_has_a_mark_of_its_own() -> None:
    columns = sweep_points(pd.DataFrame(), 64).columns
    rows = [
        ("digits-mlp3", "mup-sgd", units, seed, k, float("inf") if k > cliff else 2.0**-k / units, 1.0)
        for units, cliff in ((64, -2), (128, -3))
        for seed in (0, 1)
        for k in (-5, -4, -3, -2, -1)
    ]
    points = pd.DataFrame(rows, columns=columns)
    for figure, mark in (
        (sweep_plots.loss_by_rate(points, labels=labels()), ">"),
        (sweep_plots.optimum_by_width(find_optima(points), labels=labels()), "$\\uparrow$"),
    ):
        places = [x for line in figure.axes[0].lines if line.get_marker() == mark for x in line.get_xdata()]
        assert len(places) == 2
        words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert "largest rate that trains" in words
        assert text_problems(figure) == []


def test_nothing_to_draw_is_an_error() -> None:
    empty = sweep_points(pd.DataFrame(), 64)
    with pytest.raises(ValueError, match="run the study first"):
        sweep_plots.loss_by_rate(empty, labels=labels())
    with pytest.raises(ValueError, match="run the study first"):
        sweep_plots.optimum_by_width(find_optima(empty), labels=labels())


def test_a_coordinate_check_is_drawn() -> None:
    rows = [
        CoordinateRow(width, 0, step, module, 0.0 if (module, step) == ("5", 1) else width**0.5)
        for width in (64, 128, 256)
        for step in (1, 2, 3)
        for module in ("1", "5")
    ]
    figure = sweep_plots.coordinate_sizes({"Standard": rows, "muP": rows}, {"1": "first", "5": "output"})
    assert [axis.get_title("left") for axis in figure.axes] == ["Standard", "muP"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["first", "output", "untrained", "at step 3"]
    assert text_problems(figure) == []
    assert "n = 1 seeds" in notes.coordinate_sizes({"Standard": rows, "muP": rows})
    with pytest.raises(ValueError, match="checks must hold rows of 9, 'Standard' has"):
        sweep_plots.coordinate_sizes({"Standard": rows}, {"9": "none"})
    with pytest.raises(ValueError, match="at least one check"):
        sweep_plots.coordinate_sizes({}, {"1": "first"})


def test_the_reports_blocks(root: Path) -> None:
    context = ReportContext(root)
    of_mup = {**CIFAR, "algorithm": "mup-sgd", "units": "4096"}
    assert render_block(context, "optimum", of_mup) == "-4.50 ± 0.12 (n = 3)"
    shift = render_block(context, "shift", {**of_mup, "algorithm": "standard-sgd", "start": "64"})
    assert shift == "-2.70 [-2.70, -2.70] octaves (n = 3)"
    of_cost = {**CIFAR, "algorithm": "mup-sgd", "start": "64"}
    assert render_block(context, "cost", {**of_cost, "ratio": "loss"}) == "1.00 [1.00, 1.00] (n = 3)"
    assert render_block(context, "cost", {**of_cost, "ratio": "time"}) == "0.145 [0.145, 0.145] (n = 3)"
    standard = {**of_cost, "algorithm": "standard-sgd", "ratio": "loss"}
    assert render_block(context, "cost", standard) == "*not tried*"
    with pytest.raises(ValueError, match="no ratio is named 'times'; did you mean time"):
        render_block(context, "cost", {**of_cost, "ratio": "times"})
    assert "64 to 4096" in render_block(context, "protocol", {"study": "mutransfer"})
    assert render_block(context, "verdict", {"claim": "mutransfer-optimum-stays"}) == "supported"
    assert render_block(context, "table", {"name": "mutransfer-cost", "study": "mutransfer"}).startswith("| Task")
    with pytest.raises(ValueError, match="no table is named 'mutransfer-costs'; did you mean mutransfer-cost"):
        render_block(context, "table", {"name": "mutransfer-costs", "study": "mutransfer"})
    with pytest.raises(ValueError, match="no study is named 'mutranfer'; did you mean mutransfer"):
        render_block(context, "runs", {"study": "mutranfer"})


def test_blocks_without_runs_wait_and_mistakes_are_named(tmp_path: Path) -> None:
    context = ReportContext(tmp_path)
    arguments = {**CIFAR, "algorithm": "mup-sgd", "units": "4096"}
    assert render_block(context, "optimum", arguments) == "*no run yet*"
    assert render_block(context, "shift", {**arguments, "start": "64"}) == "*no run yet*"
    of_cost = {**CIFAR, "algorithm": "mup-sgd", "start": "64", "ratio": "loss"}
    assert render_block(context, "cost", of_cost) == "*no run yet*"
    assert render_block(context, "table", {"name": "mutransfer-optima", "study": "mutransfer"}) == "*no run yet*"
    for argument, name, value in (
        ("task", "task", "mnist-mlp"),
        ("algorithm", "algorithm", "sgd"),
        ("units", "width", "100"),
    ):
        with pytest.raises(ValueError, match=f"no {name} is named '{value}'"):
            render_block(context, "optimum", {**arguments, argument: value})

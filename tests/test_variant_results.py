"""What the records of studies of tuning give: tables, figures and verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.blocks.blocks import ReportContext, render_block
from advanced_optimizers.experiments.report.figures.tuning_plots import accuracy_by_tuning, expected_error
from advanced_optimizers.experiments.report.results.results import results_of
from advanced_optimizers.experiments.report.results.tunings import expected_frame, finished_tunings
from advanced_optimizers.experiments.report.results.variant_results import VariantResults
from advanced_optimizers.experiments.report.tables.table_files import to_markdown
from advanced_optimizers.experiments.studies.registry import get_study
from advanced_optimizers.experiments.studies.study import BaseStudy, Study
from advanced_optimizers.experiments.studies.variants import VariantStudy
from tests.experiments_helpers import make_record
from tests.figure_texts import text_problems

KINDS = ("retuning", "trial-length", "untuned", "moved-ranges")


def on_mnist(name: str) -> VariantStudy:
    study = get_study(name, "full")
    assert isinstance(study, VariantStudy)
    return replace(study, tasks=tuple(task for task in study.tasks if task.dataset == "mnist"))


def accuracy_of(config: RunConfig) -> float:
    """Made up: higher rates are worse, seeds scatter, and so do the points of different tunings."""
    rate = float(config.hyperparameters["lr"])
    noise = np.random.default_rng(int(config.run_id[:8], 16)).normal(scale=5e-4)
    return float(0.98 - 0.02 * rate - (0.2 if config.algorithm == "readout" else 0.0) + noise)


def record_all(study: BaseStudy, store: RunStore) -> None:
    for part in ("tuning", "final"):
        for config in study.tuning_configs() if part == "tuning" else study.final_configs(store):
            if not store.has(config):
                store.save(make_record(config, test_accuracy=accuracy_of(config)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with made-up records of every study of tuning on MNIST."""
    root = tmp_path_factory.mktemp("project")
    for name in KINDS:
        record_all(on_mnist(name), RunStore(root / "results" / "runs"))
    return root


def results(name: str, root: Path) -> VariantResults[VariantStudy]:
    found = results_of(on_mnist(name), root)
    assert isinstance(found, VariantResults)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_tables_of_what_is_recorded(name: str, root: Path) -> None:
    found = results(name, root)
    assert found.missing == []
    assert set(found.frame["variant"]) == set(found.study.variants)
    for table_name, table in found.tables.items():
        assert table_name.startswith(name)
        assert "pending" not in to_markdown(table).replace("**pending**", ""), table_name
    assert found.protocol["Variant"].nunique() == len(found.study.variants)


@pytest.mark.parametrize("name", KINDS)
def test_without_runs_there_are_pending_claims_and_no_figures(name: str, tmp_path: Path) -> None:
    found = results(name, tmp_path)
    assert set(found.tables) <= {f"{name}-claims"}
    assert found.figures == {}
    assert {verdict.status for verdict in found.verdicts.values()} <= {"pending"}


def test_the_scatter_is_of_every_algorithm_and_pooled(root: Path) -> None:
    table = results("retuning", root).tables["retuning-scatter"]
    assert len(table) == 7 + 1 + 6 + 1
    assert table["Algorithm"].tolist()[7] == "All 7, pooled"
    first = table.iloc[0]
    means = [float(first[f"Tuning {number} (%)"]) for number in (1, 2, 3)]
    assert 96 < min(means) <= max(means) < 98.5
    assert len(table.attrs["Runs"][0].split()) == 5 + 3 + 3


def test_the_outcomes_by_tunings_stand_beside_those_by_seeds(root: Path) -> None:
    table = results("retuning", root).tables["retuning-outcomes"]
    readout = table[table["Comparison"].str.contains("Last layer only")].iloc[0]
    assert (readout["Outcome by seeds"], readout["Outcome by tunings"]) == ("better", "better")
    assert readout["By seeds [95 % interval]"].endswith("(n = 5)")
    assert readout["By tunings [95 % interval]"].endswith("(n = 3)")


def test_an_unfinished_tuning_is_pending(root: Path, tmp_path: Path) -> None:
    store = RunStore(tmp_path / "results" / "runs")
    study = on_mnist("retuning")
    record_all(study.comparison("tuning 1"), store)
    table = results("retuning", tmp_path).tables["retuning-outcomes"]
    assert set(table["Outcome by tunings"]) == {"pending"}
    assert "retuning-scatter" not in results("retuning", tmp_path).tables
    context = ReportContext(tmp_path, [study])
    assert render_block(context, "table", {"study": "retuning", "name": "retuning-scatter"}) == "*no run yet*"


def test_short_and_full_length_trials_are_compared_at_the_same_points(root: Path) -> None:
    table = results("trial-length", root).tables["trial-length-choices"]
    assert len(table) == 4
    assert all(float(gap) >= 0 for gap in table["Gap on validation images (points)"])
    assert all(-1 <= float(value) <= 1 for value in table["Rank correlation"])


def test_what_tuning_gains_is_tuned_minus_untuned(root: Path) -> None:
    found = results("untuned", root)
    table = found.tables["untuned-accuracy"]
    assert len(table) == 6 + 5
    sgd = table.iloc[0]
    assert sgd["Given values"] == "lr = 0.001"
    tuned, untuned = (float(sgd[f"{side} (%)"].split()[0]) for side in ("Tuned", "Untuned"))
    gain = float(sgd["What tuning gains [95 % interval]"].split()[0])
    assert gain == pytest.approx(tuned - untuned, abs=0.011)


def test_a_moved_range_is_shown_before_and_after(root: Path) -> None:
    table = results("moved-ranges", root).tables["moved-ranges-accuracy"]
    readout = table[table["Range of"] == "lr"].iloc[0]
    assert (readout["Stated: range"], readout["Moved: range"]) == ("0.0005 to 0.02, log", "0.001 to 0.04, log")


@pytest.mark.parametrize(("name", "figures"), [("retuning", 1), ("trial-length", 1), ("untuned", 0)])
def test_figures_fit_their_page(name: str, figures: int, root: Path) -> None:
    found = results(name, root)
    assert len(found.figures) == figures
    for kept in found.figures.values():
        assert kept.run_ids
        assert text_problems(kept.draw()) == []
        assert plt.get_fignums() == []


def test_the_expected_best_and_the_ranges_of_a_comparison(root: Path) -> None:
    study = on_mnist("retuning").comparison("tuning 1")
    assert isinstance(study, Study)
    tunings = finished_tunings(study, RunStore(root / "results" / "runs"))
    frame = expected_frame(tunings)
    for _, own in frame.groupby(["task", "algorithm"]):
        assert own["trials"].tolist() == list(range(1, 13))
        assert own["error"].is_monotonic_decreasing
    long = {name: f"{words} and a name that is much longer" for name, words in labels().items()}
    assert text_problems(expected_error(frame, labels=long)) == []
    with pytest.raises(ValueError, match="run the study first"):
        expected_error(frame.iloc[:0], labels=long)
    with pytest.raises(ValueError, match="run the study first"):
        accuracy_by_tuning(frame.iloc[:0], ("tuning 1",), 3, labels=long)


def test_the_edges_of_all_comparisons_are_in_one_table(root: Path) -> None:
    study = replace(on_mnist("moved-ranges").comparison("stated"), name="some")
    text = render_block(ReportContext(root, [study, study]), "edges", {})
    assert "At the edge" not in text
    assert len(set(text.splitlines())) == len(text.splitlines())
    assert "tuned values, of" in text

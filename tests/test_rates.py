"""Sweeps of the learning rate: their runs, what is read off them, their rules, and what the report shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.comparisons import Comparison, RunData, Verdict
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.evidence.rates import (
    best_rates,
    by_seed_and_rate,
    compare_at_rate,
    easier_wants_larger,
    lost_at,
    rank_correlations,
    rate_is_good,
    rate_points,
)
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.report.figures import rate_plots
from advanced_optimizers.experiments.report.figures.style import MAX_LINES
from advanced_optimizers.experiments.report.results.rate_results import RateResults
from advanced_optimizers.experiments.report.results.results import results_of
from advanced_optimizers.experiments.studies.rate_sweep import RateSweep
from advanced_optimizers.experiments.studies.registry import CLAIMS, STUDIES
from tests.figure_texts import text_problems
from tests.synthetic_rates import SWEEP, Accuracy, peaked, rate_record

ADAM = "lecture-adam"
TASKS = [task.name for task in SWEEP.tasks]
# From the first task to the last: the best rate falls from 3e-2 to 3e-4.
FALLING = dict(zip(TASKS, (3e-2, 2e-2, 1e-2, 5e-3, 2e-3, 1e-3, 3e-4), strict=True))
SWEEPS = [study for study in STUDIES.values() if isinstance(study, RateSweep)]


def frame_of(accuracy: Accuracy, sweep: RateSweep = SWEEP) -> pd.DataFrame:
    return records_frame(rate_record(c, accuracy(c)) for c in sweep.final_configs(None))  # type: ignore[arg-type]


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda s: s.profile + s.name)
def test_a_sweep_asks_for_every_rate_once(sweep: RateSweep, store: RunStore) -> None:
    configs = sweep.configs(store)
    expected = len(sweep.tasks) * len(sweep.algorithms) * len(sweep.rates) * len(sweep.seeds)
    assert len({config.run_id for config in configs}) == len(configs) == expected
    assert {config.schedule for config in configs} == {"constant"}
    assert {config.split for config in configs} == {"test"}
    assert list(sweep.rates) == sorted(sweep.rates)
    assert set(sweep.marked) <= set(sweep.rates), "what a mark loses can only be read off at a rate that is tried"
    gaps = np.diff(np.log10(sweep.rates))
    assert gaps.max() < 1.2 * gaps.min() or len(gaps) == 1


def test_the_full_sweeps_have_five_seeds_and_5000_images() -> None:
    for sweep in SWEEPS:
        assert len(sweep.seeds) == (5 if sweep.profile == "full" else 2)
        for task in sweep.tasks:
            if task.dataset == "mnist":
                assert round(task.data_fraction * 60_000) == 5000


# ---- what is read off ----------------------------------------------------------------------------------------------


def table(rows: Mapping[int, Mapping[float, float]]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, orient="index")


def test_the_best_rate_lies_between_the_rates_tried() -> None:
    # log errors 1, 0, 1 have their vertex in the middle; 2, 0, 1 a sixth of a step to the right.
    symmetric = {0.01: 1 - 0.01 * math.e, 0.1: 0.99, 1.0: 1 - 0.01 * math.e}
    leaning = {**symmetric, 0.01: 1 - 0.01 * math.e**2}
    assert best_rates(table({0: symmetric, 1: leaning})) == pytest.approx([-1.0, -1.0 + 1 / 6])


def test_at_the_end_of_the_grid_the_best_rate_is_the_last_one() -> None:
    assert best_rates(table({0: {0.01: 0.5, 0.1: 0.6, 1.0: 0.7}})) == [0.0]


def test_a_run_without_errors_is_the_best() -> None:
    assert best_rates(table({0: {0.01: 0.9, 0.1: 1.0, 1.0: 0.9}})) == [-1.0]


def test_a_loss_is_against_what_is_best_for_the_others() -> None:
    # Seed 0 is best at 1 by luck; seeds 1 and 2 say 0.1, and that is what seed 0 is compared with.
    rows = {0: {0.1: 0.80, 1.0: 0.90}, 1: {0.1: 0.95, 1.0: 0.70}, 2: {0.1: 0.95, 1.0: 0.70}}
    assert lost_at(table(rows), 1.0) == pytest.approx([0.10, -0.25, -0.25])
    assert lost_at(table(rows), 0.1) == pytest.approx([0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"rate must be one of \[0.1, 1.0\], got 0.2"):
        lost_at(table(rows), 0.2)


def test_a_diverged_run_has_learned_nothing() -> None:
    (config, *_) = SWEEP.final_configs(None)  # type: ignore[arg-type]
    points = rate_points(records_frame([rate_record(config, 0.7, status="diverged")]))
    assert points["accuracy"].tolist() == [0.0]


def test_an_incomplete_seed_is_left_out_and_a_repeated_run_refused() -> None:
    frame = frame_of(peaked(FALLING))
    incomplete = frame[~((frame["seed"] == 3) & (frame["hp_lr"] == 1e-3))]
    assert by_seed_and_rate(rate_points(incomplete), TASKS[0], ADAM).index.tolist() == [0, 1, 2, 4]
    with pytest.raises(ValueError, match="one run per learning rate and seed"):
        rate_points(pd.concat([frame, frame]))


def test_rank_correlations() -> None:
    heights = dict(zip(TASKS, np.linspace(0.98, 0.8, len(TASKS)), strict=True))  # the larger the rate, the easier
    points = rate_points(frame_of(lambda c: peaked(FALLING, heights[c.task])(c)))
    assert rank_correlations(points, TASKS, ADAM) == pytest.approx([1.0] * 5)
    assert rank_correlations(points, TASKS[::-1], ADAM) == pytest.approx([1.0] * 5), "the order of tasks is no matter"


# ---- the rules -----------------------------------------------------------------------------------------------------


def good(best: float, width: float = 0.02, rate: float = 3e-4) -> Verdict:
    data = RunData(frame_of(peaked(dict.fromkeys(TASKS, best), width=width)))
    return rate_is_good(data, algorithm=ADAM, rates=dict.fromkeys(TASKS, rate), margin=0.01)


def test_a_good_rate() -> None:
    assert good(best=3e-4).status == "supported"
    assert good(best=1e-3, width=0.005).status == "supported", "half a point is lost"
    assert good(best=1e-3, width=0.0105).status == "inconclusive"
    bad = good(best=1e-2)
    assert bad.status == "not supported"
    assert "On 0 of 7 tasks" in bad.sentence
    assert "at 0.0003 on" in bad.sentence


def test_one_bad_task_refutes_a_good_rate() -> None:
    best = {**dict.fromkeys(TASKS, 3e-4), TASKS[2]: 1e-1}
    verdict = rate_is_good(
        RunData(frame_of(peaked(best))), algorithm=ADAM, rates=dict.fromkeys(TASKS, 3e-4), margin=0.01
    )
    assert verdict.status == "not supported"
    assert "On 6 of 7 tasks" in verdict.sentence


def test_rules_wait_for_five_complete_seeds() -> None:
    frame = frame_of(peaked(FALLING))
    for data in (RunData(pd.DataFrame()), RunData(frame[frame["seed"] < 4])):
        for key in ("lecture-adam-classification", "lecture-easier-larger", "lecture-adam-small", "lecture-adam-large"):
            verdict = CLAIMS[key].decide(data)
            assert verdict.status == "pending", key
            assert "of 5 complete seeds" in verdict.sentence


@pytest.mark.parametrize(("order", "status"), [(1, "supported"), (-1, "not supported")])
def test_easier_wants_larger(order: int, status: str) -> None:
    heights = dict(zip(TASKS, np.linspace(0.98, 0.8, len(TASKS))[::order], strict=True))
    data = RunData(frame_of(lambda c: peaked(FALLING, heights[c.task])(c)))
    assert easier_wants_larger(data, algorithm=ADAM, tasks=TASKS, least=0.714).status == status
    assert CLAIMS["lecture-easier-larger"].decide(data).status == status


def test_a_comparison_at_one_rate_looks_at_no_other() -> None:
    (sweep,) = (s for s in SWEEPS if (s.name, s.profile) == ("lecture-rates", "full"))
    # Momentum is better by two points at 0.01, and worse everywhere else.
    gain = {True: 0.02, False: -0.3}

    def accuracy(config: object) -> float:
        noise = np.random.default_rng([config.seed, 1]).normal(0, 1e-3)  # type: ignore[attr-defined]
        own = gain[config.hyperparameters["lr"] == 0.01]  # type: ignore[attr-defined]
        return 0.8 + noise + (own if "momentum" in config.algorithm else 0.0)  # type: ignore[attr-defined]

    data = RunData(frame_of(accuracy, sweep))
    comparison = Comparison("mnist-mlp128", "lecture-momentum", "lecture-gd")
    data.frame.loc[data.frame["algorithm"] == "lecture-momentum", "test_accuracy"] += 1e-3 * data.frame["seed"]
    assert compare_at_rate(data, rate=0.01, comparisons=[comparison]).status == "supported"
    assert compare_at_rate(data, rate=0.1, comparisons=[comparison]).status == "not supported"
    assert compare_at_rate(RunData(pd.DataFrame()), rate=0.1, comparisons=[comparison]).status == "pending"


# ---- what is shown ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> RateResults:
    root = tmp_path_factory.mktemp("project")
    store = RunStore(root / "results" / "runs")
    for config in SWEEP.final_configs(store):
        store.save(rate_record(config, peaked(FALLING)(config)))
    found = results_of(SWEEP, root)
    assert isinstance(found, RateResults)
    return found


def test_the_table_names_the_best_rates(results: RateResults) -> None:
    best = results.tables["lecture-adam-rates-best"]
    assert best["Best rate tried"].tolist() == ["0.03", "0.03", "0.01", "0.003", "0.003", "0.001", "0.0003"]
    assert best["log10 of the best rate"][0].startswith("-1.5")
    assert best["Lost at 0.0003 (points)"].tolist()[-1].startswith("+0.00")
    assert best["Lost at 0.0003 (points)"].tolist()[0].startswith("-32")
    assert best.attrs["note"].endswith("n = 5.")
    assert len({run for runs in best.attrs["Runs"] for run in runs.split()}) == len(results.frame)


def test_the_figure_shows_all_runs_and_the_marks(results: RateResults) -> None:
    (kept,) = results.figures.values()
    assert len(kept.run_ids) == len(results.frame)
    assert "n = 5 seeds" in kept.full_caption
    figure = kept.draw()
    assert {"0.0003", "0.03"} <= {text.get_text() for text in figure.axes[0].texts}
    looks = {(line.get_marker(), line.get_color()) for line in figure.axes[0].lines if len(line.get_xdata()) > 2}
    assert len(looks) == len(TASKS)
    assert text_problems(figure) == []
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("count", "panels"), [(MAX_LINES, 1), (MAX_LINES + 1, MAX_LINES + 1)])
def test_some_algorithms_share_a_panel_and_many_have_one_each(count: int, panels: int) -> None:
    (sweep,) = (s for s in SWEEPS if (s.name, s.profile) == ("lecture-rates", "full"))
    points = rate_points(frame_of(lambda c: 0.9, sweep))
    points = points[points["algorithm"].isin(sweep.algorithms[:count])]
    figure = rate_plots.error_by_rate(points, labels=labels(), algorithms=sweep.algorithms, marked=(0.01,))
    assert text_problems(figure) == []
    assert len(figure.axes) == panels
    titles = {axis.get_title(loc="left").replace("\n", " ") for axis in figure.axes}
    assert panels == 1 or titles == {labels()[name] for name in sweep.algorithms[:count]}
    with pytest.raises(ValueError, match="points must hold runs"):
        rate_plots.error_by_rate(points[:0], labels=labels(), algorithms=sweep.algorithms)


def test_without_runs_there_are_pending_claims(tmp_path: Path) -> None:
    empty = RateResults(SWEEP, tmp_path)
    assert list(empty.tables) == ["lecture-adam-rates-claims"]
    assert empty.figures == {}
    assert empty.protocol["Seeds"].tolist() == [5] * 7
    assert empty.protocol["Training images"].tolist()[2] == "8.33 %"

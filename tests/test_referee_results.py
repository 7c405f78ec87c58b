"""What the records of a comparison against anchors come to: tables, figures and blocks, also where runs are missing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.contests import Ruling
from advanced_optimizers.experiments.evidence.labels import label, labels
from advanced_optimizers.experiments.evidence.robustness import changes
from advanced_optimizers.experiments.evidence.statistics import Interval, compare_unpaired, holm
from advanced_optimizers.experiments.evidence.tunability import rate_sensitivity
from advanced_optimizers.experiments.report.blocks.blocks import ReportContext, render_block
from advanced_optimizers.experiments.report.documents.translation import russian
from advanced_optimizers.experiments.report.figures.contest_plots import Change, forest, robustness
from advanced_optimizers.experiments.report.figures.families import Families
from advanced_optimizers.experiments.report.figures.multiples import Line, line_multiples
from advanced_optimizers.experiments.report.results.measured import ONE_RUN_PATH
from advanced_optimizers.experiments.report.results.referee_results import RefereeResults
from advanced_optimizers.experiments.report.tables.table_files import to_markdown
from advanced_optimizers.experiments.studies.referee import Referee
from advanced_optimizers.experiments.studies.registry import get_study
from tests.figure_texts import text_problems
from tests.synthetic_referee import MadeUpRuns, accuracy_of
from tests.synthetic_runs import make_measurements

NAMES = ("sgd", "adamw", "adam", "lion", "muon-adamw", "fer-adam", "conv-v2")


def study_of(name: str, algorithms: tuple[str, ...] = NAMES) -> Referee:
    """The study with fewer algorithms."""
    stated = get_study(name, "full")
    assert isinstance(stated, Referee)
    variants = {
        key: replace(
            variant,
            untuned={a: values for a, values in variant.untuned.items() if a in algorithms},
            algorithms=tuple(a for a in variant.algorithms if a in algorithms),
        )
        for key, variant in stated.variants.items()
    }
    return replace(stated, algorithms=algorithms, variants=variants)


def results_with(root: Path, absent: tuple[str, ...] = (), no_trial: tuple[str, ...] = ()) -> RefereeResults:
    results = RefereeResults(study_of("referee-mnist"), root)
    results.store = MadeUpRuns(root / "results" / "runs", absent, no_trial)
    return results


@pytest.fixture(scope="module")
def partial_results(tmp_path_factory: pytest.TempPathFactory) -> RefereeResults:
    root = tmp_path_factory.mktemp("project")
    path = root / ONE_RUN_PATH
    path.parent.mkdir(parents=True)
    times = {("adamw", "sgd"): 1.1, ("adam", "sgd"): 1.1, ("muon-adamw", "sgd"): 3.0}
    path.write_text(json.dumps(make_measurements(times, ["mnist-mlp"])))
    return results_with(root, absent=("fer-adam",), no_trial=("conv-v2",))


def test_what_it_prints_has_russian_words(partial_results: RefereeResults) -> None:
    for table in partial_results.tables.values():
        assert re.search(r"\| (Алгоритм|Потребность) \|", russian().block(to_markdown(table)))
    for figure in partial_results.figures.values():
        assert russian().phrase(figure.full_caption) != figure.full_caption


# ---- statistics -----------------------------------------------------------------------------------------------------


def test_the_sensitivity_to_the_rate_is_the_integral_over_its_logarithm() -> None:
    rates, scores = [0.2, 0.01, 0.05, 0.8], [0.9, 0.7, 0.95, 0.02]
    places = np.linspace(np.log(0.005), np.log(1.0), 200_001)
    curve = np.interp(places, np.log(sorted(rates)), [0.7, 0.95, 0.9, 0.1])
    assert rate_sensitivity(rates, scores, 0.005, 1.0, 0.1) == pytest.approx(0.95 - curve.mean(), abs=1e-5)
    assert rate_sensitivity([0.1], [0.5], 0.01, 1.0) == 0.0
    with pytest.raises(ValueError, match=r"rates must hold .* in \[0.05, 1.0\]"):
        rate_sensitivity(rates, scores, 0.05, 1.0)


def test_unknown_comparisons_of_a_family_count_as_ones_that_found_nothing() -> None:
    p = [0.02, 0.001, 0.3]
    assert holm(p, missing=2) == holm([*p, 1.0, 1.0])[:3]
    assert holm(p, missing=2) != holm(p)


def test_a_change_is_the_difference_of_two_runs_with_one_seed() -> None:
    frame = pd.DataFrame(
        {
            "task": "t",
            "algorithm": "sgd",
            "split": "test",
            "status": ["completed", "completed", "diverged", "completed"],
            "variant": ["tuning 1", "tuning 2", "noisy", "noisy"],
            "seed": [100, 200, 100, 200],
            "label_noise": [0.0, 0.0, 0.2, 0.4],
            "test_accuracy": [0.9, 0.8, 0.5, 0.75],
            "guessing": 0.1,
        }
    )
    tunings = ("tuning 1", "tuning 2")
    assert changes(frame, "t", "sgd", tunings, "label_noise", 0.2) == pytest.approx([0.1 - 0.9])
    assert changes(frame, "t", "sgd", tunings, "label_noise", 0.4) == pytest.approx([-0.05])


# ---- partial records ------------------------------------------------------------------------------------------------


def test_what_misses_runs_is_left_out_and_named(partial_results: RefereeResults) -> None:
    tables = partial_results.tables
    assert [name for _, name in partial_results.complete] == ["sgd", "adamw", "adam", "muon-adamw", "lion"]
    for name, table in tables.items():
        assert "Gradient consistency" in table.attrs["note"], name
        assert not table.astype(str).apply(lambda cells: cells.str.contains("consistency|v2")).any(axis=None), name
    # The family counts what is not there yet.
    assert set(tables["referee-mnist-verdicts"]["p after Holm"].str.extract(r"\((\d+)\)")[0]) == {"2"}
    outcomes = {(r.comparison.algorithm, r.comparison.baseline): r.verdict for r in partial_results.rulings}
    assert outcomes["lion", "sgd"] == outcomes["lion", "adamw"] == "worse"
    assert outcomes["muon-adamw", "adamw"] == "better"


def test_tables_say_what_the_records_say(partial_results: RefereeResults) -> None:
    tables = partial_results.tables
    known = partial_results.study.known_configs(partial_results.store)
    runs = [c for c in known if (c.algorithm, c.split) == ("adam", "test")]
    tuned = [c for c in runs if (c.label_noise, c.batch_size) == (0.0, 128) and c.hyperparameters["lr"] != 1e-3]
    row = tables["referee-mnist-accuracy"].set_index("Algorithm").loc["Adam"]
    assert float(row["Test accuracy (%)"].split()[0]) == pytest.approx(
        100 * np.mean([accuracy_of(c) for c in tuned]), abs=0.006
    )
    by_seed = {c.seed: accuracy_of(c) for c in tuned}
    lost = [accuracy_of(c) - by_seed[c.seed] for c in runs if c.batch_size == 512]
    row = tables["referee-mnist-robustness"].set_index("Algorithm").loc["Adam"]
    assert float(row["batches of 512 (points)"].split()[0]) == pytest.approx(100 * np.mean(lost), abs=0.006)
    chosen = tables["referee-mnist-choices"].set_index("Need")["Meet it"]
    assert "Muon" in chosen["At least as accurate as AdamW"]
    assert "Lion" not in chosen["At least as accurate as AdamW"]
    assert "Muon" not in chosen["Time per epoch"]


def test_figures_come_in_the_reports_order_and_fit_their_page(partial_results: RefereeResults) -> None:
    endings = [name.removeprefix("referee-mnist-") for name in partial_results.figures]
    order = ["forest", "trials", "rates", "learning-curves", "accuracy-over-time", "targets", "robustness"]
    assert endings == order
    for name, kept in partial_results.figures.items():
        assert kept.run_ids, name
        assert "Left out" in kept.note, name
        assert text_problems(kept.draw()) == [], name


@pytest.mark.parametrize("name", ["referee-mnist-wider", "referee-cifar"])
def test_without_runs_everything_is_pending(name: str, tmp_path: Path) -> None:
    stated = get_study(name, "full")
    context = ReportContext(tmp_path, [stated])
    results = context.study(name)
    assert (results.tables, results.figures) == ({}, {})
    for key, arguments in {
        "table": {"name": f"{name}-verdicts"},
        "ruling": {"algorithm": "adamw", "anchor": "sgd"},
        "tuned": {"algorithm": "adamw"},
        "blind": {"algorithm": "adamw"},
    }.items():
        assert render_block(context, key, {"study": name, **arguments}) == "*no run yet*"
    assert render_block(context, "complete", {"study": name}).startswith("0 of ")
    assert "Holm" in render_block(context, "decided-by", {"study": name})
    assert len(render_block(context, "spaces", {"study": name}).splitlines()) == 2 + len(stated.algorithms)


def test_a_sources_table_is_remade_beside_what_it_states(partial_results: RefereeResults) -> None:
    root = partial_results.root
    context = ReportContext(root, [get_study("coursework-table", "full"), get_study("referee-cifar", "full")])
    context.results["referee-mnist"] = partial_results
    text = render_block(context, "remade", {"stated": "coursework-table", "studies": "referee-mnist,referee-cifar"})
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in text.splitlines() if line.startswith("|")}
    assert rows["Adam"][1].startswith("98.0")
    assert rows["Adam"][2:4] == ["96.8", "1.10 [1.10, 1.10]".replace(" ", "\u00a0")]
    assert rows["Gradient consistency over Adam"][1] == "pending"
    assert rows["Localized learning, static"][1] == "-"  # it has no layer to localize there
    assert rows["Localized learning, static"][4] == "pending"
    assert render_block(context, "one-run", {"task": "mnist-mlp", "algorithm": "muon-adamw"}).startswith("3.00 [")
    assert "**pending**" in render_block(context, "conclusions", {"claims": "coursework-all-beat-baselines"})
    with pytest.raises(ValueError, match="stated must be a study with a source's seconds"):
        render_block(context, "remade", {"stated": "referee-cifar", "studies": "referee-mnist"})


# ---- thirty algorithms ----------------------------------------------------------------------------------------------


def thirty_rulings(families: Families, names: tuple[str, ...]) -> list[Ruling]:
    found = []
    for anchor in families.anchors:
        for index, name in enumerate(n for n in names if n != anchor):
            shift = 0.004 * np.sin(index) - (0.03 if name == "lion" else 0.0)
            result = compare_unpaired([0.98 + shift, 0.981 + shift, 0.979 + shift], [0.98, 0.981, 0.979])
            verdict = ("better", "worse", "equivalent", "undecided", "invalid")[index % 5]
            comparison = Comparison("mnist-mlp", name, anchor, margin=0.002)
            found.append(Ruling(comparison, verdict, result, 0.01, 12, Interval(0.5, 0.4, 0.6, 3), "tunings"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["forest", "robustness", "curves"])
def test_thirty_algorithms_are_readable(kind: str) -> None:
    study = get_study("referee-mnist", "full")
    assert isinstance(study, Referee)
    assert len(study.algorithms) == 30
    families = Families(study.groups, study.anchors)
    figure: Figure
    if kind == "forest":
        figure = forest(thirty_rulings(families, study.algorithms), families, labels=labels())
    elif kind == "robustness":
        values = {name: Interval(-1.0, -2.0, 0.1, 4) for name in study.algorithms}
        panel = Change("Noisy labels", "Change in test accuracy (points)", {"20 %": values, "40 %": values})
        figure = robustness(
            [panel, Change("A blind rate", "Lost (points)", {"a rate": values})], families, labels=labels()
        )
    else:
        lines = {name: Line([1, 2, 3], [9.0, 5.0, 2.0 + i / 9]) for i, name in enumerate(study.algorithms)}
        figure = line_multiples(lines, families, labels=labels(), xlabel="Epochs", ylabel="Test error (%)")
    assert text_problems(figure) == []
    assert figure.get_figheight() <= 11
    shown = " ".join(text.get_text().replace("\n", " ") for axis in figure.axes for text in _names(axis))
    assert all(label(name) in shown for name in study.algorithms)


def _names(axis: object) -> list:
    return [axis.title, axis._left_title, *axis.get_yticklabels()]  # type: ignore[attr-defined]

"""How figures tell algorithms apart and in which order they list them, and the figure of all verdicts."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from advanced_optimizers.experiments.evidence.comparisons import Comparison, RunData, metric_evidence
from advanced_optimizers.experiments.evidence.labels import labels
from advanced_optimizers.experiments.evidence.rules import compare_overhead
from advanced_optimizers.experiments.records.frames import curves_frame, records_frame
from advanced_optimizers.experiments.report.figures import plots
from advanced_optimizers.experiments.report.figures.families import Families
from advanced_optimizers.experiments.report.figures.style import HOUSE_STYLE, MAX_LINES, arrange, make_styles
from advanced_optimizers.experiments.report.figures.verdict_plot import ShortClaim
from advanced_optimizers.experiments.report.results.recorded import StudyFigure
from advanced_optimizers.experiments.studies.contenders import CONTENDERS
from advanced_optimizers.experiments.studies.registry import STUDIES
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from tests.figure_texts import drawn_texts, text_problems
from tests.synthetic_runs import make_measurements, make_records

USERS = ("user:Mine@3f2a91c0", "user:Other@00c0ffee")
# Few of these are baselines, so most have a row of their own.
OF_METHODS = [name for name in ALGORITHMS if not name.startswith(("conv-", "lecture-")) and name not in CONTENDERS]
MANY = (*OF_METHODS[:23], *USERS)
DOTTED = (":", (0, (1, 2.5)))
LABELS = labels()
RECORDS = make_records(label_noises=[0.0])
FRAME, CURVES = records_frame(RECORDS), curves_frame(RECORDS)


def renamed(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The runs of one algorithm, under several names."""
    runs = frame[frame["algorithm"] == "sgd"]
    return pd.concat([runs.assign(algorithm=name, run_id=runs["run_id"] + name) for name in names], ignore_index=True)


def is_control(name: str) -> bool:
    return name in ALGORITHMS and ALGORITHMS[name].control


def row_names(axis: Axes) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in axis.get_yticklabels()]


class TestStyles:
    @pytest.mark.parametrize("names", [MANY, *(study.algorithms for study in STUDIES.values())], ids=len)
    def test_no_two_algorithms_of_a_figure_look_alike(self, names: Sequence[str]) -> None:
        styles = make_styles(names)
        assert set(styles) == set(names)
        assert len(set(styles.values())) == len(names)

    def test_the_role_shows(self) -> None:
        styles = make_styles(MANY)
        for name, style in styles.items():
            red, green, blue = to_rgb(style.color)
            row = ALGORITHMS.get(name)
            assert (red == green == blue) == (row is not None and row.baseline is None)
            assert (style.line in DOTTED) == is_control(name)
        controls, others = (
            {styles[name].marker for name in MANY if is_control(name) == role} for role in (True, False)
        )
        assert controls.isdisjoint(others)

    def test_a_method_has_the_line_of_its_baseline(self) -> None:
        styles = make_styles(MANY)
        methods = [name for name, row in ALGORITHMS.items() if name in MANY and row.baseline and not row.control]
        assert methods
        for name in methods:
            assert styles[name].line == styles[ALGORITHMS[name].baseline].line

    def test_the_same_method_over_two_bases_has_one_hue(self) -> None:
        styles = make_styles(STUDIES["fer", "full"].algorithms)
        assert styles["fer-sgd"].color == styles["fer-adam"].color
        assert styles["fer-sgd"].color != styles["flipping-sgd"].color
        assert styles["fer-sgd"].line != styles["fer-adam"].line

    def test_an_algorithm_looks_the_same_in_all_figures_of_a_study(self) -> None:
        study = STUDIES["fer", "full"].algorithms
        style = make_styles(study)["flipping-adam"]
        some = CURVES["algorithm"].isin(["adam", "flipping-adam"])
        for figure in (
            plots.learning_curves(CURVES[some], labels=LABELS, algorithms=study),
            plots.final_accuracy(FRAME[FRAME["algorithm"] == "flipping-adam"], labels=LABELS, algorithms=study),
        ):
            lines = [line for axis in figure.axes for line in axis.lines if line.get_marker() == style.marker]
            assert len(lines) == len(figure.axes)
            assert {to_hex(line.get_color()) for line in lines} == {to_hex(style.color)}

    def test_colors_stay_apart_for_color_blind_readers(self) -> None:
        safe = set(sns.color_palette("colorblind").as_hex())
        methods = [name for name, row in ALGORITHMS.items() if row.baseline and not row.control]
        assert len({style.color for style in make_styles(methods).values()}) >= 6
        assert {style.color for style in make_styles(methods).values()} <= safe

    def test_a_family_has_a_hue_and_an_anchor_is_black(self) -> None:
        families = Families({"plain": ("sgd", "adam"), "new": ("lion",)}, anchors=("sgd",))
        colors = {name: families.color(name) for name in ("sgd", "adam", "lion", USERS[0])}
        assert colors["sgd"] == colors[USERS[0]] == "#000000"
        assert {colors["adam"], colors["lion"]} <= set(sns.color_palette("colorblind").as_hex())
        assert colors["adam"] != colors["lion"]
        assert families.arranged(["lion", "adam", "sgd"]) == ["sgd", "adam", "lion"]

    @pytest.mark.slow
    def test_importing_the_figures_changes_no_global_style(self) -> None:
        code = (
            "import matplotlib as m; before = dict(m.rcParams);"
            "import advanced_optimizers.experiments.report.figures.plots;"
            "assert before == dict(m.rcParams)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_colors_of_the_saved_file_are_those_drawn(self, tmp_path: Path) -> None:
        figure = plots.learning_curves(CURVES, labels=LABELS)
        saved = Image.open(plots.save_figure(figure, tmp_path / "figure.png", [])).convert("RGB")
        exact = io.BytesIO()
        with plt.rc_context(HOUSE_STYLE):
            figure.savefig(exact, format="png", dpi=150, facecolor="white")
        difference = np.asarray(saved).astype(int) - np.asarray(Image.open(exact).convert("RGB")).astype(int)
        assert np.abs(difference).max() <= 24
        assert saved.getpixel((0, 0)) == (255, 255, 255)


class TestOrder:
    def test_each_baseline_is_followed_by_what_is_compared_with_it(self) -> None:
        assert arrange(["fer-adam", "sgd", "adam", "fer-sgd", "adam"]) == ["adam", "fer-adam", "sgd", "fer-sgd"]
        assert arrange([*USERS, "sgd"]) == [*USERS, "sgd"]

    def test_all_figures_of_a_study_list_its_algorithms_in_one_order(self) -> None:
        study = ("sgd", "flipping-sgd", "fer-sgd", "adam", "fer-adam", "flipping-adam")  # not the table's order
        comparisons = [Comparison("mnist-mlp", name, ALGORITHMS[name].baseline) for name in study[5:0:-1]]
        comparisons = [comparison for comparison in comparisons if comparison.baseline]
        evidence = metric_evidence(FRAME, "test_accuracy", comparisons)
        measured = make_measurements({(c.algorithm, c.baseline): 1.02 for c in comparisons})
        ratios = compare_overhead(RunData(FRAME, measured), limit=1.05, comparisons=comparisons).evidence
        sgd, adam = "Baseline: SGD", "Baseline: Adam"
        grouped = [sgd, LABELS["flipping-sgd"], LABELS["fer-sgd"], adam, LABELS["fer-adam"], LABELS["flipping-adam"]]
        for figure, names in (
            (plots.final_accuracy(FRAME, labels=LABELS, algorithms=study), [LABELS[name] for name in study]),
            (plots.paired_differences(evidence, labels=LABELS, algorithms=study), grouped),
            (plots.overhead(ratios, limit=1.05, labels=LABELS, algorithms=study), grouped),
        ):
            assert row_names(figure.axes[0]) == names
        rows = plots.learning_curves(CURVES, labels=LABELS, algorithms=study)
        names = [axis.get_ylabel().replace("\n", " ") for axis in rows.axes[::2]]
        assert names == [LABELS[name] for name in study if ALGORITHMS[name].baseline]


class TestManyAlgorithms:
    def test_few_share_a_panel_and_more_have_a_row_each(self) -> None:
        few = plots.learning_curves(renamed(CURVES, MANY[:MAX_LINES]), labels=LABELS)
        assert [len(axis.lines) for axis in few.axes] == [MAX_LINES] * 2
        many = plots.learning_curves(renamed(CURVES, MANY[: MAX_LINES + 1]), labels=LABELS)
        baselines = [name for name in MANY[: MAX_LINES + 1] if ALGORITHMS[name].baseline is None]
        assert baselines
        assert len(many.axes) == 2 * (MAX_LINES + 1 - len(baselines))
        assert [text.get_text() for text in many.legends[0].get_texts()] == [
            *(LABELS[name] for name in baselines),
            "the other algorithms",
        ]

    def test_a_row_shows_its_algorithm_before_its_baseline_and_the_others(self) -> None:
        names = ["sgd", "fer-sgd", "flipping-sgd", "localized-static", "localized-dynamic", "localized-random"]
        axis = plots.learning_curves(renamed(CURVES, names), labels=LABELS).axes[0]
        *others, baseline, own = axis.lines
        styles = make_styles(names)
        assert len(others) == 4
        assert to_hex(baseline.get_color()) == to_hex(styles["sgd"].color)
        assert (to_hex(own.get_color()), own.get_marker()) == (styles["fer-sgd"].color, styles["fer-sgd"].marker)

    def test_what_was_not_run_says_so_in_its_row(self) -> None:
        curves = renamed(CURVES, ("fer-sgd", *MANY[:7]))
        curves = curves[(curves["task"] == "mnist-mlp") | (curves["algorithm"] != "fer-sgd")]
        figure = plots.learning_curves(curves, labels=LABELS)
        absent = [index for index, axis in enumerate(figure.axes) if [t.get_text() for t in axis.texts] == ["not run"]]
        assert len(absent) == 1
        assert not figure.axes[absent[0]].lines

    @pytest.mark.slow
    def test_twenty_five_algorithms_are_readable(self) -> None:
        frame, curves = (renamed(data[data["task"] == "mnist-mlp"], MANY) for data in (FRAME, CURVES))
        assert len(set(frame["algorithm"])) == 25
        for figure in (
            plots.learning_curves(curves, labels=LABELS),
            plots.accuracy_over_time(curves, labels=LABELS),
            plots.final_accuracy(frame, labels=LABELS),
        ):
            texts = drawn_texts(figure)
            assert text_problems(figure, texts) == []
            shown = " ".join(text.get_text().replace("\n", " ") for text in texts)
            for name in MANY:
                assert LABELS.get(name, name) in shown


TOPICS: dict[str, list[ShortClaim]] = {
    "FER": [
        ("beats SGD and Adam", "not supported", "coursework"),
        ("costs 5 % at most", "not supported", "coursework"),
        ("fewer flipping errors", "inconclusive", "paper"),
        ("negligible overhead", "not supported", "paper"),
        ("generalizes better", "pending", "paper"),
    ],
    "Gradient correction": [
        ("20 % fewer epochs", "not supported", "paper"),
        ("more accurate than Adam", "not supported", "coursework"),
        ("8 % more time per epoch", "not supported", "coursework"),
        ("worth its cost", "not supported", "control"),
    ],
    "Forward signal propagation": [
        ("biologically plausible", "not supported", "paper"),
        ("less time than backpropagation", "not supported", "paper"),
        ("less memory", "supported", "paper"),
        ("close to backpropagation", "not supported", "paper"),
        ("trains the hidden layers", "supported", "control"),
    ],
    "Localized learning": [(f"claim number {n} of many", "supported", "control") for n in range(11)],
    "muTransfer": [
        ("best rate stays with width", "supported", "paper"),
        ("wider is never worse", "inconclusive", "paper"),
        ("tuning narrow is cheaper", "supported", "paper"),
    ],
}


class TestVerdicts:
    @pytest.mark.slow
    @pytest.mark.parametrize("times", [1, 3])
    def test_every_claim_is_readable(self, times: int) -> None:
        topics = {f"{topic} {time}": claims for time in range(times) for topic, claims in TOPICS.items()}
        figure = plots.verdicts(topics)
        texts = drawn_texts(figure)
        assert text_problems(figure, texts) == []
        assert figure.get_size_inches()[0] == 6.5
        assert figure.get_size_inches()[1] <= 3.6 * times
        words = [text.get_text() for text in texts]
        for claims in TOPICS.values():
            for claim, _, source in claims:
                assert words.count(claim) == times
                assert source in words
        assert min(text.get_fontsize() for text in texts) >= 8

    def test_color_and_shape_tell_the_verdict_and_the_legend_counts(self) -> None:
        figure = plots.verdicts(TOPICS)
        disks = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
        assert len(disks) == 28 + 4
        filled = [to_hex(disk.get_markerfacecolor()) for disk in disks]
        assert len(set(filled[:28])) == 4
        symbols = [line for line in figure.axes[0].lines if str(line.get_marker()) not in ("o", "None")]
        assert len(symbols) == 28 + 4 - 2  # nothing stands on what is pending
        words = [text.get_text() for text in drawn_texts(figure)]
        assert words[-4:] == ["15 supported", "10 not supported", "2 inconclusive", "1 pending"]

    def test_short_claims_stand_in_more_columns(self) -> None:
        short: dict[str, list[ShortClaim]] = {"Topic": [("faster", "supported", "") for _ in range(6)]}
        long: dict[str, list[ShortClaim]] = {"Topic": [("faster " * 8, "supported", "paper") for _ in range(6)]}
        assert len({text.get_position()[0] for text in drawn_texts(plots.verdicts(short))[1:-1]}) == 3
        assert plots.verdicts(long).get_size_inches()[1] > plots.verdicts(short).get_size_inches()[1]

    def test_what_cannot_be_drawn_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="at least one claim, got none"):
            plots.verdicts({"FER": []})
        with pytest.raises(ValueError, match=r"'is fast' must be one of supported, .*, got 'maybe'"):
            plots.verdicts({"FER": [("is fast", "maybe", "paper")]})  # type: ignore[list-item]
        with pytest.raises(ValueError, match="must fit a line next to the topics' titles, got 'words"):
            plots.verdicts({"FER": [("words " * 30, "supported", "paper")]})

    @pytest.mark.slow
    def test_the_same_verdicts_give_the_same_bytes(self, tmp_path: Path) -> None:
        first, second = (
            plots.save_figure(plots.verdicts(TOPICS), tmp_path / name / "a.png", []).read_bytes() for name in "ab"
        )
        assert first == second
        assert plt.get_fignums() == []


def test_a_caption_ends_in_its_note() -> None:
    figure = StudyFigure("test accuracy (3 runs)", plt.figure, (), note="Mean (n = 3 seeds).")
    assert figure.full_caption == "Test accuracy (3 runs). Mean (n = 3 seeds)."
    assert StudyFigure("test accuracy", plt.figure, ()).full_caption == "Test accuracy."

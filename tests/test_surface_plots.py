"""The drawings of the toolbox notebooks: what they show, and that the same input gives the same bytes."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import pytest

from advanced_optimizers.experiments.demonstrations.surfaces import SURFACES
from advanced_optimizers.experiments.demonstrations.trajectories import DRAWN_RATES, Trajectory, descend_all
from advanced_optimizers.experiments.report.figures import plots, surface_plots
from advanced_optimizers.experiments.report.figures.line_plots import Panel, line_panels
from tests.figure_texts import text_problems


@pytest.fixture(scope="module")
def ways() -> dict[str, Trajectory]:
    return descend_all(SURFACES["bumps"], DRAWN_RATES["bumps"], 60)


def test_each_optimizer_has_a_panel_and_a_legend_says_what_the_marks_mean(ways: dict[str, Trajectory]) -> None:
    figure = surface_plots.ways(SURFACES["bumps"], ways)
    assert len(figure.axes) == 8
    titles = [axis.get_title(loc="left") for axis in figure.axes[:7]]
    assert titles[0] == "GD, lr 0.1\nends 2.54 away"
    assert all(title.startswith(f"{name}, lr ") for title, name in zip(titles, ways, strict=True))
    legend = figure.axes[7].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["start", "minimum", "late steps dark"]
    assert text_problems(figure) == []
    assert plt.get_fignums() == []


def test_no_two_optimizers_share_color_or_dash(ways: dict[str, Trajectory]) -> None:
    looks = list(surface_plots.looks(list(ways)).values())
    assert len({str(look["color"]) for look in looks}) == len({str(look["linestyle"]) for look in looks}) == 7
    with pytest.raises(ValueError, match="names must be at most 7, got 8"):
        surface_plots.looks(list("abcdefgh"))


def test_distances_share_an_axis_of_steps(ways: dict[str, Trajectory]) -> None:
    figure = surface_plots.distances({"Bumps": ways, "Again": ways})
    assert len(figure.axes) == 2
    assert figure.axes[0].get_yscale() == "log"
    assert len(figure.axes[0].lines) == 7
    assert text_problems(figure) == []


def test_the_animation_is_small_needs_no_script_and_moves_everyone(ways: dict[str, Trajectory]) -> None:
    svg = surface_plots.animation(SURFACES["bumps"], ways, steps=40)
    assert len(svg) < 300_000
    text = svg.decode()
    ElementTree.fromstring(text)  # well-formed
    assert "script" not in text
    moves = re.findall(r'<animateTransform [^>]*values="([^"]+)"', text)
    assert [len(move.split(";")) for move in moves] == [41] * 7
    assert all(f">{name}</text>" in text for name in ways)
    for x, y in re.findall(r"([\d.-]+) ([\d.-]+)", ";".join(moves)):
        assert 0 <= float(x) <= 560
        assert 0 <= float(y) <= 380


def test_drawings_are_the_same_bytes_twice(ways: dict[str, Trajectory], tmp_path: Path) -> None:
    assert surface_plots.animation(SURFACES["bumps"], ways) == surface_plots.animation(SURFACES["bumps"], ways)
    files = [
        plots.save_figure(surface_plots.ways(SURFACES["bumps"], ways), tmp_path / f"{n}.png", []) for n in range(2)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_panels_of_lines() -> None:
    panel = Panel(
        title="Title",
        series={"law": ([1, 2, 4], [1, 0.5, 0.25]), "seen": ([1, 2], [0.9, 0.6])},
        xlabel="x",
        ylabel="y",
        log_x=True,
        points=["seen"],
        marked=(0.5,),
    )
    figure = line_panels(panel, panel, panel)
    assert len(figure.axes) == 3
    assert [axis.get_legend() is None for axis in figure.axes] == [False, True, True], "the same curves need no second"
    axis = figure.axes[0]
    assert axis.get_xscale() == "log"
    assert [line.get_linestyle() for line in axis.lines][:2] == ["-", "None"]
    assert len(axis.lines) == 3
    assert text_problems(figure) == []

"""Panels of curves with a legend each: the drawings of demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from matplotlib.figure import Figure

from advanced_optimizers.experiments.report.figures.panels import panel_grid
from advanced_optimizers.experiments.report.figures.style import WIDTH, wrapped
from advanced_optimizers.experiments.report.figures.surface_plots import looks

# x and y of a curve: sequences or tensors.
Curve: TypeAlias = tuple[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        title: Its title.
        series: x and y of each curve, by what the legend calls it; at most seven.
        xlabel: What x is.
        ylabel: What y is.
        log_x: Whether x is logarithmic.
        log_y: Whether y is logarithmic.
        points: The curves that are drawn as points instead of lines: measurements beside their law, for example.
        marked: Values of y at which a thin line is drawn.
        below: Whether the legend is below the panel, for curves that leave no room for it inside.
    """

    title: str
    series: Mapping[str, Curve]
    xlabel: str
    ylabel: str
    log_x: bool = False
    log_y: bool = False
    points: Sequence[str] = ()
    marked: Sequence[float] = field(default=())
    below: bool = False


def line_panels(*panels: Panel) -> Figure:
    """Up to two panels in a row; one curve needs no legend, nor do the same curves as in the panel before."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    explained: list[str] = []
    entries = max((len(panel.series) for panel in panels if panel.below), default=0)
    with panel_grid(len(panels), columns, (WIDTH, 0.2 + (2.7 + 0.2 * entries) * rows)) as (figure, axes):
        for panel, axis in zip(panels, axes, strict=True):
            for name, look in looks(list(panel.series)).items():
                x, y = panel.series[name]
                as_points = {"linestyle": "", "marker": "o", "color": look["color"]}
                axis.plot(x, y, label=wrapped(name, 30), **(as_points if name in panel.points else look))
            for value in panel.marked:
                axis.axhline(value, linewidth=0.8, color="#666666", zorder=0)
            axis.set_xscale("log" if panel.log_x else "linear")
            axis.set_yscale("log" if panel.log_y else "linear")
            axis.set_title(wrapped(panel.title, 76 // columns), loc="left")
            axis.set_xlabel(panel.xlabel)
            axis.set_ylabel(wrapped(panel.ylabel, 34))
            if len(panel.series) > 1 and list(panel.series) != explained:
                place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.0, -0.2)} if panel.below else {}
                axis.legend(frameon=False, handlelength=2.6, **place)
                explained = list(panel.series)
    return figure

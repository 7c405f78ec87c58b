"""The ways of optimizers over a surface: side by side, as distances over the steps, and in motion."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType
from PIL import Image

from advanced_optimizers.experiments.demonstrations.surfaces import Surface
from advanced_optimizers.experiments.demonstrations.trajectories import Trajectory
from advanced_optimizers.experiments.report.figures.panels import house_figure, label_columns, panel_grid
from advanced_optimizers.experiments.report.figures.style import (
    BLACK,
    BLUE,
    DPI,
    GREEN,
    HOUSE_STYLE,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    WIDTH,
)

COLORS = (BLACK, BLUE, SKY, ORANGE, PURPLE, GREEN, VERMILLION)
LINES: tuple[LineStyleType, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1)))
_LEVELS = 12
_FLOOR = 1e-3  # added to the height over the minimum before its logarithm is taken
_MIN_DISTANCE = 1e-6  # the lowest distance drawn


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A color and a dash for each name, so that no two differ by color alone.

    Raises:
        ValueError: There are more names than there are looks.
    """
    if len(names) > len(COLORS):
        raise ValueError(f"names must be at most {len(COLORS)}, got {len(names)}")
    return {name: {"color": COLORS[i], "linestyle": LINES[i]} for i, name in enumerate(names)}


def ways(surface: Surface, trajectories: Mapping[str, Trajectory]) -> Figure:
    """One panel per optimizer: contours, its way from faint to dark, a ring at the start, a star at each minimum.

    Args:
        surface: What they descend.
        trajectories: Their ways, by name; at most seven.
    """
    styles, grid = looks(list(trajectories)), _heights(surface)
    with panel_grid(len(trajectories) + 1, 4, (WIDTH, 3.6), sharex=True, sharey=True) as (figure, axes):
        for (name, way), axis in zip(trajectories.items(), axes, strict=False):
            _draw_contours(axis, surface, grid)
            _draw_way(axis, way, styles[name]["color"])
            axis.set_title(f"{name}, lr {way.lr:g}\n{_distance_words(way)}", loc="left")
        legend = axes[len(trajectories)]
        legend.axis("off")
        marks: dict[str, dict[str, Any]] = {
            "start": {"marker": "o", "markerfacecolor": "none", "linestyle": "", "color": BLACK},
            "minimum": {"marker": "*", "markersize": 9, "linestyle": "", "color": BLACK},
            "late steps dark": {"color": BLACK},
        }
        handles = [Line2D([], [], label=words, **mark) for words, mark in marks.items()]
        legend.legend(handles=handles, loc="center left", frameon=False)
    return figure


def distances(panels: Mapping[str, Mapping[str, Trajectory]]) -> Figure:
    """The distance to the nearest minimum by step, one panel per surface and one line per optimizer.

    Args:
        panels: By the panels' titles, ways by the optimizers' names, the same in every panel.
    """
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    styles, columns = looks(names), min(2, len(panels))
    rows = -(-len(panels) // columns)
    with panel_grid(len(panels), columns, (WIDTH, 0.7 + 2.0 * rows)) as (figure, axes):
        for (title, panel), axis in zip(panels.items(), axes, strict=True):
            for name, way in panel.items():
                axis.plot(way.distances.clamp(min=_MIN_DISTANCE).numpy(), **styles[name])
            axis.set_yscale("log")
            axis.set_title(title, loc="left")
        label_columns(axes, columns, "Step, and gradient evaluations")
        figure.supylabel("Distance to the nearest minimum")
        handles = [Line2D([], [], label=name, **style) for name, style in styles.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def animation(
    surface: Surface, trajectories: Mapping[str, Trajectory], *, steps: int = 120, seconds: float = 12.0
) -> bytes:
    """All optimizers in motion over one surface, as an SVG file that needs no script and repeats for ever.

    Where SVG is not animated, it shows the ways and where the optimizers are at the beginning.

    Args:
        surface: What they descend.
        trajectories: Their ways, by name; at most seven.
        steps: How many steps are shown.
        seconds: How long one round takes.
    """
    background, place, (width, height) = _background(surface)
    styles = looks(list(trajectories))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<image width="{width}" height="{height}" href="data:image/png;base64,{b64encode(background).decode()}"/>',
    ]
    for row, (name, way) in enumerate(trajectories.items()):
        points = [place(x, y) for x, y in way.path[: steps + 1].tolist()]
        parts += _moving(name, points, styles[name]["color"], seconds, label_at=(width - 92, 26 + 17 * row))
    return "\n".join([*parts, "</svg>\n"]).encode()


def _moving(
    name: str, points: Sequence[tuple[float, float]], color: str, seconds: float, label_at: tuple[float, float]
) -> Iterator[str]:
    """A faint way, a ball that runs along it, and the ball's name in the legend."""
    words = [f"{x:.1f} {y:.1f}" for x, y in points]
    x, y = label_at
    yield f'<polyline points="{" ".join(words)}" fill="none" stroke="{color}" stroke-opacity="0.4"/>'
    yield f'<circle cx="{x - 8}" cy="{y - 4}" r="5" fill="{color}"/>'
    yield f'<text x="{x}" y="{y}" font-size="12">{escape(name)}</text>'
    yield f'<g transform="translate({words[0]})"><circle r="6" fill="{color}" stroke="white"/>'
    yield f'<text x="8" y="-6" font-size="11" fill="{color}">{escape(name)}</text>'
    yield (
        f'<animateTransform attributeName="transform" type="translate" values="{";".join(words)}" '
        f'dur="{seconds:g}s" calcMode="linear" repeatCount="indefinite"/></g>'
    )


def _background(surface: Surface) -> tuple[bytes, Any, tuple[int, int]]:
    """The contours as a PNG; a function from a point of the plane to a place in the picture; and its size in pixels."""
    with house_figure((5.6, 3.8)) as figure:
        axis = figure.subplots()
        _draw_contours(axis, surface, _heights(surface))
        axis.plot(*surface.start, "o", markerfacecolor="none", color=BLACK)
    scale = 100 / DPI
    size = (round(figure.get_figwidth() * 100), round(figure.get_figheight() * 100))
    drawn = io.BytesIO()
    with plt.rc_context(HOUSE_STYLE):
        figure.savefig(drawn, format="png", dpi=100, metadata={"Software": None}, facecolor="white")
    left, right, bottom, top = surface.box

    def place(x: float, y: float) -> tuple[float, float]:
        inside = (min(max(x, left), right), min(max(y, bottom), top))
        across, up = axis.transData.transform(inside)
        return float(across) * scale, size[1] - float(up) * scale

    small = io.BytesIO()
    palette = Image.open(drawn).convert("RGB").quantize(64, method=Image.Quantize.MAXCOVERAGE, kmeans=2)
    palette.save(small, format="png", optimize=True)
    return small.getvalue(), place, size


def _heights(surface: Surface) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y, and the logarithm of the height over the minimum."""
    x, y, f = surface.grid()
    return x.numpy(), y.numpy(), np.log10((f - surface.lowest).numpy() + _FLOOR)


def _draw_contours(axis: Axes, surface: Surface, grid: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, y, heights = grid
    axis.contourf(x, y, heights, levels=_LEVELS, cmap="Greys", alpha=0.25)
    for minimum in surface.minima:
        axis.plot(*minimum, marker="*", markersize=9, color=BLACK, linestyle="", zorder=5)
    left, right, bottom, top = surface.box
    axis.set_xlim(left, right)
    axis.set_ylim(bottom, top)
    axis.grid(visible=False)


def _draw_way(axis: Axes, way: Trajectory, color: str) -> None:
    points = way.path.numpy()
    pieces = np.stack([points[:-1], points[1:]], axis=1)
    fading = np.linspace(0.4, 1.0, len(pieces))
    red, green, blue, _ = to_rgba(color)
    shades = [(red, green, blue, float(share)) for share in fading]
    axis.add_collection(LineCollection(list(pieces), colors=shades, linewidths=1.5))
    axis.plot(*points[0], "o", markerfacecolor="none", color=BLACK, markersize=6)
    axis.scatter(points[1:, 0], points[1:, 1], s=3, c=shades, linewidths=0)


def _distance_words(way: Trajectory) -> str:
    final = way.final_distance
    return f"ends {final:.2f} away" if final >= 0.005 else "arrives"

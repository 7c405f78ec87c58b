"""The kinds of figures, one function each, and how a figure is saved.

Each function returns a matplotlib Figure that fits the report's text width. A figure has neither a title nor a note in
it: what its marks and bands mean, and n, belongs to its caption, and ``notes`` has a function for each kind.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from advanced_optimizers.experiments.records.writing import write_if_changed
from advanced_optimizers.experiments.report.figures.curve_plots import (
    accuracy_over_time,
    learning_curves,
    over_sizes,
    trade_off,
)
from advanced_optimizers.experiments.report.figures.row_plots import final_accuracy, overhead, paired_differences
from advanced_optimizers.experiments.report.figures.style import DPI, HOUSE_STYLE
from advanced_optimizers.experiments.report.figures.verdict_plot import ShortClaim, verdicts

__all__ = [
    "ShortClaim",
    "accuracy_over_time",
    "final_accuracy",
    "learning_curves",
    "over_sizes",
    "overhead",
    "paired_differences",
    "render_sidecar",
    "save_figure",
    "trade_off",
    "verdicts",
]


def picture_of(figure: Figure, dpi: int = DPI, colors: int = 256) -> bytes:
    """A figure as PNG, always the same bytes for the same figure.

    Args:
        figure: The figure.
        dpi: Pixels per inch.
        colors: How many colors the picture has at most, in [2, 256].
    """
    drawn = io.BytesIO()
    with plt.rc_context(HOUSE_STYLE):
        figure.savefig(drawn, format="png", dpi=dpi, metadata={"Software": None}, facecolor="white")
    # The figures have few colors; a palette makes the files, and the notebooks that hold them, several times smaller.
    # This method keeps rare colors, such as those of a line, where the default one would blend them with others.
    palette = Image.open(drawn).convert("RGB").quantize(colors, method=Image.Quantize.MAXCOVERAGE, kmeans=2)
    picture = io.BytesIO()
    palette.save(picture, format="png", optimize=True, dpi=(dpi, dpi))
    return picture.getvalue()


def save_figure(figure: Figure, path: Path, run_ids: Iterable[str], sources: Iterable[str] = ()) -> Path:
    """Writes a figure as PNG and, next to it, a JSON file that lists what it was drawn from, as far as they changed.

    The same records give the same bytes: nothing in the file says when it was drawn.

    Args:
        figure: The figure.
        path: The PNG's path; its folder is created.
        run_ids: The runs that the figure shows.
        sources: Other files that it shows, relative to the project's root.

    Returns:
        The PNG's path.
    """
    write_if_changed(path, picture_of(figure))
    write_if_changed(path.with_suffix(".json"), render_sidecar(path.name, run_ids, sources))
    return path


def render_sidecar(name: str, run_ids: Iterable[str], sources: Iterable[str] = ()) -> str:
    """The text of the JSON file next to a figure."""
    content = {"figure": name, "run_ids": sorted(set(run_ids)), "sources": sorted(set(sources))}
    return json.dumps(content, indent=1) + "\n"

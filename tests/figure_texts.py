"""Which texts of a figure are cut at its edge or cover one another, as they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from unittest import mock

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

_TOLERANCE = 1.0  # pixels


def drawn_texts(figure: Figure) -> list[Text]:
    """The texts that reach the picture: neither empty nor hidden, nor a tick's outside of its axis."""
    texts: list[Text] = []
    draw = Text.draw

    def record(text: Text, renderer: object) -> None:
        if text.get_visible() and text.get_text().strip():
            texts.append(text)
        draw(text, renderer)

    with mock.patch.object(Text, "draw", record):
        FigureCanvasAgg(figure).draw()
    return list(dict.fromkeys(texts))


def text_problems(figure: Figure, texts: Sequence[Text] | None = None) -> list[str]:
    """One line for each text that leaves the figure, and for each pair that overlaps.

    Args:
        figure: The figure.
        texts: Its :func:`drawn_texts`, where they are known already: drawing takes seconds.
    """
    texts = drawn_texts(figure) if texts is None else texts
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = {text: text.get_window_extent(renderer).padded(-_TOLERANCE / 2) for text in texts}
    page = figure.bbox
    cut = [
        f"{text.get_text()!r} is cut"
        for text, box in boxes.items()
        if box.x0 < page.x0 or box.y0 < page.y0 or box.x1 > page.x1 or box.y1 > page.y1
    ]
    # The title of a column ends in an empty line, which leaves room for the title of the row below it.
    solid = [text for text in boxes if not text.get_text().endswith("\n")]
    x0, y0, x1, y1 = np.array([boxes[text].extents for text in solid]).reshape(-1, 4).T
    overlap = (x0[:, None] <= x1) & (x0 <= x1[:, None]) & (y0[:, None] <= y1) & (y0 <= y1[:, None])
    pairs = np.argwhere(np.triu(overlap, k=1))
    return cut + [f"{solid[i].get_text()!r} and {solid[j].get_text()!r} overlap" for i, j in pairs]

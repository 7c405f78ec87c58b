"""The badge of a comparison: one small picture with its verdict, made offline."""

from __future__ import annotations

from html import escape

from advanced_optimizers.experiments.compare.comparison import Comparison

_COLORS = {"better": "#2e7d32", "worse": "#b3261e", "equivalent": "#1565c0", "undecided": "#6b6b6b"}
_OTHER = "#6b6b6b"
_LETTER = 6.6  # pixels of a letter, about


def badge(comparison: Comparison) -> str:
    """An SVG such as ``vs AdamW | equivalent, 4x3``: the first contender against the first anchor."""
    ruling, protocol = comparison.judged[0], comparison.plan.protocol
    left = f"{comparison.names[ruling.comparison.algorithm]} vs {comparison.names[ruling.comparison.baseline]}"
    right = f"{ruling.verdict}, {protocol.tunings}x{protocol.runs} on {comparison.shown_task}"
    first, second = (round(_LETTER * len(text)) + 14 for text in (left, right))
    color = _COLORS.get(ruling.verdict, _OTHER)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{first + second}" height="20" role="img" '
        f'aria-label="{escape(left)}: {escape(right)}">'
        f'<rect width="{first}" height="20" fill="#444"/>'
        f'<rect x="{first}" width="{second}" height="20" fill="{color}"/>'
        '<g fill="#fff" font-family="DejaVu Sans,Verdana,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{first / 2}" y="14">{escape(left)}</text>'
        f'<text x="{first + second / 2}" y="14">{escape(right)}</text></g></svg>\n'
    )

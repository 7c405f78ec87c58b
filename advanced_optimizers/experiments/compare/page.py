from __future__ import annotations


def render(comparison) -> str:
    return "<html></html>"

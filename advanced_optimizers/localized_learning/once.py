"""Warnings that are given once per optimizer, whatever Python's warning filter says."""

from __future__ import annotations

import warnings


class Once:
    """Gives each kind of warning once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def warn(self, kind: str, text: str) -> None:
        """Warns with ``text``, unless there was a warning of this kind."""
        if kind not in self._given:
            self._given.add(kind)
            warnings.warn(text, UserWarning, stacklevel=2)

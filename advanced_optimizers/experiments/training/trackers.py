"""Trackers: measurements that follow, in every run, which test samples are classified correctly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor


class Tracker(Protocol):
    """A measurement per epoch that remembers earlier epochs."""

    def update(self, correct: Tensor) -> dict[str, float]:
        """Updates the measurement with one epoch.

        Args:
            correct: Whether each test sample is classified correctly, bool (M,).

        Returns:
            The epoch's values, one per curve.
        """

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that the values of the next epoch depend on."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""


# By name, functions that build a tracker for a number of test samples. Topics register theirs; every run uses all.
TRACKERS: dict[str, Callable[[int], Tracker]] = {}

"""What is followed over the epochs of every run: which test samples are classified correctly, and since when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor


class Tracker(Protocol):
    """A measurement that remembers earlier epochs."""

    def update(self, correct: Tensor) -> dict[str, float]:
        """Takes in an epoch.

        Args:
            correct: Whether each test sample is classified correctly, bool (M,).

        Returns:
            The epoch's values, one curve each.
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch's values depend on."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""


# By name, what makes a tracker for a number of test samples. Topics register theirs; every run has all of them.
TRACKERS: dict[str, Callable[[int], Tracker]] = {}

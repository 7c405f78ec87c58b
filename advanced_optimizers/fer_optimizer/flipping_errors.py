"""The flipping errors that the published FER is meant to reduce: how many samples are wrong that were once right.

Deng, Xiao, Long, Zhang: Reducing Flipping Errors in Deep Neural Networks, AAAI 2022, arXiv 2203.08390, section 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from advanced_optimizers._checks import check_integer

__all__ = ["FlippingErrors", "FlippingTracker"]


class FlippingErrors(NamedTuple):
    """Flipping errors after an epoch.

    Attributes:
        wrongly_flipped: WFS, the number of samples that are wrong now and were right at the end of an earlier epoch.
        relative: RFE, their share of the samples that are wrong now, in [0, 1]; nan if none is wrong.
        absolute: Their share of all samples, in [0, 1].
    """

    wrongly_flipped: int
    relative: float
    absolute: float


class FlippingTracker:
    """Counts flipping errors over a fixed set of samples, epoch by epoch (Deng et al., AAAI 2022, section 1).

    Args:
        num_samples: Size of the set, usually the test set.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range, or what is given or loaded is that of another number of samples.

    Example:
        >>> import torch
        >>> from advanced_optimizers import FlippingTracker
        >>> tracker = FlippingTracker(3)
        >>> tracker.update(torch.tensor([True, True, False])).wrongly_flipped
        0
        >>> tracker.update(torch.tensor([False, True, False]))
        FlippingErrors(wrongly_flipped=1, relative=0.5, absolute=0.3333333333333333)
    """

    def __init__(self, num_samples: int) -> None:
        self.ever_correct = torch.zeros(check_integer("num_samples", num_samples, low=1), dtype=torch.bool)

    def update(self, correct: Tensor) -> FlippingErrors:
        """Returns the flipping errors at the end of an epoch.

        Args:
            correct: Which samples are classified correctly now, (num_samples,) bool, in the same order every time.
        """
        self._check("correct", correct)
        correct = correct.cpu()
        flipped = int((self.ever_correct & ~correct).sum())
        wrong = int((~correct).sum())
        self.ever_correct |= correct
        return FlippingErrors(flipped, flipped / wrong if wrong else math.nan, flipped / len(correct))

    def state_dict(self) -> dict[str, Tensor]:
        """Which samples have ever been classified correctly."""
        return {"ever_correct": self.ever_correct.clone()}

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restores what :meth:`state_dict` returned; the state of another number of samples is refused."""
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be what state_dict() returned, got {state_dict!r}")
        if "ever_correct" not in state_dict:
            raise ValueError(f"state_dict must have the key 'ever_correct', got the keys {list(state_dict)}")
        self._check("ever_correct", state_dict["ever_correct"])
        self.ever_correct = state_dict["ever_correct"].detach().cpu().clone()

    def _check(self, name: str, value: Tensor) -> None:
        shape = tuple(self.ever_correct.shape)
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a bool tensor of shape {shape}, got {value!r}")
        if value.shape != shape or value.dtype != torch.bool:
            raise ValueError(f"{name} must be bool of shape {shape}, got {value.dtype} of shape {tuple(value.shape)}")

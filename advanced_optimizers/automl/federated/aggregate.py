"""The server's part: the weighted mean of models, buffers included."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# Parameters and buffers by name.
State = Mapping[str, Tensor]


class WeightedMean:
    r"""The mean of states that come one after the other, so that no more than one of them need be held.

    .. math::
        n \leftarrow n + n_k, \qquad \bar w \leftarrow \bar w + \frac{n_k}{n} (w_k - \bar w)

    which is :math:`\sum_k n_k w_k / \sum_k n_k` in the end. It is computed on the CPU in float64, and equals each state
    exactly where they are all the same. Integers, such as BatchNorm's count of batches, have no mean: their maximum is
    taken.

    Args:
        like: A state with the names and shapes that all must have.
    """

    def __init__(self, like: State) -> None:
        self.like = like
        self.total = 0.0
        self._mean: dict[str, Tensor] = {}

    def add(self, state: State, weight: float) -> None:
        """Adds a state, which :func:`check_state` has found to be right; one of weight 0 changes nothing.

        Args:
            state: Parameters and buffers by name.
            weight: Its weight, >= 0.
        """
        if weight == 0:
            return
        self.total += weight
        share = weight / self.total
        for name, tensor in state.items():
            own = tensor.detach().cpu()
            if own.is_floating_point() or own.is_complex():
                own = own.to(torch.complex128 if own.is_complex() else torch.float64)
                self._mean[name] = own.clone() if name not in self._mean else self._mean[name].lerp_(own, share)
            else:
                self._mean[name] = own.clone() if name not in self._mean else torch.maximum(self._mean[name], own)

    @property
    def state(self) -> dict[str, Tensor]:
        """The mean so far, in the types of ``like``."""
        return {name: mean.to(self.like[name].dtype) for name, mean in self._mean.items()}


def check_state(owner: str, state: Mapping[str, Any], like: State) -> None:
    """Raises a ValueError unless a state has the names, shapes and finite values that it must have.

    Args:
        owner: Whose state it is, such as ``client_models[2]``.
        state: Parameters and buffers by name.
        like: The global model's.
    """
    missing, unknown = like.keys() - state.keys(), state.keys() - like.keys()
    for names, word in ((missing, "without"), (unknown, "with another,")):
        if names:
            raise ValueError(
                f"{owner} must have the global model's parameters and buffers, got it {word} {min(names)!r}"
            )
    for name, tensor in state.items():
        if tensor.shape != like[name].shape:
            raise ValueError(
                f"{owner} must have {name!r} of shape {tuple(like[name].shape)} as the global model, got "
                f"{tuple(tensor.shape)}"
            )
        if not torch.isfinite(tensor).all():
            value = "NaN" if torch.isnan(tensor).any() else "infinity"
            raise ValueError(f"{owner} must be finite, got {value} in {name!r}")


def check_weights(weights: Any, count: int) -> list[float]:
    """One weight per model, none negative, not all zero."""
    try:
        found = [float(weight) for weight in weights]
    except (TypeError, ValueError) as error:
        raise TypeError(f"weights must be numbers, one per client, got {weights!r}") from error
    if len(found) != count:
        raise ValueError(f"weights must be {count} numbers, one per client model, got {len(found)}")
    if any(weight < 0 or not math.isfinite(weight) for weight in found) or sum(found) == 0:
        raise ValueError(f"weights must be finite and >= 0, and not all 0, got {weights!r}")
    return found

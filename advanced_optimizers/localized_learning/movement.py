"""How far the weights of a block move in an epoch, by which the dynamic transition decides."""

from __future__ import annotations

import math
from collections.abc import Iterable, MutableMapping
from typing import Any, TypeAlias

from torch import Tensor

from advanced_optimizers.localized_learning.blocks import Block

State: TypeAlias = MutableMapping[Any, Any]


def weights_of(block: Block) -> list[Tensor]:
    """The weights of its layers, each once."""
    return list(dict.fromkeys(layer.weight for layer in block.layers))


def remember(state: State, blocks: Iterable[Block]) -> None:
    """Keeps a copy of each weight in the optimizer's state, unless there is one from earlier in this epoch."""
    for weight in (weight for block in blocks for weight in weights_of(block)):
        if "epoch_start" not in state[weight]:
            state[weight]["epoch_start"] = weight.detach().clone()


def record(state: State, block: Block, lr_sum: float, updates: list[float]) -> None:
    r"""Appends :math:`u_e`, the block's movement since :func:`remember` in units of the learning rate.

    An epoch without a step, or with learning rate 0, is not measured.

    Args:
        state: The optimizer's state, from which the copies are removed.
        block: The block.
        lr_sum: The sum of the learning rates of the epoch's steps.
        updates: The movements of the earlier epochs.
    """
    pairs = [(w, state[w].pop("epoch_start")) for w in weights_of(block) if "epoch_start" in state.get(w, {})]
    for weight in (weight for weight, _ in pairs if not state[weight]):
        del state[weight]
    if pairs and lr_sum > 0.0:
        updates.append(math.hypot(*(float((w - start).norm()) for w, start in pairs)) / lr_sum)

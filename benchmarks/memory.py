"""How much memory an optimizer takes, counted tensor by tensor."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class AllocationTrace(TorchDispatchMode):
    """Counts the bytes of all tensors that operations inside it create, until they are freed.

    Attributes:
        live: Bytes that are held now.
        peak: The most bytes that were held at any time, since the start or since this attribute was set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {_address(tensor) for tensor in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            address = _address(tensor)
            if address not in given and address not in self._known:  # neither a view nor an update in place
                self._hold(address, tensor.untyped_storage())
        return result

    def _hold(self, address: int, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._known.add(address)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, address, size)

    def _release(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.live -= size


def state_bytes(optimizer: Any) -> int:
    """Returns the bytes of the tensors in a checkpoint of the optimizer; what several share counts once, as in it."""
    return sum({_address(t): t.untyped_storage().nbytes() for t in _tensors(optimizer.state_dict())}.values())


def _tensors(tree: Any) -> list[Tensor]:
    """The tensors in containers within containers; torch's general function takes longer than the steps."""
    if isinstance(tree, Tensor):
        return [tree]
    branches = tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list | tuple | deque) else ()
    return [tensor for branch in branches for tensor in _tensors(branch)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()

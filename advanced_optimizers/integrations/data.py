"""Samples with their indices, which a loss needs that remembers each of them."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

__all__ = ["IndexedDataset"]


class IndexedDataset(Dataset[Any]):
    """A dataset whose samples also hold their index, for :class:`~advanced_optimizers.FlippingErrorReduction`.

    A sample that is a dict gets the index under a key; a tuple or list gets it at the end, and becomes a tuple. The
    index is an ``int``, of which the usual collate functions make an int64 tensor. Wrap the dataset before it is
    shuffled, repeated or split over processes: a sampler passes the index on, whatever its order.

    Args:
        dataset: Has a length and gives a sample, a tuple, a list or a dict, for each index.
        key: The index's key in a sample that is a dict.

    Raises:
        TypeError: ``dataset`` has no length or no samples by index, or ``key`` is not a string. When a sample is read:
            it is neither a dict, a tuple nor a list.
        ValueError: When a sample is read: it already has the key.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from advanced_optimizers.integrations import IndexedDataset
        >>> dataset = IndexedDataset(TensorDataset(torch.zeros(3, 2), torch.tensor([4, 5, 6])))
        >>> dataset[1]
        (tensor([0., 0.]), tensor(5), 1)
    """

    def __init__(self, dataset: Any, key: str = "index") -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise TypeError(f"dataset must have a length and samples by index, got {dataset!r}")
        if not isinstance(key, str):
            raise TypeError(f"key must be a string such as 'index', got {key!r}")
        self.dataset = dataset
        self.key = key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        sample = self.dataset[index]
        position = range(len(self))[index]  # a negative index counts from the end
        if isinstance(sample, dict):
            if self.key in sample:
                raise ValueError(f"key must not be one of the sample's own, {sorted(sample)}, got {self.key!r}")
            return {**sample, self.key: position}
        if isinstance(sample, tuple | list):
            return (*sample, position)
        raise TypeError(f"dataset must give tuples, lists or dicts, got a sample of type {type(sample).__name__}")

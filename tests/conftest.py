"""Settings that hold for every test: no network, one thread, repeatable random numbers."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Libraries that some tests load phone home unless told not to; tests use no network.
os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_USAGE_STATS_ENABLED="0", WANDB_MODE="offline", HF_HUB_OFFLINE="1")

import pytest
import torch
from hypothesis import settings

import tests.light_imports  # noqa: F401
from advanced_optimizers.experiments.records import machine
from advanced_optimizers.experiments.records.store import RunStore

torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("repeatable")


def pytest_collection_finish() -> None:
    """All that was imported and collected stays until the end: no later search for garbage looks through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _what_stays_is_not_searched() -> Iterator[None]:
    """Nor through what a module's tests imported; a search through all of it takes seconds, and there are hundreds."""
    yield
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Libraries that count what they leak see it go."""
    gc.unfreeze()


@pytest.fixture
def rng() -> torch.Generator:
    """The one source of random numbers in a test."""
    return torch.Generator().manual_seed(0)


_ON_GPU = torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Layers draw their first weights from the global generator."""
    # Not torch.manual_seed: for a device that is not there, it writes the whole stack down, thousands of times.
    torch.default_generator.manual_seed(0)
    if _ON_GPU:
        torch.cuda.manual_seed_all(0)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No test loses its power, and thousands of records are saved. test_writing observes that they are synced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # a descriptor that is none is still an error
        yield


@pytest.fixture(autouse=True, scope="module")
def _sources() -> Iterator[None]:
    """The topic files that a module's tests load are part of the code that runs are bound to: not in other modules."""
    before = list(machine.FURTHER_SOURCES)
    yield
    machine.FURTHER_SOURCES[:] = before


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "results" / "runs")


@pytest.fixture
def other_store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "other" / "runs")

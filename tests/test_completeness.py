"""Completeness is checked, not remembered: an optimizer needs an export, contract row, benchmark row and topic.

A room's optimizers are found in its modules, whether anybody exports them or not.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

import advanced_optimizers
from advanced_optimizers.experiments.studies.registry import TOPICS
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from benchmarks.epochs import comparisons
from benchmarks.step import available_contenders
from tests.cases import CASES
from tests.learner_helpers import make_learner
from tests.test_rooms import PACKAGE, imported, rooms

# It has no optimizer, and Flower has an environment of its own.
FLOWER = "advanced_optimizers.automl.federated.flower"


def modules_of(room: str) -> Iterator[ModuleType]:
    package = importlib.import_module(f"advanced_optimizers.{room}")
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if found.name == FLOWER:
            continue
        yield importlib.import_module(found.name)


def optimizers_of(module: ModuleType) -> set[type]:
    return {
        value
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, Optimizer)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }


OPTIMIZERS = {
    optimizer: room for room in rooms(PACKAGE) for module in modules_of(room) for optimizer in optimizers_of(module)
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.__name__)
every_room = pytest.mark.parametrize("room", rooms(PACKAGE))


def nested(optimizer: Any) -> Iterator[type]:
    """The types of an optimizer and of what it wraps."""
    while isinstance(optimizer, Optimizer):
        yield type(optimizer)
        optimizer = getattr(optimizer, "base", None)


def trained_by(algorithm: str) -> set[type]:
    learner = make_learner(algorithm)
    return set(nested(getattr(learner, "optimizer", None)))


@pytest.fixture(scope="module")
def trained() -> dict[str, set[type]]:
    """By algorithm of the table, the optimizers that its learner trains with."""
    # An algorithm that needs a network of its own is not built here; its room is checked below. Neither is one of a
    # package that is not installed, which is not of a room.
    found = {}
    for name in ALGORITHMS:
        try:
            found[name] = trained_by(name)
        except (ValueError, ModuleNotFoundError):
            continue
    return found


@pytest.fixture(scope="module")
def benchmarked(trained: dict[str, set[type]]) -> set[type]:
    params = [nn.Parameter(torch.ones(2, 2))]
    of_steps = {kind for contender in available_contenders() for kind in nested(contender.build(params))}
    of_epochs = {kind for _, name, _ in comparisons("full") for kind in trained.get(name, set())}
    return of_steps | of_epochs


def test_optimizers_are_found() -> None:
    assert {"FEROptimizer", "LocalizedOptimizer", "SigPropOptimizer"} <= {o.__name__ for o in OPTIMIZERS}


@every_optimizer
def test_an_optimizer_is_exported_by_its_room_and_at_the_root(optimizer: type) -> None:
    room = importlib.import_module(f"advanced_optimizers.{OPTIMIZERS[optimizer]}")
    for package in (room, advanced_optimizers):
        assert optimizer.__name__ in package.__all__, f"{package.__name__} does not export {optimizer.__name__}"
        assert getattr(package, optimizer.__name__) is optimizer


@every_optimizer
def test_an_optimizer_has_a_row_in_the_contract(optimizer: type) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    under_test = {type(case.optimize(model, **case.plain)) for case in CASES}
    assert optimizer in under_test, f"no row of tests/cases_*.py builds {optimizer.__name__}"


@every_optimizer
def test_an_optimizer_has_a_row_in_a_benchmark(optimizer: type, benchmarked: set[type]) -> None:
    assert optimizer in benchmarked, f"neither benchmarks/step.py nor a timed algorithm runs {optimizer.__name__}"


@every_optimizer
def test_an_optimizer_has_an_algorithm_of_a_topic(optimizer: type, trained: dict[str, set[type]]) -> None:
    assert any(optimizer in kinds for kinds in trained.values()), f"no algorithm trains with {optimizer.__name__}"


@every_room
def test_a_room_has_a_topic(room: str) -> None:
    topics = [PACKAGE / "experiments" / "studies" / f"{name}.py" for name in TOPICS]
    of_room = [path.stem for path in topics if any(target[0] == room for _, target in imported(path, PACKAGE))]
    assert of_room, f"no topic of experiments/studies uses advanced_optimizers.{room}"


@pytest.mark.parametrize("room", [room for room in rooms(PACKAGE) if room != "automl"])  # its names need it in the path
def test_what_a_room_makes_public_is_at_the_root(room: str) -> None:
    public = importlib.import_module(f"advanced_optimizers.{room}").__all__
    assert set(public) <= set(advanced_optimizers.__all__)

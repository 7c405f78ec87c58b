"""What twenty steps find out: dead hyperparameters, tensors that stand still, modes, closures, and misspellings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from advanced_optimizers.experiments.compare.bench import Bench
from advanced_optimizers.experiments.compare.code import CompareError, read_code
from advanced_optimizers.experiments.compare.needs import with_needs
from advanced_optimizers.experiments.compare.own import OwnOptimizer, own_optimizer
from advanced_optimizers.experiments.compare.preflight import Preflight, check_packages, preflight
from advanced_optimizers.experiments.compare.protocol import find_task
from advanced_optimizers.experiments.compare.spaces import parse_spaces
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from tests.compare_helpers import tables as tables
from tests.compare_helpers import write_mine


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(replace(find_task("digits").tasks[0], width=0.05))


def prepared(folder: Path, name: str, bench: Bench, **options: Any) -> OwnOptimizer:
    code = read_code(str(write_mine(folder)), name)
    own = own_optimizer(code, "adamw", **{"spaces": {}, "fixed": {}, "schedule": None, **options})
    return with_needs(own, bench)


def flown(folder: Path, name: str, bench: Bench, **options: Any) -> Preflight:
    own = prepared(folder, name, bench, **options)
    own()
    try:
        return preflight(own.name, bench, own)
    finally:
        del ALGORITHMS[own.name]


def test_a_good_optimizer_passes(tmp_path: Path, bench: Bench) -> None:
    found = flown(tmp_path, "Copy", bench)
    assert found.warnings == ()
    assert found.losses[1] < found.losses[0]
    assert found.words.startswith("ok: 20 steps")


def test_a_factory_gets_the_model_and_the_steps(tmp_path: Path, bench: Bench) -> None:
    assert flown(tmp_path, "factory", bench).warnings == ()


def test_a_dead_weight_decay_is_named(tmp_path: Path, bench: Bench) -> None:
    (warning,) = flown(tmp_path, "DeadDecay", bench).warnings
    assert warning.startswith("weight_decay = 0.01 of DeadDecay changes nothing")


def test_a_dead_hyperparameter_that_is_tuned_or_given_stops(tmp_path: Path, bench: Bench) -> None:
    spaces = parse_spaces(["lr=1e-4..1e-2", "weight_decay=1e-3..1"])
    for options in ({"spaces": spaces}, {"fixed": {"weight_decay": 0.1}}):
        with pytest.raises(CompareError, match="weight_decay of DeadDecay changes nothing: 20 steps"):
            flown(tmp_path, "DeadDecay", bench, **options)


def test_a_misspelled_keyword_is_named(tmp_path: Path, bench: Bench) -> None:
    with pytest.raises(CompareError, match=r"got the hyperparameter 'weigth_decay', which its signature does not name"):
        prepared(tmp_path, "Copy", bench, fixed={"weigth_decay": 0.1})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Half", r"Half.step\(\) did not move 2 of 4 tensors \(3.weight, 3.bias\)"),
        ("NoEval", r"NoEval has train\(\) but no eval\(\)"),
        ("Hiding", r"Hiding hides train\(\) and eval\(\) of the Modes in its attribute inner"),
        ("Failing", "step 1 of Failing raised RuntimeError: no"),
    ],
)
def test_what_cannot_be_compared_stops(tmp_path: Path, bench: Bench, name: str, message: str) -> None:
    with pytest.raises(CompareError, match=message):
        flown(tmp_path, name, bench)


def test_tensors_may_stand_still_on_purpose(tmp_path: Path, bench: Bench) -> None:
    path = write_mine(tmp_path)
    path.write_text(path.read_text() + "\nHalf.ALLOW_FROZEN = True\n")
    own = own_optimizer(read_code(str(path), "Half"), "adamw", spaces={}, fixed={}, schedule=None)
    own()
    assert preflight(own.name, bench, own).losses
    del ALGORITHMS[own.name]


def test_modes_and_closures_are_found_out(tmp_path: Path, bench: Bench) -> None:
    modes = prepared(tmp_path, "Modes", bench)
    assert (modes.closure, modes.schedule) == ("no", "constant")
    sharp = prepared(tmp_path, "sharpness", bench)
    assert (sharp.closure, sharp.passes) == ("moved", 2)
    newton = prepared(tmp_path, "lbfgs", bench)
    assert (newton.closure, newton.passes) == ("first", 2)


def test_algorithms_of_the_table_are_tried_too(bench: Bench) -> None:
    assert preflight("adamw", bench).warnings == ()


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALGORITHMS, "lion", replace(ALGORITHMS["lion"], package="not_there"))
    with pytest.raises(CompareError, match=r"lion needs the package not_there.*advanced-optimizers\[peers\]"):
        check_packages(("adamw", "lion"))

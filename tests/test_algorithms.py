"""The table of algorithms: ranges, options, and what is rejected."""

from __future__ import annotations

import math
from typing import Any

import pytest

from advanced_optimizers.experiments.training.algorithms import ALGORITHMS, get_algorithm
from tests.experiments_helpers import hyperparameters_of
from tests.learner_helpers import every_kind, make_batches, make_learner


@every_kind
def test_an_algorithm_searches_its_baselines_learning_rates(algorithm: str) -> None:
    baseline = ALGORITHMS[algorithm].baseline
    if baseline is None:
        assert set(ALGORITHMS[algorithm].search_space) == {"lr"}
        return
    assert ALGORITHMS[baseline].baseline is None
    assert ALGORITHMS[algorithm].search_space["lr"] == ALGORITHMS[baseline].search_space["lr"]


@every_kind
def test_ranges_are_ranges(algorithm: str) -> None:
    for space in ALGORITHMS[algorithm].search_space.values():
        assert space.low < space.high
        assert space.low > 0 or not space.log
        assert not space.integer or (space.low == int(space.low) and space.high == int(space.high))


@every_kind
@pytest.mark.parametrize("end", ["low", "high"])
def test_both_ends_of_every_range_are_accepted(algorithm: str, end: str) -> None:
    point = {
        name: int(getattr(space, end)) if space.integer else getattr(space, end)
        for name, space in ALGORITHMS[algorithm].search_space.items()
    }
    learner = make_learner(algorithm, hyperparameters=point)
    learner.start_epoch(1)
    assert math.isfinite(learner.step(next(iter(make_batches()))).loss)


def accepted(algorithm: str, option: str) -> list[tuple[Any, Any]]:
    """Values of an option that the algorithm accepts, each with its learner."""
    found = []
    for value in (0.5, 0.25, 0, 1, 2):
        given = {**hyperparameters_of(algorithm), option: value}
        try:
            found.append((value, make_learner(algorithm, hyperparameters=given)))
        except (TypeError, ValueError):
            continue
    return found


def holds(learner: Any, option: str, value: Any) -> bool:
    """Whether a part of the learner (its optimizer, its loss, ...) has the option with that value."""
    parts = [part for part in vars(learner).values() if hasattr(part, "__dict__")]
    groups = [group for part in parts for group in getattr(part, "param_groups", [])]
    return any(part.get(option) == value for part in [*map(vars, parts), *groups])


@every_kind
def test_every_option_reaches_the_algorithm(algorithm: str) -> None:
    for option in ALGORITHMS[algorithm].options:
        learners = accepted(algorithm, option)
        assert len(learners) > 1, f"{algorithm} accepts fewer than two of the values tried for {option}"
        assert all(holds(learner, option, value) for value, learner in learners)


def test_labels_are_distinct() -> None:
    assert len({algorithm.label for algorithm in ALGORITHMS.values()}) == len(ALGORITHMS)


@pytest.mark.parametrize(
    ("name", "near"), [("sdg", "sgd"), ("fer_sgd", "fer-sgd"), ("flipping", "flipping-sgd"), ("qqqq", "sgd or adam")]
)
def test_the_error_for_an_unknown_algorithm_suggests_the_nearest_names(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}'; did you mean .*{near}"):
        get_algorithm(name)
    with pytest.raises(ValueError, match=f"'{name}'"):
        make_learner(name, hyperparameters={"lr": 0.1})


@every_kind
def test_a_missing_learning_rate_is_named(algorithm: str) -> None:
    own = {name: value for name, value in hyperparameters_of(algorithm).items() if name != "lr"}
    with pytest.raises(ValueError, match="hyperparameters must include lr"):
        make_learner(algorithm, hyperparameters=own)


@every_kind
def test_an_unknown_hyperparameter_is_named_with_the_known_ones(algorithm: str) -> None:
    with pytest.raises(ValueError, match="color") as caught:
        make_learner(algorithm, hyperparameters={**hyperparameters_of(algorithm), "color": 1.0})
    known = [*ALGORITHMS[algorithm].search_space, *ALGORITHMS[algorithm].options]
    assert all(name in str(caught.value) for name in [algorithm, *known])


@pytest.mark.parametrize(
    ("algorithm", "name", "value", "error"),
    [
        ("sgd", "lr", -0.1, ValueError),
        ("adam", "lr", "fast", TypeError),
        ("fer-sgd", "lr", -0.1, ValueError),
        ("fer-sgd", "fer_weight", -1.0, ValueError),
        ("fer-sgd", "memory_size", 0, ValueError),
        ("fer-adam", "memory_size", 2.5, TypeError),
        ("fer-adam", "consistency_threshold", 1.5, ValueError),
        ("flipping-sgd", "mu", -0.5, ValueError),
        ("flipping-sgd", "gamma", 1.5, ValueError),
        ("flipping-adam", "temperature", 0.0, ValueError),
        ("flipping-adam", "init_epochs", -1, ValueError),
    ],
)
def test_a_bad_hyperparameter_is_named(algorithm: str, name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=name) as caught:
        make_learner(algorithm, hyperparameters={**hyperparameters_of(algorithm), name: value})
    assert repr(value) in str(caught.value)


@every_kind
def test_controls_are_those_that_their_label_calls_so(algorithm: str) -> None:
    assert ALGORITHMS[algorithm].control == ALGORITHMS[algorithm].label.endswith("(control)")

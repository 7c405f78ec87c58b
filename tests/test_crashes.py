"""A run or a study that is killed, wherever that happens, ends whole and bit for bit as if it had never been."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crashes import die_at_every_point, kill_at_random, write_results
from tests.experiments_helpers import make_config, other_process

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def results_of(function: Callable[..., list[str]], folder: Path, *arguments: Any) -> list[str]:
    """What a function returns in a process of its own."""
    result = folder / "result.txt"
    with other_process(write_results, function, result, *arguments) as process:
        process.join(600)
        assert process.exitcode == 0
    return result.read_text().splitlines()


def test_a_run_may_die_at_any_point_of_what_it_writes(tmp_path: Path) -> None:
    config = make_config(algorithm="fer-sgd", label_noise=0.2, data_fraction=0.3)
    results = results_of(die_at_every_point, tmp_path, config, tmp_path)
    assert len(results) >= 20
    assert [line for line in results if not line.endswith(": right")] == []


@pytest.mark.slow
def test_a_study_may_be_killed_at_any_time(tmp_path: Path) -> None:
    configs = [make_config(seed=seed, epochs=4, data_fraction=0.3) for seed in range(4)]
    results = results_of(kill_at_random, tmp_path, configs, tmp_path, 50)
    assert [line for line in results if not line.endswith(": right")] == []
    assert sum(int(re.findall(r"\d+", line)[0]) for line in results) >= 50

"""The claims about muTransfer: what decides them, on made-up sweeps."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.comparisons import RunData
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.studies.registry import decide_claims
from advanced_optimizers.experiments.studies.zero_shot_transfer import MUP, STANDARD, SWEEP_SEEDS, TASKS, TOPIC, UNITS
from tests.synthetic_sweeps import FULL, Places, every_config, make_record, make_records, place_of
from tests.synthetic_sweeps import transferring as transfers

STAYS, WIDER, COST = (claim.key for claim in TOPIC.claims)


def decided(records: list[RunRecord]) -> dict[str, str]:
    return {
        key: verdict.status for key, verdict in decide_claims("mutransfer", RunData(records_frame(records))).items()
    }


def moved(algorithm: str, octaves: float, spread: float = 0.0) -> Places:
    """Like ``transferring``, but one algorithm's optimum moves at 4096 units on MNIST, differently for each seed."""

    def places(task: str, name: str, units: int, seed: int) -> float:
        usual = transfers(task, name, units, seed)
        if (task, name, units) != ("mnist-mlp3", algorithm, 4096):
            return usual
        return transfers(task, name, 512, seed) + octaves + spread * (seed - 1)

    return places


def test_the_claims_are_about_what_the_sweep_trains() -> None:
    assert tuple(task.name for task in FULL.tasks) == TASKS
    assert all(tuple(task.units) == UNITS for task in FULL.tasks)
    assert len(FULL.seeds) >= SWEEP_SEEDS


def test_a_sweep_that_transfers_supports_all_of_them() -> None:
    verdicts = decide_claims("mutransfer", RunData(records_frame(make_records())))
    assert {key: verdict.status for key, verdict in verdicts.items()} == dict.fromkeys(
        (STAYS, WIDER, COST), "supported"
    )
    assert "-2.70" in verdicts[STAYS].sentence
    assert "Of 12 doublings, 12 have a lower loss and 0 a higher one" in verdicts[WIDER].sentence
    assert "tuned at 64 units" in verdicts[COST].sentence


@pytest.mark.parametrize(
    ("algorithm", "octaves", "spread", "status"),
    [
        (MUP, 0.0, 0.2, "supported"),
        (MUP, 1.3, 0.02, "not supported"),
        (MUP, 0.7, 0.3, "inconclusive"),  # the interval extends beyond one octave
        (STANDARD, -1.6, 0.05, "supported"),
        (STANDARD, -1.1, 0.05, "inconclusive"),  # both may stay, and then muP has nothing to fix
    ],
)
def test_what_decides_whether_the_optimum_stays(algorithm: str, octaves: float, spread: float, status: str) -> None:
    verdict = decide_claims(
        "mutransfer", RunData(records_frame(make_records(places=moved(algorithm, octaves, spread))))
    )[STAYS]
    assert verdict.status == status
    assert "end of its sweep" not in verdict.sentence


@pytest.mark.parametrize(("factor", "status"), [(1.9, "supported"), (2.1, "not supported")])
def test_one_wider_network_that_is_worse_refutes_the_claim(factor: float, status: str) -> None:
    def lowest(units: int) -> float:
        return math.log(factor) if units == 4096 else 0.0

    records = [make_record(c, place_of(c, transfers), lowest(round(64 * c.width))) for c in every_config()]
    assert decided(records)[WIDER] == status


def test_wider_networks_that_are_better_in_some_seeds_decide_nothing() -> None:
    records = [
        make_record(c, place_of(c, transfers), (c.seed - 1) * math.log(4) if c.width == 64 else 0.0)
        for c in every_config()
    ]
    assert decided(records)[WIDER] == "inconclusive"


def test_an_optimum_at_the_end_of_its_sweep_decides_nothing() -> None:
    verdict = decide_claims("mutransfer", RunData(records_frame(make_records(places=moved(MUP, 3.0)))))[STAYS]
    assert verdict.status == "inconclusive"
    assert "at an end of its sweep: SGD, muP on MNIST, three-layer MLP at 4096 units" in verdict.sentence


@pytest.mark.parametrize("missing", ["a seed", "a run", "everything"])
def test_missing_runs_leave_the_claims_pending(missing: str) -> None:
    def kept(record: RunRecord) -> bool:
        config = record.config
        of_sweep = config.width == 64 and config.algorithm == MUP and config.seed == 2
        return missing != "everything" and not (
            of_sweep and (missing == "a seed" or config.hyperparameters["lr"] == 2.0**-6)
        )

    statuses = decided([record for record in make_records() if kept(record)])
    assert statuses == dict.fromkeys((STAYS, WIDER, COST), "pending")
    assert decide_claims("mutransfer", RunData(pd.DataFrame()))[STAYS].sentence.startswith("Waiting for runs: 16 of 16")

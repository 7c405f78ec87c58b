"""The claims about muTransfer: what decides them, on made-up sweeps."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
import pytest

from advanced_optimizers.experiments.evidence.comparisons import RunData, Verdict
from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.frames import records_frame
from advanced_optimizers.experiments.records.record import RunRecord
from advanced_optimizers.experiments.studies.claims.zero_shot_transfer import (
    BASE_UNITS,
    CLAIMS,
    LOSS_FACTOR,
    MUP,
    RADICAL_LIMIT,
    STANDARD,
    SWEEP_SEEDS,
    TASKS,
    UNITS,
)
from advanced_optimizers.experiments.studies.registry import decide_claims
from tests.synthetic_sweeps import FULL, Places, diverged, every_config, make_record, make_records, place_of
from tests.synthetic_sweeps import transferring as transfers

STAYS, WIDER, COST, RADICAL = (claim.key for claim in CLAIMS)
MNIST = "mnist-mlp3"


def verdicts(records: list[RunRecord]) -> dict[str, Verdict]:
    return decide_claims("mutransfer", RunData(records_frame(records)))


def decided(records: list[RunRecord]) -> dict[str, str]:
    return {key: verdict.status for key, verdict in verdicts(records).items()}


def of_task(verdict: Verdict, task: str) -> str:
    """What a sentence says of one task: the text between its name and the next one's."""
    start = {"mnist-mlp3": "MNIST, three-layer MLP: ", "cifar10-jpeg-mlp3": "cifar10-jpeg, three-layer MLP: "}
    return verdict.sentence.split(start[task])[1].split(" cifar10-jpeg, three-layer")[0]


def rate_of(config: RunConfig) -> float:
    """log2 of the learning rate."""
    return math.log2(float(config.hyperparameters["lr"]))


def moved(algorithm: str, octaves: float, spread: float = 0.0, task: str = MNIST) -> Places:
    """Like ``transferring``, but one algorithm's optimum moves at 4096 units on one task, differently for each seed."""

    def places(name: str, other: str, units: int, seed: int) -> float:
        usual = transfers(name, other, units, seed)
        if (name, other, units) != (task, algorithm, 4096):
            return usual
        return transfers(name, other, BASE_UNITS, seed) + octaves + spread * (seed - 1)

    return places


def test_the_claims_are_about_what_the_sweep_trains() -> None:
    assert tuple(task.name for task in FULL.tasks) == TASKS
    assert all(tuple(task.units) == UNITS for task in FULL.tasks)
    assert len(FULL.seeds) >= SWEEP_SEEDS


def test_rules_that_were_changed_say_what_they_had_said() -> None:
    former = {claim.key: claim.former for claim in CLAIMS if claim.former is not None}
    assert set(former) == {STAYS, COST}
    assert {rule.verdict for rule in former.values()} == {"supported"}


def test_a_sweep_that_transfers_supports_all_of_them() -> None:
    found = verdicts(make_records())
    assert {key: verdict.status for key, verdict in found.items()} == dict.fromkeys(
        (STAYS, WIDER, COST, RADICAL), "supported"
    )
    assert "-2.70" in found[STAYS].sentence
    assert found[STAYS].sentence.count("supported.") == len(TASKS)
    assert "Of 6 doublings, 6 have a lower loss and 0 a higher one" in found[WIDER].sentence
    assert "Tuned at 64 units, trained once at 4096" in found[COST].sentence


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
    verdict = verdicts(make_records(places=moved(algorithm, octaves, spread)))[STAYS]
    assert verdict.status == status
    assert of_task(verdict, MNIST).startswith(f"{status}.")
    assert of_task(verdict, "cifar10-jpeg-mlp3").startswith("supported.")
    assert "end of its sweep" not in verdict.sentence


def test_a_move_at_the_narrow_widths_counts() -> None:
    """The rule that was replaced began at 512 units and did not see it."""

    def places(task: str, algorithm: str, units: int, seed: int) -> float:
        return transfers(task, algorithm, units, seed) - (1.5 if (task, units) == (MNIST, 64) else 0.0)

    verdict = verdicts(make_records(places=places))[STAYS]
    assert verdict.status == "not supported"
    assert "muP at most +1.50" in of_task(verdict, MNIST)


@pytest.mark.parametrize(("ceiling", "status"), [(-2.5, "supported"), (-2.0, "inconclusive")])
def test_an_optimum_next_to_a_diverged_rate_is_known_up_to_it_only(ceiling: float, status: str) -> None:
    """The largest rate that trains is 2 ** -3 on MNIST from 256 units on; below, the optimum is at 2 ** -3.2."""

    def made(config: RunConfig) -> RunRecord:
        if config.task != MNIST or config.algorithm != MUP:
            return make_record(config, place_of(config, transfers))
        if config.width < 4:
            return make_record(config, -3.2)
        return diverged(config) if rate_of(config) >= ceiling else make_record(config, -1.5)

    tried = [config for config in every_config() if config.algorithm != MUP or not -3 < rate_of(config) < ceiling]
    verdict = verdicts([made(config) for config in tried])[STAYS]
    assert of_task(verdict, MNIST).startswith(f"{status}.")
    assert f"+0.20 to +{ceiling + 3.2:.2f}" in verdict.sentence


@pytest.mark.parametrize(("factor", "status"), [(1.9, "supported"), (2.1, "not supported")])
def test_one_wider_network_that_is_worse_refutes_the_claim(factor: float, status: str) -> None:
    def lowest(units: int) -> float:
        return math.log(factor) if units == 4096 else 0.0

    records = [make_record(c, place_of(c, transfers), lowest(round(64 * c.width))) for c in every_config()]
    assert decided(records)[WIDER] == status


def test_wider_networks_that_are_better_in_some_seeds_decide_nothing() -> None:
    records = [
        make_record(c, place_of(c, transfers), (c.seed % 3 - 1) * math.log(4) if c.width == 64 else 0.0)
        for c in every_config()
    ]
    assert decided(records)[WIDER] == "inconclusive"


def changed(change: Callable[[RunConfig], RunRecord | None]) -> list[RunRecord]:
    return [change(config) or make_record(config, place_of(config, transfers)) for config in every_config()]


def at_the_widest(config: RunConfig, exponent: float) -> bool:
    """Whether it is a run of muP on MNIST with 4096 units and this learning rate."""
    return (config.task, config.algorithm, config.width, rate_of(config)) == (MNIST, MUP, 64, exponent)


@pytest.mark.parametrize(
    ("worse", "status"),
    [(lambda seed: 1.05, "supported"), (lambda seed: 1.2, "not supported"), (lambda seed: 1.3**seed, "inconclusive")],
)
def test_a_transferred_rate_must_give_nearly_the_lowest_loss(worse: Callable[[int], float], status: str) -> None:
    """At the widest, 2 ** -3 is better by a factor than the rate that is best at the base."""

    def change(config: RunConfig) -> RunRecord | None:
        if not at_the_widest(config, -3):
            return None
        place = place_of(config, transfers)
        rates = (FULL.tasks[0].run(MUP, 4096, k, config.seed) for k in (-5, -4))
        transferred = min(make_record(rate, place).final["train_loss"] for rate in rates)
        own = make_record(config, place).final["train_loss"]
        return make_record(config, place, math.log(transferred / own / worse(config.seed)))

    found = verdicts(changed(change))
    assert of_task(found[COST], MNIST).startswith(f"{status}.")
    assert of_task(found[COST], "cifar10-jpeg-mlp3").startswith("supported.")
    assert found[COST].status == found[RADICAL].status == status


def test_a_transferred_rate_that_diverges_refutes_the_claim() -> None:
    def change(config: RunConfig) -> RunRecord | None:
        return diverged(config) if at_the_widest(config, -5) and config.seed == 0 else None

    verdict = verdicts(changed(change))[COST]
    assert "diverged (1 of 3) times its loss" in of_task(verdict, MNIST)
    assert verdict.status == "not supported"


def test_radically_is_less_time_still() -> None:
    """If a narrow run took an eighth of a wide one's time, seven of them and a wide one would be over a quarter."""
    records = [
        make_record(c, place_of(c, transfers), seconds=512 / 8 if c.width == 1 else None) for c in every_config()
    ]
    found = verdicts(records)
    assert RADICAL_LIMIT < (7 / 8 + 1) / 7
    assert (found[COST].status, found[RADICAL].status) == ("supported", "not supported")
    assert LOSS_FACTOR > 1


def test_an_optimum_at_the_end_of_its_sweep_decides_nothing() -> None:
    verdict = verdicts(make_records(places=moved(MUP, 3.0)))[STAYS]
    assert verdict.status == "inconclusive"
    assert "at an end of its sweep: SGD, muP at 4096 units" in of_task(verdict, MNIST)


@pytest.mark.parametrize("missing", ["a seed", "a run", "everything"])
def test_missing_runs_leave_the_claims_pending(missing: str) -> None:
    def kept(record: RunRecord) -> bool:
        config = record.config
        of_sweep = config.width == 64 and config.algorithm == MUP and config.seed == 2
        return missing != "everything" and not (
            of_sweep and (missing == "a seed" or config.hyperparameters["lr"] == 2.0**-6)
        )

    statuses = decided([record for record in make_records() if kept(record)])
    assert statuses == dict.fromkeys((STAYS, WIDER, COST, RADICAL), "pending")
    empty = decide_claims("mutransfer", RunData(pd.DataFrame()))[STAYS].sentence
    assert "Waiting for runs: 14 of 14 sweeps" in empty


def test_a_task_that_refutes_a_claim_does_so_while_the_other_waits() -> None:
    records = [r for r in make_records(places=moved(MUP, 1.3)) if r.config.task == MNIST]
    verdict = verdicts(records)[STAYS]
    assert verdict.status == "not supported"
    assert of_task(verdict, "cifar10-jpeg-mlp3").startswith("pending.")

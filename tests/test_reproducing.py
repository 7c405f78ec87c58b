"""Training recorded runs again: what counts as the same, and that no record changes."""

from __future__ import annotations

import shutil

import pytest

from advanced_optimizers.experiments.records.config import RunConfig
from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies import reproducing
from advanced_optimizers.experiments.studies.reproducing import Reproduction, reproduce, summary
from advanced_optimizers.experiments.studies.running import recorded_configs, run_study
from advanced_optimizers.experiments.training.loop import train
from tests.experiments_helpers import TINY, edit_record, files_under, make_config, make_record


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """The tiny study, trained; tests work on copies."""
    store = RunStore(tmp_path_factory.mktemp("finished") / "runs")
    run_study(TINY, store, progress=False)
    return store


@pytest.fixture
def trained(store: RunStore, finished: RunStore) -> RunStore:
    shutil.copytree(finished.root, store.root)
    return store


def test_every_run_is_reproduced(trained: RunStore) -> None:
    before = files_under(trained.root.parent)
    reproductions = reproduce(TINY, trained, progress=False)
    assert [r.recorded.config for r in reproductions] == recorded_configs(TINY, trained) == TINY.configs(trained)
    assert all(r.identical and str(r).endswith(": identical") for r in reproductions)
    assert all(r.recorded.config == r.repeated.config for r in reproductions)
    assert files_under(trained.root.parent) == before


@pytest.mark.parametrize("curve", ["test_accuracy", "train_loss", "wrongly_flipped"])
def test_an_altered_curve_is_found(trained: RunStore, curve: str) -> None:
    altered, untouched = TINY.final_configs(trained)[:2]
    record = trained.load(altered)
    assert record is not None
    edit_record(trained, altered, **{curve: (record.final[curve] or 0.0) + 1e-9})
    only = [altered.run_id, untouched.run_id[:10]]
    found = {r.recorded.run_id: r for r in reproduce(TINY, trained, only=only, progress=False)}
    assert {run_id: r.identical for run_id, r in found.items()} == {altered.run_id: False, untouched.run_id: True}
    assert str(found[altered.run_id]).endswith(": DIFFERENT")
    assert all(part in str(found[altered.run_id]) for part in (altered.run_id, "digits-mlp", "sgd", "recorded"))


def test_an_unknown_run_id_is_refused(trained: RunStore) -> None:
    known = TINY.final_configs(trained)[0].run_id
    with pytest.raises(ValueError, match="no recorded run whose id begins with 'nothing'"):
        reproduce(TINY, trained, only=[known, "nothing"], progress=False)


def test_without_records_there_is_nothing_to_reproduce(store: RunStore) -> None:
    with pytest.raises(ValueError, match="has no recorded run in"):
        reproduce(TINY, store, progress=False)


def test_a_diverged_run_is_reproduced(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(hyperparameters={"lr": 1e30})
    monkeypatch.setattr(reproducing, "recorded_configs", lambda study, asked: [config])
    train(config, store)
    (reproduction,) = reproduce(TINY, store, progress=False)
    assert reproduction.recorded.status == reproduction.repeated.status == "diverged"
    assert reproduction.identical


def test_an_accuracy_that_was_not_measured_is_printed_as_none() -> None:
    record = make_record(make_config(), test_accuracy=None)
    assert "recorded none on A processor (capability unknown), repeated none on A processor (cap" in str(
        Reproduction(record, record)
    )


# --- On another machine ----------------------------------------------------------------------------------------------

INTEL = {"device_name": "Intel(R) Xeon(R) Processor"}
SPREAD = (0.9817, 0.9808, 0.9821, 0.9812, 0.9815)  # of the recorded seeds


def reproduction(
    after: float = 0.9820,
    changes: dict[str, object] | None = None,
    tolerance: float | None = 0.005,
    status: tuple[str, str] = ("completed", "completed"),
) -> Reproduction:
    config = make_config()
    recorded = make_record(config, status[0], test_accuracy=0.9817)
    repeated = make_record(config, status[1], test_accuracy=after)
    for record in (recorded, repeated):
        record.environment["cpu_capability"] = "AVX2"
    repeated.environment.update(INTEL if changes is None else changes)
    return Reproduction(recorded, repeated, tolerance)


def test_another_processor_is_named_and_judged_by_the_tolerance() -> None:
    again = reproduction()
    assert again.judgment == "within"
    assert "98.17 % on A processor (AVX2), repeated 98.20 % on Intel(R) Xeon(R) Processor (AVX2): " in str(again)
    assert str(again).endswith(": within 0.50 points")
    assert reproduction(after=0.97).judgment == "DIFFERENT"
    assert str(reproduction(after=0.97)).endswith(": DIFFERENT, not within 0.50 points")


@pytest.mark.parametrize("changes", [{}, {"numpy": "9.9"}, {"finished_at": "2030-01-01T00:00:00+00:00"}])
def test_on_the_records_own_processor_every_bit_counts(changes: dict[str, object]) -> None:
    again = reproduction(after=0.9817 + 1e-9, changes=changes)
    assert again.elsewhere == []
    assert again.judgment == "DIFFERENT"
    assert str(again).endswith(": DIFFERENT")


@pytest.mark.parametrize(
    "changes",
    [
        INTEL,
        {"cpu_capability": "AVX512"},
        {"torch": "9.9.0"},
        {"threads": 4},
        {"device": "cuda", "device_name": "A GPU"},
    ],
)
def test_whatever_rounds_differently_is_named(changes: dict[str, object]) -> None:
    again = reproduction(changes=changes)
    assert again.elsewhere == [
        name for name in ("device", "device_name", "cpu_capability", "torch", "threads") if name in changes
    ]
    assert again.judgment == "within"
    assert all(name in summary([again]) for name in changes)


def test_a_record_without_its_capability_may_be_from_another_processor_of_that_name() -> None:
    """``AMD EPYC`` with and without AVX-512 round differently."""
    again = reproduction(changes={})
    del again.recorded.environment["cpu_capability"]
    assert again.elsewhere == ["cpu_capability"]
    assert again.judgment == "within"
    assert "on A processor (capability unknown), repeated 98.20 % on A processor (AVX2): within" in str(again)


def test_an_accelerator_need_not_repeat_itself() -> None:
    again = reproduction(changes={})
    for record in (again.recorded, again.repeated):
        record.environment["device"] = "cuda"
    assert again.judgment == "within"


def test_the_same_bits_elsewhere_are_identical() -> None:
    assert reproduction(after=0.9817).judgment == "identical"


def test_divergence_elsewhere() -> None:
    assert reproduction(after=0.1, status=("diverged", "diverged")).judgment == "within"
    assert str(reproduction(after=0.1, status=("diverged", "diverged"))).endswith(": diverged again")
    for status in (("completed", "diverged"), ("diverged", "completed")):
        assert reproduction(status=status).judgment == "DIFFERENT"
        assert str(reproduction(status=status)).endswith(": DIFFERENT")


def test_without_enough_seeds_it_is_undecided_and_says_so() -> None:
    again = reproduction(tolerance=None)
    assert again.judgment == "undecided"
    assert str(again).endswith(": undecided, fewer than 5 seeds are recorded")
    assert "1 cannot be judged" in summary([again])


def test_without_an_accuracy_it_is_undecided_and_says_so() -> None:
    again = reproduction()
    again.repeated.final["test_accuracy"] = None
    assert str(again).endswith(": undecided, no accuracy was measured")


def test_the_summary_states_the_rule_only_where_it_was_needed() -> None:
    same = reproduction(after=0.9817)
    assert summary([same, same]) == "2 of 2 runs came back bit for bit"
    first, second = summary([same, reproduction(), reproduction(after=0.5)]).splitlines()
    assert first == "1 of 3 runs came back bit for bit"
    assert second.startswith("1 more came back within the tolerance, 1 are different, and 0 cannot be judged: ")
    assert "99 % interval of the difference between two seeds" in second


@pytest.mark.parametrize(
    ("seeds", "after", "judgment"), [(5, 0.9820, "within"), (5, 0.9770, "DIFFERENT"), (4, 0.9820, "undecided")]
)
def test_the_tolerance_is_that_of_the_recorded_seeds(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, seeds: int, after: float, judgment: str
) -> None:
    """``t(0.995, 4) = 4.604``, and the sample standard deviation of ``SPREAD`` is 0.000493."""
    configs = [make_config(seed=seed) for seed in range(seeds)]
    for config, accuracy in zip(configs, SPREAD, strict=False):
        store.save(make_record(config, test_accuracy=accuracy))
    store.save(make_record(make_config(seed=7), "diverged", test_accuracy=0.1))
    other = make_config(hyperparameters={"lr": 0.123}, seed=5)
    store.save(make_record(other, test_accuracy=0.5))

    def train_elsewhere(wanted: list[RunConfig], scratch: RunStore, *rest: object) -> None:
        for config in wanted:
            record = make_record(config, test_accuracy=after)
            record.environment.update(INTEL)
            scratch.save(record)

    monkeypatch.setattr(reproducing, "train_all", train_elsewhere)
    monkeypatch.setattr(reproducing, "recorded_configs", lambda study, asked: [*configs, make_config(seed=7), other])
    (again,) = reproduce(TINY, store, only=[configs[0].run_id], progress=False)
    assert again.judgment == judgment
    assert again.tolerance == (None if seeds < 5 else pytest.approx(4.604 * 0.000493 * 2**0.5, rel=2e-3))

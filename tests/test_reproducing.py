"""Training recorded runs again: what counts as the same, and that no record changes."""

from __future__ import annotations

import shutil

import pytest

from advanced_optimizers.experiments.records.store import RunStore
from advanced_optimizers.experiments.studies import reproducing
from advanced_optimizers.experiments.studies.reproducing import Reproduction, reproduce
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
    assert "recorded none, repeated none" in str(Reproduction(record, record))

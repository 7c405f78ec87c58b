"""The studies of learning to learn: rules on made-up runs, episodes, and every method once on digits and waves."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from advanced_optimizers.experiments.data.episodes import QUERIES, characters, draw_episodes
from advanced_optimizers.experiments.evidence.comparisons import Comparison, RunData
from advanced_optimizers.experiments.evidence.within_runs import compare_columns, compare_ratio
from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.studies import few_shot, meta_learning
from advanced_optimizers.experiments.studies.registry import CLAIMS, get_study
from advanced_optimizers.experiments.training.seeding import seed_everything

WAVES = "sinusoid-10-shot"
AGAINST = Comparison(WAVES, "maml", "pretraining")


def runs(columns: dict[str, float], seeds: int = 5, algorithms: tuple[str, ...] = ("maml",)) -> pd.DataFrame:
    """Runs whose columns have these means; a small scatter by seed that no two columns share."""
    return pd.DataFrame(
        {
            "run_id": f"{algorithm}-{seed}",
            "task": WAVES,
            "algorithm": algorithm,
            "label_noise": 0.0,
            "split": "test",
            "seed": seed,
            "status": "completed",
            **{name: mean + 0.01 * math.sin(seed + 7 * k) for k, (name, mean) in enumerate(columns.items())},
        }
        for algorithm in algorithms
        for seed in range(seeds)
    )


def ratio_of(own: float, base: float, seeds: int = 5) -> str:
    frame = pd.concat([runs({"mse_after_1": own}, seeds), runs({"mse_after_1": base}, seeds, ("pretraining",))])
    return compare_ratio(RunData(frame), metric="mse_after_1", limit=0.5, comparison=AGAINST).status


def test_a_ratio_below_its_limit_supports_and_one_above_refutes() -> None:
    assert ratio_of(1.0, 3.0) == "supported"
    assert ratio_of(2.0, 3.0) == "not supported"
    assert ratio_of(1.5, 3.0) == "inconclusive"
    assert ratio_of(1.0, 3.0, seeds=4) == "pending"


def columns_of(*means: float, seeds: int = 5) -> str:
    names = ("mse_after_1", "mse_after_5", "mse_after_10")
    frame = runs(dict(zip(names, means, strict=True)), seeds)
    verdict = compare_columns(RunData(frame), metrics=names, task=WAVES, algorithms=("maml",), margin=0.08)
    return verdict.status


def test_each_column_must_be_better_than_the_one_before() -> None:
    assert columns_of(3.0, 2.0, 1.0) == "supported"
    assert columns_of(3.0, 2.0, 2.5) == "not supported"
    assert columns_of(3.0, 2.0, 2.0) == "not supported"  # equivalent
    assert columns_of(3.0, 2.0, 1.0, seeds=4) == "pending"


def test_every_claim_waits_for_its_runs() -> None:
    found = [claim for claim in CLAIMS.values() if claim.study in ("meta-sinusoid", "meta-few-shot")]
    assert len(found) == 23
    none = runs({"mse_after_1": 1.0}, seeds=0)
    assert {claim.decide(RunData(none)).status for claim in found} == {"pending"}


def test_an_episode_has_distinct_classes_and_drawings() -> None:
    drawings = characters("digits").test
    assert characters("digits").train.shape[0] == drawings.shape[0] == 20  # five digits in four turns
    episodes = draw_episodes(3, drawings, few_shot.UNEVEN, torch.Generator().manual_seed(0))
    for k in range(3):
        assert len(set(episodes.classes[k].tolist())) == 5
        (support, own), (query, labels) = episodes.support(k, drawings), episodes.query(k, drawings)
        assert torch.bincount(own).tolist() == list(few_shot.UNEVEN)
        assert torch.bincount(labels).tolist() == [QUERIES] * 5
        assert support.shape[0] == 25
        flat = torch.cat((support, query)).flatten(1)
        for c in range(5):  # no query is among its class's examples
            rows = torch.cat((episodes.drawings[k, c, : few_shot.UNEVEN[c]], episodes.drawings[k, c, -QUERIES:]))
            assert len(set(rows.tolist())) == len(rows)
        assert flat.dtype == torch.uint8


def once(run: KindConfig) -> dict[str, float]:
    seed_everything(run.seed)
    return dict(list(run.measure("cpu"))[-1])


@pytest.mark.parametrize("algorithm", few_shot.METHODS)
def test_every_method_runs_on_digits(algorithm: str) -> None:
    found = once(few_shot.FewShotRun(algorithm=algorithm, data="digits", steps=2, test_episodes=3))
    assert {"accuracy_5_way_1_shot", "accuracy_5_way_5_shot", "accuracy_uneven", "training_seconds"} <= set(found)
    assert all(0.0 <= value <= 1.0 for name, value in found.items() if name.startswith("accuracy"))


@pytest.mark.parametrize("algorithm", meta_learning.METHODS)
def test_every_method_runs_on_waves(algorithm: str) -> None:
    run = meta_learning.SinusoidRun(algorithm=algorithm, iterations=2, test_tasks=5)
    found = once(run)
    assert found["mse"] == found["mse_after_20"]
    assert 0.0 <= found["mse_before"] <= meta_learning.DIVERGED


def test_a_run_repeats_bit_for_bit() -> None:
    run = few_shot.FewShotRun(algorithm="prototypes", data="digits", steps=2, test_episodes=3)
    first, second = once(run), once(run)
    assert {**first, "training_seconds": 0.0} == {**second, "training_seconds": 0.0}
    assert once(replace(run, seed=1))["accuracy_20_way_1_shot"] != first["accuracy_20_way_1_shot"]


def test_the_studies_have_as_many_runs_as_they_say() -> None:
    for name, algorithms in (("meta-sinusoid", 9), ("meta-few-shot", 10)):
        study = get_study(name, "full")
        assert len(study.final_configs(None)) == 5 * algorithms == len({c.run_id for c in study.final_configs(None)})  # type: ignore[arg-type]

"""The runs and the rules of the studies of quantum networks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from advanced_optimizers.experiments.data import load
from advanced_optimizers.experiments.evidence.comparisons import RunData
from advanced_optimizers.experiments.studies.claims.quantum import TASKS, trains
from advanced_optimizers.experiments.studies.quantum_runs import (
    MODELS,
    GradientVariance,
    ProductOfCosines,
    QuantumRun,
    StepTime,
    circuit_parameters,
    read_sets,
)
from advanced_optimizers.experiments.studies.registry import CLAIMS, get_study
from advanced_optimizers.experiments.training.kinds import perform
from tests.reference import quantum as reference

CPU = torch.device("cpu")
FIXED = ("quantum-frozen",)
NOT_AS_MANY = {"quantum-logistic": lambda n: n + 1, "quantum-cosines": lambda n: 2 * n + 1}


def tiny(algorithm: str = "quantum-logistic", **fields: object) -> QuantumRun:
    run = QuantumRun(
        algorithm=algorithm, hyperparameters={"lr": 0.1}, dataset="digits", images=100, steps=4, batch_size=8
    )
    return replace(run, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("qubits", [4, 6, 8])
@pytest.mark.parametrize("algorithm", [name for name in MODELS if name not in FIXED])
def test_models_have_as_many_parameters_where_they_can(algorithm: str, qubits: int) -> None:
    found = sum(p.numel() for p in MODELS[algorithm](qubits).parameters() if p.requires_grad)
    assert circuit_parameters(qubits) == 4 * qubits + 1
    if algorithm in NOT_AS_MANY:
        assert found == NOT_AS_MANY[algorithm](qubits)
    else:
        assert found == pytest.approx(4 * qubits + 1, abs=2)


def test_the_product_of_cosines_is_what_the_sketch_falls_together_to(rng: torch.Generator) -> None:
    x, model = torch.randn(5, 4, generator=rng, dtype=torch.float64), ProductOfCosines(4).double()
    angles = model.angles.detach().numpy()[None]
    expected = [reference.product_of_cosines(angles, row) for row in x.numpy()]
    torch.testing.assert_close(model(x).detach(), torch.from_numpy(np.stack(expected)))


def test_features_are_principal_components_as_angles_of_the_training_images() -> None:
    sets, digits = read_sets(tiny()), load("digits")
    assert torch.allclose(sets.train.x.abs().amax(dim=0), torch.full((4,), math.pi / 2, dtype=torch.float64))
    covariance = sets.train.x.T.cov()
    assert float((covariance - covariance.diag().diag()).abs().max()) < 1e-12
    assert len(sets.test.x) == int(torch.isin(digits.test_labels, torch.tensor([3, 8])).sum())
    assert float(sets.test.target.mean()) == pytest.approx(0.5, abs=0.15)
    assert not sets.train.x.equal(read_sets(tiny(seed=1)).train.x)


def test_a_trial_is_measured_on_training_images_that_are_held_out() -> None:
    sets, digits = read_sets(tiny(held_out=True)), load("digits")
    assert tiny(held_out=True).split == "validation"
    assert len(sets.test.x) == int(torch.isin(digits.labels, torch.tensor([3, 8])).sum()) - 100
    trained = {tuple(row) for row in sets.train.x.tolist()}
    assert not any(tuple(row) in trained for row in sets.test.x.tolist())


def test_runs_train_and_repeat_bit_for_bit() -> None:
    pytest.importorskip("pennylane")
    times = {"seconds", "cpu_seconds", "training_seconds"}
    for algorithm in ("quantum-circuit", "quantum-fourier"):
        first, second = (perform(tiny(algorithm, steps=12), CPU) for _ in range(2))
        assert {k: v for k, v in first.curves.items() if k not in times} == {
            k: v for k, v in second.curves.items() if k not in times
        }
        assert first.final["loss_fall"] > 0.0
        assert first.final["parameter_change"] > 0.0
    frozen = perform(tiny("quantum-frozen", steps=4), CPU)
    assert frozen.final["parameters"] == 5


def test_times_and_variances_are_measured_by_qubits() -> None:
    pytest.importorskip("pennylane")
    step = perform(StepTime(algorithm="step-circuit", pairs=2), CPU)
    assert step.final["growth_per_qubit"] == pytest.approx(
        (step.curves["step_seconds"][1] / step.curves["step_seconds"][0]) ** 0.5
    )
    found = perform(GradientVariance(algorithm="random-deep", pairs=3, draws=100), CPU)
    first, _, last = found.curves["gradient_variance"]
    assert found.final["variance_per_pair"] == pytest.approx((last / first) ** 0.5)
    assert found.final["variance_per_pair"] < 0.6


# ---- the studies ----------------------------------------------------------------------------------------------------


def test_every_task_of_a_claim_is_one_of_the_study() -> None:
    assert {task.name for task in get_study("quantum", "full").tasks} == set(TASKS)
    assert {claim.study for key, claim in CLAIMS.items() if key.startswith("quantum-")} == {
        "quantum",
        "quantum-time",
        "quantum-gradients",
    }


def frame(**columns: list[float]) -> RunData:
    rows = [
        {
            "task": task,
            "algorithm": "quantum-circuit",
            "label_noise": 0.0,
            "split": "test",
            "seed": seed,
            "status": "completed",
            "run_id": f"{task}{seed}",
            **{name: values[seed] for name, values in columns.items()},
        }
        for task in TASKS
        for seed in range(5)
    ]
    return RunData(pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("falls", "changes", "status"),
    [
        ([0.1, 0.2, 0.1, 0.3, 0.1], [1.0] * 5, "supported"),
        ([0.1, 0.2, -0.1, 0.3, 0.1], [1.0] * 5, "not supported"),  # a loss rose
        ([0.1, 0.2, 0.1, 0.3, 0.1], [1.0, 1.0, 0.0, 1.0, 1.0], "not supported"),  # as in the sketch
    ],
)
def test_training_must_lower_the_loss_and_move_the_parameters(
    falls: list[float], changes: list[float], status: str
) -> None:
    data = frame(loss_fall=falls, parameter_change=changes)
    assert trains(data).status == status
    assert trains(RunData(data.frame[data.frame["task"] != TASKS[-1]])).status == "pending"

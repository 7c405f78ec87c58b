"""Gradient correction without a model: its predictors, their training, its safety, the coursework's calls."""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.testing import assert_close

from advanced_optimizers import (
    CorrectionRecord,
    GradientCorrectionOptimizer,
    create_gradient_correction_optimizer,
    gradient_correction,
)
from tests.case import TransformRun
from tests.harness import BITWISE, feed, make_gradients, make_params, twins
from tests.reference.gradient_correction import (
    GradientCorrection,
)

SHAPE = (16, 60)
OVER_SGD: dict[str, Any] = {"base_optimizer": SGD, "base_optimizer_kwargs": {"lr": 0.1}}


def build(params: list[nn.Parameter], **settings: Any) -> GradientCorrectionOptimizer:
    return GradientCorrectionOptimizer(params, **{**OVER_SGD, "train_every": 1, **settings})


def drifting(rng: torch.Generator, steps: int, noise: float = 3.0) -> list[list[Tensor]]:
    """A slowly turning direction plus noise: the next gradient is closer to the average than to the current one."""
    drift, turn = torch.randn(2, *SHAPE, generator=rng)
    return [
        [math.cos(t / 200) * drift + math.sin(t / 200) * turn + noise * torch.randn(SHAPE, generator=rng)]
        for t in range(steps)
    ]


def stepped_gradient(optimizer: GradientCorrectionOptimizer, p: nn.Parameter, grad: Tensor) -> Tensor:
    """g', read off a step of SGD with learning rate 0.1."""
    before = p.detach().clone()
    feed(optimizer, [p], [[grad]])
    return (before - p.detach()) / 0.1


def mean(records: list[CorrectionRecord], name: str) -> float:
    return float(np.mean([getattr(record, name) for record in records]))


# ---- the predictors learn ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gcw", "gcode"), [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)], ids=["gcw", "gcode", "both"])
def test_predictable_gradients_are_predicted_better_and_better(gcw, gcode, rng):
    p = nn.Parameter(torch.zeros(SHAPE))
    optimizer = build([p], gcw_strength=gcw, gcode_strength=gcode)
    feed(optimizer, [p], drifting(rng, 300))
    first, last = optimizer.history[:10], optimizer.history[-50:]
    plain_loss = 2.0 - 2.0 * mean(last, "plain_cosine")
    for name, strength in (("gcw", gcw), ("gcode", gcode)):
        losses = [mean(records, f"{name}_loss") for records in (first, last)]
        if strength > 0:
            assert losses[1] < losses[0] - 0.15
            assert losses[1] < plain_loss - 0.15  # and thus better than predicting no change
            assert last[-1]._asdict()[f"{name}_gate"] != 0.0
        else:
            assert all(math.isnan(loss) for loss in losses)
    assert mean(last, "corrected_cosine") > mean(last, "plain_cosine") + 0.1
    assert abs(mean(first, "plain_cosine") - mean(last, "plain_cosine")) < 0.05  # the task did not get easier


def test_corrected_gradient_is_closer_to_the_true_direction(rng):
    p = nn.Parameter(torch.zeros(SHAPE))
    optimizer = build([p], gcw_strength=1.0)
    gradients = drifting(rng, 320)
    feed(optimizer, [p], gradients[:300])
    gains = []
    for t, (grad,) in enumerate(gradients[300:], start=300):
        direction = torch.stack([g[0] for g in gradients[t - 40 : t]]).mean(dim=0)  # with little noise left
        corrected = stepped_gradient(optimizer, p, grad)
        gains.append(float(cosine(corrected, direction) - cosine(grad, direction)))
    assert np.mean(gains) > 0.1


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)


def test_attention_distinguishes_predictable_rows_from_others(rng):
    """Half of the rows drift, the others are noise. GC-ODE, with one answer per tensor, cannot do as well."""
    p = nn.Parameter(torch.zeros(SHAPE))
    optimizer = build([p], gcw_strength=1.0, gcode_strength=1.0, predictor_lr=0.03)
    drift, noise = torch.randn(SHAPE, generator=rng), torch.ones(SHAPE)
    drift[8:], noise[8:] = 0.0, 3.0
    feed(optimizer, [p], [[drift + noise * torch.randn(SHAPE, generator=rng)] for _ in range(250)])
    last = optimizer.history[-50:]
    assert mean(last, "gcw_loss") < mean(last, "gcode_loss") - 0.05


def test_without_a_predictable_part_nothing_is_gained(rng):
    p = nn.Parameter(torch.zeros(SHAPE))
    optimizer = build([p], gcw_strength=0.5, gcode_strength=0.5)
    feed(optimizer, [p], [[torch.randn(SHAPE, generator=rng)] for _ in range(200)])
    last = optimizer.history[-100:]
    assert abs(mean(last, "corrected_cosine") - mean(last, "plain_cosine")) < 0.02
    assert mean(last, "gcw_loss") == pytest.approx(2.0, abs=0.05)  # at right angles


@pytest.mark.parametrize("every", [1, 2, 4, 5])
def test_equals_its_base_bit_for_bit_until_it_is_trained(every, rng):
    params = make_params(rng)
    base_params, gradients = twins(params), make_gradients(rng, params, steps=12)
    optimizer, base = build(params, train_every=every), SGD(base_params, lr=0.1)
    untrained = {1: 2, 2: 3, 4: 3, 5: 4}[every]  # the first prediction is made from the second gradient
    for each, ps in ((optimizer, params), (base, base_params)):
        feed(each, ps, gradients[:untrained])
    assert_close(params, base_params, **BITWISE)
    assert optimizer.history == []
    for each, ps in ((optimizer, params), (base, base_params)):
        feed(each, ps, gradients[untrained:])
    changed = [not p.equal(b) for p, b in zip(params, base_params, strict=True)]
    assert changed == [p.dim() >= 2 for p in params]


def test_the_global_random_numbers_are_left_alone(rng):
    state = torch.get_rng_state()
    params = make_params(rng)
    feed(build(params), params, make_gradients(rng, params, steps=4))
    assert torch.get_rng_state().equal(state)


def test_history_is_what_the_reference_measures(rng):
    (p,) = params = make_params(rng, torch.float64, shapes=[(5, 7)])
    settings: dict[str, Any] = {**OVER_SGD, "gcw_strength": 0.6, "predictor_lr": 0.1, "train_every": 2}
    reference = TransformRun(params, settings, GradientCorrection, lambda correction, i: {})
    optimizer = GradientCorrectionOptimizer(params, **settings)
    for grads in make_gradients(rng, params, steps=13):
        feed(optimizer, params, [grads])
        reference.step(grads)
    slow: Any = reference.transform
    for name, expected in (
        ("gcw_loss", slow.gcw[0].losses),
        ("gcode_loss", slow.gcode[0].losses),
        ("plain_cosine", slow.plain_cosines),
        ("corrected_cosine", slow.corrected_cosines),
    ):
        assert [getattr(record, name) for record in optimizer.history] == pytest.approx(expected, abs=1e-12)
    assert len(optimizer.history) == 5
    assert optimizer.history[-1].gcw_gate == pytest.approx(slow.gcw[0].theta[-1])
    assert optimizer.history[-1].gcode_gate == pytest.approx(slow.gcode[0].theta[-1])
    assert set(optimizer.state[p]) >= {"memory", "gcw", "gcode"}


def test_history_is_a_mean_over_tensors_and_cannot_be_changed_from_outside(rng):
    params = make_params(rng, shapes=[(5, 7), (4, 3), (3,)])
    gradients = make_gradients(rng, params, steps=6)
    together = build(params)
    feed(together, params, gradients)
    apart = [build([p]) for p in params]
    for i, (optimizer, p) in enumerate(zip(apart, params, strict=True)):
        feed(optimizer, [p], [[grads[i]] for grads in gradients])
    expected = [np.mean([r[0].gcw_loss, r[1].gcw_loss]) for r in zip(apart[0].history, apart[1].history, strict=True)]
    assert [record.gcw_loss for record in together.history] == pytest.approx(expected, abs=1e-6)
    assert apart[2].history == []
    together.history.clear()
    assert len(together.history) == 4


def test_a_tensor_of_many_rows_equals_the_reference(rng):
    params = make_params(rng, torch.float64, shapes=[(70, 2)])
    settings: dict[str, Any] = {**OVER_SGD, "gcw_strength": 1.0, "train_every": 1}
    reference = TransformRun(params, settings, GradientCorrection, lambda correction, i: {})
    optimizer = GradientCorrectionOptimizer(params, **settings)
    for grads in make_gradients(rng, params, steps=5):
        feed(optimizer, params, [grads])
        reference.step(grads)
    assert_close(params[0].detach(), reference.params[0], rtol=0, atol=1e-12)


# ---- safety ------------------------------------------------------------------------------------------------------


def test_a_zero_gradient_stays_zero(rng):
    p = nn.Parameter(torch.zeros(SHAPE))
    optimizer = build([p], gcw_strength=2.0)
    feed(optimizer, [p], drifting(rng, 20))
    assert not stepped_gradient(optimizer, p, torch.zeros(SHAPE)).any()
    assert stepped_gradient(optimizer, p, torch.ones(SHAPE)).isfinite().all()


@pytest.mark.parametrize("min_cosine", [0.0, 0.6, 0.95, 1.0])
def test_corrected_gradients_are_as_long_and_no_farther_than_allowed(min_cosine, rng):
    p = nn.Parameter(torch.zeros(SHAPE, dtype=torch.float64))
    optimizer = build([p], gcw_strength=3.0, gcode_strength=3.0, predictor_lr=0.2, min_cosine=min_cosine)
    cosines = []
    for (grad,) in drifting(rng, 40):
        corrected = stepped_gradient(optimizer, p, grad.double())
        assert_close(corrected.norm(), grad.double().norm())
        cosines.append(float(cosine(corrected, grad.double())))
    assert min(cosines) >= min_cosine - 1e-9
    if min_cosine > 0.5:
        assert min(cosines) == pytest.approx(min_cosine)  # it was turned back


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gradient_that_is_not_finite_is_passed_on_but_not_remembered(bad, rng):
    gradients = drifting(rng, 12)
    p, q = nn.Parameter(torch.zeros(SHAPE)), nn.Parameter(torch.zeros(SHAPE))
    optimizer, plain = build([p], gcw_strength=1.0), build([q], gcw_strength=1.0)
    feed(optimizer, [p], gradients[:6])
    feed(plain, [q], gradients[:6])
    before = p.detach().clone()
    broken = gradients[6][0].clone()
    broken[0, 0] = bad
    assert not stepped_gradient(optimizer, p, broken)[0, 0].isfinite()  # the base optimizer received it
    with torch.no_grad():
        p.copy_(before)
    feed(optimizer, [p], gradients[7:])
    feed(plain, [q], gradients[7:])
    assert_close(p, q, **BITWISE)


# ---- which tensors, how often, which settings --------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (5,), (1, 9), (4, 0), (0, 4)])
def test_tensors_without_rows_to_compare_are_left_alone(shape, rng):
    p = nn.Parameter(torch.randn(shape, generator=rng))
    (q,) = twins([p])
    optimizer, base = build([p], gcw_strength=1.0), SGD([q], lr=0.1)
    for each, parameter in ((optimizer, p), (base, q)):
        feed(each, [parameter], [[torch.full(shape, t + 1.0)] for t in range(6)])
    assert_close(p, q, **BITWISE)
    assert not optimizer.state
    assert optimizer.num_extra_parameters == 0


def test_number_of_parameters_matches_the_state(rng):
    params = make_params(rng)
    optimizer = build(params)
    feed(optimizer, params, make_gradients(rng, params, steps=3))
    trained = sum(state[name].shape[1] for state in optimizer.state.values() for name in ("gcw", "gcode"))
    assert optimizer.num_extra_parameters == trained == 4 * (71 + 49)
    assert build(params, gcw_strength=0.0).num_extra_parameters == 4 * 49


def test_predictors_change_only_when_they_are_trained(rng):
    p = nn.Parameter(torch.zeros(SHAPE))
    optimizer = build([p], train_every=3)
    trained = []
    previous: Any = None
    for t, grads in enumerate(drifting(rng, 13), start=1):
        feed(optimizer, [p], [grads])
        current = optimizer.state[p]["gcw"].clone() if "gcw" in optimizer.state[p] else None
        if current is not None and previous is not None and not current.equal(previous):
            trained.append(t)
        previous = current
    assert trained == [3, 6, 9, 12]
    assert optimizer.state[p]["gcw_steps"].tolist() == [4.0]


def test_settings_may_change_between_steps(rng):
    p = nn.Parameter(torch.zeros(SHAPE))
    optimizer = build([p], gcw_strength=0.0, gcode_strength=0.5)
    group, gradients = optimizer.param_groups[0], drifting(rng, 40)
    for change in ({"gcw_strength": 0.5}, {"train_every": 4}, {"train_every": 3}, {"gcode_strength": 0.0}):
        feed(optimizer, [p], gradients[:10])
        group.update(change)
    feed(optimizer, [p], gradients[:10])
    assert p.isfinite().all()
    assert optimizer.state[p]["gcw_steps"] > 0
    assert all(0.0 <= record.gcode_loss <= 4.0 for record in optimizer.history[:20])


def test_takes_the_numbers_of_numpy_and_of_tensors(rng):
    p, q = nn.Parameter(torch.zeros(SHAPE)), nn.Parameter(torch.zeros(SHAPE))
    given = {"gcw_strength": np.float32(0.5), "history_decay": torch.tensor(0.5), "train_every": np.int64(2)}
    optimizer, plain = build([p], **given), build([q], gcw_strength=0.5, history_decay=0.5, train_every=2)
    assert [type(optimizer.param_groups[0][name]) for name in given] == [float, float, int]
    gradients = drifting(rng, 6)
    feed(optimizer, [p], gradients)
    feed(plain, [q], gradients)
    assert_close(p, q, **BITWISE)


def test_history_is_in_the_checkpoint(rng):
    p = nn.Parameter(torch.zeros(SHAPE))
    optimizer, fresh = build([p]), build([p])
    feed(optimizer, [p], drifting(rng, 8))
    state = copy.deepcopy(optimizer.state_dict())
    fresh.load_state_dict(state)
    assert fresh.history == optimizer.history
    assert len(fresh.history) == 6
    fresh.load_state_dict({key: value for key, value in state.items() if key != "history"})
    assert fresh.history == []


# ---- the coursework's calls --------------------------------------------------------------------------------------


def test_signature_is_the_coursework_s():
    parameters = inspect.signature(create_gradient_correction_optimizer).parameters
    own = {"use_gcw": True, "use_gcode": True, "gcw_strength": 0.1, "device": None}
    assert list(parameters)[:6] == ["params", "lr", *own]
    assert {name: parameters[name].default for name in own} == own
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[6:])


def test_coursework_calls_run_as_written_and_positionally():
    model = nn.Linear(4, 2)
    by_name = create_gradient_correction_optimizer(
        model.parameters(), lr=1e-3, use_gcw=True, use_gcode=True, gcw_strength=0.1, device=torch.device("cpu")
    )
    by_place = create_gradient_correction_optimizer(model.parameters(), 1e-3, True, True, 0.1, "cpu")
    by_class = GradientCorrectionOptimizer(model.parameters(), Adam, {"lr": 1e-3}, 0.1, 0.1)
    groups = [{k: v for k, v in o.param_groups[0].items() if k != "params"} for o in (by_name, by_place, by_class)]
    assert groups[0] == groups[1] == groups[2]
    assert type(by_name.base) is Adam
    one = create_gradient_correction_optimizer(model.parameters(), 0.5, use_gcode=False, gcw_strength=0.3)
    assert [one.param_groups[0][k] for k in ("lr", "gcw_strength", "gcode_strength")] == [0.5, 0.3, 0.0]


def test_with_both_modules_off_it_is_adam_bit_for_bit(rng):
    params = make_params(rng)
    base_params, gradients = twins(params), make_gradients(rng, params, steps=8)
    off = create_gradient_correction_optimizer(params, 1e-2, use_gcw=False, use_gcode=False, gcw_strength=0.7)
    feed(off, params, gradients)
    feed(Adam(base_params, lr=1e-2, fused=True), base_params, gradients)
    assert_close(params, base_params, **BITWISE)
    assert all(set(state) <= {"base"} for state in off.state.values())
    assert off.num_extra_parameters == 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"lr": -1.0}, r"lr must be >= 0.*got -1\.0"),
        ({"gcw_strength": -0.5}, r"gcw_strength must be >= 0.*got -0\.5"),
        ({"gcw_strength": -0.5, "use_gcw": False}, r"gcw_strength must be >= 0.*got -0\.5"),
        ({"device": "cuda:1"}, "device must be where the parameters are, got 'cuda:1' and a parameter on cpu"),
    ],
)
def test_create_refuses_bad_values(arguments, match):
    with pytest.raises(ValueError, match=match):
        create_gradient_correction_optimizer(nn.Linear(2, 2).parameters(), **arguments)


def test_docstring_quotes_the_withdrawal():
    assert "reconstruction" in gradient_correction.__doc__.splitlines()[0]
    assert "Therefore we want to withdrawal this paper for a thorough correction" in " ".join(
        gradient_correction.__doc__.split()
    )

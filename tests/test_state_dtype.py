"""What every optimizer with a ``state_dtype`` has in common: half the space, and runs that go on bit for bit."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam
from torch.testing import assert_close

from advanced_optimizers import ConvolutionalSGDv2, FEROptimizer, GradientCorrectionOptimizer
from advanced_optimizers._base import WrappedOptimizer
from benchmarks import step

BITWISE: dict[str, Any] = {"rtol": 0.0, "atol": 0.0, "equal_nan": True}
SHAPES = ((5000,), (30, 20), (), (4, 3, 3, 3), (0,), (70, 90), (7, 3))


class Subject(NamedTuple):
    """An optimizer with a ``state_dtype``.

    Attributes:
        build: Builds it over plain SGD, with its state in bfloat16 if nothing else is said.
        strong: Builds it over any base, so that it makes a difference.
        kept: What of a parameter's state is in that precision.
    """

    build: Callable[..., Any]
    strong: Callable[..., Any]
    kept: tuple[str, ...]


def correction(params: Sequence[Tensor], **settings: Any) -> GradientCorrectionOptimizer:
    settings = {"state_dtype": torch.bfloat16, "train_every": 2, "predictor_lr": 0.1, **settings}
    return GradientCorrectionOptimizer(params, SGD, {"lr": 0.1}, 1.0, 1.0, **settings)


def fer(params: Sequence[Tensor], **settings: Any) -> FEROptimizer:
    return FEROptimizer(params, SGD, {"lr": 0.1}, 0.5, memory_size=20, **{"state_dtype": torch.bfloat16, **settings})


def version2(params: Sequence[Tensor], **settings: Any) -> ConvolutionalSGDv2:
    settings = {"state_dtype": torch.bfloat16, "kernel_every": 2, "noise_estimation_momentum": 0.9, **settings}
    return ConvolutionalSGDv2(params, 0.1, 0.0, kernel_size=3, kernel_lr=0.1, **settings)


SUBJECTS = {
    "fer": Subject(fer, partial(FEROptimizer, fer_weight=0.5), ("memory",)),
    "correction": Subject(
        correction, partial(GradientCorrectionOptimizer, gcw_strength=1.0, gcode_strength=1.0), ("memory", "last")
    ),
    "version 2": Subject(version2, partial(ConvolutionalSGDv2, kernel_lr=0.1), ("signal",)),
}
every_subject = pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
every_way = pytest.mark.parametrize("foreach", [False, True], ids=["one by one", "together"])


def parameters() -> list[nn.Parameter]:
    """Dense ones of all kinds: with channels last, and transposed."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator) for shape in SHAPES]
    tensors[3] = tensors[3].to(memory_format=torch.channels_last)
    tensors[6] = torch.empty(3, 7).t().copy_(tensors[6])
    return [nn.Parameter(t) for t in tensors]


def gradients(steps: int, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[list[Tensor | None]]:
    """Noisy ones with a mean; the second tensor has none at first."""
    generator = torch.Generator().manual_seed(1)
    means = [torch.randn(shape, generator=generator) for shape in shapes]
    found: list[list[Tensor | None]] = [
        [mean + 2.0 * torch.randn(mean.shape, generator=generator) for mean in means] for _ in range(steps)
    ]
    for first in (0, 1, 2):
        found[first][1] = None
    return found


def feed(params: Sequence[Tensor], optimizer: Any, steps: list[list[Tensor | None]]) -> None:
    for grads in steps:
        for p, grad in zip(params, grads, strict=True):
            p.grad = None if grad is None else torch.empty_like(p).copy_(grad)
        optimizer.step()


def kept(subject: Subject, optimizer: Any) -> list[Tensor]:
    states = [state for _, state in sorted(optimizer.state_dict()["state"].items())]
    return [state[name] for state in states for name in subject.kept if name in state]


def roundings(optimizer: Any) -> set[int]:
    return {int(state["rounding"]) for state in optimizer.state_dict()["state"].values() if "rounding" in state}


@every_subject
@every_way
@pytest.mark.parametrize("way", ["copied", "pickled", "loaded", "loaded from a file"])
def test_a_run_that_goes_on_is_the_uninterrupted_one_bit_for_bit(subject: Subject, foreach: bool, way: str):
    params = parameters()
    optimizer = subject.build(params, foreach=foreach)
    steps = gradients(9)
    feed(params, optimizer, steps[:4])
    if way in ("copied", "pickled"):
        copied: Callable[[Any], Any] = copy.deepcopy if way == "copied" else lambda x: pickle.loads(pickle.dumps(x))
        twins, twin = copied((params, optimizer))
    else:
        saved = copy.deepcopy(optimizer.state_dict())
        if way == "loaded from a file":
            file = io.BytesIO()
            torch.save(saved, file)
            file.seek(0)
            saved = torch.load(file, weights_only=True)
        twins = parameters()
        twin = subject.build(twins, foreach=foreach)
        for mine, theirs in zip(twins, params, strict=True):
            mine.data.copy_(theirs)
        twin.load_state_dict(saved)
    feed(params, optimizer, steps[4:])
    feed(twins, twin, steps[4:])
    assert_close(twins, params, **BITWISE)
    assert_close(kept(subject, twin), kept(subject, optimizer), **BITWISE)
    assert roundings(twin) == roundings(optimizer)
    assert len(roundings(optimizer)) == 1


@every_subject
@every_way
def test_inside_another_wrapper_a_run_goes_on_bit_for_bit_too(subject: Subject, foreach: bool):
    ends = []
    for is_resumed in (False, True):
        params = parameters()
        inner = subject.build(params, foreach=foreach)
        outer: Any = WrappedOptimizer(params, lambda _, inner=inner: inner, {}, {})
        feed(params, outer, gradients(9)[:4])
        if is_resumed:
            saved = copy.deepcopy(outer.state_dict())
            fresh = subject.build(params, foreach=foreach)
            outer = WrappedOptimizer(params, lambda _, fresh=fresh: fresh, {}, {})
            outer.load_state_dict(saved)
        feed(params, outer, gradients(9)[4:])
        ends.append(params)
    assert_close(*ends, **BITWISE)


@every_subject
@every_way
@pytest.mark.parametrize("to", [None, torch.bfloat16])
def test_a_checkpoint_is_loaded_into_the_other_precision(subject: Subject, foreach: bool, to: torch.dtype | None):
    params = parameters()
    optimizer = subject.build(params, foreach=foreach, state_dtype=None if to else torch.bfloat16)
    steps = gradients(8)
    feed(params, optimizer, steps[:4])
    saved = copy.deepcopy(optimizer.state_dict())
    assert bool(roundings(optimizer)) == (to is None)
    others = parameters()
    other = subject.build(others, foreach=foreach, state_dtype=to)
    other.load_state_dict(saved)
    wanted = to or torch.float32
    assert_close(kept(subject, other), [each.to(wanted) for each in kept(subject, optimizer)], **BITWISE)
    feed(others, other, steps[4:])
    assert {each.dtype for each in kept(subject, other)} == {wanted}
    assert bool(roundings(other)) == (to is not None)


@every_subject
@every_way
def test_nothing_else_is_in_bfloat16_and_without_it_nothing_is_different(subject: Subject, foreach: bool):
    params = parameters()
    for dtype in (None, torch.bfloat16):
        optimizer = subject.build(params, foreach=foreach, state_dtype=dtype)
        feed(params, optimizer, gradients(4))
        assert bool(roundings(optimizer)) == (dtype is not None)
        for state in optimizer.state_dict()["state"].values():
            found = {name: value.dtype for name, value in state.items() if isinstance(value, Tensor)}
            assert {found.pop(name) for name in subject.kept if name in found} <= {dtype or torch.float32}
            assert torch.bfloat16 not in found.values()
    assert kept(subject, optimizer)


@every_subject
def test_both_ways_round_alike_but_for_what_one_of_them_lays_out_anew(subject: Subject):
    runs = []
    for foreach in (False, True):
        params = [nn.Parameter(p.detach().double()) for p in parameters()[:-1]]  # whose last bits are not rounded away
        optimizer = subject.build(params, foreach=foreach)
        feed(params, optimizer, [grads[:-1] for grads in gradients(9)])
        runs.append((params, kept(subject, optimizer)))
    assert_close(*runs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("subject", [SUBJECTS["fer"], SUBJECTS["correction"]], ids=["fer", "correction"])
@every_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_too_large_to_be_kept_does_not_enter(subject: Subject, foreach: bool, dtype: torch.dtype):
    p = nn.Parameter(torch.zeros(2, 3, dtype=dtype))
    optimizer = subject.build([p], foreach=foreach)
    for value in (1.0, 1e38):  # whose square is more than float32 has
        p.grad = torch.full_like(p, value)
        optimizer.step()
    assert all(each.isfinite().all() for each in kept(subject, optimizer))
    assert kept(subject, optimizer)[0].unique().tolist() == [1.0]


# ---- how exact, and how large ------------------------------------------------------------------------------------


def correction_of_decay(params: Sequence[Tensor], decay: float, **settings: Any) -> GradientCorrectionOptimizer:
    return correction(params, history_decay=decay, **settings)


def version2_of_decay(params: Sequence[Tensor], decay: float, **settings: Any) -> ConvolutionalSGDv2:
    return version2(params, noise_estimation_momentum=decay, **settings)


@every_way
@pytest.mark.parametrize("decay", [0.9, pytest.param(0.99, marks=pytest.mark.slow)])
@pytest.mark.parametrize("build", [correction_of_decay, version2_of_decay])
def test_errors_are_the_stated_ones(build: Callable[..., Any], decay: float, foreach: bool):
    states = []
    for dtype in (None, torch.bfloat16):
        p = nn.Parameter(torch.zeros(20, 250))
        optimizer = build([p], decay, state_dtype=dtype, foreach=foreach)
        generator = torch.Generator().manual_seed(0)
        mean = torch.randn(p.shape, generator=generator)
        for _ in range(round(4 / (1 - decay))):
            p.grad = mean + 2.0 * torch.randn(p.shape, generator=generator)
            optimizer.step()
        states.append(optimizer.state_dict()["state"][0])
    exact, rounded = states
    errors = {name: rounded[name].float() - exact[name] for name in ("memory", "last", "signal") if name in exact}
    relative = {name: (error.norm() / exact[name].norm()).item() for name, error in errors.items()}
    stated = 2**-7.5 / math.sqrt(6 * (1 - decay**2))
    of_all = {"memory": stated, "last": 2**-7.5 / math.sqrt(12), "signal": stated}
    assert relative == pytest.approx({name: of_all[name] for name in relative}, rel=0.1)
    average = "memory" if "memory" in exact else "signal"
    assert abs(errors[average].mean() / exact[average].square().mean().sqrt()) < 5 * stated / math.sqrt(p.numel())


def trained(build: Callable[..., Any], **settings: Any) -> float:
    """The loss on the digits after five epochs over Adam."""
    images, labels = (torch.tensor(each) for each in load_digits(return_X_y=True))
    images = images.float() / 16.0
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    optimizer = build(model.parameters(), base_optimizer=Adam, base_optimizer_kwargs={"lr": 3e-3}, **settings)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for batch in torch.randperm(len(images), generator=generator).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
    return F.cross_entropy(model(images), labels).item()


@every_subject
@pytest.mark.parametrize("foreach", [pytest.param(False, marks=pytest.mark.slow), True], ids=["one by one", "together"])
def test_training_ends_within_a_thousandth_of_float32_s_loss_and_farther_from_the_base_s(
    subject: Subject, foreach: bool
):
    exact, rounded = (trained(subject.strong, state_dtype=dtype, foreach=foreach) for dtype in (None, torch.bfloat16))
    base = trained(lambda params, base_optimizer, base_optimizer_kwargs: Adam(params, **base_optimizer_kwargs))
    assert 0.0 < abs(rounded / exact - 1.0) < 1e-3 < 5e-3 < abs(base / exact - 1.0)


@pytest.mark.parametrize(
    ("kind", "foreach", "dtype", "state", "kept_besides", "transient"),
    [
        (GradientCorrectionOptimizer, False, None, 4.0, 1.0, 1.0),
        (GradientCorrectionOptimizer, False, torch.bfloat16, 3.0, 1.3, 1.0),
        (GradientCorrectionOptimizer, True, None, 5.0, 0.3, 2.0),
        (GradientCorrectionOptimizer, True, torch.bfloat16, 3.0, 1.4, 2.1),
        (ConvolutionalSGDv2, False, None, 2.0, 1.3, 0.25),
        (ConvolutionalSGDv2, False, torch.bfloat16, 1.5, 1.5, 0.5),
        (ConvolutionalSGDv2, True, None, 2.0, 5.1, 5.1),
        (ConvolutionalSGDv2, True, torch.bfloat16, 1.5, 5.2, 5.1),
    ],
)
def test_the_memory_is_the_stated_one(
    kind: Any, foreach: bool, dtype: torch.dtype | None, state: float, kept_besides: float, transient: float
):
    contender = step.Contender("", None, None, lambda p: kind(p, foreach=foreach, state_dtype=dtype))
    found = step.measure_memory(contender, [torch.Size((256, 256))] * 4 + [torch.Size((10,))])
    assert found.state == pytest.approx(state, abs=0.03)
    assert found.scratch <= kept_besides + 0.05
    assert found.transient <= transient + 0.05


def test_statistics_read_the_average_in_float32():
    stats = []
    for dtype in (None, torch.bfloat16):
        params = parameters()
        optimizer = version2(params, state_dtype=dtype, foreach=False, noise_estimation_momentum=0.8)
        feed(params, optimizer, gradients(40))
        stats.append(optimizer.get_stats())
    assert_close(stats[1], stats[0], rtol=0.01, atol=0.0)

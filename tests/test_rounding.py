"""Stochastic rounding to bfloat16: right on average, with noise that is independent from step to step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from advanced_optimizers._flat import BLOCK
from advanced_optimizers._rounding import Noise, Rounded, Steps, round_stochastically

ALL = torch.arange(2**16, dtype=torch.int32)
LARGEST = torch.finfo(torch.bfloat16).max
STEPS = 4000


def rounded(numbers: Tensor, noise: Tensor) -> Tensor:
    result = numbers.clone()
    round_stochastically(result, noise.clone())
    return result


@pytest.mark.parametrize(
    "number", [1.0039, -1.0039, 255.6, 3.1e-3, -1e-30, 1e-39, -1e-40, 1e-45, 3.389e38, -3.389e38, 1.999, 0.99999]
)
def test_a_number_becomes_its_neighbors_and_itself_on_average(number: float):
    x = torch.tensor(number)
    results = rounded(x.repeat(len(ALL)), ALL)
    assert torch.equal(results.to(torch.bfloat16).float(), results)
    assert len(results.unique()) == 2
    assert results.min() < x < results.max()
    assert results.isfinite().all()
    assert results.double().mean().item() == x.double().item()


def test_what_bfloat16_has_stays_whatever_the_noise():
    everything = ALL.to(torch.int16).view(torch.bfloat16).float()
    is_nan = everything.isnan()
    for noise in (0, 1, 2**15, 2**16 - 1):
        results = rounded(everything, torch.full_like(ALL, noise))
        assert torch.equal(results[~is_nan], everything[~is_nan])  # infinity is among them
        assert results[is_nan].isnan().all()
    assert everything[~is_nan].abs().max() == math.inf


def noise_of(shapes: list[tuple[int, ...]], start: int = 1) -> tuple[list[nn.Parameter], Noise, Steps]:
    params = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    steps = Steps(start)
    return params, Noise(params, params, steps), steps


def drawn(count: int = STEPS) -> Tensor:
    """(steps, rows, columns) in [0, 1): some columns of three tensors' rows."""
    _, noise, steps = noise_of([(2 * BLOCK,), (5,), (BLOCK, 1)])
    columns = torch.randperm(BLOCK, generator=torch.Generator().manual_seed(0))[:40]
    found = []
    for _ in range(count):
        noise.draw()
        found.append(noise.of_all()[:, columns])
        steps.advance()
    return torch.stack(found).double() / 2**16


@pytest.fixture(scope="module")
def numbers() -> Tensor:
    return drawn()


def test_the_noise_of_each_element_is_uniform(numbers: Tensor):
    counts = torch.stack([torch.histc(x, 16, 0.0, 1.0) for x in numbers.flatten(1).T])
    expected = STEPS / 16
    chi_square = ((counts - expected) ** 2 / expected).sum(dim=1)  # of 15 degrees: a mean of 15, a deviation of 5.5
    assert chi_square.mean().item() == pytest.approx(15.0, abs=5 * 5.5 / math.sqrt(len(counts)))
    assert chi_square.max() < 15 + 6 * 5.5


@pytest.mark.parametrize("lag", [1, 2, 3, 10, 1000])
def test_the_noise_is_independent_from_step_to_step(numbers: Tensor, lag: int):
    centered = (numbers - 0.5).flatten(1) * math.sqrt(12.0)
    correlations = (centered[lag:] * centered[:-lag]).mean(dim=0) * math.sqrt(STEPS - lag)
    assert correlations.std().item() == pytest.approx(1.0, abs=0.25)
    assert correlations.abs().max() < 5.0


def test_the_noise_of_two_elements_is_independent(numbers: Tensor):
    elements = (numbers - 0.5).flatten(1) * math.sqrt(12.0)
    correlations = (elements.T @ elements / math.sqrt(STEPS)).triu(1)
    pairs = correlations[torch.ones_like(correlations).triu(1).bool()]
    assert pairs.std().item() == pytest.approx(1.0, abs=0.05)
    assert pairs.abs().max() < 5.5


def test_no_two_steps_and_no_two_rows_have_the_same_noise(numbers: Tensor):
    assert len(numbers[:, 0, 0].unique()) > 0.95 * 2**16 * (1 - math.exp(-STEPS / 2**16))
    assert len({tuple(row.tolist()) for row in numbers[0]}) == numbers.shape[1]


def test_noise_that_goes_on_from_a_number_is_the_same():
    _, noise, steps = noise_of([(3, 7)])
    for _ in range(3):
        steps.advance()
    (again,), later, _ = noise_of([(3, 7)], steps.number)
    noise.draw()
    later.draw()
    assert torch.equal(noise.of_all(), later.of_all())
    assert again in later


@pytest.mark.parametrize("size", [0, 1, 5, BLOCK, BLOCK + 1, 40 * BLOCK + 3])
def test_the_noise_of_a_tensor_is_its_part_of_that_of_all(size: int):
    (_, p), noise, _ = noise_of([(3,), (size,)])
    noise.draw()
    pieces = torch.cat(list(noise.of(p)))
    assert torch.equal(pieces, noise.of_all()[1:].flatten()[:size])


@pytest.mark.parametrize("block", [1, 4, 64])
def test_the_noise_in_small_blocks_is_the_same(block: int):
    params, noise, _ = noise_of([(5,), (BLOCK + block,), (0,), (block,), (3 * BLOCK,)])
    chosen = [params[place] for place in (3, 1, 4, 2)]
    counts = torch.tensor([max(1, p.numel() // block) for p in chosen])  # one without numbers has an empty block
    in_blocks = noise.in_blocks(chosen, counts, block)
    noise.draw()
    pieces = [
        each[: p.numel()]
        for p, each in zip(chosen, in_blocks.of_all().flatten().split((counts * block).tolist()), strict=True)
    ]
    for p, piece in zip(chosen, pieces, strict=True):
        assert torch.equal(piece, torch.cat([*noise.of(p)]))


def test_nothing_draws_from_the_generators_of_the_user():
    before = torch.get_rng_state()
    drawn(2)
    assert torch.equal(torch.get_rng_state(), before)


# ---- an average --------------------------------------------------------------------------------------------------


def averages(horizon: int, steps: int, mean: float, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of the same numbers: exactly, rounded stochastically, and rounded to the nearest."""
    p = nn.Parameter(torch.zeros(2 * BLOCK))
    order = Steps()
    kept = Rounded(order)
    generator = torch.Generator().manual_seed(0)
    exact = torch.exp2(torch.rand(p.shape, generator=generator)) * torch.randn(p.shape, generator=generator).sign()
    sizes = exact.clone()
    stochastic, nearest = exact.to(torch.bfloat16), exact.to(torch.bfloat16)
    for _ in range(steps):
        entering = sizes * (mean + noise * torch.randn(p.shape, generator=generator))
        kept.begin_step([p], [p])
        kept.write(stochastic, kept.read(stochastic, torch.float32).lerp_(entering, 1 / horizon), p)
        order.advance()
        nearest = nearest.float().lerp_(entering, 1 / horizon).to(torch.bfloat16)
        exact.lerp_(entering, 1 / horizon)
    return exact, stochastic.float(), nearest.float()


@pytest.mark.parametrize("horizon", [10, 100, 1000])
def test_the_error_of_an_average_is_the_stated_one_and_its_mean_is_zero(horizon: int):
    exact, stochastic, _ = averages(horizon, 3 * horizon, 1.0, 0.2 * math.sqrt(horizon))
    stated = math.sqrt(horizon / 12) * 2**-7.5
    error = stochastic - exact
    assert (error.norm() / exact.norm()).item() == pytest.approx(stated, rel=0.1)
    relative = error / exact.square().mean().sqrt()
    assert abs(relative.mean().item()) < 5 * stated / math.sqrt(len(exact))
    cosine = torch.cosine_similarity(stochastic, exact, dim=0).item()
    assert 1 - cosine == pytest.approx(stated**2 / 2, rel=0.2)
    generator = torch.Generator().manual_seed(1)
    gradients = exact + exact.norm() * torch.randn(100, len(exact), generator=generator) / math.sqrt(len(exact))
    cosines = torch.stack([torch.cosine_similarity(gradients, m[None]) for m in (exact, stochastic)])
    change = cosines[1] - cosines[0] * (1 - stated**2 / 2)
    assert change.abs().max() < 5 * stated / math.sqrt(len(exact))


def test_what_does_not_change_is_known_to_a_spacing():
    exact, stochastic, _ = averages(1000, 3000, 1.0, 0.0)
    assert ((stochastic - exact).norm() / exact.norm()).item() < 0.014 < math.sqrt(1000 / 12) * 2**-7.5


def test_rounding_to_the_nearest_would_hold_an_average_where_it_is():
    exact, stochastic, nearest = averages(1000, 2000, 0.0, 0.0)  # nothing enters: it ought to fade
    before = averages(1000, 0, 0.0, 0.0)[2]
    assert torch.equal(nearest, before)
    assert (exact.norm() / before.norm()).item() == pytest.approx(math.exp(-2), rel=0.01)
    assert (stochastic.norm() / before.norm()).item() == pytest.approx(math.exp(-2), rel=0.05)

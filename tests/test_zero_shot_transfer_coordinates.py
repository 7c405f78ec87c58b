"""The coordinate check: passes for muP, fails for standard parametrization, and records what the mup package does."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import advanced_optimizers as ours
from advanced_optimizers import (
    CoordinateRow,
    MuAdamW,
    MuReadoutConv2d,
    MuSGD,
    coordinate_check,
    coordinate_growth,
    set_base_shapes,
)
from tests.mu_models import MODELS, batch, mlp

mup = pytest.importorskip("mup")

WIDTHS = {"mlp": (64, 256, 1024), "convnet": (16, 64, 128), "transformer": (32, 64, 256), "images": (32, 128, 256)}
FLAT, GROWS = 0.1, 0.4  # exponents of width


class Images(nn.Module):
    """The layers with traps in one: depthwise and transposed convolutions, and an image as output."""

    def __init__(self, width: int, readout: Any = MuReadoutConv2d, readout_zero_init: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.up = nn.ConvTranspose2d(width, 2 * width, 2, stride=2)
        self.norm = nn.GroupNorm(1, 2 * width)
        self.depthwise_up = nn.ConvTranspose2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.head = readout(2 * width, 5, 3, padding=1, readout_zero_init=readout_zero_init)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.depthwise(F.relu(self.stem(x))))
        return self.head(F.relu(self.depthwise_up(F.relu(self.norm(self.up(x)))))).mean(dim=(2, 3))


def makers(name: str, table: int | None, **kwargs: Any) -> dict[int, Callable[[], nn.Module]]:
    """Models by width; ``table=None`` is standard parametrization."""
    make = Images if name == "images" else MODELS[name]
    base = WIDTHS[name][0] // 2

    def build(width: int) -> nn.Module:
        model = make(width, **kwargs)
        if table is None:
            return set_base_shapes(model, None)
        return set_base_shapes(model, make(base, **kwargs), delta=make(2 * base, **kwargs), table=table)

    return {width: lambda width=width: build(width) for width in WIDTHS[name]}


def exponents(name: str, table: int | None, kind: str, **kwargs: Any) -> dict[tuple[int, str], float]:
    make, lr = (MuSGD, 0.1 if name == "images" else 0.5) if kind == "sgd" else (MuAdamW, 0.02)
    data = batch("convnet" if name == "images" else name)
    rows = coordinate_check(makers(name, table, **kwargs), data, lambda m: make(m, lr=lr), steps=4, seeds=3)
    return {(g.step, g.module): g.exponent for g in coordinate_growth(rows)}


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("kind", [pytest.param("sgd", marks=pytest.mark.slow), "adamw"])
def test_passes_for_mup_and_fails_for_standard_parametrization(name, kind):
    flat = exponents(name, 8, kind, readout_zero_init=True)
    assert max(abs(e) for e in flat.values()) < FLAT, flat
    assert {step for step, _ in flat} == {1, 2, 3, 4}
    assert max(exponents(name, None, kind, readout_zero_init=True).values()) > GROWS


@pytest.mark.parametrize("table", [3, 9])
def test_passes_in_the_other_tables(table):
    assert max(abs(e) for e in exponents("mlp", table, "adamw", readout_zero_init=True).values()) < FLAT


def test_untrained_output_shrinks_as_one_over_the_square_root_of_width_unless_it_starts_at_zero():
    found = exponents("mlp", 8, "sgd", bias=False)
    assert found[1, "4"] == pytest.approx(-0.5, abs=0.15)
    assert (1, "4") not in exponents("mlp", 8, "sgd", bias=False, readout_zero_init=True)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_sizes_equal_the_mup_package_s(kind):
    from mup.coord_check import get_coord_data

    x, labels = batch("mlp")

    def make(package: Any, width: int) -> nn.Module:
        return package.set_base_shapes(mlp(width, package.MuReadout), mlp(32, nn.Linear), delta=mlp(64, nn.Linear))

    optimizer = ours.MuSGD if kind == "sgd" else ours.MuAdam
    for width in (32, 128):
        rows = coordinate_check(
            {width: partial(make, ours, width)}, (x, labels), lambda m: optimizer(m, lr=0.1), steps=3
        )
        frame = get_coord_data(
            {width: partial(make, mup, width)}, [(x, labels)], kind, lr=0.1, cuda=False, nsteps=3, show_progress=False
        )
        frame = frame[frame.module != ""]
        got = {(row.step, row.module): row.size for row in rows}
        assert got.keys() == set(zip(frame.t, frame.module, strict=True))
        for step, module, size in zip(frame.t, frame.module, frame.l1, strict=True):
            assert got[step, module] == pytest.approx(size, rel=1e-4)


class Several(nn.Module):
    """A part that returns a tuple, a dict and something that is not a tensor."""

    class Part(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
            return (x, {"sum": x + y, "n": 3, "list": [y]})

    def __init__(self) -> None:
        super().__init__()
        self.part = self.Part()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.scale * self.part(x, y)[1]["sum"]


def test_records_nested_outputs_several_inputs_other_statistics_and_chosen_modules():
    data = ((torch.full((2, 3), 2.0), torch.full((2, 3), -3.0)), torch.zeros(2, 3))

    def run(**kwargs: Any) -> list[CoordinateRow]:
        return coordinate_check(
            {7: Several}, data, lambda m: torch.optim.SGD(m.parameters(), 0.1), loss=F.mse_loss, **kwargs
        )

    assert run(steps=1) == [
        CoordinateRow(7, 0, 1, "part[0]", 2.0),
        CoordinateRow(7, 0, 1, "part[1][sum]", 1.0),
        CoordinateRow(7, 0, 1, "part[1][list][0]", 3.0),
    ]
    assert [r.size for r in run(steps=1, statistic=torch.mean)] == [2.0, -1.0, -3.0]
    chosen = run(steps=2, seeds=2, modules=lambda name: name == "")
    assert [(r.seed, r.step, r.module) for r in chosen] == [(0, 1, ""), (0, 2, ""), (1, 1, ""), (1, 2, "")]
    assert chosen[1].size == pytest.approx(0.8)  # the mean square of -scale, one step of 0.1
    kept: list[nn.Module] = []

    def remembered() -> nn.Module:
        kept.append(Several())
        return kept[-1]

    coordinate_check({7: remembered}, data, lambda m: torch.optim.SGD(m.parameters(), 0.1), loss=F.mse_loss)
    assert not kept[0].part._forward_hooks


def test_seeds_repeat_and_the_global_random_state_is_left_as_it_was():
    before = torch.get_rng_state()
    runs = [
        coordinate_check({8: lambda: set_base_shapes(mlp(8), None)}, batch("mlp"), lambda m: MuSGD(m, lr=0.1), seeds=2)
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert len({row.size for row in runs[0] if row.module == "0" and row.step == 1}) == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_growth_is_the_exponent_of_a_power_law():
    rows = [CoordinateRow(n, seed, 1, "a", 3 * n**0.7) for n in (2, 8, 64) for seed in (0, 1)]
    rows += [CoordinateRow(n, 0, 2, "zero", 0.0) for n in (2, 8, 64)]
    rows += [CoordinateRow(n, 0, 2, "diverged", math.nan if n == 8 else 1.0) for n in (2, 8, 64)]
    growth = coordinate_growth(rows)
    assert [(g.step, g.module) for g in growth] == [(1, "a"), (2, "diverged")]
    assert growth[0].exponent == pytest.approx(0.7)
    assert growth[1].exponent == math.inf


def test_refuses_bad_input():
    def run(models: Any = None, **kwargs: Any) -> None:
        coordinate_check({8: nn.Identity} if models is None else models, batch("mlp"), MuSGD, **kwargs)

    with pytest.raises(ValueError, match="models must map at least one width"):
        run({})
    with pytest.raises(ValueError, match="steps must be >= 1, got 0"):
        run(steps=0)
    with pytest.raises(TypeError, match=r"seeds must be an integer, got 1\.5"):
        run(seeds=1.5)
    with pytest.raises(ValueError, match=r"at least two widths, got \[4\]"):
        coordinate_growth([CoordinateRow(4, 0, 1, "a", 1.0)])

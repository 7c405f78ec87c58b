"""Base shapes: how they are given, and what is refused."""

from __future__ import annotations

import copy
import errno
import json
import os
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.testing import assert_close

from advanced_optimizers import (
    MuAdam,
    MuReadout,
    MuSharedReadout,
    get_base_shapes,
    load_base_shapes,
    make_base_shapes,
    save_base_shapes,
    set_base_shapes,
)
from advanced_optimizers.zero_shot_transfer.module_state import mu_shapes
from tests.harness import BITWISE
from tests.mu_models import MODELS, convnet, mlp, sizes_of, wide

# ---- ways to give them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_way_of_giving_base_shapes_is_the_same(name, tmp_path):
    make = MODELS[name]
    expected = get_base_shapes(wide(name))
    with torch.device("meta"):
        base, delta = make(8), make(16)
    marked = make_base_shapes(base, delta, tmp_path / "shapes.json")
    ways: list[tuple[Any, Any]] = [
        (base, delta),
        (sizes_of(base), sizes_of(delta)),
        (base, sizes_of(delta)),
        (marked, None),
        (tmp_path / "shapes.json", None),
        (str(tmp_path / "shapes.json"), None),
        (base, None),
    ]
    for given, second in ways:
        assert get_base_shapes(set_base_shapes(make(32), given, second)) == expected
    set_base_shapes(make(32), base, file=tmp_path / "again.json")
    assert load_base_shapes(tmp_path / "again.json") == expected
    assert json.loads((tmp_path / "again.json").read_text()) == {k: list(v) for k, v in expected.items()}
    assert any(d is not None for dims in expected.values() for d in dims)
    nothing_grows = {name: tuple(None for _ in sizes) for name, sizes in sizes_of(base).items()}
    assert get_base_shapes(set_base_shapes(make(8), None)) == nothing_grows


def test_a_base_saved_from_a_wrapped_model_fits_and_the_other_way_round():
    shapes = {f"module.{name}": dims for name, dims in get_base_shapes(wide()).items()}
    assert get_base_shapes(set_base_shapes(mlp(32), shapes)) == get_base_shapes(wide())
    wrapped = nn.ModuleDict({"module": mlp(32)})
    set_base_shapes(wrapped, mlp(8))
    assert get_base_shapes(wrapped) == shapes


# ---- what is refused -----------------------------------------------------------------------------------------------


def net(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


class Cube(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.cube = nn.Parameter(torch.zeros(shape))


@pytest.mark.parametrize(
    ("model", "base", "kwargs", "match"),
    [
        (mlp(32), mlp(64), {}, r"base is wider than the model, in 0\.weight \(64 -> 32\): are the two swapped"),
        (
            mlp(32, hidden=16),
            mlp(16, hidden=32),
            {},
            r"0\.weight \(16 -> 32\) grows and 2\.weight \(32 -> 16\) shrinks",
        ),
        (mlp(32, hidden=16), mlp(8, hidden=16), {}, r"2\.weight maps a width \(8 -> 32\) to 16 outputs, .*MuReadout"),
        (mlp(32, nn.Linear), mlp(8, nn.Linear), {}, r"4\.weight maps a width .*grow together"),
        (convnet(8), convnet(8, nn.Linear), {"delta": mlp(8)}, "model and delta must have the same parameters"),
        (
            mlp(32, inputs=13),
            mlp(8),
            {"delta": mlp(16)},
            r"dimension 1 of 0\.weight is 12 in base and in delta.*but it is 13",
        ),
        (mlp(32), nn.Sequential(nn.Linear(12, 8)), {}, r"same parameters, but only model has \['2\.bias'"),
        (mlp(32), {**sizes_of(mlp(8)), "0.weight": (8,)}, {}, r"0\.weight has 2 dimensions in model .* and 1 in base"),
        (
            mlp(32),
            {**sizes_of(mlp(8)), "0.weight": (8, -1)},
            {},
            r"base must map names to sizes.*'0\.weight': \(8, -1\)",
        ),
        (
            mlp(32),
            {**sizes_of(mlp(8)), "0.bias": (None,)},
            {"delta": mlp(16)},
            "base already marks its finite dimensions with None",
        ),
        (mlp(32), mlp(8), {"table": 7}, "table must be 3, 8 or 9, got 7"),
        (Cube(8, 8, 8), Cube(4, 4, 4), {}, r"cube has the widths .* in dimensions \(0, 1, 2\)"),
        (
            Cube(3, 8, 8),
            Cube(3, 4, 2),
            {},
            r"in dimensions \(1, 2\), which grow by different factors",
        ),
        (nn.Conv2d(8, 3, 1), nn.Conv2d(4, 3, 1), {}, "maps a width .*MuReadoutConv2d"),
        (nn.Conv1d(8, 3, 1), nn.Conv1d(4, 3, 1), {}, "maps a width .*MuReadoutConv1d"),
        (nn.ConvTranspose2d(8, 3, 2), nn.ConvTranspose2d(4, 3, 2), {}, "maps a width .*followed by a MuReadout"),
        (MuReadout(8, 8), MuReadout(4, 4), {}, "belongs to a readout.*use the ordinary layer"),
        (MuReadout(5, 8), MuReadout(5, 4), {}, "belongs to a readout.*use the ordinary layer"),
        (nn.LazyLinear(8), nn.Linear(3, 4), {}, "parameter weight of model has no shape yet"),
        (
            parametrizations.weight_norm(MuReadout(8, 3)),
            None,
            {},
            "whose weight is computed",
        ),
    ],
)
def test_refused_with_one_error_and_the_model_left_alone(model, base, kwargs, match):
    is_lazy = isinstance(model, nn.LazyLinear)
    before = None if is_lazy else copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=match):
        set_base_shapes(model, base, **kwargs)
    if before is not None:
        assert_close(model.state_dict(), before, **BITWISE)
    assert not any(mu_shapes(m) for m in model.modules())


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_with_a_full_disk_the_file_is_as_it_was(call, tmp_path, monkeypatch):
    file = tmp_path / "shapes.json"
    save_base_shapes({"a": (64,)}, file)
    file.chmod(0o640)

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        save_base_shapes({"a": (64,)}, file)  # the same, so nothing is written
        with pytest.raises(OSError, match="No space left"):
            save_base_shapes({"a": (128,)}, file)
    assert load_base_shapes(file) == {"a": (64,)}
    assert list(tmp_path.iterdir()) == [file]
    save_base_shapes({"a": (128,)}, file)
    assert load_base_shapes(file) == {"a": (128,)}
    assert file.stat().st_mode & 0o777 == 0o640


def test_other_refusals(tmp_path):
    with pytest.raises(TypeError, match="base must be a model, a dict of shapes or the path of a file, got 3"):
        set_base_shapes(mlp(8), 3)
    with pytest.raises(FileNotFoundError):
        set_base_shapes(mlp(8), tmp_path / "missing.json")
    for text in ("fc.weight: 64", "{broken", '{"a": [1.5]}', "a:\n- x\n", '{"a": 3}'):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(ValueError, match=r"file '.*bad' contains no base shapes"):
            load_base_shapes(tmp_path / "bad")
    with pytest.raises(ValueError, match="shapes must map names to sizes"):
        save_base_shapes({"a": 3}, tmp_path / "bad")
    with pytest.raises(RuntimeError, match="has no base shapes"):
        get_base_shapes(mlp(8))
    with pytest.raises(RuntimeError, match="MuReadout does not know its multiplier: call set_base_shapes"):
        mlp(8)(torch.zeros(1, 12))
    with pytest.raises(TypeError, match="weight must be an embedding's weight"):
        MuSharedReadout(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"output_mult must be .*got inf"):
        MuReadout(3, 4, output_mult=float("inf"))


@pytest.mark.parametrize("table", [3, 8, 9])
def test_second_call_is_refused_unless_it_keeps_the_weights(table):
    model = wide(table=table)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="already"):
        set_base_shapes(model, mlp(8), table=table)
    if table != 9:
        set_base_shapes(model, mlp(8), table=table, rescale_params=False)
    assert_close(model.state_dict(), before, **BITWISE)


def test_wider_base_can_be_asked_for():
    model = set_base_shapes(mlp(8), mlp(32), allow_wider_base=True)
    assert sorted(g["lr"] for g in MuAdam(model, lr=0.1).param_groups) == pytest.approx([0.1, 0.4])
    assert model[4].multiplier == 4.0


def test_target_given_as_base_causes_a_warning():
    with pytest.warns(UserWarning, match="every width multiplier is 1, which is standard parametrization"):
        set_base_shapes(mlp(32), mlp(32), delta=mlp(16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_base_shapes(mlp(32), mlp(32), delta=mlp(64))
        set_base_shapes(mlp(32), mlp(32))


def test_width_that_stays_while_others_grow_causes_a_warning():
    with pytest.warns(UserWarning, match=r"grows from base to model, but 0\.weight \(12 -> 12\) stays"):
        set_base_shapes(mlp(32), mlp(8), delta=mlp(16, inputs=10))

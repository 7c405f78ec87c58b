"""What the checks of arguments let through, what they return, and what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from advanced_optimizers._checks import check_bool, check_choice, check_integer, check_iterable, check_range


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1.0), np.int64(1), torch.tensor(1.0), torch.ones(1)])
def test_a_number_is_pythons_numpys_or_a_tensors(value: object):
    number = check_range("rate", value, low=0.0)
    assert number == 1
    assert type(number) in (int, float)


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3), torch.tensor(3), torch.arange(4).max()])
def test_an_integer_is_pythons_numpys_or_a_tensors(value: object):
    number = check_integer("size", value, low=1)
    assert number == 3
    assert type(number) is int


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True), "3", None, [3], torch.ones(2), 1 + 2j])
def test_what_is_not_a_number_is_refused(value: object):
    for check in (check_range, check_integer):
        with pytest.raises(TypeError, match="size must be a"):
            check("size", value, low=1)


@pytest.mark.parametrize("value", [2.0, 2.5, np.float64(2.0), torch.tensor(2.0)])
def test_a_float_is_not_an_integer(value: object):
    with pytest.raises(TypeError, match="size must be an integer"):
        check_integer("size", value, low=1)


def test_the_range_is_told():
    with pytest.raises(ValueError, match=r"rate must be >= 0\.0 and < inf, got inf"):
        check_range("rate", math.inf, low=0.0, open_high=True)
    with pytest.raises(ValueError, match=r"rate must be a number, not NaN, got nan"):
        check_range("rate", math.nan)
    with pytest.raises(ValueError, match=r"size must be >= 1, got 0"):
        check_integer("size", np.int64(0), low=1)


def test_a_switch_is_true_or_false_and_nothing_that_counts_as_such():
    assert check_bool("use", True) is True
    assert check_bool("use", np.False_) is False
    for value in ("no", 0, None, np.int64(1), torch.tensor(True)):
        with pytest.raises(TypeError, match="use must be True or False"):
            check_bool("use", value)


def test_a_choice_names_all_choices():
    assert check_choice("mode", "static", ("static", "dynamic")) == "static"
    with pytest.raises(ValueError, match="mode must be 'static' or 'dynamic', got 'dynamik'"):
        check_choice("mode", "dynamik", ("static", "dynamic"))
    with pytest.raises(TypeError, match="mode must be 'static' or 'dynamic', got 3"):
        check_choice("mode", 3, ("static", "dynamic"))


def test_an_iterable_is_read_once():
    assert check_iterable("sizes", (size for size in (1, 2)), "layer widths") == [1, 2]
    for value in (5, None, "12", torch.ones(2)):
        with pytest.raises(TypeError, match="sizes must be a list of layer widths, got"):
            check_iterable("sizes", value, "layer widths")

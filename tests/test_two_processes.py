"""The helper itself: ranks, values, errors and warnings of two processes."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.distributed as dist

from tests.two_processes import together


def _sum_of_ranks() -> float:
    total = torch.tensor([float(dist.get_rank())])
    dist.all_reduce(total)
    warnings.warn(f"rank {dist.get_rank()}", stacklevel=2)
    return total.item()


def _fail_on_rank_0() -> None:
    if dist.get_rank() == 0:
        raise ValueError("rank 0 fails")


def test_both_processes_are_in_one_group():
    outcomes = together(_sum_of_ranks)
    assert [outcome.value for outcome in outcomes] == [1.0, 1.0]
    assert [outcome.warnings for outcome in outcomes] == [("rank 0",), ("rank 1",)]


@pytest.mark.slow
def test_an_error_is_told_and_the_next_call_works():
    outcomes = together(_fail_on_rank_0)
    assert "rank 0 fails" in outcomes[0].error
    assert outcomes[1].error == ""
    assert [outcome.value for outcome in together(_sum_of_ranks)] == [1.0, 1.0]

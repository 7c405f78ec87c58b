"""Torch's generic optimizer tests, rewritten: every base optimizer, alone and inside every kind of wrapper.

``torch.testing._internal.common_optimizers`` lists torch's optimizers with the settings that they take and those that
they refuse. Each of the 32 functions of :data:`KINDS` states one promise of ``torch.optim.Optimizer``. It runs over
the 13 optimizers that step without a closure and take dense gradients, alone and inside each wrapper of :data:`WRAPS`
(over two of them where a wrapper handles all tensors together). Inside a wrapper, bases that resemble another one are
``slow``.
A promise that does not concern an optimizer (``fused`` where there is no fused kernel) counts as kept. What is not kept
is in :data:`NOT_KEPT`, with the reason, and must fail.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests import generic_checkpoints, generic_training
from tests.generic_subject import INFOS, KINDS, WRAPS, Subject

# What the wrappers do with all tensors together does not depend on the base, so two bases are enough for it.
TOGETHER, THEIR_BASES = ("fer together", "correction together"), ("Adam", "SGD")

# Inside a wrapper, these stand for the others: little state, most options, matrices alone.
FOR_ALL = ("SGD", "Adam", "Muon")

# ---- what is not kept, and why -----------------------------------------------------------------------------------

MODULES = (generic_training, generic_checkpoints)  # their promises are in KINDS once they are imported
ALL = tuple(INFOS)
WRAPPERS = tuple(name for name in WRAPS if name != "bare")
# The promise, the bases, the wrappers, the reason.
NOT_KEPT: list[tuple[str, tuple[str, ...], tuple[str, ...], str]] = [
    (
        "complex_parameters",
        tuple(base for base in ALL if INFOS[base].supports_complex),
        WRAPPERS,
        "wrappers refuse complex gradients by name: a cosine or a row's length is not defined for them here",
    ),
    (
        "errors",
        ("Adafactor", "Muon"),
        WRAPPERS,
        "torch expects a RuntimeError for complex gradients; the wrapper refuses them first, with a ValueError",
    ),
    (
        "nothing_happens_for_zero_gradients",
        ("ASGD",),
        tuple(WRAPS),
        "ASGD itself shrinks the weights by its lambd, whatever the gradients",
    ),
]


def reason_of(promise: str, base: str, wrap: str) -> str | None:
    for row, bases, wraps, reason in NOT_KEPT:
        if row == promise and base in bases and wrap in wraps:
            return reason
    return None


def rows() -> Iterator[Any]:
    for promise in KINDS:
        for base, info in INFOS.items():
            for wrap in [wrap for wrap in WRAPS if wrap not in TOGETHER or base in THEIR_BASES]:
                reason = reason_of(promise, base, wrap)
                marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True)]
                if wrap != "bare" and base not in FOR_ALL:
                    marks.append(pytest.mark.slow)
                yield pytest.param(promise, Subject(info, wrap), id=f"{wrap}-{base}-{promise}", marks=marks)


@pytest.mark.parametrize(("promise", "subject"), list(rows()))
def test_a_promise_of_torch_s_optimizers(promise: str, subject: Subject):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        KINDS[promise](subject)


def test_there_are_32_promises_and_13_bases():
    assert len(KINDS) == 32
    assert len(INFOS) >= 12  # Muon is new
    assert set(FOR_ALL) - {"Muon"} <= set(INFOS)

"""Promises of torch's optimizers about construction, training and groups; see ``test_torch_generic.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.testing import assert_close

from tests.generic_subject import Subject, common, kind, run, two, values
from tests.harness import BITWISE


@kind
def errors(subject: Subject) -> None:
    for wrong in subject.info.optim_error_inputs_func(device="cpu", dtype=torch.float32):
        given = wrong.optimizer_error_input
        params = [nn.Parameter(torch.randn(1, 1))] if given.params is None else given.params
        if issubclass(wrong.error_type, Warning):
            with pytest.warns(wrong.error_type, match=wrong.error_regex):
                subject.build(params, **given.kwargs)
        elif wrong.error_on == common.OptimizerErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(wrong.error_type, match=wrong.error_regex):
                subject.build(params, **given.kwargs)
        else:
            optimizer = subject.build(params, **given.kwargs)
            for p in params:
                p.grad = torch.rand_like(p)
            with pytest.raises(wrong.error_type, match=wrong.error_regex):
                optimizer.step()


def goes_right(subject: Subject, *, strided: bool = False, schedule: Callable[[Any], Any] | None = None) -> None:
    for kwargs in subject.few():
        params = two(strided=strided)
        optimizer = subject.build(params, **kwargs)
        schedulers = [] if schedule is None else [schedule(optimizer), ReduceLROnPlateau(optimizer)]
        losses = []
        for _ in range(6):
            losses.append(run(optimizer, params, 1)[0])
            for scheduler in schedulers:
                scheduler.step(*([losses[-1]] if isinstance(scheduler, ReduceLROnPlateau) else []))
        first, last = losses[0], losses[-1]
        assert last > first if kwargs.get("maximize") else last < first


@kind
def right_direction(subject: Subject) -> None:
    goes_right(subject)


@kind
def right_direction_of_strided_parameters(subject: Subject) -> None:
    goes_right(subject, strided=True)


@kind
def right_direction_with_schedulers(subject: Subject) -> None:
    goes_right(subject, schedule=lambda optimizer: StepLR(optimizer, gamma=0.9, step_size=2))


@kind
def right_direction_of_groups_with_a_scheduler(subject: Subject) -> None:
    params = two()
    optimizer = subject.build([{"params": [params[0]], "lr": 0.01}, {"params": [params[1]]}], lr=0.001)
    scheduler = StepLR(optimizer, gamma=0.9, step_size=1)
    losses = []
    for _ in range(6):
        losses += run(optimizer, params, 1)
        scheduler.step()
    assert losses[-1] < losses[0]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01 * 0.9**6, 0.001 * 0.9**6])


@kind
def a_tensor_as_rate_is_like_a_number(subject: Subject) -> None:
    looped = {"foreach": False} if "foreach" in subject.info.supported_impls else {}  # which takes no tensor
    trained = []
    for lr in (0.01, torch.tensor(0.01), torch.tensor([0.01])):
        params = two(torch.float64)
        run(subject.build(params, lr=lr, **looped), params, 3)
        trained.append(params)
    for params in trained[1:]:
        assert_close(params, trained[0], rtol=1e-6, atol=1e-8)


@kind
def complex_parameters(subject: Subject) -> None:
    if not subject.info.supports_complex:
        return
    for kwargs in subject.few():
        params = two(torch.complex64)
        real = [nn.Parameter(torch.view_as_real(p.detach()).clone()) for p in params]
        one, other = subject.build(params, **kwargs), subject.build(real, **kwargs)
        for _ in range(3):
            for p, r in zip(params, real, strict=True):
                p.grad = torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(1))
                r.grad = torch.view_as_real(p.grad).clone()
            one.step()
            other.step()
        for p, r in zip(params, real, strict=True):
            assert_close(torch.view_as_real(p.detach()), r.detach(), rtol=1e-4, atol=1e-5)


def equals_the_loop(subject: Subject, flag: str) -> None:
    for kwargs in subject.few():
        runs = []
        for chosen in ({flag: True}, {"foreach": False}):
            params = two(torch.float64)
            run(subject.build(params, **kwargs | chosen), params, 3)
            runs.append(params)
        assert_close(runs[0], runs[1], rtol=1e-6, atol=1e-7)


@kind
def foreach_equals_the_loop(subject: Subject) -> None:
    if "foreach" in subject.info.supported_impls:
        equals_the_loop(subject, "foreach")


@kind
def fused_equals_the_loop(subject: Subject) -> None:
    if "cpu" in subject.info.supports_fused_on:
        equals_the_loop(subject, "fused")


@kind
def weight_decay_of_a_group(subject: Subject) -> None:
    decayed, plain = two()[0], two()[0]
    optimizer = subject.build([{"params": [decayed], "weight_decay": 0.5}, {"params": [plain]}], lr=0.01)
    if "weight_decay" not in optimizer.param_groups[1]:
        return
    optimizer.param_groups[1]["weight_decay"] = 0.0
    decayed.grad, plain.grad = torch.ones_like(decayed), torch.ones_like(plain)
    for _ in range(2):
        optimizer.step()
    assert not decayed.equal(plain)


@kind
def rate_of_a_group(subject: Subject) -> None:
    slow, fast = two()[0], two()[0]
    start = slow.detach().clone()
    optimizer = subject.build([{"params": [slow], "lr": 1e-4}, {"params": [fast]}], lr=1e-2)
    for _ in range(2):
        slow.grad, fast.grad = torch.ones_like(slow), torch.ones_like(fast)
        optimizer.step()
    assert 0 < (slow.detach() - start).norm() < 0.5 * (fast.detach() - start).norm()


@kind
def nothing_happens_without_gradients(subject: Subject) -> None:
    for kwargs in subject.inputs():
        params = two()
        before = values(params)
        optimizer = subject.build(params, **kwargs)
        optimizer.step()
        assert_close(values(params), before, **BITWISE)


@kind
def nothing_happens_for_zero_gradients(subject: Subject) -> None:
    for kwargs in subject.inputs():
        if kwargs.get("weight_decay", 0.0 if subject.info.optim_cls.__name__ not in ("AdamW", "Muon") else 1.0):
            continue
        params = two()
        before = values(params)
        optimizer = subject.build(params, **kwargs)
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        assert_close(values(params), before, **BITWISE)


@kind
def it_can_be_printed(subject: Subject) -> None:
    for kwargs in subject.inputs():
        optimizer = subject.build(two(), **kwargs)
        text = repr(optimizer)
        assert text == str(optimizer)
        assert type(optimizer).__name__ in text
        assert subject.info.optim_cls.__name__ in text
        assert all(name in text for name in kwargs)

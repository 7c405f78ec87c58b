"""What a user's optimizer asks of the training loop: two modes, or a closure; found out by using it."""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from advanced_optimizers.experiments.compare.bench import STEPS, Bench
from advanced_optimizers.experiments.compare.code import CompareError
from advanced_optimizers.experiments.compare.own import Closure, OwnOptimizer
from advanced_optimizers.experiments.compare.spaces import middle


def with_needs(own: OwnOptimizer, bench: Bench) -> OwnOptimizer:
    """The optimizer with what it turns out to need: a closure, and how many passes it makes.

    Raises:
        CompareError: It asks for what cannot be given.
    """
    model = bench.model()
    values = {**own.fixed, **{name: middle(space) for name, space in own.space.items()}}
    optimizer = own.make(model, values, STEPS)
    _check_modes(own, optimizer)
    needs = bool(own.code.setting("CLOSURE")) or _requires_closure(optimizer, model, bench)
    if not needs:
        # An optimizer with modes averages over a constant rate; a schedule on top of it costs accuracy.
        switches = callable(getattr(optimizer, "train", None))
        return replace(own, schedule="constant") if switches and own.schedule is None else own
    if callable(getattr(optimizer, "train", None)):
        raise CompareError(f"{own.label} both switches modes and needs a closure, which the training loop cannot do")
    model = bench.model()
    closure, passes = _use_of_closure(own.make(model, values, STEPS), model, bench)
    return replace(own, closure=closure, passes=passes)


def _check_modes(own: OwnOptimizer, optimizer: Optimizer) -> None:
    has = {name: callable(getattr(optimizer, name, None)) for name in ("train", "eval")}
    for name, other in (("train", "eval"), ("eval", "train")):
        if has[name] and not has[other]:
            raise CompareError(
                f"{own.label} has {name}() but no {other}(): without it, weights would be evaluated at another point "
                f"than where gradients are taken; define {other}()"
            )
    if has["train"]:
        return
    inner = {
        attribute: value
        for attribute, value in vars(optimizer).items()
        if isinstance(value, Optimizer) and callable(getattr(value, "eval", None))
    }
    for attribute, value in inner.items():
        raise CompareError(
            f"{own.label} hides train() and eval() of the {type(value).__name__} in its attribute {attribute}: without "
            "eval(), other weights are evaluated than those it is meant to; define both and pass them on"
        )
    if any("train_mode" in group for group in optimizer.param_groups):
        raise CompareError(f"the param_groups of {own.label} have a train_mode, but it has no train() and eval()")


def _requires_closure(optimizer: Optimizer, model: nn.Module, bench: Bench) -> bool:
    """Whether a step without a closure is refused."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is None:
        return False
    if closure.default is inspect.Parameter.empty:
        return True
    _backward(model, bench)
    with suppress(AttributeError):
        optimizer.train()  # type: ignore[attr-defined]
    try:
        optimizer.step()
    except Exception as error:
        return "closure" in str(error).lower() or "'NoneType' object is not callable" in str(error)
    return False


def _use_of_closure(optimizer: Optimizer, model: nn.Module, bench: Bench) -> tuple[Closure, int]:
    """Whether the weights have moved when the closure is first called, and how many passes two steps make on average.

    Two, since some optimizers only prepare in their first.
    """
    calls: list[bool] = []
    for _ in range(2):
        _backward(model, bench)
        start = [p.detach().clone() for p in model.parameters()]

        def closure(start: list[Tensor] = start) -> Tensor:
            moved = any(not torch.equal(p.detach(), s) for p, s in zip(model.parameters(), start, strict=True))
            calls.append(moved)
            with torch.enable_grad():
                return _backward(model, bench)

        optimizer.step(closure)  # type: ignore[arg-type]
    if not calls:
        raise CompareError(f"{type(optimizer).__name__}.step() is said to need a closure and never called it")
    kind: Closure = "moved" if calls[0] else "first"
    return kind, max(1, round(len(calls) / 2) + (kind == "moved"))


def _backward(model: nn.Module, bench: Bench) -> Tensor:
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(bench.batch.images), bench.batch.labels)
    loss.backward()
    return loss

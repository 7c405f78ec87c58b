"""What the contract tests share: decorators that pick the rows, made-up gradients, a small model, copies."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tests.case import Case

SHAPES = ((), (3,), (5, 7), (5, 7), (33, 65), (4, 3, 3, 3))  # two of one shape: their state must not be shared
BITWISE: dict[str, Any] = {"rtol": 0.0, "atol": 0.0, "equal_nan": True}
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))

Gradients = list[list[Tensor]]
Test = TypeVar("Test", bound=Callable[..., None])
Decorator = Callable[[Test], Test]


# ---- the rows that a contract test runs over ---------------------------------------------------------------------


def every(cases: Iterable[Case]) -> Decorator:
    """Runs a test for every case."""
    return _over("case", [((case,), (case,), case.name) for case in cases])


def every_variant(cases: Iterable[Case]) -> Decorator:
    """Runs a test for every variant of every case."""
    rows = [((case,), (case, s), f"{case.name}, {name}") for case in cases for name, s in case.variants.items()]
    return _over("case, settings", rows)


def every_bad(cases: Iterable[Case], field: str) -> Decorator:
    """Runs a test for every bad value of every case, from its field ``bad_values`` or ``bad_overrides``."""
    rows = [((c,), (c, bad), f"{c.name} {bad.settings}") for c in cases for bad in getattr(c, field)]
    return _over("case, bad", rows)


def every_pair(pairs: Iterable[tuple[Case, Case]]) -> Decorator:
    """Runs a test for every pair of transforms to nest; one without the simplest, or handled together, is slow."""
    rows = [((a, b), (a, b), f"{a.name} over {b.name}") for a, b in pairs]
    return _over(
        "outer, inner", rows, slow=lambda a, b: "scaled" not in (a.name, b.name) or "together" in a.name + b.name
    )


def _over(
    names: str,
    rows: Iterable[tuple[tuple[Case, ...], tuple[Any, ...], str]],
    slow: Callable[..., bool] = lambda *cases: False,
) -> Decorator:
    """Parametrizes a test over rows of (cases, values, id); one that does not apply to a case is skipped there."""

    def decorate(test: Test) -> Test:
        params = []
        for cases, values, name in rows:
            reasons = [case.not_applicable[test.__name__] for case in cases if test.__name__ in case.not_applicable]
            marks = [pytest.mark.skip(reason=r) for r in reasons] + [pytest.mark.slow] * slow(*cases)
            params.append(pytest.param(*values, id=name, marks=marks))
        return pytest.mark.parametrize(names, params)(test)

    return decorate


# ---- parameters, gradients, a model and its training -------------------------------------------------------------


def make_params(
    rng: torch.Generator, dtype: torch.dtype = torch.float32, shapes: Sequence[tuple[int, ...]] = SHAPES
) -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(shape, generator=rng).to(dtype)) for shape in shapes]


def make_gradients(rng: torch.Generator, params: Sequence[Tensor], steps: int) -> Gradients:
    """Gradients with a common drift plus noise, so that some agree with the past ones and some do not."""
    drift = [torch.randn(p.shape, generator=rng) for p in params]
    noise = [[torch.randn(p.shape, generator=rng) for p in params] for _ in range(steps)]
    return [[(d + n).to(p) for d, n, p in zip(drift, ns, params, strict=True)] for ns in noise]


def feed(optimizer: Optimizer, params: Sequence[Tensor], gradients: Iterable[Sequence[Tensor | None]]) -> None:
    for grads in gradients:
        for p, g in zip(params, grads, strict=True):
            p.grad = None if g is None else g.clone(memory_format=torch.preserve_format)
        optimizer.step()


def twins(params: Sequence[Tensor]) -> list[nn.Parameter]:
    return [nn.Parameter(p.detach().clone(memory_format=torch.preserve_format)) for p in params]


def make_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def make_batches(rng: torch.Generator, count: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(6, 1, 8, 8, generator=rng), torch.randint(3, (6,), generator=rng)) for _ in range(count)]


def train(model: nn.Module, optimizer: Optimizer, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def lr_of(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """The state as it comes back from a checkpoint file, loaded as data only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)

"""Optimizers as users write them, good and broken, and a comparison on the digits that takes a second."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from advanced_optimizers.experiments.data.datasets import DATASETS
from advanced_optimizers.experiments.records.machine import SOURCES
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS
from advanced_optimizers.experiments.training.models import MODELS

# A copy of AdamW, and copies with the faults that preflight must find.
OPTIMIZERS = '''
import torch


class Copy(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                s = self.state[p]
                if not s:
                    s["step"], s["m"], s["v"] = 0, torch.zeros_like(p), torch.zeros_like(p)
                s["step"] += 1
                p.mul_(1 - group["lr"] * group["weight_decay"])
                s["m"].lerp_(p.grad, 1 - b1)
                s["v"].mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                m, v = s["m"] / (1 - b1 ** s["step"]), s["v"] / (1 - b2 ** s["step"])
                p.addcdiv_(m, v.sqrt().add_(group["eps"]), value=-group["lr"])


class DeadDecay(Copy):
    def step(self):
        for group in self.param_groups:
            group["weight_decay"] = 0.0
        super().step()


class Half(Copy):
    def step(self):
        for group in self.param_groups:
            group["params"] = group["params"][:2]
        super().step()


class NoEval(Copy):
    def train(self):
        pass


class Modes(Copy):
    def train(self):
        pass

    def eval(self):
        pass


class Hiding(Copy):
    def __init__(self, params, lr=1e-3):
        super().__init__(params, lr=lr)
        self.inner = Modes(self.param_groups[0]["params"])


class Failing(Copy):
    def step(self):
        raise RuntimeError("no")


class NoRate(torch.optim.SGD):
    def __init__(self, params, lr):
        super().__init__(params, lr=lr)


class Sharpness(torch.optim.SGD):
    """Moves the weights with the gradients that it finds, before it asks for others."""

    @torch.no_grad()
    def step(self, closure=None):
        if closure is None:
            raise RuntimeError("it requires a closure")
        moves = [0.05 * p.grad.sign() for group in self.param_groups for p in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        torch._foreach_add_(params, moves)
        with torch.enable_grad():
            closure()
        torch._foreach_sub_(params, moves)
        super().step()


def sharpness(params, lr=0.1):
    return Sharpness(params, lr=lr)


def lbfgs(params, lr=0.1):
    return torch.optim.LBFGS(params, lr=lr, max_iter=2)


def factory(model, lr=0.1, total_steps=None, momentum=0.9):
    assert total_steps is not None
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def wrong(loader):
    pass
'''

# Arguments of ``compare`` for a comparison that takes a second or two.
TINY: dict[str, Any] = {"budget": 2, "studies": 2, "seeds": 1, "epochs": 1, "jobs": 1, "progress": False}


@pytest.fixture(scope="module", autouse=True)
def tables() -> Iterator[None]:
    """Takes a user's rows out of the tables again; a module of tests that imports this has it."""
    kept = [(table, dict(table)) for table in (ALGORITHMS, MODELS, DATASETS, SOURCES)]
    yield
    for table, before in kept:
        table.clear()
        table.update(before)  # type: ignore[arg-type]


def write_mine(folder: Path, name: str = "mine.py", text: str = OPTIMIZERS) -> Path:
    path = folder / name
    path.write_text(text)
    return path

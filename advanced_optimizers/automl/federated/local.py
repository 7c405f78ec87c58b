"""The client's part: some epochs of training on its own data, within a time limit."""

from __future__ import annotations

import copy
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer

from advanced_optimizers._checks import check_integer, check_range
from advanced_optimizers.automl.federated.client import HasData


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    r"""How clients train: SGD on the loss of their own samples, with FedProx's term.

    .. math::
        w \leftarrow w - \eta \bigl(\nabla \ell(w) + \mu (w - w_t)\bigr)

    Attributes:
        lr: The learning rate :math:`\eta`, > 0.
        proximal_mu: :math:`\mu`, >= 0 and below 2 / ``lr``, from where on the term's steps grow; 0 is FedAvg.
        loss_fn: ``loss_fn(outputs, targets)``, a mean over the batch.
        optimizer: Called as ``optimizer(parameters, lr=lr)``; with another one than SGD, it gets the sum in parentheses
            as gradient.
        seed: With the round and the client's number, what torch's random numbers come from, >= 0.
        time_limit: Seconds that a client may take, > 0; None sets no limit.
    """

    lr: float = 0.01
    proximal_mu: float = 0.0
    loss_fn: Callable[[Tensor, Tensor], Tensor] = cross_entropy
    optimizer: Callable[..., Optimizer] = SGD
    seed: int = 0
    time_limit: float | None = None

    def __post_init__(self) -> None:
        lr = check_range("lr", self.lr, 0.0, math.inf, open_low=True, open_high=True)
        check_range("proximal_mu", self.proximal_mu, 0.0, 2.0 / lr, open_high=True)
        check_integer("seed", self.seed, 0)
        if self.time_limit is not None:
            check_range("time_limit", self.time_limit, 0.0, math.inf, open_low=True, open_high=True)
        for name, function in (("loss_fn", self.loss_fn), ("optimizer", self.optimizer)):
            if not callable(function):
                raise TypeError(f"{name} must be callable, got {function!r}")

    def train(self, model: nn.Module, client: HasData, num_epochs: int, number: int, index: int) -> Trained:
        """Trains a copy of a model.

        Args:
            model: The global model :math:`w_t`, which stays as it is.
            client: Whose data it is.
            num_epochs: Passes over them, >= 1.
            number: The round's number.
            index: The client's number.

        Raises:
            TimeoutError: It took longer than ``time_limit``.
            Exception: Whatever the client's data or the model raise.
        """
        device = next(model.parameters()).device
        cuda = [device] if device.type == "cuda" else []
        deadline = math.inf if self.time_limit is None else time.monotonic() + self.time_limit
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed_of(self.seed, number, index))
            own = copy.deepcopy(model).train()
            return _within(self.time_limit, lambda: self._train(own, client, num_epochs, device, deadline))

    def _train(self, model: nn.Module, client: HasData, epochs: int, device: torch.device, deadline: float) -> Trained:
        learned = [p for p in model.parameters() if p.requires_grad]
        start = [p.detach().clone() for p in learned] if self.proximal_mu else []
        optimizer = self.optimizer(learned, lr=self.lr)
        loss_sum, samples = torch.zeros((), device=device), 0
        for epoch in range(1, epochs + 1):
            before = samples
            for batch in client.data_loader:
                if time.monotonic() > deadline:  # it may go on without anyone waiting for it
                    raise _too_long(self.time_limit)
                inputs, targets = _pair(batch)
                optimizer.zero_grad()
                loss = self.loss_fn(model(inputs.to(device)), targets.to(device))
                loss.backward()
                for p, at_start in zip(learned, start, strict=False):
                    if p.grad is not None:
                        p.grad.add_(p.detach() - at_start, alpha=self.proximal_mu)
                optimizer.step()
                loss_sum += loss.detach() * len(targets)
                samples += len(targets)
            if samples == before:
                raise ValueError(f"data_loader must yield batches in every epoch, got none in epoch {epoch}")
        return Trained(model, loss_sum.item() / samples, samples)


@dataclass(frozen=True)
class Trained:
    """What a client returns.

    Attributes:
        model: The trained copy.
        loss: The mean loss over all samples of all epochs, each before the step on it.
        samples: How many gradients of samples it computed.
    """

    model: nn.Module
    loss: float
    samples: int


def seed_of(seed: int, number: int, index: int | str) -> int:
    """The seed of a client, or of something else, in a round."""
    return random.Random(f"{seed} {number} {index}").getrandbits(63)


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    """A batch's inputs and targets; a tensor with two rows would come apart into them without an error."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise TypeError(f"data_loader must yield pairs (inputs, targets), got {type(batch).__name__}")
    return batch[0], batch[1]


def _within(seconds: float | None, function: Callable[[], Trained]) -> Trained:
    """Calls a function, in a thread that is given up after a while; no thread can be ended from outside."""
    if seconds is None:
        return function()
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(function())
        except BaseException as error:  # raised again below, whatever it is
            outcome.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise _too_long(seconds)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    result: Trained = outcome[0]
    return result


def _too_long(seconds: float | None) -> TimeoutError:
    return TimeoutError(f"it took longer than time_limit={seconds} s")

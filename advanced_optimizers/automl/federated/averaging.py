"""Federated averaging: rounds in which some clients train, and the server averages their models."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer

from advanced_optimizers._checks import check_choice, check_integer, check_range
from advanced_optimizers.automl.federated.aggregate import State, WeightedMean, check_state, check_weights
from advanced_optimizers.automl.federated.client import HasData, check_clients
from advanced_optimizers.automl.federated.local import LocalTraining, Trained, seed_of

WEIGHTINGS = ("size", "uniform")


class ClientLeftOutWarning(UserWarning):
    """A client failed, took too long, or returned a model that cannot be averaged; its round went on without it."""


class NoClientFinishedError(RuntimeError):
    """All clients of a round were left out; the global model is as it was."""


class Engine(Protocol):
    """What trains clients side by side; ``advanced_optimizers.experiments.studies.engines`` has some."""

    def each(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterable[tuple[Any, Any]]:
        """Yields each item with ``function(item)`` or with the exception that it raised, in any order."""


@dataclass(frozen=True)
class Round:
    """What happened in a round.

    Attributes:
        number: Its number, from 1.
        clients: The numbers of the clients that were sampled.
        left_out: Why a client was left out, by its number.
        train_loss: The weighted mean of the clients' training losses.
        samples: Gradients of samples that were computed by the clients whose models were averaged.
        megabytes: Sent to the clients and by them, in 10^6 bytes.
    """

    number: int
    clients: tuple[int, ...]
    left_out: Mapping[int, str]
    train_loss: float
    samples: int
    megabytes: float


class FederatedAveraging:
    r"""Federated averaging (FedAvg), with FedProx's term if wanted.

    In round t, a random set S of max(floor(C K), 1) of the K clients is sampled. Each of them trains a copy of the
    global model on its own samples, and the server averages what comes back:

    .. math::
        w_k &= \text{E epochs of } w \leftarrow w - \eta \bigl(\nabla \ell(w) + \mu (w - w_t)\bigr)
        \text{ from } w_t, \\
        w_{t+1} &= \sum_{k \in S} \frac{n_k}{n_S} w_k, \qquad n_S = \sum_{k \in S} n_k.

    Buffers are averaged like parameters, in particular BatchNorm's running statistics; of integers, such as its count
    of batches, the maximum is taken. A client that raises, takes longer than ``time_limit`` or returns a value that is
    not finite is left out of its round with a :class:`ClientLeftOutWarning`, and :math:`n_S` counts the others. The
    global model is changed at the end of a round, or not at all.

    That data stay with the clients does not make them private: a model that is sent back can give samples away.

    Args:
        global_model: The model; rounds change it in place. Clients train on its device.
        clients: Objects with ``data``, whose length is :math:`n_k`, and ``data_loader`` with batches
            ``(inputs, targets)``, such as :class:`Client`.
        lr: The clients' learning rate :math:`\eta`, > 0.
        fraction: C, in (0, 1].
        proximal_mu: FedProx's :math:`\mu`, in [0, 2 / ``lr``); 0 is FedAvg.
        weighting: ``size``, or ``uniform``, which sets every :math:`n_k` to 1.
        loss_fn: ``loss_fn(outputs, targets)``, a mean over the batch.
        optimizer: Called as ``optimizer(parameters, lr=lr)`` by each client in each round.
        seed: Of sampling and of the clients' training, >= 0. Each client has its own random numbers in each round, so
            rounds are the same with every ``engine``, and after ``rounds`` was set to go on with a loaded model.
        time_limit: Seconds that a client may take, > 0; None sets no limit. A client that hangs is given up, but its
            thread cannot be ended; one that is only slow ends at its next batch.
        engine: What trains clients side by side, such as ``make_engine("loky", 4)`` of
            ``advanced_optimizers.experiments.studies.engines``; clients are then sent to other processes. None trains
            one after the other.

    Attributes:
        rounds: How many rounds there were, those included in which no client finished.

    Raises:
        TypeError: An argument has another type, or a client lacks ``data`` or ``data_loader``.
        ValueError: A number is out of range, there is no client, or a client has no samples.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import FederatedAveraging, make_clients, split_shards
        >>> x = torch.randn(600, 4)
        >>> y = x.argmax(1)
        >>> federation = FederatedAveraging(
        ...     torch.nn.Linear(4, 4), make_clients(x, y, split_shards(y, 10)), lr=0.1, fraction=0.5
        ... )
        >>> [len(federation.federated_round(num_epochs=1).clients) for _ in range(3)]
        [5, 5, 5]

    References:
        McMahan et al., *Communication-Efficient Learning of Deep Networks from Decentralized Data*, AISTATS 2017, arXiv
        1602.05629, Algorithm 1; Li et al., *Federated Optimization in Heterogeneous Networks*, MLSys 2020, arXiv
        1812.06127 (FedProx).

    Departures from the paper:
        Buffers: the paper's networks have none. FedProx may keep what stragglers have done by then; here they are left
        out.

    Limitations:
        What is not in ``state_dict`` is not averaged. A client's optimizer starts anew in each round. A loader with a
        generator of its own is seeded by its owner, and in another process its state does not come back. Only torch's
        random numbers are seeded.
    """

    def __init__(
        self,
        global_model: nn.Module,
        clients: Sequence[HasData],
        *,
        lr: float = 0.01,
        fraction: float = 1.0,
        proximal_mu: float = 0.0,
        weighting: str = "size",
        loss_fn: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
        optimizer: Callable[..., Optimizer] = SGD,
        seed: int = 0,
        time_limit: float | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.global_model = check_model("global_model", global_model)
        self.clients = check_clients(clients)
        self.local = LocalTraining(
            lr=lr, proximal_mu=proximal_mu, loss_fn=loss_fn, optimizer=optimizer, seed=seed, time_limit=time_limit
        )
        self.fraction = check_range("fraction", fraction, 0.0, 1.0, open_low=True)
        self.weighting = check_choice("weighting", weighting, WEIGHTINGS)
        if engine is not None and not callable(getattr(engine, "each", None)):
            raise TypeError(f"engine must have a method each(function, items), or be None, got {engine!r}")
        self.engine = engine
        self.rounds = 0

    def federated_round(self, num_epochs: int = 5) -> Round:
        """Samples clients, trains them, and replaces the global model by the average of theirs.

        Args:
            num_epochs: Passes of each client over its samples, >= 1.

        Returns:
            What happened.

        Raises:
            ValueError: ``num_epochs`` is too small.
            NoClientFinishedError: All sampled clients were left out. The global model is as it was, and the next round
                samples others.

        Warns:
            ClientLeftOutWarning: A client was left out.
        """
        check_integer("num_epochs", num_epochs, 1)
        self.rounds += 1
        like = self.global_model.state_dict()
        mean, tally = WeightedMean(like), _Tally()
        sampled = self._sample()
        for index, trained in self._in_order(sampled, num_epochs):
            state = self._checked(index, trained, like)
            if isinstance(state, Exception):
                tally.left_out[index] = state
                warnings.warn(_left_out(index, self.rounds, state), ClientLeftOutWarning, stacklevel=2)
            else:
                weight = self._weight(index)
                mean.add(state, weight)
                tally.losses += weight * trained.loss
                tally.samples += trained.samples
        if len(tally.left_out) == len(sampled):
            first = next(iter(tally.left_out.values()))
            raise NoClientFinishedError(
                f"all {len(sampled)} clients of round {self.rounds} were left out, and the global model is as it was; "
                f"client {sampled[0]}: {_words(first)}"
            ) from first
        self.global_model.load_state_dict(mean.state)
        finished = len(sampled) - len(tally.left_out)
        return Round(
            number=self.rounds,
            clients=tuple(sampled),
            left_out={index: _words(error) for index, error in tally.left_out.items()},
            train_loss=tally.losses / mean.total,
            samples=tally.samples,
            megabytes=(len(sampled) + finished) * _bytes(like) / 1e6,
        )

    def train_client(self, client: HasData, num_epochs: int) -> nn.Module:
        """Trains a copy of the global model on a client's samples, as in the round that comes next.

        Args:
            client: One of ``clients``, or another one.
            num_epochs: Passes over its samples, >= 1.

        Returns:
            The trained copy.

        Raises:
            ValueError: ``num_epochs`` is too small.
            TimeoutError: It took longer than ``time_limit``.
        """
        check_integer("num_epochs", num_epochs, 1)
        (client,) = check_clients([client])
        index = next((index for index, own in enumerate(self.clients) if own is client), -1)
        return self.local.train(self.global_model, client, num_epochs, self.rounds + 1, index).model

    def aggregate_models(self, client_models: Sequence[nn.Module], weights: Sequence[float]) -> None:
        """Replaces the global model by the weighted mean of models, buffers included.

        Args:
            client_models: At least one model like the global one.
            weights: One per model, >= 0 and not all 0; only their ratios count.

        Raises:
            TypeError: A model is not a module, or a weight is not a number.
            ValueError: There is no model, the numbers of models and weights differ, a weight is negative or all are 0,
                or a model differs from the global one in names or shapes or is not finite. The global model is then as
                it was.
        """
        models = list(client_models)
        if not models:
            raise ValueError("client_models must hold at least one model, got []")
        like = self.global_model.state_dict()
        mean = WeightedMean(like)
        for number, (model, weight) in enumerate(zip(models, check_weights(weights, len(models)), strict=True)):
            check_model(f"client_models[{number}]", model, learning=False)
            state = model.state_dict()
            check_state(f"client_models[{number}]", state, like)
            mean.add(state, weight)
        self.global_model.load_state_dict(mean.state)

    def _sample(self) -> list[int]:
        count = max(int(self.fraction * len(self.clients)), 1)
        generator = torch.Generator().manual_seed(seed_of(self.local.seed, self.rounds, "sample"))
        return sorted(torch.randperm(len(self.clients), generator=generator)[:count].tolist())

    def _in_order(self, sampled: Sequence[int], num_epochs: int) -> Iterator[tuple[int, Any]]:
        """Each client's outcome, in the order in which they were sampled: floating-point sums depend on it."""
        calls = (
            _Call(index, self.global_model, self.clients[index], self.local, num_epochs, self.rounds)
            for index in sampled
        )
        each = _one_after_the_other if self.engine is None else self.engine.each
        early: dict[int, Any] = {}
        waiting = list(sampled)
        for call, outcome in each(_train, calls):
            early[call.index] = outcome
            while waiting and waiting[0] in early:
                index = waiting.pop(0)
                yield index, early.pop(index)
        for index in waiting:  # an engine that loses a call must not end in a smaller round without a word
            yield index, early.pop(index, RuntimeError("the engine returned nothing for it"))

    def _checked(self, index: int, trained: Trained | Exception, like: State) -> State | Exception:
        """A client's state, or why it cannot be averaged."""
        if isinstance(trained, Exception):
            return trained
        state = trained.model.state_dict()
        try:
            check_state("its model", state, like)
        except ValueError as error:
            return error
        return state

    def _weight(self, index: int) -> int:
        return len(self.clients[index].data) if self.weighting == "size" else 1


@dataclass
class _Tally:
    """What a round has come to so far."""

    left_out: dict[int, Exception] = field(default_factory=dict)
    losses: float = 0.0
    samples: int = 0


@dataclass(frozen=True)
class _Call:
    """What an engine sends to where a client is trained."""

    index: int
    model: nn.Module
    client: HasData
    local: LocalTraining
    num_epochs: int
    number: int


def _train(call: _Call) -> Trained:
    return call.local.train(call.model, call.client, call.num_epochs, call.number, call.index)


def _one_after_the_other(
    function: Callable[[_Call], Trained], calls: Iterable[_Call]
) -> Iterator[tuple[_Call, Trained | Exception]]:
    for call in calls:
        try:
            yield call, function(call)
        except Exception as error:  # the client's, whose round goes on without it
            yield call, error


def check_model(name: str, model: Any, *, learning: bool = True) -> nn.Module:
    """A module whose state consists of tensors, with something to learn."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module, got {model!r}")
    if learning and not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"{name} must have a parameter that requires a gradient, got {type(model).__name__} without")
    for key, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must have a state of tensors, got {type(value).__name__} at {key!r}")
    return model


def _left_out(index: int, number: int, error: Exception) -> str:
    return f"client {index} is left out of round {number}: {_words(error)}"


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _bytes(state: State) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())

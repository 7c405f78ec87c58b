"""The same training and the same averaging on Flower's engine, for clients that are processes on other machines.

A Flower app has two parts: :func:`client_app` makes that of the clients, and :class:`FlowerAveraging` is the strategy
of the server's. ``examples/flower`` has a whole app and says how it is started. What comes out equals
:class:`.FederatedAveraging` with the same clients: both train by ``LocalTraining`` and average by ``WeightedMean``.

Flower pins common packages, so install it in an environment of its own:
``pip install "advanced-optimizers[flower]"``. It reports its use unless ``FLWR_TELEMETRY_ENABLED=0`` is set.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer

from advanced_optimizers._checks import check_choice, check_integer, check_range
from advanced_optimizers.automl.federated.aggregate import WeightedMean, check_state
from advanced_optimizers.automl.federated.averaging import (
    WEIGHTINGS,
    ClientLeftOutWarning,
    NoClientFinishedError,
    check_model,
)
from advanced_optimizers.automl.federated.client import HasData, check_clients
from advanced_optimizers.automl.federated.local import LocalTraining

try:
    from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import FedAvg
except ImportError as error:
    raise ImportError(
        'Flower is missing: pip install "advanced-optimizers[flower]", in an environment of its own'
    ) from error

# Names in the messages; the first three are those that Flower's own strategies use.
_ARRAYS, _METRICS, _EXAMPLES, _LOSS, _EPOCHS, _ROUND = (
    "arrays",
    "metrics",
    "num-examples",
    "train-loss",
    "num-epochs",
    "server-round",
)


def client_app(
    make_model: Callable[[], nn.Module],
    make_client: Callable[[int], HasData],
    *,
    lr: float = 0.01,
    proximal_mu: float = 0.0,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    optimizer: Callable[..., Optimizer] = SGD,
    seed: int = 0,
    time_limit: float | None = None,
) -> ClientApp:
    """Makes the app that every client runs. Each is started with its number: ``--node-config "partition-id=0"``.

    Args:
        make_model: Makes a model like the global one; its parameters and buffers are then those that the server sends.
        make_client: ``make_client(number)`` loads the client's own data, see :class:`.Client`.
        lr: See :class:`.FederatedAveraging`, as for the arguments that follow.
        proximal_mu: FedProx's mu.
        loss_fn: The loss.
        optimizer: What makes the clients' optimizers.
        seed: Of the clients' training.
        time_limit: Seconds that a client may take; it then returns an error instead of a model.

    Raises:
        TypeError: An argument has another type.
        ValueError: A number is out of range.
    """
    local = LocalTraining(
        lr=lr, proximal_mu=proximal_mu, loss_fn=loss_fn, optimizer=optimizer, seed=seed, time_limit=time_limit
    )
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Any) -> Message:
        number = int(context.node_config["partition-id"])
        (client,) = check_clients([make_client(number)])
        model = check_model("make_model()", make_model())
        model.load_state_dict(message.content[_ARRAYS].to_torch_state_dict())
        config = message.content["config"]
        trained = local.train(model, client, int(config[_EPOCHS]), int(config[_ROUND]), number)
        metrics = MetricRecord({_EXAMPLES: len(client.data), _LOSS: trained.loss})
        content = RecordDict({_ARRAYS: ArrayRecord(trained.model.state_dict()), _METRICS: metrics})
        return Message(content=content, reply_to=message)

    return app


class FlowerAveraging(FedAvg):
    """Flower's strategy with our averaging: a client costs its share where Flower's own would average what it sent.

    A node that returns an error or a model that cannot be averaged, or that does not answer in time, is left out with a
    :class:`.ClientLeftOutWarning`. If none is left, :class:`.NoClientFinishedError` ends the run, and the global model
    is as it was.

    Args:
        global_model: The model; :meth:`run` changes it in place.
        num_clients: How many clients there are: it waits until so many have connected, >= 1.
        fraction: The share of the connected clients that are sampled for a round, by Flower, in (0, 1].
        weighting: ``size`` or ``uniform``, see :class:`.FederatedAveraging`.

    Raises:
        TypeError: An argument has another type.
        ValueError: A number is out of range.
    """

    def __init__(
        self, global_model: nn.Module, num_clients: int, *, fraction: float = 1.0, weighting: str = "size"
    ) -> None:
        self.global_model = check_model("global_model", global_model)
        self.weighting = check_choice("weighting", weighting, WEIGHTINGS)
        self._asked: set[int] = set()
        super().__init__(
            fraction_train=check_range("fraction", fraction, 0.0, 1.0, open_low=True),
            fraction_evaluate=0.0,
            min_train_nodes=1,
            min_available_nodes=check_integer("num_clients", num_clients, 1),
        )

    def run(self, grid: Grid, num_rounds: int, num_epochs: int = 5, *, time_limit: float = 3600.0) -> nn.Module:
        """Runs the rounds, in the server's app.

        Args:
            grid: What Flower passes to the app.
            num_rounds: How many, >= 1.
            num_epochs: Passes of each client over its samples, >= 1.
            time_limit: Seconds that a round may take, > 0; who has not answered by then is left out.

        Returns:
            The global model.

        Raises:
            ValueError: A number is out of range.
            NoClientFinishedError: All clients of a round were left out.
        """
        self.start(
            grid,
            ArrayRecord(self.global_model.state_dict()),
            check_integer("num_rounds", num_rounds, 1),
            timeout=check_range("time_limit", time_limit, 0.0, open_low=True),
            train_config=ConfigRecord({_EPOCHS: check_integer("num_epochs", num_epochs, 1)}),
        )
        return self.global_model

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Grid) -> Iterable[Message]:
        """See ``FedAvg``; it remembers whom it asked."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self._asked = {message.metadata.dst_node_id for message in messages}
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord, MetricRecord]:
        """Averages what the clients returned, and loads it into the global model.

        Args:
            server_round: The round's number.
            replies: Their messages.

        Raises:
            NoClientFinishedError: All were left out.

        Warns:
            ClientLeftOutWarning: A client was left out.
        """
        like = self.global_model.state_dict()
        mean, losses, left_out = WeightedMean(like), 0.0, dict.fromkeys(self._asked, "no answer in time")
        for reply in sorted(replies, key=lambda reply: reply.metadata.src_node_id):
            node = reply.metadata.src_node_id
            left_out.pop(node, None)
            try:
                state, metrics = _content(reply, like)
            except ValueError as error:
                left_out[node] = str(error)
                continue
            weight = float(metrics[_EXAMPLES]) if self.weighting == "size" else 1.0
            mean.add(state, weight)
            losses += weight * float(metrics[_LOSS])
        for node, why in left_out.items():
            text = f"node {node} is left out of round {server_round}: {why}"
            warnings.warn(text, ClientLeftOutWarning, stacklevel=2)
        if not mean.total:
            raise NoClientFinishedError(
                f"all {len(left_out)} clients of round {server_round} were left out, and the global model is as it "
                f"was; {next(iter(left_out.values()), 'none was asked')}"
            )
        self.global_model.load_state_dict(mean.state)
        return ArrayRecord(mean.state), MetricRecord({_LOSS: losses / mean.total})


def _content(reply: Message, like: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """A client's state and metrics; a ValueError says why they cannot be averaged."""
    if reply.has_error():
        raise ValueError(str(reply.error.reason))
    try:
        state, metrics = reply.content[_ARRAYS].to_torch_state_dict(), reply.content[_METRICS]
        examples, _ = float(metrics[_EXAMPLES]), float(metrics[_LOSS])
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"its message lacks {error}") from error
    check_state("its model", state, like)
    if not 0 < examples < float("inf"):
        raise ValueError(f"{_EXAMPLES} must be a number > 0, got {examples}")
    return state, metrics

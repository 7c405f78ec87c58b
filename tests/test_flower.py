"""Flower's engine, where it is installed: the strategy's average is Flower's own, and a real run is equal to ours.

In Flower's environment, which has little else: ``pytest --noconftest tests/test_flower.py``.
"""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from advanced_optimizers.automl import ClientLeftOutWarning, NoClientFinishedError

pytest.importorskip("flwr", reason="Flower has an environment of its own")

from flwr.app import ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity

from advanced_optimizers.automl.federated.flower import FlowerAveraging

SIZES = (3, 5, 20)


def model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))


def reply(node: int, content: Any) -> Message:
    # Flower sets these where it starts a process for an app.
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, node
    asked = Message(content=RecordDict(), dst_node_id=node, message_type="train")
    if isinstance(content, str):
        return Message(Error(code=1, reason=content), reply_to=asked)
    return Message(content=content, reply_to=asked)


def trained(size: float, own: nn.Module) -> RecordDict:
    metrics = MetricRecord({"num-examples": size, "train-loss": 0.5})
    return RecordDict({"arrays": ArrayRecord(own.state_dict()), "metrics": metrics})


def test_the_average_is_that_of_flowers_own_strategy() -> None:
    strategy = FlowerAveraging(model(0), num_clients=3)
    replies = [reply(7 + k, trained(size, model(k))) for k, size in enumerate(SIZES)]
    ours, metrics = strategy.aggregate_train(1, replies)
    theirs, _ = FedAvg().aggregate_train(1, replies)
    assert theirs is not None
    own, other = ours.to_torch_state_dict(), theirs.to_torch_state_dict()
    assert own.pop("1.num_batches_tracked").dtype == torch.int64  # Flower's own makes a float of it
    other.pop("1.num_batches_tracked")
    assert_close(dict(own), dict(other), atol=1e-6, rtol=0)
    assert_close({name: strategy.global_model.state_dict()[name] for name in own}, dict(own), atol=0, rtol=0)
    assert metrics["train-loss"] == pytest.approx(0.5)


def test_a_node_that_cannot_be_averaged_costs_its_share() -> None:
    broken = model(1)
    with torch.no_grad():
        broken[0].weight[0, 0] = math.nan  # type: ignore[operator,index,union-attr]
    good = reply(4, trained(3, model(2)))
    bad = [
        reply(1, trained(5, broken)),
        reply(2, "it crashed"),
        reply(3, trained(5, nn.Linear(4, 2))),
        reply(5, RecordDict()),
        reply(6, trained(0, model(3))),
    ]
    strategy = FlowerAveraging(model(0), num_clients=7)
    strategy._asked = set(range(1, 8))
    with pytest.warns(ClientLeftOutWarning) as heard:
        strategy.aggregate_train(2, [*bad, good])
    assert_close(strategy.global_model.state_dict(), model(2).state_dict())
    said = sorted(str(warning.message) for warning in heard)
    assert [text.split()[1] for text in said] == ["1", "2", "3", "5", "6", "7"]
    for text, word in zip(said, ["NaN", "it crashed", "0.bias", "arrays", "num-examples", "no answer"], strict=True):
        assert word in text


def test_if_all_fail_the_model_stays() -> None:
    strategy = FlowerAveraging(model(0), num_clients=1)
    with pytest.warns(ClientLeftOutWarning), pytest.raises(NoClientFinishedError, match="it crashed"):
        strategy.aggregate_train(1, [reply(2, "it crashed")])
    assert_close(strategy.global_model.state_dict(), model(0).state_dict(), atol=0, rtol=0)


def test_a_server_and_three_clients_come_to_what_we_come_to() -> None:
    example = Path(__file__).parent.parent / "examples" / "flower" / "run.py"
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

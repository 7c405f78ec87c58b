"""Bad calls of continual learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from advanced_optimizers.automl import ElasticWeightConsolidation, ProgressiveNeuralNetwork, ReplayBuffer
from tests.bad_calls import BadCall

INPUTS, LABELS = torch.zeros(6, 4), torch.zeros(6, dtype=torch.long)


def ewc(model: Any = None, strength: Any = 1.0, **options: Any) -> ElasticWeightConsolidation:
    return ElasticWeightConsolidation(nn.Linear(4, 3) if model is None else model, strength, **options)


def compute(*batches: Any, model: Any = None, options: dict[str, Any] | None = None, **fisher: Any) -> object:
    return ewc(model, **{"fisher": "empirical", **fisher}).compute_fisher_information(list(batches), **(options or {}))


def after_one(do: Callable[[ElasticWeightConsolidation], object]) -> object:
    held = ewc()
    held.compute_fisher_information([INPUTS])
    return do(held)


def other_shape(held: ElasticWeightConsolidation) -> object:
    held.model.weight = nn.Parameter(torch.zeros(5, 4))
    return held.penalty()


def other_name(held: ElasticWeightConsolidation) -> object:
    held.model.weight = None
    return held.penalty()


def filled(*tensors: Any) -> object:
    buffer = ReplayBuffer(3)
    buffer.add(INPUTS, LABELS)
    return buffer.add(*tensors)


def net(columns: int = 2) -> ProgressiveNeuralNetwork:
    built = ProgressiveNeuralNetwork(4, 3)
    for _ in range(columns - 1):
        built.add_column(4, 3)
    return built


FROZEN = nn.Linear(4, 3).requires_grad_(False)
WEIGHT: Tensor = torch.ones(3, 4)

BAD_CALLS = [
    BadCall("ElasticWeightConsolidation", "model", "'mlp'", lambda: ewc("mlp")),
    BadCall("ElasticWeightConsolidation", "model", "Linear without", lambda: ewc(FROZEN)),
    BadCall("ElasticWeightConsolidation", "model", "'weight'", lambda: ewc(nn.Linear(4, 3, dtype=torch.complex64))),
    BadCall("ElasticWeightConsolidation", "lambda_ewc", "-1", lambda: ewc(None, -1)),
    BadCall("ElasticWeightConsolidation", "lambda_ewc", "inf", lambda: ewc(None, math.inf)),
    BadCall("ElasticWeightConsolidation", "lambda_ewc", "nan", lambda: ewc(None, math.nan)),
    BadCall("ElasticWeightConsolidation", "lambda_ewc", "'1000'", lambda: ewc(None, "1000")),
    BadCall("ElasticWeightConsolidation", "fisher", "'true'", lambda: ewc(fisher="true")),
    BadCall("ElasticWeightConsolidation", "online", "1", lambda: ewc(online=1)),
    BadCall("ElasticWeightConsolidation", "gamma", "1.5", lambda: ewc(gamma=1.5)),
    BadCall("ElasticWeightConsolidation", "generator", "0", lambda: ewc(generator=0)),
    BadCall("compute", "dataloader", "none", lambda: compute()),
    BadCall("compute empty batches", "dataloader", "none", lambda: compute((INPUTS[:0], LABELS[:0]))),
    BadCall("compute", "dataloader", "Tensor", lambda: compute(INPUTS)),
    BadCall("compute", "dataloader", "'x'", lambda: compute({"x": INPUTS}, fisher="exact")),
    BadCall("compute", "dataloader", "()", lambda: compute(torch.zeros(()), fisher="exact")),
    BadCall("compute", "dataloader", "(5,)", lambda: compute((INPUTS, LABELS[:5]))),
    BadCall("compute", "dataloader", "[3, 3", lambda: compute((INPUTS, LABELS + 3))),
    BadCall("compute", "dataloader", "float32", lambda: compute((INPUTS, LABELS.float()))),
    BadCall(
        "compute", "model", "(1, 2, 3)", lambda: compute(INPUTS.view(6, 2, 2), model=nn.Linear(2, 3), fisher="exact")
    ),
    BadCall("compute_fisher_information", "dataloader", "Tensor", lambda: ewc().compute_fisher_information(INPUTS)),
    BadCall("compute_fisher_information", "dataloader", "6", lambda: ewc().compute_fisher_information(6)),
    BadCall("compute", "logits", "2", lambda: compute((INPUTS, LABELS), options={"logits": 2})),
    BadCall("compute", "max_samples", "0", lambda: compute((INPUTS, LABELS), options={"max_samples": 0})),
    BadCall("consolidate", "importance", "[]", lambda: ewc().consolidate([])),
    BadCall("consolidate", "importance", "{}", lambda: ewc().consolidate({})),
    BadCall("consolidate", "importance", "'wieght'", lambda: ewc().consolidate({"wieght": WEIGHT})),
    BadCall("consolidate", "importance", "(3,)", lambda: ewc().consolidate({"weight": WEIGHT[:, 0]})),
    BadCall("consolidate", "importance", "-1.0", lambda: ewc().consolidate({"weight": -WEIGHT})),
    BadCall("consolidate", "importance", "nan", lambda: ewc().consolidate({"weight": WEIGHT * math.nan})),
    BadCall("ewc_loss", "current_loss", "0.5", lambda: after_one(lambda held: held.ewc_loss(0.5))),
    BadCall("ewc_loss", "current_loss", "(2,)", lambda: after_one(lambda held: held.ewc_loss(torch.zeros(2)))),
    BadCall("penalty", "model", "'weight'", lambda: after_one(other_shape)),
    BadCall("penalty", "model", "must keep", lambda: after_one(other_name)),
    BadCall("check_stability", "optimizer", "0.1", lambda: ewc().check_stability(0.1)),
    BadCall("load_state_dict", "state", "['tasks']", lambda: ewc().load_state_dict({"tasks": []})),
    BadCall("ReplayBuffer", "capacity", "0", lambda: ReplayBuffer(0)),
    BadCall("ReplayBuffer", "seed", "-1", lambda: ReplayBuffer(3, seed=-1)),
    BadCall("add", "tensors", "()", lambda: filled()),
    BadCall("add", "tensors", "[1]", lambda: filled([1])),
    BadCall("add", "tensors", "(5,)", lambda: filled(INPUTS, LABELS[:5])),
    BadCall("add", "tensors", "(6, 2)", lambda: filled(INPUTS[:, :2], LABELS)),
    BadCall("sample", "count", "0", lambda: ReplayBuffer(3).sample(0)),
    BadCall("ProgressiveNeuralNetwork", "input_dim", "0", lambda: ProgressiveNeuralNetwork(0)),
    BadCall("ProgressiveNeuralNetwork", "hidden_dim", "2.5", lambda: ProgressiveNeuralNetwork(4, 2.5)),
    BadCall("ProgressiveNeuralNetwork", "output_dim", "0", lambda: ProgressiveNeuralNetwork(4, output_dim=0)),
    BadCall("ProgressiveNeuralNetwork", "num_layers", "0", lambda: ProgressiveNeuralNetwork(4, num_layers=0)),
    BadCall("ProgressiveNeuralNetwork", "adapter_dim", "-1", lambda: ProgressiveNeuralNetwork(4, adapter_dim=-1)),
    BadCall("ProgressiveNeuralNetwork", "batch_norm", "'yes'", lambda: ProgressiveNeuralNetwork(4, batch_norm="yes")),
    BadCall("add_column", "input_dim", "5", lambda: net().add_column(5)),
    BadCall("add_column", "hidden_dim", "0", lambda: net().add_column(4, 0)),
    BadCall("forward", "column_idx", "got 2", lambda: net()(INPUTS, 2)),
    BadCall("forward", "column_idx", "-1", lambda: net()(INPUTS, -1)),
    BadCall("forward", "column_idx", "'0'", lambda: net()(INPUTS, "0")),
    BadCall("forward", "x", "(6, 3)", lambda: net()(INPUTS[:, :3], 0)),
    BadCall("forward", "x", "[1.0]", lambda: net()([1.0], 0)),
]

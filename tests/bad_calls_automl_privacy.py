"""Bad calls of the privacy modules."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from advanced_optimizers.automl import (
    DifferentialPrivacy,
    PrivacyCost,
    clip_per_sample,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_noise,
    invert_gradient,
    membership_auc,
    noise_multiplier_for,
    per_sample_gradients,
    private_average,
    train_private,
)
from tests.bad_calls import BadCall

ONES, NAN = torch.ones(3), torch.tensor([1.0, math.nan])


def private(**changed: Any) -> object:
    return DifferentialPrivacy(**changed)


def train(model: Any = None, inputs: Any = None, targets: Any = None, **options: Any) -> object:
    model = nn.Linear(3, 2) if model is None else model
    optimizer = options.pop("optimizer", None) or torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    if "others" not in options and isinstance(model, nn.Module) and [*model.parameters()]:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options.pop("others", None)
    inputs = torch.zeros(8, 3) if inputs is None else inputs
    targets = torch.zeros(8, dtype=torch.int64) if targets is None else targets
    settings = {"noise_multiplier": 1.0, "batch_size": 4, "steps": 1, **options}
    return train_private(model, optimizer, inputs, targets, **settings)


def average(model: Any = None, clients: Any = (), **options: Any) -> object:
    settings = {"max_norm": 1.0, "noise_multiplier": 1.0, "expected_clients": 2, **options}
    return private_average(nn.Linear(3, 2) if model is None else model, clients, **settings)


def channels_last() -> nn.Module:
    return nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)


BAD_CALLS = [
    BadCall("DifferentialPrivacy", "epsilon", "0", lambda: private(epsilon=0)),
    BadCall("DifferentialPrivacy", "epsilon", "inf", lambda: private(epsilon=math.inf)),
    BadCall("DifferentialPrivacy", "epsilon", "'1'", lambda: private(epsilon="1")),
    BadCall("DifferentialPrivacy", "epsilon", "1.0", lambda: private(mechanism="classical")),
    BadCall("DifferentialPrivacy", "delta", "1.0", lambda: private(delta=1.0)),
    BadCall("DifferentialPrivacy", "delta", "0.0", lambda: private(delta=0.0)),
    BadCall("DifferentialPrivacy", "mechanism", "'laplace'", lambda: private(mechanism="laplace")),
    BadCall("DifferentialPrivacy", "generator", "7", lambda: private(generator=7)),
    BadCall("add_noise", "sensitivity", "0", lambda: private().add_noise(ONES, 0)),
    BadCall("add_noise", "sensitivity", "nan", lambda: private().add_noise(ONES, math.nan)),
    BadCall("add_noise", "gradients", "NaN", lambda: private().add_noise(NAN)),
    BadCall("add_noise", "gradients", "torch.int64", lambda: private().add_noise(ONES.long())),
    BadCall("add_noise", "gradients", "[]", lambda: private().add_noise([])),
    BadCall("add_noise", "gradients", "None", lambda: private().add_noise([ONES, None])),
    BadCall("add_noise", "gradients", "sparse", lambda: private().add_noise(ONES.to_sparse())),
    BadCall("clip_gradients", "max_norm", "-1.0", lambda: private().clip_gradients(ONES, -1.0)),
    BadCall("clip_gradients", "gradients", "NaN", lambda: private().clip_gradients([ONES, NAN])),
    BadCall("gaussian_delta", "noise_multiplier", "0", lambda: gaussian_delta(1.0, 0)),
    BadCall("gaussian_delta", "epsilon", "-1.0", lambda: gaussian_delta(-1.0, 1.0)),
    BadCall("gaussian_noise", "sensitivity", "0.0", lambda: gaussian_noise(1.0, 1e-5, 0.0)),
    BadCall("gaussian_noise", "epsilon", "2.0", lambda: gaussian_noise(2.0, 1e-5, mechanism="classical")),
    BadCall("gaussian_epsilon", "releases", "0", lambda: gaussian_epsilon(1.0, 1e-5, 0)),
    BadCall("clip_per_sample", "max_norm", "0", lambda: clip_per_sample([ONES], 0)),
    BadCall("clip_per_sample", "gradients", "(2,)", lambda: clip_per_sample([ONES, ONES[:2]], 1.0)),
    BadCall("clip_per_sample", "gradients", "(0, 2)", lambda: clip_per_sample([torch.zeros(0, 2)], 1.0)),
    BadCall("per_sample_gradients", "targets", "(2,)", lambda: per_sample_gradients(nn.Linear(3, 2), ONES, ONES[:2])),
    BadCall(
        "per_sample_gradients",
        "inputs",
        "(0, 3)",
        lambda: per_sample_gradients(nn.Linear(3, 2), ONES[:0, None].expand(0, 3), ONES[:0]),
    ),
    BadCall(
        "per_sample_gradients", "model", "BatchNorm1d", lambda: per_sample_gradients(nn.BatchNorm1d(3), ONES, ONES)
    ),
    BadCall("PrivacyCost", "noise_multiplier", "-1.0", lambda: PrivacyCost(-1.0, 0.1, 10)),
    BadCall("PrivacyCost", "sample_rate", "0.0", lambda: PrivacyCost(1.0, 0.0, 10)),
    BadCall("PrivacyCost", "steps", "1.5", lambda: PrivacyCost(1.0, 0.1, 1.5)),
    BadCall("PrivacyCost", "samples", "0", lambda: PrivacyCost(1.0, 0.1, 10, 0)),
    BadCall("epsilon", "delta", "2.0", lambda: PrivacyCost(1.0, 0.1, 10).epsilon(2.0)),
    BadCall("epsilon", "accountant", "'moments'", lambda: PrivacyCost(1.0, 0.1, 10).epsilon(accountant="moments")),
    BadCall("noise_multiplier_for", "epsilon", "0", lambda: noise_multiplier_for(0, sample_rate=0.1, steps=9)),
    BadCall("noise_multiplier_for", "sample_rate", "2", lambda: noise_multiplier_for(1.0, sample_rate=2, steps=9)),
    BadCall("train_private", "model", "'mlp'", lambda: train("mlp")),
    BadCall("train_private", "model", "BatchNorm1d", lambda: train(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))),
    BadCall("train_private", "model", "Tanh", lambda: train(nn.Tanh())),
    BadCall("train_private", "model", "strides", lambda: train(channels_last())),
    BadCall("train_private", "optimizer", "0 of them", lambda: train(others=True)),
    BadCall("train_private", "optimizer", "'sgd'", lambda: train(others=True, optimizer="sgd")),
    BadCall("train_private", "inputs", "(0, 3)", lambda: train(None, torch.zeros(0, 3))),
    BadCall("train_private", "targets", "(7,)", lambda: train(None, None, torch.zeros(7, dtype=torch.int64))),
    BadCall("train_private", "noise_multiplier", "-1.0", lambda: train(noise_multiplier=-1.0)),
    BadCall("train_private", "max_grad_norm", "0", lambda: train(max_grad_norm=0)),
    BadCall("train_private", "batch_size", "9", lambda: train(batch_size=9)),
    BadCall("train_private", "steps", "0", lambda: train(steps=0)),
    BadCall(
        "train_private", "criterion", "CrossEntropyLoss", lambda: train(criterion=nn.CrossEntropyLoss(reduction="sum"))
    ),
    BadCall("private_average", "global_model", "BatchNorm1d", lambda: average(nn.BatchNorm1d(3))),
    BadCall("private_average", "max_norm", "inf", lambda: average(max_norm=math.inf)),
    BadCall("private_average", "noise_multiplier", "-0.5", lambda: average(noise_multiplier=-0.5)),
    BadCall("private_average", "expected_clients", "0", lambda: average(expected_clients=0)),
    BadCall("private_average", "client_models", "client 0", lambda: average(None, [nn.Linear(3, 4)])),
    BadCall("private_average", "client_models", "'phone'", lambda: average(None, ["phone"])),
    BadCall("invert_gradient", "weight_gradient", "(3,)", lambda: invert_gradient(ONES, ONES)),
    BadCall("invert_gradient", "bias_gradient", "zeros", lambda: invert_gradient(torch.ones(3, 2), torch.zeros(3))),
    BadCall("membership_auc", "other_losses", "(0,)", lambda: membership_auc(ONES, ONES[:0])),
    BadCall("membership_auc", "member_losses", "NaN", lambda: membership_auc(NAN, ONES)),
]

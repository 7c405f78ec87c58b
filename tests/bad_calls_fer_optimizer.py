"""Bad calls of flipping error reduction, and of gradient consistency where its wrapper's do not cover them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from advanced_optimizers import FEROptimizer, FlippingErrorReduction, FlippingTracker
from tests.bad_calls import BadCall

LOSS, TRACKER = "FlippingErrorReduction", "FlippingTracker"
LOGITS, LABELS, INDICES = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), torch.arange(4)


def make(**settings: Any) -> FlippingErrorReduction:
    return FlippingErrorReduction(**{"num_samples": 4, "num_classes": 3, "total_epochs": 5, **settings})


def tracker() -> FlippingTracker:
    return FlippingTracker(4)


def row(call: str, argument: str, value: Any, run: Callable[[], object], shown: str | None = None) -> BadCall:
    return BadCall(call, argument, repr(value) if shown is None else shown, run)


def settings_row(argument: str, value: Any, shown: str | None = None) -> BadCall:
    return row(LOSS, argument, value, lambda: make(**{argument: value}), shown)


def batch_row(argument: str, value: Any, shown: str | None = None, training: bool = True) -> BadCall:
    arguments = {"logits": LOGITS, "labels": LABELS, "indices": INDICES, argument: value}
    call = f"{LOSS}()" if training else f"{LOSS}().eval()"
    return row(call, argument, value, lambda: make().train(training)(**arguments), shown)


def load_row(key: str, value: Any, shown: str | None = None) -> BadCall:
    state = {**make().state_dict(), key: value}
    return row(f"{LOSS}.load_state_dict", key, value, lambda: make().load_state_dict(state), shown)


def epoch_row(value: Any) -> BadCall:
    return row(f"{LOSS}.set_epoch", "epoch", value, lambda: make().set_epoch(value))


def update_row(value: Any, shown: str | None = None) -> BadCall:
    return row(f"{TRACKER}.update", "correct", value, lambda: tracker().update(value), shown)


def tracker_load_row(argument: str, state: Any, shown: str) -> BadCall:
    return BadCall(f"{TRACKER}.load_state_dict", argument, shown, lambda: tracker().load_state_dict(state))


def state_dtype_row(value: Any, shown: str | None = None) -> BadCall:
    p = torch.nn.Parameter(torch.zeros(2))
    return row("FEROptimizer", "state_dtype", value, lambda: FEROptimizer([p], state_dtype=value), shown)


def rounding_row(value: Any) -> BadCall:
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = FEROptimizer([p], state_dtype=torch.bfloat16)
    p.grad = torch.ones(2)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0] = {**saved["state"][0], "rounding": value}
    return row("FEROptimizer.load_state_dict", "rounding", value, lambda: optimizer.load_state_dict(saved))


NOT_COUNTS = (0, -1, 4.0, "4", None, True, math.nan, math.inf, [4], torch.tensor([1, 2]), np.array([4, 4]), int)
TRUE_TWICE = torch.ones(2, dtype=torch.bool)

BAD_CALLS: list[BadCall] = [
    # ---- settings
    *(settings_row("num_samples", value) for value in NOT_COUNTS),
    *(settings_row("num_classes", value) for value in (1, 0, -3, 3.0, "3", None, False, np.float32(3), [3])),
    *(settings_row("total_epochs", value) for value in (0, -1, 5.0, "5", None, True, math.inf)),
    *(settings_row("temperature", value) for value in (0.0, -5.0, math.nan, math.inf, "5", None, True, [5.0])),
    *(settings_row("gamma", value) for value in (-0.1, 1.1, math.nan, math.inf, "0.1", None, float)),
    *(settings_row("mu", value) for value in (-1.0, math.nan, math.inf, "1", None, torch.ones(2))),
    *(settings_row("init_epochs", value) for value in (-1, 1.0, "1", None, True, math.nan)),
    *(settings_row("process_group", value) for value in ("gloo", 0, True, [0, 1])),
    # ---- gradient consistency: the precision of its state
    *(state_dtype_row(value) for value in (torch.float16, torch.float32, torch.float64, torch.int32, "bfloat16", 16)),
    *(state_dtype_row(value) for value in (True, False, 0, [torch.bfloat16], float)),
    *(rounding_row(value) for value in (None, "1", 1.5, True, 2, 2**64 + 1, -(2**63) - 1)),
    # ---- epochs
    *(epoch_row(value) for value in (0, -1, 6, 1.0, "1", None, True, math.nan, torch.tensor([1, 2]))),
    # ---- batches
    batch_row("logits", LOGITS.long(), "torch.int64"),
    batch_row("logits", LOGITS.bool(), "torch.bool"),
    batch_row("logits", LOGITS + 0j, "torch.complex64"),
    batch_row("logits", LOGITS[:0], "(0, 3)"),
    batch_row("logits", LOGITS[0], "(3,)"),
    batch_row("logits", LOGITS[:, :2], "(4, 2)"),
    batch_row("logits", LOGITS[None], "(1, 4, 3)"),
    batch_row("logits", torch.tensor(1.0), "()"),
    batch_row("logits", LOGITS.to("meta"), "meta"),
    batch_row("logits", LOGITS.tolist()),
    batch_row("logits", LOGITS.numpy()),
    batch_row("logits", None),
    batch_row("logits", "logits"),
    *(
        batch_row(name, value, shown, training)
        for name, good, count in (("labels", LABELS, 3), ("indices", INDICES, 4))
        for training in (True, False)
        for value, shown in (
            (good + count, f"{count} to"),
            (good - 1, "-1 to"),
            (good.int(), "torch.int32"),
            (good.float(), "torch.float32"),
            (F.one_hot(good), "(4, "),
            (good[:3], "(3,)"),
        )
    ),
    batch_row("labels", LABELS.tolist()),
    batch_row("labels", 1),
    batch_row("labels", LABELS.to("meta"), "meta"),
    batch_row("labels", LABELS == 1, "torch.bool"),
    batch_row("indices", INDICES.numpy()),
    batch_row("indices", None),
    batch_row("indices", INDICES.to("meta"), "meta"),
    batch_row("indices", INDICES[:0], "(0,)"),
    # ---- checkpoints
    load_row("remembered", torch.zeros(5, 3), "(5, 3)"),
    load_row("remembered", torch.zeros(4, 2), "(4, 2)"),
    load_row("remembered", torch.zeros(4, 3).long(), "torch.int64"),
    load_row("remembered", torch.full((4, 3), math.nan), "[0, 1, 2]"),
    load_row("remembered", torch.full((4, 3), math.inf), "4 samples"),
    load_row("remembered", [[0.0] * 3] * 4),
    load_row("ever_correct", TRUE_TWICE, "(2,)"),
    load_row("ever_correct", torch.ones(4), "torch.float32"),
    load_row("ever_correct", None),
    load_row("epoch", torch.tensor(6), "6"),
    load_row("epoch", torch.tensor(-1), "-1"),
    load_row("epoch", torch.tensor(1.0), "torch.float32"),
    load_row("epoch", torch.ones(2).long(), "(2,)"),
    load_row("epoch", 1),
    # ---- the tracker
    *(row(TRACKER, "num_samples", value, lambda value=value: FlippingTracker(value)) for value in NOT_COUNTS),
    update_row(TRUE_TWICE, "(2,)"),
    update_row(torch.ones(4), "torch.float32"),
    update_row(torch.ones(4, dtype=torch.int64), "torch.int64"),
    update_row(torch.ones(4, 1, dtype=torch.bool), "(4, 1)"),
    update_row(torch.tensor(True), "()"),
    update_row([True] * 4),
    update_row(np.array([True] * 4)),
    update_row(None),
    update_row(0.75),
    tracker_load_row("ever_correct", {"ever_correct": TRUE_TWICE}, "(2,)"),
    tracker_load_row("ever_correct", {"ever_correct": torch.ones(4)}, "torch.float32"),
    tracker_load_row("ever_correct", {"ever_correct": [True] * 4}, repr([True] * 4)),
    tracker_load_row("ever_correct", {"correct": torch.ones(4)}, "['correct']"),
    tracker_load_row("state_dict", None, "None"),
    tracker_load_row("state_dict", TRUE_TWICE, repr(TRUE_TWICE)),
]

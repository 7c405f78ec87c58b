"""Bad calls of the meta-learners."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advanced_optimizers.automl import MAML, MatchingNetworks, MetaSGD, PrototypicalNetworks, Reptile
from tests.bad_calls import BadCall

INF, NAN = math.inf, math.nan
X, Y = torch.zeros(4, 3), torch.tensor([0, 0, 1, 1])
GOOD = (X, Y)
RATES: tuple[Any, ...] = (0.0, -0.1, INF, NAN, "fast", None, True)
STEPS: tuple[Any, ...] = (-1, 1.5, "3", None, True)
SIZES: tuple[Any, ...] = (0, -1, 2.5, "4", True)


def row(call: str, argument: str, value: str, run: Callable[[], object]) -> BadCall:
    return BadCall(call, argument, value, run)


def built(
    make: Callable[..., object], name: str, good: Mapping[str, Any], bad: Mapping[str, tuple[Any, ...]]
) -> list[BadCall]:
    """One row per bad value of an argument of a constructor."""
    return [
        row(name, argument, repr(value), lambda argument=argument, value=value: make(**{**good, argument: value}))
        for argument, values in bad.items()
        for value in values
    ]


def _inner_loops() -> list[BadCall]:
    rows = []
    for make in (MAML, MetaSGD, Reptile):
        name = make.__name__
        first_order: dict[str, tuple[Any, ...]] = {} if make is Reptile else {"first_order": (1, "no", None)}
        bad = {"lr": RATES, "model": ("linear", None, nn.Linear), "loss": ("mse", 3), **first_order}
        rows += built(make, name, {"model": nn.Linear(3, 2)}, bad)
        frozen, normal = nn.Linear(3, 2).requires_grad_(False), nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        rows.append(row(name, "model", "Linear without", lambda make=make, model=frozen: make(model)))
        rows.append(row(name, "model", "BatchNorm1d at '1'", lambda make=make, model=normal: make(model)))
        learner: Any = make(nn.Linear(3, 2))
        more: tuple[Any, ...] = () if make is Reptile else (GOOD,)
        own = "task_set" if make is Reptile else "support_set"
        sets: dict[str, Any] = {
            "tensor([[0.": X,
            "list: [1, 2]": [1, 2],
            "(0, 3) and (0,)": (X[:0], Y[:0]),
            "(4, 3) and (3,)": (X, Y[:3]),
        }
        for shown, pair in sets.items():
            rows.append(row(f"{name}.meta_update", own, shown, lambda f=learner, p=pair, m=more: f.meta_update(p, *m)))
            rows.append(row(f"{name}.adapt", "support_set", shown, lambda f=learner, p=pair: f.adapt(p)))
        batch = "task_sets" if make is Reptile else "support_sets"
        rows.append(
            row(f"{name}.meta_batch", batch, "(3,) and (3,)", lambda f=learner, m=more: f.meta_batch((X[0], X[0]), *m))
        )
        for value in STEPS:
            rows.append(
                row(
                    f"{name}.meta_update",
                    "num_inner_steps",
                    repr(value),
                    lambda f=learner, v=value, m=more: f.meta_update(GOOD, *m, v),
                )
            )
        rows.append(
            row(
                f"{name}.forward_with_weights",
                "parameter",
                "'wieght'",
                lambda f=learner: f.forward_with_weights(X, {"wieght": X}),
            )
        )
    return [*rows, *_queries()]


def _queries() -> list[BadCall]:
    maml = MAML(nn.Linear(3, 4))
    return [
        row("MAML.meta_update", "query_set", "(0, 3) and (0,)", lambda: maml.meta_update(GOOD, (X[:0], Y[:0]))),
        row("MAML.meta_update", "query_set", "[2, 3]", lambda: maml.meta_update(GOOD, (X, Y + 2))),
        row(
            "MAML.meta_batch",
            "query_sets",
            "2",
            lambda: maml.meta_batch((X[None], Y[None]), (X.expand(2, 4, 3), Y.expand(2, 4))),
        ),
        row("Reptile.meta_update", "num_inner_steps", "0", lambda: Reptile(nn.Linear(3, 2)).meta_update(GOOD, 0)),
    ]


# The labels of four examples of two classes.
LABELS: dict[str, Any] = {
    "none of [1]": torch.zeros(4, dtype=torch.int64),
    "[2]": torch.tensor([0, 1, 1, 2]),
    "[-1]": torch.tensor([0, 1, 1, -1]),
    "0.5": torch.tensor([0.0, 1.0, 0.5, 1.0]),
    "torch.bool": torch.tensor([True, False, True, False]),
    "(3,)": torch.tensor([0, 1, 1]),
    "(4, 1)": torch.tensor([[0], [0], [1], [1]]),
    "list: [0, 0, 1, 1]": [0, 0, 1, 1],
}
FEATURES: dict[str, Any] = {
    "(0, 3)": X[:0],
    "nan": torch.full((4, 3), NAN),
    "inf": torch.full((4, 3), INF),
    "list: [0.0]": [0.0],
}


def _episodes() -> list[BadCall]:
    networks: dict[str, Any] = {
        "PrototypicalNetworks": PrototypicalNetworks(3),
        "MatchingNetworks": MatchingNetworks(nn.Linear(3, 2)),
    }
    rows = []
    for name, network in networks.items():

        def call(support: Any = X, query: Any = X, classes: Any = 2, labels: Any = Y, f: Any = network) -> object:
            return f(support, query, classes, support_labels=labels)

        rows += [row(name, "support_labels", shown, lambda c=call, v=v: c(labels=v)) for shown, v in LABELS.items()]
        for shown, v in FEATURES.items():
            rows.append(row(name, "support_set", shown, lambda c=call, v=v: c(support=v)))
            rows.append(row(name, "query_set", shown, lambda c=call, v=v: c(query=v)))
        rows += [row(name, "num_classes", repr(v), lambda c=call, v=v: c(classes=v)) for v in SIZES]
        rows.append(row(name, "num_classes", "3", lambda c=call: c(classes=3)))
        for shown, v in list(LABELS.items())[1:]:
            rows.append(
                row(f"{name}.loss", "query_labels", shown, lambda f=network, v=v: f.loss(X, X, 2, v, support_labels=Y))
            )
    prototypes: PrototypicalNetworks = networks["PrototypicalNetworks"]
    with_column: Tensor = torch.cat((X, Y[:, None].float()), dim=1)
    return [
        *rows,
        row("PrototypicalNetworks", "query_set", "(4, 4)", lambda: prototypes(with_column, with_column, 2)),
        row("PrototypicalNetworks", "support_set", "(4, 3)", lambda: prototypes(X, X, 2)),
        row(
            "PrototypicalNetworks",
            "support_labels",
            "None",
            lambda: PrototypicalNetworks(None, encoder=nn.Identity())(X, X, 2),
        ),
    ]


def _networks() -> list[BadCall]:
    return [
        *built(
            PrototypicalNetworks,
            "PrototypicalNetworks",
            {"input_dim": 3},
            {
                "input_dim": (*SIZES, None),
                "hidden_dim": (*SIZES, None),
                "encoder": ("conv", 3, nn.Linear),
                "distance": ("l2", 2, None),
                "temperature": RATES,
            },
        ),
        *built(
            MatchingNetworks,
            "MatchingNetworks",
            {"encoder": nn.Linear(3, 2), "embedding_dim": 2, "full_context": True},
            {
                "encoder": ("conv", None, nn.Linear),
                "full_context": (1, "yes", None),
                "temperature": RATES,
                "embedding_dim": (*SIZES, None),
                "num_readouts": (*SIZES, None),
                "learn_temperature": (1, "yes", None),
                "similarity": ("dot", 1, None),
            },
        ),
    ]


BAD_CALLS = [*_inner_loops(), *_episodes(), *_networks()]

"""The claims on federated averaging, and the rules that decide them: the text's (F2 to F7), the papers', and ours."""

from __future__ import annotations

from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim, at_the_end, each, improvement_rule, margin_rule
from advanced_optimizers.experiments.evidence.comparisons import Comparison
from advanced_optimizers.experiments.evidence.rules import compare_accuracy, compare_margin
from advanced_optimizers.experiments.evidence.stated import value_rule, value_within

TEXT, OURS = "text on AutoML", "our question"
FEDAVG, FEDPROX = "McMahan et al. 2017", "Li et al. 2020"

IID, SHARDS, DIRICHLET = "mnist-iid-clients", "mnist-shards-clients", "mnist-dirichlet-clients"
# The largest differences that do not matter: about three standard errors of a test set of 10,000; where clients have
# few classes, accuracy still moves by several points from one round to the next.
_FINE, _COARSE = 0.01, 0.03
MARGINS = {IID: _FINE, SHARDS: _COARSE, DIRICHLET: _COARSE}
_FINE_WORDS, _COARSE_WORDS = "1 point", "3 points"
_BOTH_WORDS = "1 point on IID clients, 3 on two shards"
_FINE_REASON = "about three standard errors of the test set"
_COARSE_REASON = "accuracy moves by as much from one round to the next"

# What a federation must reach after 20 rounds with one local epoch.
_REACHED_IID, _REACHED_SHARDS = 0.94, 0.80
# MNIST's training images as they are stored, in 10^6 bytes.
MNIST_MEGABYTES = 47.04


def _better(
    key: str,
    short: str,
    text: str,
    source: str,
    compared: str,
    comparisons: tuple[Comparison, ...],
    margin: str,
    study: str = "federated",
) -> Claim:
    return Claim(
        key=key,
        method="Federated averaging",
        short=short,
        study=study,
        text=text,
        source=source,
        rule=at_the_end(improvement_rule("test accuracy", compared, margin), "round"),
        decide=partial(compare_accuracy, comparisons=comparisons),
    )


def _no_worse(
    key: str,
    short: str,
    text: str,
    source: str,
    compared: str,
    own: str,
    base: str,
    task: str,
    study: str = "federated",
) -> Claim:
    margin = MARGINS[task]
    return Claim(
        key=key,
        method="Federated averaging",
        short=short,
        study=study,
        text=text,
        source=source,
        rule=at_the_end(margin_rule(compared, margin, _FINE_REASON if margin == _FINE else _COARSE_REASON), "round"),
        decide=partial(compare_margin, margin=margin, comparisons=each({own: base}, (task,))),
    )


def _reaches(key: str, short: str, text: str, task: str, low: float) -> Claim:
    return Claim(
        key=key,
        method="Federated averaging",
        short=short,
        study="federated",
        text=text,
        source=OURS,
        rule=value_rule("Test accuracy of FedAvg after 20 rounds", f"at or above {100 * low:g} %"),
        decide=partial(value_within, metric="test_accuracy", task=task, algorithm="fed-avg", low=low, high=1.0),
    )


CLAIMS = (
    Claim(
        key="fed-bytes",
        method="Federated averaging",
        short="F2: less is sent",
        study="federated",
        text="F2. Federated learning reduces what is communicated. (Read as: less than sending the data.)",
        source=TEXT,
        rule=value_rule(
            "What FedAvg sends in both directions, on IID clients, until the test accuracy after a round is 90 % (a "
            "run that does not reach it counts with all it sends)",
            f"below the {MNIST_MEGABYTES:g} MB of MNIST's training images",
        ),
        decide=partial(
            value_within, metric="megabytes_needed", task=IID, algorithm="fed-avg", low=0.0, high=MNIST_MEGABYTES
        ),
    ),
    _better(
        "fed-local-steps",
        "local steps over FedSGD",
        "F2, as the paper has it. Local steps save rounds: after as many, FedAvg is better than one gradient step per "
        "client and round (FedSGD).",
        FEDAVG,
        "on IID clients and on two shards: FedAvg against FedSGD, 20 rounds each",
        each({"fed-avg": "fed-sgd"}, (IID, SHARDS), margins=MARGINS),
        _BOTH_WORDS,
    ),
    _no_worse(
        "fed-many",
        "F3: many clients",
        "F3. It scales to many clients. (Read as: the same data in the hands of 1,000 clients instead of 100 are worth "
        "as much.)",
        TEXT,
        "on IID clients: 1,000 clients of 60 images against 100 of 600, a tenth of them in each of 4 rounds",
        "fed-many",
        "fed-few",
        IID,
        "federated-rounds",
    ),
    _no_worse(
        "fed-lost-iid",
        "F4: half drop out, IID",
        "F4. It is tolerant of faults. (Clients that drop out, all of them alike.)",
        TEXT,
        "on IID clients: every client drops out of half of its rounds, against no failures, 20 rounds each",
        "fed-half-lost",
        "fed-avg",
        IID,
    ),
    _no_worse(
        "fed-lost-shards",
        "F4: half drop out, shards",
        "F4. It is tolerant of faults. (Clients that drop out, each with classes that others lack.)",
        TEXT,
        "on two shards per client: every client drops out of half of its rounds, against no failures, 20 rounds each",
        "fed-half-lost",
        "fed-avg",
        SHARDS,
    ),
    _no_worse(
        "fed-nan",
        "F4: NaN is left out",
        "F4. It is tolerant of faults. (Clients whose model comes back as NaN.)",
        TEXT,
        "on IID clients: a tenth of the clients' models of each round is NaN, against no failures, 4 rounds each",
        "fed-nan",
        "fed-few",
        IID,
        "federated-rounds",
    ),
    _better(
        "fed-epochs-rounds",
        "F5: more epochs, by rounds",
        "F5. More local epochs are more accurate. (After as many rounds.)",
        TEXT,
        "on IID clients and on two shards: five local epochs against one, 4 rounds each",
        each({"fed-epochs": "fed-few"}, (IID, SHARDS), margins=MARGINS),
        _BOTH_WORDS,
        "federated-rounds",
    ),
    _better(
        "fed-epochs-work",
        "F5: more epochs, by work",
        "F5. More local epochs are more accurate. (After as many gradients of samples.)",
        TEXT,
        "on IID clients and on two shards: five local epochs in 4 rounds against one local epoch in 20",
        each({"fed-epochs": "fed-avg"}, (IID, SHARDS), margins=MARGINS),
        _BOTH_WORDS,
        "federated-rounds",
    ),
    _better(
        "fed-weights",
        "F6: weights by size",
        "F6. Weights must be proportional to the clients' data.",
        TEXT,
        "with classes in proportions by Dirichlet(0.1), where sizes differ by orders of magnitude: weights by size "
        "against uniform weights, 10 rounds each",
        each({"fed-avg": "fed-uniform"}, (DIRICHLET,), margins=MARGINS),
        _COARSE_WORDS,
    ),
    _no_worse(
        "fed-stated-rate",
        "F7: rate 0.01",
        "F7. 0.01 is a good learning rate of the clients.",
        TEXT,
        "on IID clients: a learning rate of 0.01 against the best of 0.03, 0.1 and 0.3 by trials, 4 rounds each",
        "fed-stated-rate",
        "fed-few",
        IID,
        "federated-rounds",
    ),
    _better(
        "fed-prox",
        "FedProx over FedAvg",
        "FedProx is more accurate than FedAvg where clients differ.",
        FEDPROX,
        "on two shards, with five local epochs: mu = 0.01 and mu = 0.1 against mu = 0, 4 rounds each",
        each({"fed-prox-0.01": "fed-epochs", "fed-prox-0.1": "fed-epochs"}, (SHARDS,), margins=MARGINS),
        _COARSE_WORDS,
        "federated-rounds",
    ),
    _reaches(
        "fed-reaches-iid",
        "94 % on IID clients",
        "On IID clients, FedAvg reaches 94 % in 20 rounds.",
        IID,
        _REACHED_IID,
    ),
    _reaches(
        "fed-reaches-shards",
        "80 % on two shards",
        "With two shards per client, FedAvg reaches 80 % in 20 rounds.",
        SHARDS,
        _REACHED_SHARDS,
    ),
    _better(
        "fed-alone",
        "federation over alone",
        "A federation is better than each client by itself.",
        OURS,
        "on IID clients and on two shards: FedAvg in 20 rounds against the mean of three clients that train alone for "
        "20 epochs",
        each({"fed-avg": "fed-alone"}, (IID, SHARDS), margins=MARGINS),
        _BOTH_WORDS,
    ),
    _no_worse(
        "fed-central",
        "as good as centralized",
        "On IID clients, a federation is as good as training on all data in one place.",
        OURS,
        "on IID clients: FedAvg against centralized SGD with as many gradients of samples",
        "fed-avg",
        "fed-central",
        IID,
    ),
)

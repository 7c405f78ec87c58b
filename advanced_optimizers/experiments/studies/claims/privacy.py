"""The claims on privacy, and the rules that decide them: the text's (D1, D2, F1), and ours."""

from __future__ import annotations

from functools import partial

from advanced_optimizers.experiments.evidence.claim import (
    Claim,
    FormerRule,
    at_the_end,
    each,
    improvement_rule,
    margin_rule,
)
from advanced_optimizers.experiments.evidence.comparisons import (
    MIN_SEEDS,
    Comparison,
    RunData,
    Verdict,
    by_seed,
    select_runs,
)
from advanced_optimizers.experiments.evidence.labels import label
from advanced_optimizers.experiments.evidence.metrics import METRICS
from advanced_optimizers.experiments.evidence.rules import compare_accuracy, compare_margin
from advanced_optimizers.experiments.evidence.stated import value_rule, value_within

TEXT, OURS = "text on AutoML", "our question"
METHOD = "Differential privacy"

MLP, CNN = "mnist-mlp-private", "mnist-cnn-private"
CALLS, CLIENTS = "mnist-mlp-full-batch", "mnist-100-clients"
GRADIENTS, SENSITIVITY = "mnist-gradients", "mnist-sensitivity"
# The largest difference that does not matter: about three standard errors of a test set of 10,000.
MARGINS = dict.fromkeys((MLP, CNN, CLIENTS), 0.01)

# What must be reached at an epsilon of 3 in 5 epochs.
_REACHED = {MLP: 0.90, CNN: 0.94}
# By how much training without privacy must be better than that.
_PRICE = 0.03
# So many images at most may be recovered where privacy is preserved.
_LEAKED = 0.01
# An area under the curve so near to one half tells nothing: about three standard errors with 10,000 members.
_NOTHING = 0.012
# Clipping is computed in floating point.
_ROUNDING = 1e-5
# A model that a federation has trained.
_TRAINED = 0.8


def _value(
    key: str,
    short: str,
    text: str,
    source: str,
    *,
    study: str,
    quantity: str,
    limits: str,
    metric: str,
    task: str,
    algorithm: str,
    low: float,
    high: float,
) -> Claim:
    return Claim(
        key=key,
        method=METHOD,
        short=short,
        study=study,
        text=text,
        source=source,
        rule=value_rule(quantity, limits),
        decide=partial(value_within, metric=metric, task=task, algorithm=algorithm, low=low, high=high),
    )


_LEFT_OUT = (
    "The largest change of what is released when one of 40 images is left out, one of them an outlier, in units of the "
    "norm that is clipped to"
)
_OF_SAMPLES = "The same change of the sum of gradients that are clipped sample by sample"
_AT_MOST_ONE = f"at or below 1 (and {_ROUNDING:g} for rounding)"
_WHY = (
    "A sensitivity is the largest change that any data allow: one run above the bound refutes it, and a mean over runs "
    "hides that run."
)


def never_above(data: RunData, *, metric: str, task: str, algorithm: str, limit: float) -> Verdict:
    """Decides a claim that a quantity is bounded: no run (of at least five) exceeds the limit; one refutes it.

    Args:
        data: The runs of one study.
        metric: A column of the frame that is a key of ``METRICS``.
        task: The task.
        algorithm: The algorithm.
        limit: The bound.
    """
    runs = by_seed(select_runs(data.frame, task, algorithm, 0.0), metric)
    if len(runs) < MIN_SEEDS:
        return Verdict("pending", f"Waiting for runs: {label(algorithm)} ({len(runs)} of {MIN_SEEDS} seeds).")
    above = sum(value > limit for value in runs.values())
    kind = METRICS[metric]
    sentence = (
        f"{label(algorithm)}, {kind.name}: at most {max(runs.values()):.{kind.digits}f} {kind.unit}, above the limit "
        f"in {above} of {len(runs)} runs."
    )
    return Verdict("not supported" if above else "supported", sentence)


def _bounded(key: str, short: str, text: str, source: str, quantity: str, algorithm: str, former: FormerRule) -> Claim:
    return Claim(
        key=key,
        method=METHOD,
        short=short,
        study="privacy-sensitivity",
        text=text,
        source=source,
        rule=f"{quantity}. Supported: it is {_AT_MOST_ONE} in every run (at least {MIN_SEEDS}). Not supported: it is "
        "above that in one.",
        decide=partial(never_above, metric="sensitivity", task=SENSITIVITY, algorithm=algorithm, limit=1.0 + _ROUNDING),
        former=former,
    )


def _reaches(key: str, short: str, network: str, study: str, task: str) -> Claim:
    limit = _REACHED[task]
    return _value(
        key,
        short,
        f"In 5 epochs at an epsilon of 3, {network} comes to {100 * limit:g} % on MNIST.",
        OURS,
        study=study,
        quantity=f"Test accuracy of {network} after DP-SGD at an epsilon of 3 and a delta of 1e-5",
        limits=f"at or above {100 * limit:g} %",
        metric="test_accuracy",
        task=task,
        algorithm="private-epsilon-3",
        low=limit,
        high=1.0,
    )


def _compared(key: str, short: str, text: str, compared: str, comparisons: tuple[Comparison, ...]) -> Claim:
    rule = at_the_end(improvement_rule("test accuracy", compared, "1 point"), "step")
    return Claim(
        key=key,
        method=METHOD,
        short=short,
        study="privacy",
        text=text,
        source=OURS,
        rule=rule,
        decide=partial(compare_accuracy, comparisons=comparisons),
    )


CLAIMS = (
    _value(
        "privacy-noise",
        "D1: noise ensures privacy",
        "D1. Noise on the gradients ensures differential privacy. (Read as: training in which each step has the noise "
        "of an epsilon of 1 has an epsilon of 1.)",
        TEXT,
        study="privacy-calls",
        quantity="Epsilon of 100 steps on all samples together, each with the noise that the classical formula asks "
        "for at an epsilon of 1 and a delta of 1e-5; it is computed, and does not vary",
        limits="at or below 1",
        metric="epsilon",
        task=CALLS,
        algorithm="private-calls",
        low=0.0,
        high=1.0,
    ),
    _bounded(
        "privacy-clipping",
        "D2: clipping limits sensitivity",
        "D2. Clipping the gradient limits the sensitivity. (As in the text: the gradient of a batch, tensor by tensor, "
        "to the norm that the noise is measured by.)",
        TEXT,
        _LEFT_OUT,
        "clip-batch-tensors",
        FormerRule(
            rule=value_rule(_LEFT_OUT, _AT_MOST_ONE),
            verdict="inconclusive",
            result="Of the batch, tensor by tensor on MNIST, one image left out, largest change by one sample: "
            "0.438 ± 0.601 of the norm clipped to (n = 5).",
            why=_WHY,
        ),
    ),
    _bounded(
        "privacy-clipping-samples",
        "clipping each sample",
        "Clipping the gradient of each sample, over all parameters jointly, limits the sensitivity.",
        OURS,
        _OF_SAMPLES,
        "clip-sample",
        FormerRule(
            rule=value_rule(_OF_SAMPLES, _AT_MOST_ONE),
            verdict="supported",
            result="Of each sample, jointly on MNIST, one image left out, largest change by one sample: "
            "1.000 ± 0.000 of the norm clipped to (n = 5).",
            why=_WHY,
        ),
    ),
    _value(
        "privacy-federation",
        "F1: data stay with clients",
        "F1. In federated learning data never leave the clients, so privacy is preserved.",
        TEXT,
        study="privacy-inversion",
        quantity="The share of 200 images that are recovered, up to an error of 5 % of their norm, from the gradient "
        "that a client with one image sends",
        limits=f"at or below {100 * _LEAKED:g} %",
        metric="recovered",
        task=GRADIENTS,
        algorithm="inversion-one",
        low=0.0,
        high=_LEAKED,
    ),
    _value(
        "privacy-federation-clipped",
        "clipping hides the image",
        "Clipping that gradient hides the image.",
        OURS,
        study="privacy-inversion",
        quantity="The same share where the gradient is clipped to a norm of 1",
        limits=f"at or below {100 * _LEAKED:g} %",
        metric="recovered",
        task=GRADIENTS,
        algorithm="inversion-clipped",
        low=0.0,
        high=_LEAKED,
    ),
    _value(
        "privacy-federation-noisy",
        "noise hides the image",
        "Clipping and the noise of an epsilon of 3 hide it.",
        OURS,
        study="privacy-inversion",
        quantity="The same share where the gradient is clipped to a norm of 1, and gets the noise of one release at an "
        "epsilon of 3 and a delta of 1e-5",
        limits=f"at or below {100 * _LEAKED:g} %",
        metric="recovered",
        task=GRADIENTS,
        algorithm="inversion-noisy",
        low=0.0,
        high=_LEAKED,
    ),
    _reaches("privacy-mlp", "90 % at epsilon 3, MLP", "a network of 64 units", "privacy", MLP),
    _reaches("privacy-cnn", "94 % at epsilon 3, CNN", "a convolutional network", "privacy-cnn", CNN),
    Claim(
        key="privacy-price",
        method=METHOD,
        short="no privacy, 3 points more",
        study="privacy",
        text="Training without privacy is better than at an epsilon of 3, by 3 points or more.",
        source=OURS,
        rule=at_the_end(
            improvement_rule(
                "test accuracy",
                "no privacy against an epsilon of 3, on the network of 64 units",
                "1 point",
                f", or it gains less than {100 * _PRICE:g} points (a paired t-test against that gain)",
            ),
            "step",
        ),
        decide=partial(
            compare_accuracy,
            comparisons=(Comparison(MLP, "private-none", "private-epsilon-3", claimed=_PRICE, margin=MARGINS[MLP]),),
        ),
    ),
    _compared(
        "privacy-order",
        "less privacy, more accuracy",
        "More privacy costs more accuracy: an epsilon of 8 is better than one of 0.5.",
        "an epsilon of 8 against one of 0.5, on the network of 64 units",
        each({"private-epsilon-8": "private-epsilon-0.5"}, (MLP,), margins=MARGINS),
    ),
    Claim(
        key="privacy-clip-alone",
        method=METHOD,
        short="clipping alone is free",
        study="privacy",
        text="Clipping alone costs no accuracy; it is the noise that does.",
        source=OURS,
        rule=at_the_end(
            margin_rule(
                "clipping without noise, with the rate of an epsilon of 3, against neither, on the network of 64 units",
                MARGINS[MLP],
                "about three standard errors of the test set",
            ),
            "step",
        ),
        decide=partial(
            compare_margin, margin=MARGINS[MLP], comparisons=each({"private-clip-only": "private-none"}, (MLP,))
        ),
    ),
    _compared(
        "privacy-samples",
        "private beats a hundredth of the data",
        "Training at an epsilon of 3 on all images is better than training without privacy on a hundredth of them.",
        "an epsilon of 3 on 60,000 images against no privacy on 600, on the network of 64 units",
        each({"private-epsilon-3": "private-fewer-600"}, (MLP,), margins=MARGINS),
    ),
    _value(
        "privacy-members",
        "members cannot be told",
        "At an epsilon of 3, the loss does not tell who was trained on.",
        OURS,
        study="privacy",
        quantity="The area under the ROC curve of a threshold on the loss, 10,000 images that were trained on against "
        "10,000 that were not, on the network of 64 units at an epsilon of 3",
        limits=f"within {_NOTHING:g} of one half",
        metric="membership_auc",
        task=MLP,
        algorithm="private-epsilon-3",
        low=0.5 - _NOTHING,
        high=0.5 + _NOTHING,
    ),
    _value(
        "privacy-clients",
        "100 clients suffice",
        "DP-FedAvg at an epsilon of 3 for whole clients trains a network with 100 clients.",
        OURS,
        study="privacy-clients",
        quantity="Test accuracy of the network of 64 units after 10 rounds",
        limits=f"at or above {100 * _TRAINED:g} %",
        metric="test_accuracy",
        task=CLIENTS,
        algorithm="clients-private",
        low=_TRAINED,
        high=1.0,
    ),
)

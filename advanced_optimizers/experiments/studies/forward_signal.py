"""The claims about forward signal propagation."""

from __future__ import annotations

from functools import partial

from advanced_optimizers.experiments.evidence.claim import (
    COURSEWORK,
    Claim,
    each,
    margin_rule,
    memory_rule,
    metric_rule,
    overhead_rule,
)
from advanced_optimizers.experiments.evidence.rules import (
    check_properties,
    compare_accuracy,
    compare_margin,
    compare_memory,
    compare_overhead,
)

PAPER = "paper (Kohan et al., arXiv 2204.01723)"
CONTROL = "our control"

TIME_LIMIT = MEMORY_LIMIT = 1.0
# Test errors on CIFAR-10 that are published for this kind of network: 8.34 % with signal propagation, and 5.99 % with
# backpropagation (VGG8b, Nokland and Eidnes, ICML 2019).
MARGIN = 0.0235

_TASKS = ("mnist-mlp2", "cifar10-jpeg-vgg")
_SIGPROP = {"sigprop": "adam"}
_WORDS = "signal propagation against backpropagation through the same network, both with Adam,"

CLAIMS = (
    Claim(
        key="sigprop-plausible",
        study="sigprop",
        text="Forward signal propagation is biologically plausible.",
        source=f"{COURSEWORK}, {PAPER}",
        rule="Six properties that a local learning rule of a brain would need, each tested on a network. Supported: "
        "all hold. Not supported: one does not.",
        decide=check_properties,
    ),
    Claim(
        key="sigprop-time",
        study="sigprop",
        text="Forward signal propagation needs less time than backpropagation.",
        source=PAPER,
        rule=overhead_rule(f"{_WORDS} on both tasks", TIME_LIMIT, "no more than backpropagation"),
        decide=partial(compare_overhead, limit=TIME_LIMIT, comparisons=each(_SIGPROP, _TASKS)),
    ),
    Claim(
        key="sigprop-memory",
        study="sigprop",
        text="Forward signal propagation needs less memory than backpropagation.",
        source=PAPER,
        rule=memory_rule(_WORDS, MEMORY_LIMIT, "no more than backpropagation"),
        decide=partial(compare_memory, limit=MEMORY_LIMIT, comparisons=each(_SIGPROP, _TASKS)),
    ),
    Claim(
        key="sigprop-accuracy",
        study="sigprop",
        text="Its accuracy comes close to backpropagation's (91.66 % on CIFAR-10 with VGG8b, where backpropagation "
        "reaches 94.01 %).",
        source=PAPER,
        rule=margin_rule(f"{_WORDS} on both tasks", MARGIN, "the published gap"),
        decide=partial(compare_margin, margin=MARGIN, comparisons=each(_SIGPROP, _TASKS)),
    ),
    Claim(
        key="sigprop-learns-features",
        study="sigprop",
        text="The local losses train the hidden layers: better than leaving them as they were initialised.",
        source=CONTROL,
        rule=metric_rule(
            "test accuracy",
            "signal propagation against the same network with only its last layer trained, on both tasks",
        ),
        decide=partial(compare_accuracy, comparisons=each({"sigprop": "readout"}, _TASKS)),
    ),
)

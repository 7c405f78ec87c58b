"""The claims on quantum neural networks, and the rules that decide them: the text's (Q3, Q5), and ours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from advanced_optimizers.experiments.evidence.claim import Claim, at_the_end, each, improvement_rule
from advanced_optimizers.experiments.evidence.comparisons import MIN_SEEDS, Comparison, RunData, Verdict
from advanced_optimizers.experiments.evidence.rules import compare_accuracy
from advanced_optimizers.experiments.evidence.stated import all_of, always_positive, value_rule, value_within
from advanced_optimizers.experiments.evidence.within_runs import compare_ratio

TEXT, OURS = "text on AutoML", "our question"

PAIRS = tuple(f"mnist-{pair}-4-qubits" for pair in ("38", "49", "01"))
TASKS = (*PAIRS, "mnist-38-6-qubits", "mnist-38-8-qubits")
STEP, GRADIENT = "quantum-step", "quantum-gradient"
# The largest difference that does not matter: about a standard error of a test set of 2,000 images.
MARGINS = dict.fromkeys(TASKS, 0.01)
# By which factor the time of a step must grow per qubit; doubling is what the size of a state says.
_GROWTH = 1.5
# What may be left of a variance with two more qubits.
_LEFT = 0.6

_PAIRS_WORDS = "on 3/8, 4/9 and 0/1 of MNIST at 4 qubits"
_TASKS_WORDS = f"{_PAIRS_WORDS}, and on 3/8 at 6 and 8"


def trains(data: RunData) -> Verdict:
    """Decides whether training lowers the loss and moves the parameters of the circuit, in every run of every task.

    Args:
        data: The runs of the study of classifiers.
    """
    verdict = all_of(
        [
            always_positive(data, metric=metric, task=task, algorithms=("quantum-circuit",))
            for metric in ("loss_fall", "parameter_change")
            for task in TASKS
        ]
    )
    if verdict.status not in ("supported", "not supported"):
        return verdict
    least = data.frame[data.frame["algorithm"] == "quantum-circuit"][["loss_fall", "parameter_change"]].min()
    return Verdict(
        verdict.status,
        f"Over all runs, the training loss falls by {least['loss_fall']:.3f} or more, and a parameter moves by "
        f"{least['parameter_change']:.3f} or more.",
    )


def _compared(
    key: str, short: str, text: str, source: str, words: str, pairs: Mapping[str, tuple[str, ...]], *, all_tasks: bool
) -> Claim:
    comparisons = tuple(
        comparison
        for algorithm, baselines in pairs.items()
        for baseline in baselines
        for comparison in each({algorithm: baseline}, TASKS if all_tasks else PAIRS, margins=MARGINS)
    )
    compared = f"{_TASKS_WORDS if all_tasks else _PAIRS_WORDS}: {words}"
    return Claim(
        key=key,
        method="Quantum network",
        short=short,
        study="quantum",
        text=text,
        source=source,
        rule=at_the_end(improvement_rule("test accuracy", compared, "1 point"), "step"),
        decide=partial(compare_accuracy, comparisons=comparisons),
    )


def _value(
    key: str,
    short: str,
    study: str,
    text: str,
    metric: str,
    words: str,
    where: tuple[str, str],
    low: float,
    high: float,
) -> Claim:
    task, algorithm = where
    limits = f"at or below {high:g}" if low == 0.0 else f"at or above {low:g}"
    return Claim(
        key=key,
        method="Quantum network",
        short=short,
        study=study,
        text=text,
        source=OURS,
        rule=value_rule(words, limits),
        decide=partial(value_within, metric=metric, task=task, algorithm=algorithm, low=low, high=high),
    )


CLAIMS = (
    Claim(
        key="quantum-trains",
        method="Quantum network",
        short="Q5: it can be trained",
        study="quantum",
        text="Q5. A quantum network can be trained as a model.",
        source=TEXT,
        rule=(
            "What the loss on all training images falls by from before the first step to after the last, and the "
            f"largest change of a parameter, {_TASKS_WORDS}. Supported: both are positive in every run (at least "
            f"{MIN_SEEDS} per task). Not supported: one is not; one suffices. Whenever a run diverged, inconclusive."
        ),
        decide=trains,
    ),
    _compared(
        "quantum-angles",
        "training its angles",
        "Training the angles is better than training the readout of random ones.",
        OURS,
        "the circuit against the same with random angles that stay",
        {"quantum-circuit": ("quantum-frozen",)},
        all_tasks=False,
    ),
    _compared(
        "quantum-entanglement",
        "Q3: entanglement",
        "Q3. Entanglement, correlated states, is what quantum computing gains by.",
        TEXT,
        "the circuit against the same without controlled NOTs",
        {"quantum-circuit": ("quantum-separate",)},
        all_tasks=True,
    ),
    _compared(
        "quantum-logistic",
        "better than logistic regression",
        "A quantum network is better than logistic regression on the same features.",
        OURS,
        "the circuit against logistic regression",
        {"quantum-circuit": ("quantum-logistic",)},
        all_tasks=True,
    ),
    _compared(
        "quantum-classical",
        "better at equal size",
        "A quantum network is better than classical models of as many parameters.",
        OURS,
        "the circuit against a perceptron and against random Fourier features, of as many parameters",
        {"quantum-circuit": ("quantum-perceptron", "quantum-fourier")},
        all_tasks=True,
    ),
    _compared(
        "quantum-collapsed",
        "better than the sketch",
        "Three layers are better than the product of cosines to which they fall together in the text's sketch.",
        OURS,
        "the circuit against the product of cosines",
        {"quantum-circuit": ("quantum-cosines",)},
        all_tasks=False,
    ),
    _compared(
        "quantum-reupload",
        "features in every layer",
        "Rotating by the features in every layer is better than once.",
        OURS,
        "the circuit with features in every layer against the circuit with features in the first",
        {"quantum-reupload": ("quantum-circuit",)},
        all_tasks=True,
    ),
    Claim(
        key="quantum-as-fast",
        method="Quantum network",
        short="no slower, simulated",
        study="quantum",
        text="Simulated, a quantum network trains in no more time than a perceptron of as many parameters.",
        source=OURS,
        rule=(
            "The CPU seconds of training, the circuit's over the perceptron's, on 3/8 at 4 qubits, paired by seed (at "
            f"least {MIN_SEEDS}), with the 95 % interval of its geometric mean. Supported: the interval ends at or "
            "below 1. Not supported: the ratio is above it by a t-test of its logarithm. Otherwise, and whenever a run "
            "diverged, inconclusive."
        ),
        decide=partial(
            compare_ratio,
            metric="training_seconds",
            limit=1.0,
            comparison=Comparison(PAIRS[0], "quantum-circuit", "quantum-perceptron"),
        ),
    ),
    _value(
        "quantum-doubling",
        "cost grows by qubit",
        "quantum-time",
        f"Simulated, a step takes at least {_GROWTH:g} times as long with each further qubit.",
        "growth_per_qubit",
        "The factor per qubit in the CPU time of a training step, from 12 to 14 qubits",
        (STEP, "step-circuit"),
        _GROWTH,
        10.0,
    ),
    _value(
        "quantum-plateau",
        "gradients vanish",
        "quantum-gradients",
        f"In deep random circuits, two more qubits leave at most {_LEFT:g} of the variance of a derivative.",
        "variance_per_pair",
        "The factor per two qubits in the variance of a derivative, from 2 to 10 qubits, with 5 layers per qubit",
        (GRADIENT, "random-deep"),
        0.0,
        _LEFT,
    ),
    _value(
        "quantum-plateau-shallow",
        "also in shallow ones",
        "quantum-gradients",
        "The same holds in circuits of three layers.",
        "variance_per_pair",
        "The factor per two qubits in the variance of a derivative, from 2 to 10 qubits, with 3 layers",
        (GRADIENT, "random-shallow"),
        0.0,
        _LEFT,
    ),
)

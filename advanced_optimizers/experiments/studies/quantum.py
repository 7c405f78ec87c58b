"""Quantum networks: what a circuit learns beside classical models, what a step costs, and vanishing gradients."""

from __future__ import annotations

from advanced_optimizers.experiments.evidence.metrics import Curve, Metric
from advanced_optimizers.experiments.evidence.statement import Statement
from advanced_optimizers.experiments.studies.claims.quantum import CLAIMS, GRADIENT, MARGINS, STEP
from advanced_optimizers.experiments.studies.kind_study import KindStudy, KindTask
from advanced_optimizers.experiments.studies.quantum_runs import (
    LAYERS,
    MODELS,
    GradientVariance,
    QuantumRun,
    StepTime,
    circuit_parameters,
)
from advanced_optimizers.experiments.studies.study import SEEDS
from advanced_optimizers.experiments.studies.topic import Topic
from advanced_optimizers.experiments.studies.tuned_kind import RatedStudy
from advanced_optimizers.experiments.training.algorithms import Algorithm

RATES = (0.05, 0.2)


def _task(dataset: str, pair: str, qubits: int, images: int, steps: int) -> KindTask:
    def config(algorithm: str, seed: int) -> QuantumRun:
        return QuantumRun(
            algorithm=algorithm, seed=seed, dataset=dataset, pair=pair, qubits=qubits, images=images, steps=steps
        )

    return KindTask(
        task=f"{dataset}-{pair}-{qubits}-qubits",
        reads=(dataset,),
        config=config,
        protocol={
            "Images": images,
            "Steps": steps,
            "Images per step": QuantumRun.batch_size,
            "Layers": LAYERS,
            "Parameters": circuit_parameters(qubits),
        },
    )


def _classifiers(
    profile: str, tasks: tuple[KindTask, ...], seeds: tuple[int, ...], rates: tuple[float, ...]
) -> RatedStudy:
    return RatedStudy(
        name="quantum",
        title="What does a quantum network learn that classical models do not?",
        profile=profile,
        tasks=tasks,
        algorithms=tuple(MODELS),
        seeds=seeds,
        rates=rates,
        metrics=("test_accuracy", "test_loss", "training_seconds"),
        curves=("train_loss",),
    )


def _times(profile: str, pairs: int, seeds: tuple[int, ...]) -> KindStudy:
    def config(algorithm: str, seed: int) -> StepTime:
        return StepTime(algorithm=algorithm, seed=seed, pairs=pairs)

    protocol: dict[str, str | float] = {
        "Qubits": f"2 to {2 * pairs}",
        "Samples per step": StepTime.batch_size,
        "Layers": LAYERS,
    }
    return KindStudy(
        name="quantum-time",
        title="How does the time of a simulated step grow with the qubits?",
        profile=profile,
        tasks=(KindTask(task=STEP, reads=(), config=config, protocol=protocol),),
        algorithms=("step-perceptron", "step-circuit"),
        seeds=seeds,
        metrics=("growth_per_qubit",),
        curves=("step_seconds",),
    )


def _gradients(profile: str, pairs: int, draws: int, seeds: tuple[int, ...]) -> KindStudy:
    def config(algorithm: str, seed: int) -> GradientVariance:
        return GradientVariance(algorithm=algorithm, seed=seed, pairs=pairs, draws=draws)

    protocol: dict[str, str | float] = {"Qubits": f"2 to {2 * pairs}", "Draws": draws}
    return KindStudy(
        name="quantum-gradients",
        title="How do the gradients of random circuits shrink with the qubits?",
        profile=profile,
        tasks=(KindTask(task=GRADIENT, reads=(), config=config, protocol=protocol),),
        algorithms=("random-shallow", "random-deep"),
        seeds=seeds,
        metrics=("variance_per_pair",),
        curves=("gradient_variance",),
    )


_LOGISTIC = "quantum-logistic"


def _row(label: str, *, control: bool = False) -> Algorithm:
    return Algorithm(label=label, baseline=_LOGISTIC, timed=False, control=control)


_ALGORITHMS = {
    _LOGISTIC: Algorithm(label="Logistic regression", baseline=None, timed=False),
    "quantum-perceptron": _row("Perceptron, as many parameters"),
    "quantum-fourier": _row("Random Fourier features"),
    "quantum-cosines": _row("Product of cosines"),
    "quantum-circuit": _row("Quantum network"),
    "quantum-separate": _row("Quantum, no entanglement (control)", control=True),
    "quantum-reupload": _row("Quantum, features in every layer"),
    "quantum-frozen": _row("Quantum, random angles (control)", control=True),
    "step-perceptron": Algorithm(label="A step of a perceptron", baseline=None, timed=False),
    "step-circuit": Algorithm(label="A step of a simulated circuit", baseline="step-perceptron", timed=False),
    "random-shallow": Algorithm(label="Three layers", baseline=None, timed=False),
    "random-deep": Algorithm(label="Five layers per qubit", baseline="random-shallow", timed=False),
}

_NO_DEVICE = "Everything here is simulated, which is slower with each qubit; nothing can be said of a quantum computer."

TOPIC = Topic(
    title="Quantum networks",
    tasks={
        "mnist-38-4-qubits": "MNIST, 3/8, 4 qubits",
        "mnist-49-4-qubits": "MNIST, 4/9, 4 qubits",
        "mnist-01-4-qubits": "MNIST, 0/1, 4 qubits",
        "mnist-38-6-qubits": "MNIST, 3/8, 6 qubits",
        "mnist-38-8-qubits": "MNIST, 3/8, 8 qubits",
        STEP: "One training step",
        GRADIENT: "Random circuits",
    },
    algorithms=_ALGORITHMS,
    studies=(
        _classifiers("quick", (_task("digits", "38", 4, 200, 24),), SEEDS[:2], RATES[1:2]),
        _classifiers(
            "full",
            tuple(_task("mnist", *which, 500, 60) for which in (("38", 4), ("49", 4), ("01", 4), ("38", 6), ("38", 8))),
            SEEDS,
            RATES,
        ),
        _times("quick", 4, SEEDS[:2]),
        _times("full", 7, SEEDS),
        _gradients("quick", 3, 50, SEEDS[:2]),
        _gradients("full", 5, 200, SEEDS),
    ),
    claims=CLAIMS,
    metrics=(
        Metric("loss_fall", "fall of the training loss", True, "nats", "nats", 1.0, 3),
        Metric("parameter_change", "largest change of a parameter", True, "", "", 1.0, 3),
        Metric("step_seconds", "CPU seconds of a step", False, "s", "s", 1.0, 4),
        Metric("growth_per_qubit", "growth of the time per qubit", False, "", "", 1.0, 2),
        Metric("gradient_variance", "variance of a derivative", True, "", "", 1.0, 4),
        Metric("variance_per_pair", "variance left by two more qubits", True, "", "", 1.0, 2),
    ),
    curves=(
        Curve("train_loss", "train-loss", "training loss by quarter of the steps", by_base=False, over="quarter"),
        Curve(
            "step_seconds",
            "by-qubits",
            "CPU time of a training step by qubits",
            by_base=False,
            over="pairs of qubits",
            log=True,
        ),
        Curve(
            "gradient_variance",
            "by-qubits",
            "variance of a derivative by qubits",
            by_base=False,
            over="pairs of qubits",
            log=True,
        ),
    ),
    margins={"test_accuracy": MARGINS},
    statements=(
        Statement(
            key="Q1",
            text="Quantum computing is an exponential speed-up.",
            finding=_NO_DEVICE,
            word="not testable",
            shown="14, what it costs",
        ),
        Statement(
            key="Q2",
            text="Superposition is parallel processing, exponentially faster.",
            finding="A state of n qubits has 2^n amplitudes, but n expectations are what comes out. " + _NO_DEVICE,
            word="not testable",
        ),
        Statement(
            key="Q3",
            text="Entanglement is used for parallelism.",
            finding="Entangled states are correlated. Whether that is worth anything here is decided by the same "
            "circuit without what entangles.",
            claims=("quantum-entanglement",),
            shown="14, the study",
        ),
        Statement(
            key="Q4",
            text="Interference is used for optimization.",
            finding="No algorithm is named in which interference would be on or off.",
            word="not testable",
        ),
        Statement(
            key="Q5",
            text="A quantum network can be trained as a model.",
            finding="Ours; the text's sketch cannot: its arrays are constants, so 100 steps change nothing. Whether it "
            "is better than classical models is decided apart.",
            claims=("quantum-trains",),
            shown="14, the study",
        ),
    ),
)

"""All topics of AutoML on one scale: what each brings over a baseline, what it needs, and the text's general claims."""

from __future__ import annotations

from torch import nn

from advanced_optimizers.experiments.evidence.gains import Gain
from advanced_optimizers.experiments.evidence.statement import Statement
from advanced_optimizers.experiments.studies import (
    architecture_runs,
    continual_runs,
    federated_runs,
    few_shot,
    learning_runs,
    meta_learning,
    privacy_runs,
)
from advanced_optimizers.experiments.studies.topic import Topic

DIGITS, PIXELS = 60_000, 28 * 28
_PERMUTED = PIXELS // continual_runs.ContinualRun.shrink**2


def size(model: nn.Module) -> int:
    """The number of a model's parameters."""
    return sum(p.numel() for p in model.parameters())


# A comparison per topic, two where a topic has two kinds of task. Each baseline is the one that the topic itself starts
# from: what a reader would do without the method.
GAINS = (
    Gain(
        topic="Architecture search: DARTS, for a random cell",
        study="architecture-search",
        task="cifar10-jpeg-cells",
        algorithm="darts-first",
        baseline="random-cells",
        metric="test_accuracy",
        samples=architecture_runs.FULL["images"],
    ),
    Gain(
        topic="Learning to learn, sine waves: MAML, for pretraining",
        study="meta-sinusoid",
        task="sinusoid-10-shot",
        algorithm="maml",
        baseline=meta_learning.PRETRAINING,
        metric="mse_after_1",
        samples=10,
        parameters=size(meta_learning.network()),
    ),
    Gain(
        topic="Learning to learn, characters: prototypes, for pixels",
        study="meta-few-shot",
        task="omniglot-few-shot",
        algorithm="prototypes",
        baseline=few_shot.PIXELS,
        metric="accuracy_5_way_5_shot",
        samples=25,
        parameters=size(few_shot.encoder("cpu")),
    ),
    Gain(
        topic="Two modalities: concatenation, for the image alone",
        study="multimodal",
        task="mnist-matching-20000",
        algorithm="fusion-intermediate",
        baseline="fusion-image",
        metric="test_accuracy",
        samples=20_000,
    ),
    Gain(
        topic="Federated: FedAvg, for each client alone",
        study="federated",
        task="mnist-iid-clients",
        algorithm="fed-avg",
        baseline="fed-alone",
        metric="test_accuracy",
        samples=DIGITS,
        parameters=size(federated_runs.two_layers(PIXELS, 10)),
    ),
    Gain(
        topic="Privacy: DP-SGD at epsilon 3, for no privacy",
        study="privacy",
        task="mnist-mlp-private",
        algorithm="private-epsilon-3",
        baseline="private-none",
        metric="test_accuracy",
        samples=DIGITS,
        parameters=size(privacy_runs.build("mlp", 28, 10)),
    ),
    Gain(
        topic="Continual: EWC, for fine-tuning",
        study="continual",
        task="mnist-permuted",
        algorithm="continual-ewc",
        baseline="continual-finetuning",
        metric="test_accuracy",
        samples=continual_runs.ContinualRun.images,
        parameters=size(learning_runs.network(_PERMUTED, continual_runs.ContinualRun.hidden, 10)),
    ),
    Gain(
        topic="Quantum: a circuit of 4 qubits, for logistic regression",
        study="quantum",
        task="mnist-38-4-qubits",
        algorithm="quantum-circuit",
        baseline="quantum-logistic",
        metric="test_accuracy",
        samples=500,
    ),
)

TOPIC = Topic(
    title="AutoML as a whole",
    algorithms={},
    gains=GAINS,
    statements=(
        Statement(
            key="G1",
            text="95 % of engineers do not know advanced techniques.",
            finding="A statement about people, without a source. No run can decide it.",
            word="not testable",
        ),
        Statement(
            key="G2",
            text="Modern methods give results that are 10 to 100 times better.",
            finding="No metric and no baseline is named, and the ratio depends on both: see the table of gains.",
            word="not testable",
        ),
        Statement(
            key="G3",
            text="Without them one is left with five-year-old techniques, and loses competitiveness.",
            finding="Nothing in it can be measured.",
            word="not testable",
        ),
        Statement(
            key="G4",
            text="They solve tasks that traditional methods cannot solve.",
            finding="Three such tasks are put to the test: classes with an example each, matching an image to a text, "
            "and learning a task without losing the one before.",
            claims=("prototypes-above-pixels", "modal-complex", "continual-gain"),
            shown="09, 10, 13",
        ),
        Statement(
            key="G5",
            text="A figure compares performance, complexity, training time and need of data.",
            finding="The text's has no numbers. Ours is drawn from records: errors, CPU time, parameters, samples.",
            word="imprecise",
            shown="the table of gains",
        ),
    ),
)

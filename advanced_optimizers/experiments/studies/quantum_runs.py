"""Runs of quantum circuits: telling two digits apart, the time of a step, and the gradients of random circuits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from advanced_optimizers.automl.quantum import QuantumLayer, gradient_variance
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.studies.tuned_kind import TunedConfig

# Training images that a trial is measured on.
HELD_OUT = 1000
LAYERS = 3
# Timed steps; their median counts.
REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class QuantumRun(TunedConfig):
    """Training to tell two digits apart, by Adam at a learning rate that falls along half a cosine.

    The features are the first principal components of the training images, one per qubit, each scaled so that its
    largest value there is a right angle.

    Attributes:
        dataset: Whose images.
        pair: The two digits.
        qubits: Features.
        images: Training images.
        steps: Training steps.
        batch_size: Images per step.
        held_out: Whether it is a trial, measured on training images that are held out.
    """

    kind = "quantum-classifier"

    pair: str = "38"
    qubits: int = 4
    images: int = 500
    steps: int = 60
    batch_size: int = 64

    @property
    def task(self) -> str:
        """Dataset, digits, and qubits."""
        return f"{self.dataset}-{self.pair}-{self.qubits}-qubits"

    @property
    def points(self) -> int:
        """It is measured after each quarter of the steps."""
        return 4

    @property
    def extent(self) -> str:
        """Images and steps."""
        return f"{self.images} images, {self.steps} steps"

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Trains, and measures after each quarter; times are of training alone."""
        sets = read_sets(self)
        model = MODELS[self.algorithm](self.qubits).to(device, torch.float64)
        trained = [p for p in model.parameters() if p.requires_grad]
        start, seconds = [p.detach().clone() for p in trained], 0.0
        before, _ = _measured(model, sets.train, device)
        optimizer = torch.optim.Adam(trained, float(self.hyperparameters["lr"]))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.points):
            begun, total, steps = time.process_time(), 0.0, self.steps // self.points
            for _ in range(steps):
                batch = torch.randint(self.images, (self.batch_size,), generator=generator)
                loss = _loss(model, Part(sets.train.x[batch], sets.train.target[batch]), device)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item()
            seconds += time.process_time() - begun
            test_loss, accuracy = _measured(model, sets.test, device)
            yield {
                "train_loss": total / steps,
                "test_accuracy": accuracy,
                "test_loss": test_loss,
                "loss_fall": before - _measured(model, sets.train, device)[0],
                "parameter_change": _largest_change(trained, start),
                "parameters": float(sum(p.numel() for p in trained)),
                "training_seconds": seconds,
            }


# ---- the data -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Features, float64 (N, qubits), and whether the digit is the second of the pair, (N,)."""

    x: Tensor
    target: Tensor


@dataclass(frozen=True)
class Sets:
    """What a run trains and is measured on."""

    train: Part
    test: Part


def read_sets(run: QuantumRun) -> Sets:
    """The sets of a run: its seed draws the training images; algorithms share them."""
    return _sets(run.dataset, run.pair, run.qubits, run.images, run.held_out, run.seed)


@lru_cache(maxsize=8)  # the algorithms of a seed run one after the other
def _sets(dataset: str, pair: str, qubits: int, images: int, held_out: bool, seed: int) -> Sets:
    source = data.load(dataset)
    digits = torch.tensor([int(digit) for digit in pair])
    own = torch.isin(source.labels, digits).nonzero()[:, 0]
    order = own[torch.randperm(len(own), generator=torch.Generator().manual_seed(seed))]
    chosen, spare = order[:images], order[images : images + HELD_OUT]
    pixels = _pixels(source.images[chosen])
    mean = pixels.mean(dim=0)
    axes = torch.linalg.svd(pixels - mean, full_matrices=False)[2][:qubits].T
    scale = (math.pi / 2) / ((pixels - mean) @ axes).abs().amax(dim=0)

    def part(raw: Tensor, labels: Tensor) -> Part:
        return Part((_pixels(raw) - mean) @ axes * scale, (labels == digits[1]).double())

    if held_out:
        return Sets(
            part(source.images[chosen], source.labels[chosen]), part(source.images[spare], source.labels[spare])
        )
    tested = torch.isin(source.test_labels, digits)
    test = part(source.test_images[tested], source.test_labels[tested])
    return Sets(part(source.images[chosen], source.labels[chosen]), test)


def _pixels(images: Tensor) -> Tensor:
    return images.flatten(1).double() / 255


def _loss(model: nn.Module, part: Part, device: str) -> Tensor:
    return binary_cross_entropy_with_logits(model(part.x.to(device))[:, 0], part.target.to(device))


@torch.no_grad()
def _measured(model: nn.Module, part: Part, device: str) -> tuple[float, float]:
    """The mean loss and the accuracy."""
    logits = model(part.x.to(device))[:, 0].cpu()
    right = (logits > 0) == part.target.bool()
    return binary_cross_entropy_with_logits(logits, part.target).item(), float(right.double().mean())


def _largest_change(parameters: Sequence[nn.Parameter], start: Sequence[Tensor]) -> float:
    return max(float((p.detach() - q).abs().max()) for p, q in zip(parameters, start, strict=True))


# ---- the models, of as many parameters where that is possible -------------------------------------------------------


class ProductOfCosines(nn.Module):
    """What the circuit is with its chain after all layers: products of cosines up to each feature, and n angles."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.angles = nn.Parameter(2 * math.pi * torch.rand(features))

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, features)."""
        return (x + self.angles).cos().cumprod(dim=1)


class RandomFourier(nn.Module):
    """Cosines of random projections, which are not trained; frequencies are standard normal."""

    frequencies: Tensor
    phases: Tensor

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(features, outputs))
        self.register_buffer("phases", 2 * math.pi * torch.rand(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, outputs)."""
        return (x @ self.frequencies + self.phases).cos()


def circuit_parameters(qubits: int) -> int:
    """Those of a circuit and its readout: an angle per layer and qubit, a weight per qubit, and a bias."""
    return LAYERS * qubits + qubits + 1


def _circuit(qubits: int, *, frozen: bool = False, **options: bool) -> nn.Module:
    layer = QuantumLayer(qubits, LAYERS, **options)
    return nn.Sequential(layer.requires_grad_(not frozen), nn.Linear(qubits, 1))


def _perceptron(features: int) -> nn.Module:
    hidden = round((circuit_parameters(features) - 1) / (features + 2))
    return nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, 1))


def _fourier(features: int) -> nn.Module:
    outputs = circuit_parameters(features) - 1
    return nn.Sequential(RandomFourier(features, outputs), nn.Linear(outputs, 1))


MODELS: dict[str, Callable[[int], nn.Module]] = {
    "quantum-logistic": lambda features: nn.Linear(features, 1),
    "quantum-perceptron": _perceptron,
    "quantum-fourier": _fourier,
    "quantum-cosines": lambda features: nn.Sequential(ProductOfCosines(features), nn.Linear(features, 1)),
    "quantum-circuit": _circuit,
    "quantum-separate": partial(_circuit, entangle=False),
    "quantum-reupload": partial(_circuit, reupload=True),
    "quantum-frozen": partial(_circuit, frozen=True),
}


# ---- by the number of qubits ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StepTime(KindConfig):
    """The CPU time of a training step with 2, 4, ... qubits, or of a perceptron with as many features.

    Attributes:
        pairs: Up to twice as many qubits.
        batch_size: Samples per step.
    """

    kind = "quantum-step-time"

    pairs: int = 7
    batch_size: int = 8

    @property
    def task(self) -> str:
        """The one task."""
        return "quantum-step"

    @property
    def points(self) -> int:
        """One for each number of qubits."""
        return self.pairs

    @property
    def extent(self) -> str:
        """The qubits."""
        return f"up to {2 * self.pairs} qubits"

    @property
    def datasets(self) -> tuple[str, ...]:
        """None: the features are drawn."""
        return ()

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Times steps; ``growth_per_qubit`` is that of the last two qubits."""
        times: list[float] = []
        for qubits in range(2, 2 * self.pairs + 1, 2):
            model = MODELS[{"step-circuit": "quantum-circuit", "step-perceptron": "quantum-perceptron"}[self.algorithm]]
            times.append(_step_seconds(model(qubits).to(device, torch.float64), qubits, self.batch_size, device))
            growth = (times[-1] / times[-2]) ** (1 / 2) if len(times) > 1 else 1.0
            yield {"step_seconds": times[-1], "growth_per_qubit": growth}


def _step_seconds(model: nn.Module, qubits: int, batch_size: int, device: str) -> float:
    part = Part(torch.rand(batch_size, qubits, dtype=torch.float64), torch.ones(batch_size, dtype=torch.float64))
    times = []
    for _ in range(REPEATS + 1):  # the first one builds what later ones keep
        begun = time.process_time()
        model.zero_grad()
        _loss(model, part, device).backward()
        times.append(time.process_time() - begun)
    return median(times[1:])


@dataclass(frozen=True, kw_only=True)
class GradientVariance(KindConfig):
    """The variance of a derivative of random circuits with 2, 4, ... qubits.

    Attributes:
        pairs: Up to twice as many qubits.
        draws: How often the angles are drawn.
    """

    kind = "quantum-gradient-variance"

    pairs: int = 5
    draws: int = 200

    @property
    def task(self) -> str:
        """The one task."""
        return "quantum-gradient"

    @property
    def points(self) -> int:
        """One for each number of qubits."""
        return self.pairs

    @property
    def extent(self) -> str:
        """The qubits and draws."""
        return f"up to {2 * self.pairs} qubits, {self.draws} draws"

    @property
    def datasets(self) -> tuple[str, ...]:
        """None."""
        return ()

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Draws; ``variance_per_pair`` is the factor per two qubits from the fewest to the most."""
        layers = {"random-deep": None, "random-shallow": LAYERS}[self.algorithm]
        generator, found = torch.Generator().manual_seed(self.seed), []
        for pair in range(1, self.pairs + 1):
            found.append(gradient_variance(2 * pair, layers, draws=self.draws, generator=generator))
            factor = (found[-1] / found[0]) ** (1 / (pair - 1)) if pair > 1 else 1.0
            yield {"gradient_variance": found[-1], "variance_per_pair": factor}

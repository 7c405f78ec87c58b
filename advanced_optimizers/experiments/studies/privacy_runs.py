"""Runs of training with differential privacy, and of the parts that it is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from advanced_optimizers.automl.privacy import PrivacyCost, gaussian_epsilon, membership_auc, train_private
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.studies.tuned_kind import TunedConfig

DELTA = 1e-5
# What a trial is measured on; and of how many samples that were trained on, and others, the losses are compared.
HELD_OUT, LOOKED_AT = 10_000, 10_000
POINTS = 5


@dataclass(frozen=True, kw_only=True)
class PrivateRun(TunedConfig):
    """Training by SGD on Poisson batches, with or without clipping and noise.

    Attributes:
        dataset: A key of ``data.DATASETS``.
        model: ``mlp`` or ``cnn``.
        clipped: Whether the gradient of each sample is clipped to the hyperparameter ``max_norm``.
        noise_multiplier: The noise's deviation divided by ``max_norm``, in the sum over a batch.
        sample_rate: The probability with which a sample is in a batch.
        steps: Steps; a multiple of 5.
        images: Training images; 0 for all.
        held_out: Whether it is a trial, measured on training images that are held out.
    """

    kind = "private-training"

    model: str = "mlp"
    clipped: bool = False
    noise_multiplier: float = 0.0
    sample_rate: float = 0.01
    steps: int = 500
    images: int = 0

    @property
    def task(self) -> str:
        """Dataset, model, and whether every step sees all samples."""
        return f"{self.dataset}-{self.model}-{'full-batch' if self.sample_rate == 1.0 else 'private'}"

    @property
    def points(self) -> int:
        """It is measured after each fifth of the steps."""
        return POINTS

    @property
    def extent(self) -> str:
        """Steps, and the rate of samples."""
        return f"{self.steps} steps of {self.sample_rate:g} of the samples"

    def cost(self, steps: int) -> PrivacyCost:
        """What so many steps cost; without clipping, there is no guarantee, whatever the noise."""
        return PrivacyCost(self.noise_multiplier if self.clipped else 0.0, self.sample_rate, steps)

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Trains, and measures after each fifth."""
        trained = Trained(self, device)
        for point in range(1, POINTS + 1):
            loss = trained.train(self.steps // POINTS)
            yield {
                "train_loss": loss,
                **trained.measure(),
                "epsilon": epsilon_of(self.cost(point * self.steps // POINTS)),
                "parameters": float(sum(p.numel() for p in trained.model.parameters())),
            }


def epsilon_of(cost: PrivacyCost) -> float:
    """The epsilon at ``DELTA``, exact where every step sees all samples; NaN where there is no guarantee."""
    if cost.noise_multiplier == 0.0:
        return math.nan
    if cost.sample_rate == 1.0:
        return gaussian_epsilon(cost.noise_multiplier, DELTA, cost.steps)
    return cost.epsilon(DELTA)


# ---- the data -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sets:
    """Images with mean 0 and deviation 1, (n, side, side), and labels: what is trained on, and what is measured on."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int


@lru_cache(maxsize=2)  # the algorithms of a seed run one after the other
def read_sets(dataset: str, images: int, held_out: bool, seed: int) -> Sets:
    """The sets of a run: its seed draws the training images; algorithms share them."""
    source = data.load(dataset)
    order = torch.randperm(len(source.images), generator=torch.Generator().manual_seed(seed))
    aside = min(HELD_OUT, len(order) // 5) if held_out else 0
    spare, chosen = order[:aside], order[aside:][: images or None]

    def pixels(images: Tensor) -> Tensor:
        return (images[..., 0].float() / 255 - source.mean[0]) / source.std[0]

    tested = (source.images[spare], source.labels[spare]) if held_out else (source.test_images, source.test_labels)
    return Sets(pixels(source.images[chosen]), source.labels[chosen], pixels(tested[0]), tested[1], source.num_classes)


# ---- the models -----------------------------------------------------------------------------------------------------


class FastPool(nn.MaxPool2d):
    """Max-pooling that stores its input channels-last, which takes a CPU a tenth of the time."""

    def forward(self, x: Tensor) -> Tensor:
        """See :class:`torch.nn.MaxPool2d`."""
        return super().forward(x.contiguous(memory_format=torch.channels_last)).contiguous()


def build(model: str, side: int, num_classes: int) -> nn.Sequential:
    """The network of a name, for images (n, side, side): 64 units, or the one of Opacus's MNIST example with tanh."""
    if model == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(side * side, 64), nn.Tanh(), nn.Linear(64, num_classes))
    return nn.Sequential(
        nn.Unflatten(1, (1, side)),
        nn.Conv2d(1, 16, 8, 2, padding=3),
        nn.Tanh(),
        FastPool(2, 1),
        nn.Conv2d(16, 32, 4, 2),
        nn.Tanh(),
        FastPool(2, 1),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 32),
        nn.Tanh(),
        nn.Linear(32, num_classes),
    )


class Trained:
    """A model in training, and what is measured of it."""

    def __init__(self, run: PrivateRun, device: str) -> None:
        self.run, self.device = run, device
        self.sets = read_sets(run.dataset, run.images, run.held_out, run.seed)
        self.model = build(run.model, self.sets.images.shape[-1], self.sets.num_classes).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=float(run.hyperparameters["lr"]))
        self.max_norm = float(run.hyperparameters.get("max_norm", 1.0))
        self.generator = torch.Generator().manual_seed(run.seed)

    def train(self, steps: int) -> float:
        """Takes steps; returns the mean loss, NaN if it diverged."""
        losses: list[float] = []
        try:
            if self.run.clipped:
                self._with_opacus(steps, losses.append)
            else:
                self._without_clipping(steps, losses.append)
        except FloatingPointError:
            return math.nan
        return sum(losses) / len(losses)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Accuracy and loss on the test set, and how well a loss tells who was trained on."""
        outputs = self._outputs(self.sets.test_images)
        members = cross_entropy(
            self._outputs(self.sets.images[:LOOKED_AT]), self.sets.labels[:LOOKED_AT], reduction="none"
        )
        others = cross_entropy(outputs, self.sets.test_labels, reduction="none")
        finite = bool(members.isfinite().all() and others.isfinite().all())
        return {
            "test_accuracy": float((outputs.argmax(dim=1) == self.sets.test_labels).float().mean()),
            "test_loss": float(others.mean()),
            "membership_auc": membership_auc(members, others[:LOOKED_AT]) if finite else math.nan,
        }

    def _outputs(self, images: Tensor) -> Tensor:
        return torch.cat([self.model(some.to(self.device)).cpu() for some in images.split(2000)])

    def _with_opacus(self, steps: int, note: Callable[[float], None]) -> None:
        n = len(self.sets.images)
        cost = train_private(
            self.model,
            self.optimizer,
            self.sets.images.to(self.device),
            self.sets.labels.to(self.device),
            noise_multiplier=self.run.noise_multiplier,
            max_grad_norm=self.max_norm,
            batch_size=math.ceil(self.run.sample_rate * n),
            steps=steps,
            generator=self.generator,
            on_step=lambda step, loss: None if math.isnan(loss) else note(loss),
        )
        if cost != PrivacyCost(self.run.noise_multiplier, self.run.sample_rate, steps):
            raise ValueError(f"sample_rate must be one over a number of batches, got {self.run.sample_rate}")

    def _without_clipping(self, steps: int, note: Callable[[float], None]) -> None:
        """The same batches and the same noise, and gradients as they are."""
        n = len(self.sets.images)
        deviation, count = self.run.noise_multiplier * self.max_norm, self.run.sample_rate * n
        for _ in range(steps):
            batch = (torch.rand(n, generator=self.generator) < self.run.sample_rate).nonzero()[:, 0]
            if not len(batch):
                continue
            x, y = self.sets.images[batch].to(self.device), self.sets.labels[batch].to(self.device)
            loss = cross_entropy(self.model(x), y)
            if not math.isfinite(loss.item()):
                raise FloatingPointError("the loss is not finite")
            self.optimizer.zero_grad()
            (loss * (len(batch) / count)).backward()
            for p in self.model.parameters():
                if deviation and p.grad is not None:
                    noise = torch.randn(p.shape, generator=self.generator).to(self.device)
                    p.grad += deviation / count * noise
            self.optimizer.step()
            note(loss.item())

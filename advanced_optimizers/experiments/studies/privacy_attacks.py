"""Runs that attack: the image behind a gradient, and how much one image can change what is released."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advanced_optimizers.automl.privacy import (
    DifferentialPrivacy,
    clip_per_sample,
    invert_gradient,
    per_sample_gradients,
)
from advanced_optimizers.experiments.records.config import KindConfig
from advanced_optimizers.experiments.studies.privacy_runs import Sets, build, read_sets
from advanced_optimizers.experiments.studies.topic import Topic

# An image counts as recovered if the error is at most this part of its norm.
RECOVERED = 0.05
# The outlier among the images of a batch: one whose pixels nobody has divided by 255.
OUTLIER = 255.0


@dataclass(frozen=True, kw_only=True)
class _Attack(KindConfig):
    """What both attacks have in common: an untrained network of 64 units, and images.

    Attributes:
        dataset: A key of ``data.DATASETS``.
        images: Images that are attacked, or in a batch.
    """

    kind = "attack"

    dataset: str = "mnist"
    images: int = 200

    @property
    def points(self) -> int:
        """It is measured once."""
        return 1

    @property
    def extent(self) -> str:
        """The images."""
        return f"{self.images} images"

    @property
    def datasets(self) -> tuple[str, ...]:
        """The one dataset."""
        return (self.dataset,)

    def _made(self) -> tuple[Sets, nn.Sequential]:
        sets = read_sets(self.dataset, self.images, False, self.seed)
        return sets, build("mlp", sets.images.shape[-1], sets.num_classes)


@dataclass(frozen=True, kw_only=True)
class GradientInversion(_Attack):
    """What a server finds out from one step of a client, by :func:`.invert_gradient` of the first layer.

    Attributes:
        batch: Images in the client's step.
    """

    kind = "gradient-inversion"

    batch: int = 10

    @property
    def task(self) -> str:
        """The dataset."""
        return f"{self.dataset}-gradients"

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """See :class:`.KindConfig`."""
        sets, model = self._made()
        gradients = per_sample_gradients(model, sets.images, sets.labels)
        errors, labels = [], []
        for index in range(self.images):
            sent, guess = self._sent_and_guessed(sets, gradients, index)
            truth = sets.images[index].flatten()
            errors.append(float((guess - truth).norm() / truth.norm()))
            labels.append(float(sent[-1].argmin() == sets.labels[index]))
        yield {
            "recovered": sum(error <= RECOVERED for error in errors) / self.images,
            "image_error": float(torch.tensor(errors).median()),
            "label_found": sum(labels) / self.images,
        }

    def _sent_and_guessed(self, sets: Sets, gradients: list[Tensor], index: int) -> tuple[list[Tensor], Tensor]:
        """The gradient that a client with this image sends, and what the attacker makes of it."""
        own = [g[index] for g in gradients]
        privacy = DifferentialPrivacy(3.0, 1e-5)
        match self.algorithm:
            case "inversion-mean":  # knows the mean image, and looks at no gradient
                return [torch.zeros_like(g) for g in own], sets.images.mean(dim=0).flatten()
            case "inversion-batch":
                members = [(index + step) % self.images for step in range(self.batch)]
                own = [g[members].mean(dim=0) for g in gradients]
            case "inversion-clipped":
                own = privacy.clip_gradients(own, max_norm=1.0)
            case "inversion-noisy":
                own = privacy.add_noise(privacy.clip_gradients(own, max_norm=1.0), sensitivity=1.0)
        return own, invert_gradient(own[0], own[1])


@dataclass(frozen=True, kw_only=True)
class Sensitivity(_Attack):
    """By how much leaving one image out of a batch changes its clipped gradient, where one image is an outlier.

    The gradient is a sum over the batch where samples are clipped, and a mean where the batch is, as it is released.
    """

    kind = "sensitivity"

    @property
    def task(self) -> str:
        """The dataset."""
        return f"{self.dataset}-sensitivity"

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """See :class:`.KindConfig`; the largest change over the images that may be left out."""
        sets, model = self._made()
        images = sets.images.clone()
        images[0] *= OUTLIER
        gradients = [g.double() for g in per_sample_gradients(model, images, sets.labels)]
        everyone = torch.arange(self.images)
        whole = self._released(gradients)
        changes = [self._released([g[everyone != index] for g in gradients]) - whole for index in range(self.images)]
        yield {"sensitivity": max(float(change.norm()) for change in changes)}

    def _released(self, gradients: list[Tensor]) -> Tensor:
        """What is released of the gradients of samples, with a norm of 1 to clip to."""
        clip = DifferentialPrivacy().clip_gradients
        means = [g.mean(dim=0) for g in gradients]
        match self.algorithm:
            case "clip-batch-tensors":
                parts = [clip(mean, max_norm=1.0) for mean in means]
            case "clip-batch":
                parts = clip(means, max_norm=1.0)
            case "clip-sample-tensors":
                parts = [clip_per_sample([g], 1.0)[0].sum(dim=0) for g in gradients]
            case _:
                parts = [g.sum(dim=0) for g in clip_per_sample(gradients, 1.0)]
        return torch.cat([part.flatten() for part in parts])


# Its algorithms, studies and claims are those of ``privacy``.
TOPIC = Topic(title="Attacks on privacy", algorithms={})

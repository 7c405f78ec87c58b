"""Runs with two modalities: does a caption belong to an image, is its digit odd, and which caption is the image's?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, cross_entropy, one_hot

from advanced_optimizers.automl.multimodal import VisionLanguageModel, recall_at
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.data.captions import Captioner, pair_up
from advanced_optimizers.experiments.studies.tuned_kind import TunedConfig

GOALS = ("matching", "parity", "retrieval")
# Features of an encoding, tokens of an image, and units of its encoder.
HIDDEN, IMAGE_TOKENS, ENCODER = 32, 4, 128
# For parity: the deviation of the noise on pixels that have mean 0 and deviation 1, and the share of captions whose
# word for the digit is drawn at random. Either modality is then right in about three of four cases.
NOISE, RANDOM_DIGITS = 2.5, 0.5
# Of a test set of matching: the deviation of the noise on the images, where they are the corrupted modality.
CORRUPTION = 1.0
# What a trial is measured on, and how many test images search for their caption.
HELD_OUT, QUERIES = 4000, 2000

# By algorithm, the way of fusion; the last one's training captions are dealt to the images at random.
FUSIONS = {
    "fusion-image": "late",
    "fusion-text": "late",
    "fusion-early": "early",
    "fusion-intermediate": "intermediate",
    "fusion-longer": "intermediate",
    "fusion-late": "late",
    "fusion-product": "product",
    "fusion-attention": "attention",
    "fusion-contrastive": "cosine",
    "fusion-shuffled": "cosine",
}
# What an algorithm does not see.
UNSEEN = {"fusion-image": "texts", "fusion-text": "images"}


@dataclass(frozen=True, kw_only=True)
class FusionRun(TunedConfig):
    """Training on images and captions, by Adam at a learning rate that falls along half a cosine.

    Attributes:
        dataset: Whose images get captions.
        goal: ``matching``, ``parity`` or ``retrieval``.
        images: Training images, each with one caption.
        steps: Training steps.
        batch_size: Pairs per step.
        shrink: By how much each side of an image is divided; pixels are averaged.
        held_out: Whether it is a trial, measured on training images that are held out.
    """

    kind = "two-modalities"

    goal: str = "matching"
    images: int = 20_000
    steps: int = 600
    batch_size: int = 128
    shrink: int = 2

    @property
    def task(self) -> str:
        """Dataset, goal, and number of images."""
        return f"{self.dataset}-{self.goal}-{self.images}"

    @property
    def points(self) -> int:
        """It is measured after each quarter of the steps."""
        return 4

    @property
    def extent(self) -> str:
        """Images and steps."""
        return f"{self.images} images, {self.steps} steps"

    def measure(self, device: str) -> Iterator[Mapping[str, float]]:
        """Trains, and measures after each quarter; ``test_accuracy`` of a retrieval is recall at 1."""
        sets = read_sets(self)
        fusion = Trained(self, sets, device)
        for _ in range(self.points):
            train_loss = fusion.train(self.steps // self.points)
            yield {"train_loss": train_loss, **fusion.measure(), "parameters": float(fusion.parameters)}


# ---- the data -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Images and captions, side by side.

    Attributes:
        images: Pixels with mean 0 and deviation 1, (N, pixels).
        captions: Words, int64 (N, 4).
        target: Whether the caption belongs to the image, or the digit is odd, (N,); all 1 for a retrieval.
        truth: Each image's own caption, (N, 4).
    """

    images: Tensor
    captions: Tensor
    target: Tensor
    truth: Tensor


@dataclass(frozen=True)
class Sets:
    """What a run trains and is measured on."""

    train: Part
    test: Part
    vocabulary: int
    num_classes: int


def read_sets(run: FusionRun) -> Sets:
    """The sets of a run: its seed draws the training images, the pairs and the noise; algorithms share them."""
    return _sets(run.dataset, run.goal, run.images, run.shrink, run.held_out, run.seed)


@lru_cache(maxsize=4)  # the algorithms of a seed run one after the other
def _sets(dataset: str, goal: str, images: int, shrink: int, held_out: bool, seed: int) -> Sets:
    source, generator = data.load(dataset), torch.Generator().manual_seed(seed)
    order = torch.randperm(len(source.images), generator=generator)
    chosen, spare = order[:images], order[images : images + HELD_OUT]
    captioner = Captioner.of(source.images[chosen], source.num_classes)

    def part(pixels: Tensor, labels: Tensor) -> Part:
        own = captioner.describe(pixels, labels)
        seen = _pixels(pixels, source.mean[0], source.std[0], shrink)
        if goal == "matching":
            given, belongs = pair_up(own, generator)
            return Part(seen, given, belongs.float(), own)
        if goal == "parity":
            noisy = seen + NOISE * torch.randn(seen.shape, generator=generator)
            return Part(noisy, _with_random_digits(own, source.num_classes, generator), (labels % 2).float(), own)
        return Part(seen, own, torch.ones(len(own)), own)

    measured = (source.images[spare], source.labels[spare]) if held_out else (source.test_images, source.test_labels)
    return Sets(
        part(source.images[chosen], source.labels[chosen]), part(*measured), captioner.vocabulary, source.num_classes
    )


def _pixels(images: Tensor, mean: float, std: float, shrink: int) -> Tensor:
    gray = (images[..., 0].float() / 255 - mean) / std
    return avg_pool2d(gray[:, None], shrink).flatten(1)


def _with_random_digits(captions: Tensor, num_classes: int, generator: torch.Generator) -> Tensor:
    random = torch.randint(0, num_classes, (len(captions),), generator=generator)
    replaced = torch.rand(len(captions), generator=generator) < RANDOM_DIGITS
    return torch.cat([torch.where(replaced, random, captions[:, 0])[:, None], captions[:, 1:]], dim=1)


# ---- the models, of as many parameters ---------------------------------------------------------------------------


def build(algorithm: str, pixels: int, vocabulary: int, fusion_dim: int) -> VisionLanguageModel:
    """The model of an algorithm: words are encoded one by one, an image to four tokens."""
    fusion = FUSIONS[algorithm]
    if fusion == "early":
        return VisionLanguageModel(pixels, vocabulary, HIDDEN, fusion=fusion, fusion_dim=fusion_dim)
    encoder = nn.Sequential(
        nn.Linear(pixels, ENCODER),
        nn.ReLU(),
        nn.Linear(ENCODER, IMAGE_TOKENS * HIDDEN),
        nn.Unflatten(1, (IMAGE_TOKENS, HIDDEN)),
    )
    return VisionLanguageModel(None, vocabulary, HIDDEN, fusion=fusion, vision_encoder=encoder, fusion_dim=fusion_dim)


def parameters_used(algorithm: str, model: VisionLanguageModel) -> list[nn.Parameter]:
    """The parameters that an algorithm trains: not those of a modality that it does not see."""
    unseen = {"images": ("vision_encoder.", "fusion.of_image."), "texts": ("text_encoder.", "fusion.of_text.")}
    skipped = unseen.get(UNSEEN.get(algorithm, ""), ())
    return [p for name, p in model.named_parameters() if not name.startswith(tuple(skipped))]


def fusion_dim_for(algorithm: str, pixels: int, vocabulary: int) -> int:
    """The width with which an algorithm has as many parameters as attention has with a width of ``HIDDEN``."""

    def count(name: str, width: int) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in parameters_used(name, build(name, pixels, vocabulary, width)))

    wanted, first = count("fusion-attention", HIDDEN), count(algorithm, 1)
    return 1 + round((wanted - first) / (count(algorithm, 2) - first))


class Trained:
    """A model in training, and what is measured of it."""

    def __init__(self, run: FusionRun, sets: Sets, device: str) -> None:
        self.run, self.sets, self.device = run, sets, device
        pixels = sets.train.images.shape[1]
        width = fusion_dim_for(run.algorithm, pixels, sets.vocabulary)
        self.model = build(run.algorithm, pixels, sets.vocabulary, width).to(device)
        used = parameters_used(run.algorithm, self.model)
        self.parameters = sum(p.numel() for p in used)
        self.optimizer = torch.optim.Adam(used, lr=float(run.hyperparameters["lr"]), fused=True)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, run.steps)
        self.generator = torch.Generator().manual_seed(run.seed)
        self.contrastive = FUSIONS[run.algorithm] == "cosine"
        self.captions = sets.train.captions
        if run.algorithm == "fusion-shuffled":
            self.captions = self.captions[torch.randperm(len(self.captions), generator=self.generator)]
        self.left = torch.empty(0, dtype=torch.int64)

    def train(self, steps: int) -> float:
        """Takes steps; returns the mean loss."""
        self.model.train()
        total = 0.0
        for _ in range(steps):
            loss = self._loss(self._next_batch())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            total += loss.item()
        return total / steps

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """What the goal asks for, of the test set."""
        self.model.eval()
        return self._retrieval() if self.run.goal == "retrieval" else self._pairs()

    def scores(self, images: Tensor, words: Tensor) -> Tensor:
        """Logits of pairs, (n,), from what the algorithm sees of them; words are one-hot, (n, 4, vocabulary)."""
        unseen = UNSEEN.get(self.run.algorithm)
        image = None if unseen == "images" else images.to(self.device)
        return self.model(image, None if unseen == "texts" else words)[:, 0]

    def _next_batch(self) -> Tensor:
        while len(self.left) < self.run.batch_size:
            self.left = torch.cat([self.left, torch.randperm(len(self.captions), generator=self.generator)])
        batch, self.left = self.left.split([self.run.batch_size, len(self.left) - self.run.batch_size])
        return batch

    def _loss(self, batch: Tensor) -> Tensor:
        images, captions = self.sets.train.images[batch], self.captions[batch]
        if self.contrastive:
            same = (captions[:, None] == captions).all(dim=2).to(self.device)
            return self.model.contrastive_loss(images.to(self.device), self._words(captions), same)
        if self.run.goal == "retrieval":  # each image with its own caption, or that of another
            captions, belongs = pair_up(captions, self.generator)
            return self._cross_entropy(images, captions, belongs.float())
        return self._cross_entropy(images, captions, self.sets.train.target[batch])

    def _cross_entropy(self, images: Tensor, captions: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(self.scores(images, self._words(captions)), target.to(self.device))

    def _words(self, captions: Tensor) -> Tensor:
        return one_hot(captions, self.sets.vocabulary).float().to(self.device)

    def _pairs(self) -> dict[str, float]:
        test, generator = self.sets.test, torch.Generator().manual_seed(self.run.seed)
        target, words = test.target.to(self.device), self._words(test.captions)
        scores = self.scores(test.images, words)
        noisy = test.images + CORRUPTION * torch.randn(test.images.shape, generator=generator)
        lost = torch.randint(0, words.shape[1], (len(words),), generator=generator)
        fewer = words.index_put((torch.arange(len(words)), lost), words.new_zeros(()))
        accuracy = _accuracy(scores, target)
        return {
            "test_accuracy": accuracy,
            "test_loss": binary_cross_entropy_with_logits(scores, target).item(),
            "over_base_rate": accuracy - float(torch.maximum(target.mean(), 1 - target.mean())),
            "noisy_image_accuracy": _accuracy(self.scores(noisy, words), target),
            "missing_word_accuracy": _accuracy(self.scores(test.images, fewer), target),
        }

    def _retrieval(self) -> dict[str, float]:
        test = self.sets.test
        known, number = test.truth.unique(dim=0, return_inverse=True)
        images, number = test.images[:QUERIES].to(self.device), number[:QUERIES]
        words = self._words(known)
        scores = torch.cat([self.model.similarities(some, words) for some in images.split(250)]).cpu()
        relevant = one_hot(number, len(known)).bool()
        frequency = (self.sets.train.truth[:, None] == known).all(dim=2).sum(dim=0)[number]
        rare = frequency <= frequency.median()
        digits = known[scores.argmax(dim=1), 0]
        return {
            "test_accuracy": recall_at(scores, 1, relevant=relevant),
            "test_loss": cross_entropy(scores, number).item(),
            "recall_at_5": recall_at(scores, 5, relevant=relevant),
            "recall_at_10": recall_at(scores, 10, relevant=relevant),
            "recall_of_rare": recall_at(scores[rare], 1, relevant=relevant[rare]),
            "recall_of_common": recall_at(scores[~rare], 1, relevant=relevant[~rare]),
            "digit_found": float((digits == test.truth[:QUERIES, 0]).float().mean()),
        }


def _accuracy(scores: Tensor, target: Tensor) -> float:
    return float(((scores > 0) == target.bool()).float().mean())

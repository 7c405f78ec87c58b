"""Images as a sequence of tasks: the same with permuted pixels, or two classes after the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from advanced_optimizers._checks import check_choice
from advanced_optimizers.experiments.data import datasets as data

SCENARIOS = ("permuted", "split-task", "split-domain", "split-class")
# Training images that trials are measured on.
HELD_OUT = 4000


@dataclass(frozen=True)
class Stage:
    """One task of a sequence.

    Attributes:
        inputs: Training pixels in [0, 1], float32 (N, pixels).
        labels: Which of ``classes`` each image is, int64 (N,).
        test_inputs: As ``inputs``, of the images that it is measured on.
        test_labels: As ``labels``.
        classes: The outputs of the network that are the task's logits, int64; as many for each task of a sequence.
        outputs: Of the network.
    """

    inputs: Tensor
    labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: Tensor
    outputs: int


def stages_of(
    dataset: str, scenario: str, tasks: int, images: int, shrink: int, held_out: bool, seed: int
) -> list[Stage]:
    """The tasks of a sequence.

    Args:
        dataset: A key of ``DATASETS``.
        scenario: ``permuted``: all classes, with the pixels in an order of each task's own, which for the first is that
            of the images. ``split-...``: pairs of classes, drawn at random; ``task``: the task is known, so that only
            its two outputs count; ``domain``: two outputs, the first or the second of the pair; ``class``: an output
            per class, and all of them count.
        tasks: How many; 5 pairs at most.
        images: Training images, of each task if permuted, of all classes together if split.
        shrink: By how much each side of an image is divided; pixels are averaged.
        held_out: Whether it is measured on other training images instead of the test images.
        seed: Draws images, permutations and pairs, >= 0.
    """
    return _stages(dataset, check_choice("scenario", scenario, SCENARIOS), tasks, images, shrink, held_out, seed)


@lru_cache(maxsize=4)  # the algorithms of a seed run one after the other
def _stages(
    dataset: str, scenario: str, tasks: int, images: int, shrink: int, held_out: bool, seed: int
) -> list[Stage]:
    source, generator = data.load(dataset), torch.Generator().manual_seed(seed)
    order = torch.randperm(len(source.images), generator=generator)
    chosen, spare = order[:images], order[images : images + HELD_OUT]

    def pixels(images: Tensor) -> Tensor:
        return avg_pool2d(images[:, None, :, :, 0].float() / 255, shrink).flatten(1)

    x, y = pixels(source.images[chosen]), source.labels[chosen]
    measured = (source.images[spare], source.labels[spare]) if held_out else (source.test_images, source.test_labels)
    test_x, test_y = pixels(measured[0]), measured[1]
    if scenario == "permuted":
        every = torch.arange(source.num_classes)
        orders = [torch.arange(x.shape[1])] + [
            torch.randperm(x.shape[1], generator=generator) for _ in range(tasks - 1)
        ]
        return [Stage(x[:, turn], y, test_x[:, turn], test_y, every, source.num_classes) for turn in orders]
    pairs = torch.randperm(source.num_classes, generator=generator).view(-1, 2)[:tasks]
    return [_pair(scenario, pair, (x, y), (test_x, test_y), source.num_classes) for pair in pairs]


def _pair(
    scenario: str, pair: Tensor, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], num_classes: int
) -> Stage:
    def part(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        own = (y == pair[0]) | (y == pair[1])
        return x[own], y[own] if scenario == "split-class" else (y[own] == pair[1]).long()

    (x, y), (test_x, test_y) = part(*train), part(*test)
    if scenario == "split-class":
        return Stage(x, y, test_x, test_y, torch.arange(num_classes), num_classes)
    if scenario == "split-domain":
        return Stage(x, y, test_x, test_y, torch.arange(2), 2)
    return Stage(x, y, test_x, test_y, pair, num_classes)

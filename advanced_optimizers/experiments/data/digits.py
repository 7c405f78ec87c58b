"""The digits inside scikit-learn as batches, in one call: what an example needs to train something real in seconds."""

from __future__ import annotations

import torch

from advanced_optimizers.experiments.data.datasets import Batch, Batches, load


def digits_batches(batch_size: int = 64, seed: int = 0) -> tuple[Batches, Batch]:
    """Training batches and the test set of the 1,797 handwritten digits; nothing is downloaded.

    Args:
        batch_size: Images per training batch, at least 1.
        seed: Order of the training images. It does not seed torch: the weights of a model are the caller's.

    Returns:
        The training batches, 1,438 images in a new order for each epoch, and all 359 test images as one batch. Images
        have one channel and 8 x 8 pixels, there are 10 classes, and ``batch.indices`` are positions in the training
        set.

    Example:
        >>> from advanced_optimizers.experiments.data import digits_batches
        >>> train, test = digits_batches(batch_size=64)
        >>> len(train), test.images.shape
        (23, torch.Size([359, 1, 8, 8]))
    """
    digits = load("digits")
    channels = (digits.mean, digits.std)
    generator = torch.Generator().manual_seed(seed)
    train = Batches(digits.images, digits.labels, *channels, batch_size, shuffle=True, generator=generator)
    (test,) = Batches(digits.test_images, digits.test_labels, *channels, len(digits.test_labels))
    return train, test

"""Makes ``cifar10_jpeg_own.zip`` from the original CIFAR-10, for whoever has no ``cifar10_jpeg.zip``.

``python -m advanced_optimizers.experiments.data.jpeg`` does it, and downloads CIFAR-10 where it is missing. The images
are compressed like those of ``cifar10_jpeg.zip`` (the same quantization tables and subsampling of colors), but nothing
promises the same pixels. So the result is a dataset of its own, ``cifar10-jpeg-own``.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from advanced_optimizers.experiments.data.archives import ARCHIVES, decode
from advanced_optimizers.experiments.data.files import Arrays, DataError, checksum, default_root, read_torchvision
from advanced_optimizers.experiments.records.writing import write_atomically

# Alphabetical, which is also how the original numbers them.
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# The quality, as libjpeg counts it, whose quantization tables are those of cifar10_jpeg.zip.
QUALITY = 75
_DATE = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever the archive is made


@dataclass(frozen=True)
class Made:
    """An archive that was made: its path, its images' checksum, and their PSNR against the original in dB."""

    path: Path
    checksum: str
    psnr: float


def make_archive(root: Path) -> Made:
    """Writes ``cifar10_jpeg_own.zip`` into a folder that has the original CIFAR-10, or into which it is downloaded.

    The archive's comment is the checksum of its decoded images and labels.

    Args:
        root: Folder of the data files.

    Raises:
        DataError: The original is damaged or cannot be downloaded, or there is such an archive already.
    """
    path = root / ARCHIVES["cifar10-jpeg-own"]
    if path.exists():
        raise DataError(f"{path} exists, and records may be based on it: delete it to make it anew")
    original = read_torchvision("cifar10", root)
    buffer = io.BytesIO()
    _write_images(buffer, original)
    decoded = decode(buffer)
    found = checksum(*decoded[:4])
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = found.encode()
    write_atomically(path, buffer.getbuffer())
    by_class = original.images[original.labels.argsort(stable=True)]  # the order in which they are decoded
    return Made(path, found, _psnr(by_class, decoded.images))


def _write_images(file: io.BytesIO, arrays: Arrays) -> None:
    from PIL import Image

    parts = (("train", arrays.images, arrays.labels), ("test", arrays.test_images, arrays.test_labels))
    with zipfile.ZipFile(file, "w") as archive:
        for split, images, labels in parts:
            for number, name in enumerate(CLASSES):
                for index, pixels in enumerate(images[labels == number].numpy()):
                    encoded = io.BytesIO()
                    Image.fromarray(pixels).save(encoded, "JPEG", quality=QUALITY, subsampling="4:2:0")
                    archive.writestr(zipfile.ZipInfo(f"{split}/{name}/{index:04}.jpg", _DATE), encoded.getvalue())


def _psnr(original: Tensor, decoded: Tensor) -> float:
    """Peak signal-to-noise ratio over all pixels in dB, ``10 log10(255^2 / mean squared error)``."""
    squares = sum(
        (a.int() - b.int()).square().sum().item()
        for a, b in zip(original.split(1000), decoded.split(1000), strict=True)
    )
    return math.inf if squares == 0 else 10 * math.log10(255**2 * original.numel() / squares)


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the archive and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m advanced_optimizers.experiments.data.jpeg",
        description="Make cifar10_jpeg_own.zip, the dataset cifar10-jpeg-own, from the original CIFAR-10.",
    )
    parser.add_argument("--root", type=Path, help="folder of the data files (default: where the studies look for them)")
    root = parser.parse_args(arguments).root
    try:
        made = make_archive(default_root() if root is None else root.expanduser().resolve())
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: {made.path}; PSNR of the training images {made.psnr:.2f} dB; checksum {made.checksum}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

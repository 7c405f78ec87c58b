"""Omniglot: 1,623 handwritten characters of 50 alphabets, each drawn by 20 people.

Source: Lake, Salakhutdinov, Tenenbaum, Science 350, 2015; MIT license. The training images are the 964 characters of
its background set, the test images the 659 of its evaluation set: other alphabets, so no class is in both.

The drawings are 105 x 105 pixels of black or white. Here they are 28 x 28, ink white on black: a pixel is the share of
ink in a square of 4 x 4, counted in integers, so that every machine gets the same images.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advanced_optimizers.experiments.data.files import Arrays, check_file, checksum, data_error

SIZE = 28
_SQUARE = 4
_DRAWN = 105
_PARTS = ("images_background", "images_evaluation")
# Both sets in one archive, as the folders of the original.
_WHOLE, _SHA256 = "omniglot.zip", "83dcb539b3080162336c3a425bc1509842540a66188779ad279d0e15e7533298"
# The original's two archives, which torchvision downloads, with its checksums.
_FOLDER = "omniglot-py"
_MD5 = {
    "images_background": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
}
# Of the images and labels below, from either source; ``data_checksum`` in the records.
_DATA_CHECKSUM = "bee4fb8baf4a170220dac6460d700ded87e2d09f11ad591cad789a7f70530b3f"


def read_omniglot(root: Path) -> Arrays:
    """Read the drawings from ``omniglot.zip`` if there is one, otherwise from what torchvision downloads.

    Args:
        root: Folder of the data files.

    Returns:
        Images (N, 28, 28, 1); labels count the characters of a set, in alphabetical order of their folders. The number
        of classes is that of the training set.

    Raises:
        DataError: A file is missing and cannot be downloaded, or is damaged.
    """
    whole = root / _WHOLE
    if whole.exists():
        check_file("omniglot", whole, "sha256", _SHA256)
        paths = dict.fromkeys(_PARTS, whole)
    else:
        paths = {part: root / _FOLDER / f"{part}.zip" for part in _PARTS}
        _download(root, paths)
        for part, path in paths.items():
            check_file("omniglot", path, "md5", _MD5[part])
    (images, labels), (test_images, test_labels) = (_decoded(path, part) for part, path in paths.items())
    arrays = Arrays(images, labels, test_images, test_labels, int(labels.max()) + 1)
    if checksum(*arrays[:4]) != _DATA_CHECKSUM:
        raise data_error("omniglot", paths[_PARTS[0]], "decodes to other images than those it is known for")
    return arrays


def rotated(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Every class four times, turned by 0, 90, 180 and 270 degrees: a turned character is another character.

    Args:
        images: (N, H, W, C) with H = W.
        labels: (N,), in [0, classes).

    Returns:
        Images (4 N, H, W, C) and labels (4 N,) in [0, 4 classes); all of one turn before those of the next.
    """
    classes = int(labels.max()) + 1
    turns = [images.rot90(turn, dims=(1, 2)) for turn in range(4)]
    return torch.cat(turns), torch.cat([labels + turn * classes for turn in range(4)])


def _download(root: Path, paths: dict[str, Path]) -> None:
    from torchvision.datasets import Omniglot

    missing = [path for path in paths.values() if not path.is_file()]
    if missing:
        try:
            for background in (True, False):
                Omniglot(root, background=background, download=True)
        except (OSError, RuntimeError, EOFError) as error:
            raise data_error("omniglot", missing[0], f"is missing and its download failed ({error})") from error


def _decoded(path: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images and labels of one of the sets."""
    from PIL import Image

    drawings, characters = [], []
    try:
        with zipfile.ZipFile(path) as files:
            for member in sorted(m for m in files.namelist() if m.startswith(f"{part}/") and m.endswith(".png")):
                ink = np.asarray(Image.open(io.BytesIO(files.read(member))).convert("L")) == 0
                drawings.append(_smaller(ink))
                characters.append(member.rpartition("/")[0])
    except Exception as error:  # a damaged file can raise anything
        raise data_error("omniglot", path, f"cannot be decoded ({type(error).__name__}: {error})") from error
    _, labels = np.unique(characters, return_inverse=True)
    return torch.from_numpy(np.stack(drawings))[..., None], torch.from_numpy(labels.astype(np.int64))


def _smaller(ink: np.ndarray) -> np.ndarray:
    """(105, 105) of bool -> (28, 28) of uint8: the drawing in the middle of 112 x 112, in squares of 4 x 4."""
    before = (SIZE * _SQUARE - _DRAWN) // 2
    padded = np.zeros((SIZE * _SQUARE, SIZE * _SQUARE), dtype=np.int64)
    padded[before : before + _DRAWN, before : before + _DRAWN] = ink
    counts = padded.reshape(SIZE, _SQUARE, SIZE, _SQUARE).sum(axis=(1, 3))
    return (counts * 255 // _SQUARE**2).astype(np.uint8)

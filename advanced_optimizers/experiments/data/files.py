"""The files behind the datasets: found, checked, downloaded, decoded and cached.

A file is checked before it is used. A missing or damaged file raises an error that says how to get it, and is never
replaced by other data.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from advanced_optimizers.experiments.records.paths import project_root
from advanced_optimizers.experiments.records.writing import write_atomically

TORCHVISION_CLASSES = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}

_FOLDER_VARIABLE = "ADVANCED_OPTIMIZERS_DATA"
_OFFLINE_COMMAND = "python -m advanced_optimizers.experiments run fer --profile quick"
# torchvision checks the compressed files that it downloads, but not the uncompressed ones that it reads. Their MD5:
_IDX_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
_CIFAR10_JPEG_FILE = "cifar10_jpeg.zip"
_CIFAR10_JPEG_SHA256 = "907df706baa630e728c0dd0cf95d93045f34c1fdefda3fc050bc72d50b21c7ec"


class DataError(RuntimeError):
    """A data file is missing or damaged; the message names it and says how to get it."""


class Arrays(NamedTuple):
    """The four tensors of a dataset, images as uint8 (N, H, W, C), labels as int64 (N,), and its number of classes."""

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int


def default_root() -> Path:
    """The data folder; it is found from any folder of the project, since notebooks run in their own."""
    if configured := os.environ.get(_FOLDER_VARIABLE):
        return Path(configured).expanduser().resolve()
    return project_root() / "data"


def read_torchvision(name: str, root: Path) -> Arrays:
    """Read one of ``TORCHVISION_CLASSES`` through torchvision, which downloads missing files."""
    from torchvision import datasets

    kind = getattr(datasets, TORCHVISION_CLASSES[name])
    files = _torchvision_files(kind, name, root)
    missing = [path for path in files if not path.is_file()]
    if missing:
        try:
            kind(root, download=True)
        except (OSError, RuntimeError, EOFError) as error:
            raise _data_error(name, missing[0], f"is missing and its download failed ({error})") from error
    for path, md5 in files.items():
        _check_file(name, path, "md5", md5)
    train, test = kind(root, train=True), kind(root, train=False)
    images, labels, test_images, test_labels = (
        torch.as_tensor(part) for part in (train.data, train.targets, test.data, test.targets)
    )
    if images.ndim == 3:
        images, test_images = images.unsqueeze(-1), test_images.unsqueeze(-1)
    return Arrays(images, labels, test_images, test_labels, len(train.classes))


def read_cifar10_jpeg(root: Path) -> Arrays:
    """Read ``cifar10_jpeg.zip``. The decoded images are cached, since decoding takes about ten seconds."""
    archive = root / _CIFAR10_JPEG_FILE
    _check_file("cifar10-jpeg", archive, "sha256", _CIFAR10_JPEG_SHA256)
    cache = _cache_folder(root) / f"cifar10_jpeg-{_CIFAR10_JPEG_SHA256[:16]}.npz"
    arrays = _read_cache(cache)
    if arrays is None:
        arrays = _decode_jpegs(archive)
        _write_cache(cache, arrays)
    images, labels, test_images, test_labels = (torch.from_numpy(arrays[key]) for key in Arrays._fields[:4])
    return Arrays(images, labels, test_images, test_labels, int(labels.max()) + 1)


def _torchvision_files(kind: Any, name: str, root: Path) -> dict[Path, str]:
    """The files that torchvision reads, each with its MD5."""
    if name in _IDX_MD5:
        return {root / kind.__name__ / "raw" / file: md5 for file, md5 in _IDX_MD5[name].items()}
    meta = (kind.meta["filename"], kind.meta["md5"])
    return {root / kind.base_folder / file: md5 for file, md5 in (*kind.train_list, *kind.test_list, meta)}


def _check_file(name: str, path: Path, algorithm: str, expected: str) -> None:
    if not path.is_file():
        raise _data_error(name, path, "is missing")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != expected:
        size = path.stat().st_size
        problem = f"is truncated or damaged: its {size} bytes have the {algorithm} {digest.hexdigest()}, not {expected}"
        raise _data_error(name, path, problem)


def _data_error(name: str, path: Path, problem: str) -> DataError:
    if name == "cifar10-jpeg":
        remedy = "copy it there from a machine that has it (the original, 'cifar10', is downloaded automatically)"
    else:
        kind = TORCHVISION_CLASSES[name]
        root = path.parents[2] if name in _IDX_MD5 else path.parents[1]
        command = f"from torchvision.datasets import {kind}; {kind}({str(root)!r}, download=True)"
        remedy = f'delete it if it exists, then download it on a machine with network access: python -c "{command}"'
    return DataError(
        f"{path} {problem}.\n"
        f"To get it, {remedy};\n"
        f"or set the environment variable {_FOLDER_VARIABLE} to a folder that has it.\n"
        f"Without it, you can use the digits that come with scikit-learn: {_OFFLINE_COMMAND}"
    )


def _decode_jpegs(archive: Path) -> dict[str, np.ndarray]:
    """Decode ``{train,test}/<class>/<n>.jpg``; classes are numbered from 0 in alphabetical order."""
    from PIL import Image

    arrays = {}
    with zipfile.ZipFile(archive) as files:
        members = sorted(member for member in files.namelist() if member.endswith(".jpg"))
        classes = sorted({member.split("/")[1] for member in members})
        for split, prefix in (("train", ""), ("test", "test_")):
            chosen = [member for member in members if member.startswith(f"{split}/")]
            decoded = [np.asarray(Image.open(io.BytesIO(files.read(m))).convert("RGB")) for m in chosen]
            arrays[f"{prefix}images"] = np.stack(decoded)
            arrays[f"{prefix}labels"] = np.array([classes.index(m.split("/")[1]) for m in chosen], np.int64)
    return arrays


def _cache_folder(root: Path) -> Path:
    """The data folder if it is writable, otherwise the user's cache folder."""
    # Check the mode as well: the superuser can write anywhere, but a folder without a write bit is meant to stay as is.
    if os.access(root, os.W_OK) and root.stat().st_mode & 0o222:
        return root
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "advanced-optimizers"


def _read_cache(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays at ``path``, or None if they are missing or damaged (the format has checksums)."""
    try:
        with np.load(path) as arrays:
            return {key: arrays[key] for key in Arrays._fields[:4]}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write_cache(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    try:
        write_atomically(path, buffer.getbuffer())
    except OSError as error:
        warnings.warn(f"the decoded images were not cached, the next run will decode them again: {error}", stacklevel=2)

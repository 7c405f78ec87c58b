"""The files behind the datasets: found, checked and downloaded; ``archives`` decodes those of JPEG images.

A file is checked before it is used. A missing or damaged file raises an error that says how to get it, and is never
replaced by other data.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advanced_optimizers.experiments.records.paths import project_root

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


# How to get the files that are not downloaded.
_REMEDIES = {
    "cifar10-jpeg": (
        "copy it there from a machine that has it (the original is downloaded: run the study with --dataset cifar10)"
    ),
    "cifar10-jpeg-own": (
        "delete it if it exists, then make it from CIFAR-10: python -m advanced_optimizers.experiments.data.jpeg"
    ),
    "omniglot": (
        "delete it if it exists, then load it on a machine with network access, where torchvision downloads it: "
        "python -c \"from advanced_optimizers.experiments import data; data.load('omniglot')\""
    ),
}


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
            raise data_error(name, missing[0], f"is missing and its download failed ({error})") from error
    for path, md5 in files.items():
        check_file(name, path, "md5", md5)
    train, test = kind(root, train=True), kind(root, train=False)
    images, labels, test_images, test_labels = (
        torch.as_tensor(part) for part in (train.data, train.targets, test.data, test.targets)
    )
    if images.ndim == 3:
        images, test_images = images.unsqueeze(-1), test_images.unsqueeze(-1)
    return Arrays(images, labels, test_images, test_labels, len(train.classes))


def checksum(*tensors: Tensor) -> str:
    """SHA-256 (hexadecimal) of the bytes of tensors, one after the other."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _torchvision_files(kind: Any, name: str, root: Path) -> dict[Path, str]:
    """The files that torchvision reads, each with its MD5."""
    if name in _IDX_MD5:
        return {root / kind.__name__ / "raw" / file: md5 for file, md5 in _IDX_MD5[name].items()}
    meta = (kind.meta["filename"], kind.meta["md5"])
    return {root / kind.base_folder / file: md5 for file, md5 in (*kind.train_list, *kind.test_list, meta)}


def file_digest(name: str, path: Path, algorithm: str) -> str:
    """The checksum of a dataset's file.

    Raises:
        DataError: It is missing or cannot be read.
    """
    if not path.is_file():
        raise data_error(name, path, "is missing")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise data_error(name, path, f"cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def check_file(name: str, path: Path, algorithm: str, expected: str) -> None:
    """Checks a dataset's file.

    Raises:
        DataError: It is missing, cannot be read, or has another checksum.
    """
    found = file_digest(name, path, algorithm)
    if found != expected:
        size = path.stat().st_size
        problem = f"is truncated or damaged: its {size} bytes have the {algorithm} {found}, not {expected}"
        raise data_error(name, path, problem)


def data_error(name: str, path: Path, problem: str) -> DataError:
    """The error for a dataset's file, with how to get it."""
    remedy = _REMEDIES[name] if name in _REMEDIES else _download_remedy(name, path)
    return DataError(
        f"{path} {problem}.\n"
        f"To get it, {remedy};\n"
        f"or set the environment variable {_FOLDER_VARIABLE} to a folder that has it.\n"
        f"Without it, you can use the digits that come with scikit-learn: {_OFFLINE_COMMAND}"
    )


def _download_remedy(name: str, path: Path) -> str:
    kind = TORCHVISION_CLASSES[name]
    root = path.parents[2] if name in _IDX_MD5 else path.parents[1]
    command = f"from torchvision.datasets import {kind}; {kind}({str(root)!r}, download=True)"
    return f'delete it if it exists, then download it on a machine with network access: python -c "{command}"'

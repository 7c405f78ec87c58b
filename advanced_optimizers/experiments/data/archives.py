"""CIFAR-10 as an archive of JPEG images: checked, decoded, and cached.

Decoders of JPEG differ: another version of Pillow or of its library may return pixels that are a level apart. So it is
the decoded pixels that are checked, wherever they come from, by the checksum that the records of runs carry.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import torch

from advanced_optimizers.experiments.data.files import Arrays, check_file, checksum, data_error, file_digest
from advanced_optimizers.experiments.records.writing import write_atomically

# The file of each dataset.
ARCHIVES = {"cifar10-jpeg": "cifar10_jpeg.zip", "cifar10-jpeg-own": "cifar10_jpeg_own.zip"}

# The checksums of cifar10_jpeg.zip and of its images and labels, which is ``data_checksum`` in the records.
_SHA256 = "907df706baa630e728c0dd0cf95d93045f34c1fdefda3fc050bc72d50b21c7ec"
_DATA_CHECKSUM = "e00b28a47d65123fee89ae47a62acc70fb6ccb9ce577b9cdfc3225ad1f402b1c"
_IMAGE_SHAPE = (32, 32, 3)


def read_archive(name: str, root: Path) -> Arrays:
    """Read one of ``ARCHIVES``. The decoded images are cached, since decoding takes some ten seconds.

    A cache that holds anything but the archive's images is decoded again, with a warning. So is, at every call, an
    archive that the decoder of this machine decodes to other pixels than those it is known for.

    Args:
        name: A key of ``ARCHIVES``.
        root: Folder of the archive.

    Raises:
        DataError: The archive is missing, damaged, or that of another dataset.
    """
    path = root / ARCHIVES[name]
    digest, expected = _identify(name, path)
    cache = _cache_folder(root) / f"{path.stem}-{digest[:16]}.npz"
    arrays = _read_cache(cache, expected)
    if arrays is None:
        arrays = _decoded(name, path)
        found = checksum(*arrays[:4])
        if found == expected:
            _write_cache(cache, arrays)
        else:
            warnings.warn(_other_pixels(path, found, expected), stacklevel=2)
    return arrays


def decode(archive: Path | IO[bytes]) -> Arrays:
    """Decode ``{train,test}/<class>/<n>.jpg``; classes are numbered from 0 in alphabetical order."""
    from PIL import Image

    parts = []
    with zipfile.ZipFile(archive) as files:
        members = sorted(member for member in files.namelist() if member.endswith(".jpg"))
        classes = sorted({member.split("/")[1] for member in members})
        for split in ("train", "test"):
            chosen = [member for member in members if member.startswith(f"{split}/")]
            decoded = [np.asarray(Image.open(io.BytesIO(files.read(m))).convert("RGB")) for m in chosen]
            labels = np.array([classes.index(m.split("/")[1]) for m in chosen], np.int64)
            parts += [np.stack(decoded), labels]
    return _as_arrays(*parts)


def _identify(name: str, path: Path) -> tuple[str, str]:
    """The checksum of an archive, and that of the images and labels in it."""
    if name == "cifar10-jpeg":
        check_file(name, path, "sha256", _SHA256)
        return _SHA256, _DATA_CHECKSUM
    digest = file_digest(name, path, "sha256")
    if digest == _SHA256:
        right = ARCHIVES["cifar10-jpeg"]
        raise data_error(name, path, f"is the archive of another dataset, cifar10-jpeg, and belongs in {right}")
    return digest, _stated_checksum(name, path)


def _stated_checksum(name: str, path: Path) -> str:
    """The checksum of the images and labels of an archive of one's own, which is its comment."""
    try:
        with zipfile.ZipFile(path) as files:
            stated = files.comment.decode()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise data_error(name, path, f"is truncated or damaged ({error})") from error
    if not re.fullmatch("[0-9a-f]{64}", stated):
        raise data_error(name, path, "does not state the checksum of its images, as archives made here do")
    return stated


def _decoded(name: str, path: Path) -> Arrays:
    try:
        return decode(path)
    except Exception as error:  # a damaged file can raise anything
        raise data_error(name, path, f"cannot be decoded ({type(error).__name__}: {error})") from error


def _other_pixels(path: Path, found: str, expected: str) -> str:
    import PIL

    return (
        f"Pillow {PIL.__version__} decodes {path} to other pixels than those it is known for: their checksum is "
        f"{found}, not {expected}. Records of runs carry the checksum of their data: runs with these pixels cannot be "
        "expected to equal runs with the others. The decoded images are not cached"
    )


def _as_arrays(images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray) -> Arrays:
    """The arrays as tensors.

    Raises:
        ValueError: They have another type or shape than images and labels.
    """
    for pixels, numbers in ((images, labels), (test_images, test_labels)):
        if pixels.dtype != np.uint8 or pixels.shape != (len(numbers), *_IMAGE_SHAPE):
            raise ValueError(f"images must be uint8 of shape {_IMAGE_SHAPE}, got {pixels.dtype}, {pixels.shape}")
        if numbers.dtype != np.int64 or numbers.ndim != 1:
            raise ValueError(f"labels must be int64 with one dimension, got {numbers.dtype}, {numbers.shape}")
    return Arrays(
        torch.from_numpy(images),
        torch.from_numpy(labels),
        torch.from_numpy(test_images),
        torch.from_numpy(test_labels),
        int(labels.max()) + 1,
    )


def _cache_folder(root: Path) -> Path:
    """The data folder if it is writable, otherwise the user's cache folder."""
    # Check the mode as well: the superuser can write anywhere, but a folder without a write bit is meant to stay as is.
    if os.access(root, os.W_OK) and root.stat().st_mode & 0o222:
        return root
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home, as in some containers
        caches = Path(tempfile.gettempdir())
    return caches / "advanced-optimizers"


def _read_cache(path: Path, expected: str) -> Arrays | None:
    """The arrays at ``path``; None if there are none or, with a warning, if they have not the expected checksum."""
    if not os.path.lexists(path):
        return None
    try:
        if not path.is_file():  # to open a pipe would wait for ever
            raise ValueError("not a file")
        with path.open("rb") as file, np.load(file) as content:  # it refuses to unpickle objects
            arrays = _as_arrays(*(content[key] for key in Arrays._fields[:4]))
        if checksum(*arrays[:4]) != expected:
            raise ValueError("other arrays")
    except Exception:  # a damaged file can raise anything
        warnings.warn(f"{path} is damaged or holds other data: the images are decoded again", stacklevel=3)
        return None
    return arrays


def _write_cache(path: Path, arrays: Arrays) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **{key: getattr(arrays, key).numpy() for key in Arrays._fields[:4]})
    try:
        write_atomically(path, buffer.getbuffer())
    except OSError as error:
        warnings.warn(f"the decoded images were not cached, the next run will decode them again: {error}", stacklevel=3)

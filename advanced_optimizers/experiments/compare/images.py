"""A user's own images: a folder, or a function that returns two datasets; read once, checked, and kept as one file.

Whatever is converted is said; whatever cannot be read is an error that names the file.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from advanced_optimizers.experiments.compare.code import Code, CompareError
from advanced_optimizers.experiments.compare.own import OwnData
from advanced_optimizers.experiments.records.writing import write_atomically

_ENDINGS = (".png", ".jpg", ".jpeg")
_TEST_SHARE = 5  # of a folder without a split, every fifth image of each class is for the test
_DIGITS = 8
_GRAY, _COLOR = "L", "RGB"

Labeled = tuple[np.ndarray, np.ndarray]


def own_data(source: Path | Code, folder: Path) -> OwnData:
    """A user's images as a dataset, kept in a folder.

    Args:
        source: A folder ``{train,test}/<class>/*.png`` or ``<class>/*.png`` (also jpg), or a function that returns a
            training and a test dataset, each with ``len()`` and items ``(image, label)``.
        folder: Where the images are kept as one file.

    Raises:
        CompareError: Something is missing, or cannot be read.
    """
    return _from_folder(source, folder) if isinstance(source, Path) else _from_code(source, folder)


# ---- a folder -------------------------------------------------------------------------------------------------------


def _from_folder(source: Path, folder: Path) -> OwnData:
    if not source.is_dir():
        raise CompareError(f"there is no folder {source}: give {{train,test}}/<class>/*.png, or <class>/*.png")
    split = [source / part for part in ("train", "test")]
    parts, said = ([_files(part) for part in split], []) if all(part.is_dir() for part in split) else _split(source)
    classes = sorted({name for part in parts for name in part})
    lacking = [(part, name) for part, files in zip(("train", "test"), parts, strict=True) for name in classes
               if not files.get(name)]  # fmt: skip
    if len(classes) < 2 or lacking:
        where = f"{lacking[0][0]} has no image of the class {lacking[0][1]}" if lacking else f"it has {classes}"
        raise CompareError(f"{source} must have images of at least two classes in both parts: {where}")
    paths = [[path for name in classes for path in part[name]] for part in parts]
    labels = [np.array([k for k, name in enumerate(classes) for _ in part[name]], np.int64) for part in parts]
    name = f"folder:{source.resolve().name}@{_digest_of(source, [*paths[0], *paths[1]])}"
    file = folder / f"{name.replace(':', '_')}.npz"
    if not file.is_file():
        images, conversions = _read([*paths[0], *paths[1]], source)
        count = len(paths[0])
        _keep(file, (images[:count], labels[0]), (images[count:], labels[1]), len(classes), conversions)
    with np.load(file) as content:
        said += content["said"].tolist()
    return OwnData(name, source.name, file, len(paths[1]), said=tuple(said))


def _split(source: Path) -> tuple[list[dict[str, list[Path]]], list[str]]:
    """A fixed split of a folder that has none: every fifth image of each class, in the order of the names."""
    files = _files(source)
    test = {name: paths[::_TEST_SHARE] for name, paths in files.items()}
    train = {name: [path for k, path in enumerate(paths) if k % _TEST_SHARE] for name, paths in files.items()}
    held = sum(map(len, test.values()))
    return [train, test], [f"{source} has no train/ and test/: every fifth image of a class, {held}, is for the test"]


def _files(folder: Path) -> dict[str, list[Path]]:
    """The images of each class."""
    return {
        part.name: sorted(path for path in part.iterdir() if path.suffix.lower() in _ENDINGS)
        for part in sorted(folder.iterdir())
        if part.is_dir() and not part.name.startswith(".")
    }


def _digest_of(source: Path, paths: Iterable[Path]) -> str:
    """A hash of names, sizes and bytes."""
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(source).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:_DIGITS]


def _read(paths: Sequence[Path], source: Path) -> tuple[np.ndarray, list[str]]:
    """All images as uint8 (N, H, W, C), and what was converted."""
    from PIL import Image, UnidentifiedImageError

    read = []
    for path in paths:
        try:
            with Image.open(path) as image:
                image.load()
                read.append(image.copy())
        except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
            reason = "truncated" if "truncated" in str(error) else "no image, or a damaged one"
            raise CompareError(f"{path} cannot be read ({reason}); 1 of {len(paths):,} files") from error
    return _alike(read, source)


def _alike(images: list[Any], source: Path | str) -> tuple[np.ndarray, list[str]]:
    """Images of one size and with the same channels, and what that took."""
    from PIL import Image

    said = []
    mode = _GRAY if all(image.mode in ("1", "L", "LA", "I", "I;16", "F") for image in images) else _COLOR
    for modes, words in (
        (("RGBA", "LA", "PA"), "with transparency were put on black"),
        (("1", "L", "I", "I;16", "F"), "in gray were repeated in three channels"),
        (("P", "CMYK", "YCbCr", "LAB", "HSV"), "with a palette or other colors became RGB"),
    ):
        count = sum(image.mode in modes for image in images)
        if count and not (mode == _GRAY and "gray" in words):
            said.append(f"{count} of {len(images):,} images of {source} {words}")
    flat = [_on_black(image).convert(mode) for image in images]
    sizes = Counter(image.size for image in flat)
    size = (round(median(image.size[0] for image in flat)), round(median(image.size[1] for image in flat)))
    if len(sizes) > 1:
        other = sum(count for own, count in sizes.items() if own != size)
        said.append(f"{other} of {len(images):,} images of {source} were resized to {size[0]}x{size[1]}, the median")
        flat = [image if image.size == size else image.resize(size, Image.Resampling.BILINEAR) for image in flat]
    stacked = np.stack([np.asarray(image, np.uint8) for image in flat])
    return (stacked[..., None] if stacked.ndim == 3 else stacked), said


def _on_black(image: Any) -> Any:
    from PIL import Image

    if image.mode in ("I", "I;16", "F"):
        values = np.asarray(image, np.float64)
        top = 65535.0 if values.max() > 255 else 255.0
        return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode not in ("RGBA", "LA", "PA"):
        return image
    full = image.convert("RGBA")
    black = Image.new("RGBA", full.size, (0, 0, 0, 255))
    flat = Image.alpha_composite(black, full)
    return flat.convert(_GRAY if image.mode == "LA" else _COLOR)


# ---- a function -----------------------------------------------------------------------------------------------------


def _from_code(code: Code, folder: Path) -> OwnData:
    file = folder / f"user_{code.name}@{code.digest}.npz"
    if not file.is_file():
        made = code.load()()
        if not isinstance(made, tuple | list) or len(made) != 2:
            raise CompareError(f"{code.name}() of {code.file} must return two datasets, for training and for the test")
        (images, labels), (test, test_labels) = (_materialized(part, code) for part in made)
        if images.shape[1:] != test.shape[1:]:
            raise CompareError(
                f"{code.name}() of {code.file} must return images of one shape, got {images.shape[1:]} and "
                f"{test.shape[1:]}"
            )
        _keep(file, (images, labels), (test, test_labels), int(max(labels.max(), test_labels.max())) + 1)
    with np.load(file) as content:
        count = len(content["test_labels"])
    return OwnData(code.key, f"{code.file}:{code.name}", file, count, code)


def _materialized(dataset: Any, code: Code) -> Labeled:
    """All items of a dataset as uint8 (N, H, W, C) and labels."""
    images, labels = [], []
    for place in range(len(dataset)):
        image, label = dataset[place]
        images.append(_pixels(image, f"item {place} of {code.name}() of {code.file}"))
        labels.append(int(label))
    shapes = Counter(image.shape for image in images)
    if len(shapes) != 1:
        raise CompareError(f"{code.name}() of {code.file} must return images of one size, got {sorted(shapes)[:3]}")
    if min(labels) < 0:
        raise CompareError(f"{code.name}() of {code.file} must return labels from 0 on, got {min(labels)}")
    return np.stack(images), np.array(labels, np.int64)


def _pixels(image: Any, where: str) -> np.ndarray:
    """One image as uint8 (H, W, C); a tensor is (C, H, W), of bytes or of numbers in [0, 1]."""
    is_tensor = hasattr(image, "detach")
    values = image.detach().cpu().numpy() if is_tensor else np.asarray(image)
    if values.ndim == 2:
        values = values[..., None]
    elif is_tensor:
        values = values.transpose(1, 2, 0)
    if values.ndim != 3 or values.shape[2] not in (1, 3):
        raise CompareError(f"{where} must be an image with one or three channels, got the shape {values.shape}")
    if values.dtype == np.uint8:
        return values
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise CompareError(
            f"{where} has values from {values.min():.3g} to {values.max():.3g}: give bytes, or numbers in [0, 1]; "
            "normalizing them is the protocol's"
        )
    return np.rint(values * 255).astype(np.uint8)


def _keep(file: Path, train: Labeled, test: Labeled, classes: int, said: Sequence[str] = ()) -> None:
    buffer = io.BytesIO()
    keys = ("images", "labels", "test_images", "test_labels")
    arrays: dict[str, Any] = dict(zip(keys, (*train, *test), strict=True))
    np.savez(buffer, **arrays, num_classes=np.int64(classes), said=np.array(said, np.str_))
    write_atomically(file, buffer.getvalue())

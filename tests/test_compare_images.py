"""A user's images: folders with and without a split, what is converted and said, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from advanced_optimizers.experiments.compare.code import CompareError, code_of
from advanced_optimizers.experiments.compare.images import own_data
from advanced_optimizers.experiments.data import datasets as data
from tests.compare_helpers import tables as tables

RNG = np.random.default_rng(0)


def picture(mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> Image.Image:
    channels = {"RGB": (3,), "RGBA": (4,), "L": ()}[mode]
    return Image.fromarray(RNG.integers(256, size=(size[1], size[0], *channels), dtype=np.uint8), mode)


def folder_of(root: Path, count: int = 10, make: Callable[[], Image.Image] = picture, *parts: str) -> Path:
    for part in parts or ("train", "test"):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for k in range(count):
                make().save(root / part / name / f"{k:02}.png")
    return root


def loaded(source: Any, out: Path) -> tuple[data.Dataset, tuple[str, ...]]:
    own = own_data(source, out)
    own()
    dataset = data.load(own.name)
    assert own.test_images == len(dataset.test_labels)
    return dataset, own.said


def test_a_folder_with_a_split_is_read_as_it_is(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "photos")
    dataset, said = loaded(source, tmp_path / "out")
    assert (dataset.images.shape, dataset.test_images.shape) == ((20, 6, 8, 3), (20, 6, 8, 3))
    assert (dataset.num_classes, said) == (2, ())
    assert dataset.labels.tolist() == [0] * 10 + [1] * 10
    expected = np.asarray(Image.open(source / "train" / "dog" / "03.png"))
    assert (dataset.images[13].numpy() == expected).all()


def test_another_byte_is_another_dataset(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "photos", 3)
    before = own_data(source, tmp_path / "out").name
    picture().save(source / "train" / "cat" / "00.png")
    assert own_data(source, tmp_path / "out").name != before


def test_a_folder_without_a_split_gets_one(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(10):
            picture("L").save(tmp_path / "photos" / name / f"{k}.png")
    dataset, said = loaded(tmp_path / "photos", tmp_path / "out")
    assert (len(dataset.labels), len(dataset.test_labels), dataset.images.shape[-1]) == (16, 4, 1)
    assert "every fifth image of a class, 4, is for the test" in said[0]


def test_gray_transparent_and_odd_sized_images_are_converted_and_said(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "photos", 4)
    picture("L").save(source / "train" / "cat" / "00.png")
    clear = Image.new("RGBA", (8, 6), (255, 255, 255, 0))
    clear.save(source / "train" / "cat" / "01.png")
    picture(size=(20, 5)).save(source / "train" / "cat" / "02.png")
    dataset, said = loaded(source, tmp_path / "out")
    text = "\n".join(said)
    assert "1 of 16 images" in text and "in gray were repeated in three channels" in text  # noqa: PT018
    assert "with transparency were put on black" in text
    assert "1 of 16 images" in text and "were resized to 8x6, the median" in text  # noqa: PT018
    assert not dataset.images[1].any()
    assert own_data(source, tmp_path / "out").said == said


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"17.png cannot be read \(truncated\); 1 of 9 files"), (b"no image", "17.png cannot be read")],
)
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    source = folder_of(tmp_path / "photos", 2)
    path = source / "train" / "cat" / "17.png"
    picture(size=(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:-4000] if content is None else content)
    with pytest.raises(CompareError, match=message):
        own_data(source, tmp_path / "out")


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "photos", 2)
    for path in (source / "test" / "dog").iterdir():
        path.unlink()
    with pytest.raises(CompareError, match="test has no image of the class dog"):
        own_data(source, tmp_path / "out")
    with pytest.raises(CompareError, match="there is no folder"):
        own_data(tmp_path / "nothing", tmp_path / "out")


def test_datasets_of_a_function_are_kept_as_bytes(tmp_path: Path) -> None:
    def make() -> tuple[list[Any], list[Any]]:
        import torch

        train = [(torch.full((1, 4, 4), k / 10), k % 2) for k in range(10)]
        return train, train[:4]

    dataset, _ = loaded(code_of(make), tmp_path)
    assert dataset.images[:, 0, 0, 0].tolist() == [round(25.5 * k) for k in range(10)]
    assert dataset.image_shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((1, 4, 4), -1.0), r"item 0 of make\(\).* values from -1 to -1: give bytes, or numbers in \[0, 1\]"),
        (torch.zeros(2, 4, 4), "must be an image with one or three channels"),
    ],
)
def test_items_that_are_no_images_are_refused(tmp_path: Path, image: torch.Tensor, message: str) -> None:
    def make() -> tuple[list[Any], list[Any]]:
        return [(image, 0)], [(image, 1)]

    with pytest.raises(CompareError, match=message):
        own_data(code_of(make), tmp_path)

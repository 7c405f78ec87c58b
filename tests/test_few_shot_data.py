"""Omniglot from either source, damaged and missing; turned characters; sine waves."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.data import omniglot
from advanced_optimizers.experiments.data.files import DataError, checksum
from advanced_optimizers.experiments.data.sinusoids import sinusoid_tasks
from tests.data_helpers import OFFLINE_COMMAND


def drawing(number: int) -> bytes:
    """A square of ink on white, 105 x 105, at another place for each number."""
    pixels = np.full((105, 105), 255, np.uint8)
    pixels[8 * number + 1 : 8 * number + 9, 1:9] = 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("1").save(buffer, "PNG")
    return buffer.getvalue()


def write_parts(root: Path, monkeypatch: pytest.MonkeyPatch, *, whole: bool) -> list[Path]:
    """Two characters with two drawings each in either set, whose checksums replace the real ones."""
    members = {
        f"{part}/Greek/character{c + 1:02}/{c}_{k}.png": drawing(2 * c + k)
        for part in omniglot._PARTS
        for c in range(2)
        for k in range(2)
    }
    names = {part: "omniglot.zip" if whole else f"omniglot-py/{part}.zip" for part in omniglot._PARTS}
    for part, name in names.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "a") as archive:
            for member, content in members.items():
                if member.startswith(part):
                    archive.writestr(zipfile.ZipInfo(member), content)
    paths = sorted({root / name for name in names.values()})
    monkeypatch.setattr(omniglot, "_SHA256", hashlib.sha256(paths[0].read_bytes()).hexdigest())
    for part, path in zip(omniglot._PARTS, paths if len(paths) == 2 else paths * 2, strict=True):
        monkeypatch.setitem(omniglot._MD5, part, hashlib.md5(path.read_bytes()).hexdigest())
    decoded = [omniglot._decoded(root / names[part], part) for part in omniglot._PARTS]
    monkeypatch.setattr(omniglot, "_DATA_CHECKSUM", checksum(*decoded[0], *decoded[1]))
    return paths


@pytest.mark.parametrize("whole", [True, False])
def test_drawings_are_read_from_either_source(whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parts(tmp_path, monkeypatch, whole=whole)
    found = data.load("omniglot", tmp_path)
    assert found.images.shape == found.test_images.shape == (4, 28, 28, 1)
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.checksum == omniglot._DATA_CHECKSUM
    # The ink begins at pixel (1, 1) of the drawing, (4, 4) of the padded one: two whole squares by two.
    expected = torch.zeros(28, 28, dtype=torch.uint8)
    expected[1:3, 1:3] = 255
    assert torch.equal(found.images[0, :, :, 0], expected)


def test_a_damaged_archive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = write_parts(tmp_path, monkeypatch, whole=True)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{path} is truncated or damaged"):
        data.load("omniglot", tmp_path)


def test_other_images_than_those_known_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parts(tmp_path, monkeypatch, whole=True)
    monkeypatch.setattr(omniglot, "_DATA_CHECKSUM", "0" * 64)
    with pytest.raises(DataError, match="decodes to other images than those it is known for"):
        data.load("omniglot", tmp_path)


def test_without_a_file_and_a_network_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(self: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(datasets.Omniglot, "download", download)
    with pytest.raises(DataError) as caught:
        data.load("omniglot", tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'omniglot-py/images_background.zip'} is missing and its download failed")
    assert "data.load('omniglot')" in message
    assert OFFLINE_COMMAND in message


def test_a_turned_character_is_another() -> None:
    images = torch.arange(8, dtype=torch.uint8).view(2, 2, 2, 1)
    turned, labels = omniglot.rotated(images, torch.tensor([0, 1]))
    assert labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert turned[2, :, :, 0].tolist() == [[1, 3], [0, 2]]


def test_sine_waves_are_what_the_paper_draws() -> None:
    x, y = sinusoid_tasks(20_000, 10, torch.Generator().manual_seed(0))
    assert (x.shape, float(x.abs().max()) <= 5.0) == ((20_000, 10, 1), True)
    assert float(y.square().mean()) == pytest.approx(4.25, abs=0.1)  # E[A^2] / 2
    best = -(2 / torch.pi) * 2.55 * x.cos()  # E[A] E[sin(x - phase)]
    assert float((y - best).square().mean()) == pytest.approx(3.00, abs=0.1)
    own = sinusoid_tasks(3, 10, torch.Generator().manual_seed(1))
    longer = sinusoid_tasks(3, 10, torch.Generator().manual_seed(1), grid=5)
    assert torch.equal(longer[1][:, :10], own[1])
    assert longer[0][0, 10:, 0].tolist() == [-5.0, -2.5, 0.0, 2.5, 5.0]

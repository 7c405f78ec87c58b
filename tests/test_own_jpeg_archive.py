"""The archive that is made from the original CIFAR-10: what is in it, and that it never passes for another dataset."""

import shutil
import zipfile

import pytest
import torch
from torchvision import datasets

from advanced_optimizers.experiments.data import archives, jpeg
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.data.archives import read_archive
from advanced_optimizers.experiments.data.files import Arrays, DataError, checksum, read_torchvision
from tests.data_helpers import write_cifar, write_jpeg_archive

COMMAND = "python -m advanced_optimizers.experiments.data.jpeg"


@pytest.fixture
def original(tmp_path, monkeypatch):
    """A small CIFAR-10 of smooth images, since JPEG keeps little of noise."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    data._load.cache_clear()

    def images(count):
        corners = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(count)) * 255
        smooth = torch.nn.functional.interpolate(corners, 32, mode="bilinear")
        return smooth.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    labels = torch.arange(20).flip(0) % 10
    arrays = Arrays(images(20), labels, images(10), torch.arange(10), 10)
    write_cifar(tmp_path, datasets.CIFAR10, arrays, monkeypatch)
    return arrays


def test_the_archive_holds_the_original_compressed(original, tmp_path, capsys):
    assert jpeg.main(["--root", str(tmp_path)]) == 0
    found = data.load("cifar10-jpeg-own", tmp_path)
    by_class = original.labels.argsort(stable=True)
    assert torch.equal(found.labels, original.labels[by_class])
    assert torch.equal(found.test_labels, original.test_labels)
    for ours, theirs in ((found.images, original.images[by_class]), (found.test_images, original.test_images)):
        assert 0.1 < (ours.float() - theirs.float()).abs().mean() < 8
    squares = (found.images.double() - original.images[by_class].double()).square().mean()
    line = capsys.readouterr().out
    assert f"PSNR of the training images {(10 * (255**2 / squares).log10()).item():.2f} dB" in line
    assert found.checksum in line


def test_the_archive_has_the_layout_of_the_other_and_states_its_checksum(original, tmp_path):
    made = jpeg.make_archive(tmp_path)
    with zipfile.ZipFile(made.path) as files:
        assert files.testzip() is None
        assert files.comment.decode() == made.checksum
        names = files.namelist()
    assert names[:3] == ["train/airplane/0000.jpg", "train/airplane/0001.jpg", "train/automobile/0000.jpg"]
    assert names[-1] == "test/truck/0000.jpg"
    assert len(names) == 30


def test_the_archive_is_the_same_whenever_it_is_made(original, tmp_path):
    made = jpeg.make_archive(tmp_path)
    first = made.path.read_bytes()
    made.path.unlink()
    assert jpeg.make_archive(tmp_path) == made
    assert made.path.read_bytes() == first


def test_an_existing_archive_is_not_replaced(original, tmp_path, capsys):
    made = jpeg.make_archive(tmp_path)
    assert jpeg.main(["--root", str(tmp_path)]) == 1
    assert str(made.path) in capsys.readouterr().err


def test_without_the_original_there_is_one_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(datasets.CIFAR10, "download", lambda self: (_ for _ in ()).throw(OSError("no network")))
    assert jpeg.main(["--root", str(tmp_path)]) == 1
    assert "download failed (no network)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_it_is_cached_and_its_cache_checked_like_the_other(original, tmp_path, monkeypatch):
    made = jpeg.make_archive(tmp_path)
    first = read_archive("cifar10-jpeg-own", tmp_path)
    (cache,) = tmp_path.glob("*.npz")
    cache.write_bytes(cache.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match="decoded again"):
        read_archive("cifar10-jpeg-own", tmp_path)
    monkeypatch.setattr(archives, "decode", lambda archive: pytest.fail("the images were decoded"))
    assert checksum(*read_archive("cifar10-jpeg-own", tmp_path)[:4]) == made.checksum == checksum(*first[:4])


def test_it_never_passes_for_the_other_archive(original, tmp_path):
    made = jpeg.make_archive(tmp_path)
    shutil.copy(made.path, tmp_path / "cifar10_jpeg.zip")
    with pytest.raises(DataError, match=r"cifar10_jpeg\.zip is truncated or damaged"):
        data.load("cifar10-jpeg", tmp_path)


def test_the_other_archive_never_passes_for_it(tmp_path, monkeypatch):
    write_jpeg_archive(tmp_path, monkeypatch).rename(tmp_path / "cifar10_jpeg_own.zip")
    with pytest.raises(DataError, match="is the archive of another dataset, cifar10-jpeg, and belongs in"):
        data.load("cifar10-jpeg-own", tmp_path)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "is truncated or damaged"),
        (lambda path: path.write_bytes(b""), "is truncated or damaged"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"JFIF", b"JFIX", 1)), "cannot be decoded"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "does not state the checksum"),
        (lambda path: add_comment(path, b"\xff"), "is truncated or damaged"),
        (lambda path: add_comment(path, b"0" * 63), "does not state the checksum"),
        (lambda path: zipfile.ZipFile(path, "a").writestr("stray.jpg", b"stray"), "cannot be decoded"),
    ],
    ids=["missing", "truncated", "empty", "one image", "no images", "no text", "no checksum", "stray file"],
)
def test_a_damaged_archive_says_how_to_make_it(damage, problem, original, tmp_path):
    path = jpeg.make_archive(tmp_path).path
    damage(path)
    with pytest.raises(DataError) as caught:
        data.load("cifar10-jpeg-own", tmp_path)
    assert str(caught.value).startswith(f"{path} {problem}")
    assert COMMAND in str(caught.value)


def add_comment(path, comment):
    with zipfile.ZipFile(path, "a") as files:
        files.comment = comment


def test_another_decoder_is_named(original, tmp_path):
    path = jpeg.make_archive(tmp_path).path
    add_comment(path, b"0" * 64)
    with pytest.warns(UserWarning, match="other pixels"):
        data.load("cifar10-jpeg-own", tmp_path)


def test_the_classes_are_numbered_as_in_the_original():
    assert list(jpeg.CLASSES) == sorted(jpeg.CLASSES)
    assert len(jpeg.CLASSES) == 10


def test_original_is_left_alone(original, tmp_path):
    jpeg.make_archive(tmp_path)
    assert torch.equal(torch.as_tensor(read_torchvision("cifar10", tmp_path).images), original.images)

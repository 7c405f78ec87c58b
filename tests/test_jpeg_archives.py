"""CIFAR-10 as JPEG archives: what is read from them and from their caches, and how an archive of one's own is made."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from advanced_optimizers.experiments.data import archives
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.data.archives import read_archive
from advanced_optimizers.experiments.data.files import DataError, checksum
from tests.data_helpers import OFFLINE_COMMAND, assert_equal, write_jpeg_archive


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    data._load.cache_clear()


def read_cifar10_jpeg(root):
    return read_archive("cifar10-jpeg", root)


def must_not_decode(monkeypatch):
    monkeypatch.setattr(archives, "decode", lambda archive: pytest.fail("the images were decoded"))


def cache_of(folder):
    (path,) = folder.glob("cifar10_jpeg-*")
    return path


def test_jpegs_are_decoded_with_classes_in_alphabetical_order(tmp_path, monkeypatch):
    write_jpeg_archive(tmp_path, monkeypatch)
    found = read_cifar10_jpeg(tmp_path)
    assert found.images.shape == (6, 32, 32, 3)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.test_labels.tolist() == [0, 1, 2]
    assert found.num_classes == 3
    # airplane, cat, truck were written third, second and first.
    colors = [(160, 0, 0), (160, 200, 0), (80, 0, 0), (80, 200, 0), (0, 0, 0), (0, 200, 0)]
    assert (found.images[:, 16, 16].int() - torch.tensor(colors)).abs().max() <= 3
    assert (found.test_images[:, 16, 16, 2].int() - 255).abs().max() <= 3
    assert data.load("cifar10-jpeg", tmp_path).name == "cifar10-jpeg"


def test_decoded_images_come_from_the_cache_the_second_time(tmp_path, monkeypatch):
    write_jpeg_archive(tmp_path, monkeypatch)
    first = read_cifar10_jpeg(tmp_path)
    must_not_decode(monkeypatch)
    assert_equal(read_cifar10_jpeg(tmp_path), first)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_cache_of_a_read_only_folder_is_in_the_users_cache_folder(tmp_path, monkeypatch):
    root = tmp_path / "data"
    write_jpeg_archive(root, monkeypatch)
    root.chmod(0o555)
    read_cifar10_jpeg(root)
    assert [path.name for path in root.iterdir()] == ["cifar10_jpeg.zip"]
    assert cache_of(tmp_path / "user-cache" / "advanced-optimizers").is_file()


def _damaged(change):
    def damage(cache):
        cache.write_bytes(change(cache.read_bytes()))

    return damage


def _with_arrays(**changes):
    """Another cache whose arrays open like the right ones."""

    def damage(cache):
        with np.load(cache) as content:
            arrays = dict(content)
        np.savez(cache, **{key: changes.get(key, lambda array: array)(array) for key, array in arrays.items()})

    return damage


def _replaced(make):
    def damage(cache):
        cache.unlink()
        make(cache)

    return damage


class _Evil:
    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


_DAMAGES = {
    "truncated": _damaged(lambda content: content[: len(content) // 2]),
    "one bit": _damaged(lambda content: content[:3000] + bytes([content[3000] ^ 1]) + content[3001:]),
    "empty": _damaged(lambda content: b""),
    "text": _damaged(lambda content: b"not a cache"),
    "pickle": _damaged(lambda content: pickle.dumps(_Evil())),
    "one array": lambda cache: np.save(cache.open("wb"), np.zeros(3)),
    "other names": lambda cache: np.savez(cache, pixels=np.zeros(3)),
    "objects": _with_arrays(images=lambda array: np.array([None] * len(array))),
    "another pixel": _with_arrays(images=lambda array: array ^ (np.arange(array.size) == 5).reshape(array.shape)),
    "another test pixel": _with_arrays(test_images=lambda array: array ^ 1),
    "another label": _with_arrays(labels=lambda array: array[::-1].copy()),
    "fewer images": _with_arrays(images=lambda array: array[:-1], labels=lambda array: array[:-1]),
    "flat images": _with_arrays(images=lambda array: array.reshape(len(array), -1)),
    "wide images": _with_arrays(images=lambda array: array.reshape(len(array), 16, 64, 3)),
    "signed images": _with_arrays(images=lambda array: array.view(np.int8)),
    "unsigned labels": _with_arrays(labels=lambda array: array.view(np.uint64)),
    "column of labels": _with_arrays(test_labels=lambda array: array[:, None]),
    "unreadable": lambda cache: cache.chmod(0),
    "pipe": _replaced(os.mkfifo),
}


@pytest.mark.parametrize("damage", _DAMAGES.values(), ids=_DAMAGES)
def test_a_cache_that_holds_anything_else_is_decoded_again(damage, tmp_path, monkeypatch):
    write_jpeg_archive(tmp_path, monkeypatch)
    expected = read_cifar10_jpeg(tmp_path)
    cache = cache_of(tmp_path)
    damage(cache)
    if os.access(cache, os.R_OK) and not cache.stat().st_mode & 0o444:
        pytest.skip("the superuser can read everything")
    with pytest.warns(UserWarning, match="damaged or holds other data: the images are decoded again") as caught:
        assert_equal(read_cifar10_jpeg(tmp_path), expected)
    assert [str(cache) in str(warning.message) for warning in caught] == [True]
    must_not_decode(monkeypatch)
    assert_equal(read_cifar10_jpeg(tmp_path), expected)


@pytest.mark.parametrize(
    "make", [lambda cache: (cache / "inside").mkdir(parents=True), lambda cache: cache.symlink_to(cache.name)]
)
def test_what_cannot_be_replaced_in_the_place_of_the_cache_is_no_error(make, tmp_path, monkeypatch):
    write_jpeg_archive(tmp_path, monkeypatch)
    expected = read_cifar10_jpeg(tmp_path)
    cache = cache_of(tmp_path)
    cache.unlink()
    make(cache)
    with pytest.warns(UserWarning, match="were not cached"), pytest.warns(UserWarning, match="decoded again"):
        assert_equal(read_cifar10_jpeg(tmp_path), expected)


def test_a_user_without_a_home_has_a_cache(tmp_path, monkeypatch):
    root = tmp_path / "data"
    write_jpeg_archive(root, monkeypatch)
    root.chmod(0o555)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert len(read_cifar10_jpeg(root).images) == 6
    assert cache_of(tmp_path / "advanced-optimizers").is_file()


def no_home():
    raise RuntimeError("Could not determine home directory.")


def test_a_decoder_with_other_pixels_is_named_and_nothing_is_cached(tmp_path, monkeypatch):
    write_jpeg_archive(tmp_path, monkeypatch)
    decode = archives.decode

    def a_level_brighter(archive):
        arrays = decode(archive)
        return arrays._replace(images=arrays.images.clamp(max=254) + 1)

    monkeypatch.setattr(archives, "decode", a_level_brighter)
    for _ in range(2):  # it is said every time
        with pytest.warns(UserWarning, match=r"Pillow .* other pixels .* not cached") as caught:
            found = read_cifar10_jpeg(tmp_path)
        assert checksum(*found[:4]) in str(caught[0].message)
        assert archives._DATA_CHECKSUM in str(caught[0].message)
    assert list(tmp_path.glob("*.npz")) == []


def test_the_checksum_of_the_images_is_the_one_in_the_records():
    runs = Path(__file__).parent.parent / "results" / "runs"
    record = next(path for path in runs.glob("cifar10-jpeg-*/sgd/*.json") if '"split": "test"' in path.read_text())
    content = json.loads(record.read_text())
    assert content["environment"]["data_checksum"] == archives._DATA_CHECKSUM


def test_without_a_place_for_the_cache_the_images_are_still_read(tmp_path, monkeypatch):
    root = tmp_path / "data"
    write_jpeg_archive(root, monkeypatch)
    root.chmod(0o555)
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a-file"))
    with pytest.warns(UserWarning, match="were not cached"):
        assert len(read_cifar10_jpeg(root).images) == 6


@pytest.mark.slow
def test_processes_that_build_the_cache_at_once_read_the_same(tmp_path, monkeypatch):
    write_jpeg_archive(tmp_path, monkeypatch)
    # Both decode before either may write, so both write the cache.
    code = """
import sys, time
from pathlib import Path
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.data import archives
root, digest, pixels, number = Path(sys.argv[1]), *sys.argv[2:]
archives._SHA256, archives._DATA_CHECKSUM = digest, pixels
decode = archives.decode
def decode_and_wait(archive):
    arrays = decode(archive)
    (root / f"decoded-{number}").touch()
    deadline = time.monotonic() + 60
    while len(list(root.glob("decoded-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return arrays
archives.decode = decode_and_wait
print(data.load("cifar10-jpeg", root).checksum)
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path), archives._SHA256, archives._DATA_CHECKSUM]
    processes = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(2)]
    checksums = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(list(tmp_path.glob("decoded-*"))) == 2
    assert checksums == {data.load("cifar10-jpeg", tmp_path).checksum}
    assert not list(tmp_path.glob("*.tmp"))


def test_a_missing_archive_says_what_to_do(tmp_path):
    with pytest.raises(DataError) as caught:
        data.load("cifar10-jpeg", tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'cifar10_jpeg.zip'} is missing")
    assert "copy it there" in message
    assert "ADVANCED_OPTIMIZERS_DATA" in message
    assert OFFLINE_COMMAND in message


def test_a_truncated_archive_is_an_error_even_if_its_cache_is_there(tmp_path, monkeypatch):
    archive = write_jpeg_archive(tmp_path, monkeypatch)
    read_cifar10_jpeg(tmp_path)
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"{archive} is truncated or damaged"):
        read_cifar10_jpeg(tmp_path)


def test_an_archive_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    archive = write_jpeg_archive(tmp_path, monkeypatch)
    archive.chmod(0)
    if os.access(archive, os.R_OK):
        pytest.skip("the superuser can read everything")
    with pytest.raises(DataError, match=f"{archive} cannot be read"):
        read_cifar10_jpeg(tmp_path)

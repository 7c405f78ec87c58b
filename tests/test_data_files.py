import hashlib
import io
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.data import files as data_files
from advanced_optimizers.experiments.data.files import Arrays, DataError, read_cifar10_jpeg, read_torchvision

REAL_ROOT = data_files.default_root()
OFFLINE_COMMAND = "python -m advanced_optimizers.experiments run fer --profile quick"


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """Downloads fail as they do without a network, and the user's cache folder is a temporary one."""

    def download(self):
        raise URLError("no network")

    for kind in (datasets.MNIST, datasets.CIFAR10):
        monkeypatch.setattr(kind, "download", download)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    data._load.cache_clear()


def assert_equal(found: Arrays, expected: Arrays):
    for part, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(part), torch.as_tensor(wanted), rtol=0, atol=0)


def random_arrays(size, channels, num_classes=10):
    generator = torch.Generator().manual_seed(0)

    def images(count):
        return torch.randint(0, 256, (count, size, size, channels), generator=generator, dtype=torch.uint8)

    return Arrays(images(20), torch.arange(20) % num_classes, images(10), torch.arange(10) % num_classes, num_classes)


# The folder


def test_default_folder_is_the_one_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ADVANCED_OPTIMIZERS_DATA", str(tmp_path / "elsewhere"))
    assert data_files.default_root() == (tmp_path / "elsewhere").resolve()


def test_default_folder_is_found_from_inside_the_project(monkeypatch, tmp_path):
    monkeypatch.delenv("ADVANCED_OPTIMIZERS_DATA", raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert data_files.default_root() == Path.cwd().parent / "data"


# torchvision's datasets


def write_mnist(root, arrays, monkeypatch, name="mnist"):
    """A small dataset in MNIST's own format, whose checksums replace the real ones."""
    folder = root / data_files.TORCHVISION_CLASSES[name] / "raw"
    folder.mkdir(parents=True)
    checksums = {}
    for prefix, images, labels in (("train", *arrays[:2]), ("t10k", *arrays[2:4])):
        header = struct.pack(">4i", 0x803, *images.shape[:3])
        contents = {
            f"{prefix}-images-idx3-ubyte": header + images.numpy().tobytes(),
            f"{prefix}-labels-idx1-ubyte": struct.pack(">2i", 0x801, len(labels)) + bytes(labels.tolist()),
        }
        for file, content in contents.items():
            (folder / file).write_bytes(content)
            checksums[file] = hashlib.md5(content).hexdigest()
    monkeypatch.setitem(data_files._IDX_MD5, name, checksums)
    return folder


def write_cifar(root, kind, arrays, monkeypatch):
    """A small dataset in CIFAR's own format, whose checksums replace the real ones."""
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    label_key = "labels" if kind is datasets.CIFAR10 else "fine_labels"

    def write(file, content):
        (folder / file).write_bytes(pickle.dumps(content))
        return [file, hashlib.md5((folder / file).read_bytes()).hexdigest()]

    def batch(images, labels):
        return {"data": images.permute(0, 3, 1, 2).reshape(len(images), -1).numpy(), label_key: labels.tolist()}

    names = [f"class {number}" for number in range(arrays.num_classes)]
    halves = zip(arrays.images.split(10), arrays.labels.split(10), strict=True)
    train = [write(f"train_{number}", batch(*half)) for number, half in enumerate(halves)]
    file, md5 = write("meta", {kind.meta["key"]: names})
    monkeypatch.setattr(kind, "train_list", train)
    monkeypatch.setattr(kind, "test_list", [write("test", batch(arrays.test_images, arrays.test_labels))])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "filename": file, "md5": md5})
    return folder


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_is_read_from_a_folder_that_is_not_written_to(name, tmp_path, monkeypatch):
    arrays = random_arrays(28, 1)
    folder = write_mnist(tmp_path / "data", arrays, monkeypatch, name)
    before = sorted(tmp_path.rglob("*"))
    for path in (*folder.iterdir(), folder, folder.parent, tmp_path / "data"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert_equal(read_torchvision(name, tmp_path / "data"), arrays)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("name", "num_classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_read(name, num_classes, tmp_path, monkeypatch):
    arrays = random_arrays(32, 3, num_classes)
    write_cifar(tmp_path, getattr(datasets, name.upper()), arrays, monkeypatch)
    assert_equal(read_torchvision(name, tmp_path), arrays)
    loaded = data.load(name, tmp_path)
    assert loaded.name == name
    assert loaded.image_shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("name", "first_file"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("cifar100", "cifar-100-python/train"),
    ],
)
def test_a_missing_file_without_a_network_says_what_to_do(name, first_file, tmp_path):
    with pytest.raises(DataError) as caught:
        data.load(name, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / first_file} is missing and its download failed")
    assert "no network" in message
    kind = data_files.TORCHVISION_CLASSES[name]
    assert f"from torchvision.datasets import {kind}; {kind}('{tmp_path}', download=True)" in message
    assert "ADVANCED_OPTIMIZERS_DATA" in message
    assert OFFLINE_COMMAND in message


def test_a_missing_file_is_downloaded_where_there_is_a_network(tmp_path, monkeypatch):
    arrays = random_arrays(28, 1)
    source = write_mnist(tmp_path / "network", arrays, monkeypatch)
    monkeypatch.setattr(datasets.MNIST, "download", lambda self: shutil.copytree(source, self.raw_folder))
    assert_equal(read_torchvision("mnist", tmp_path / "data"), arrays)


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_a_damaged_mnist_file_is_named(file, damage, tmp_path, monkeypatch):
    path = write_mnist(tmp_path, random_arrays(28, 1), monkeypatch) / file
    content = path.read_bytes()
    path.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError) as caught:
        data.load("mnist", tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{path} is truncated or damaged: its {path.stat().st_size} bytes")
    assert "delete it" in message
    assert OFFLINE_COMMAND in message


def test_a_damaged_cifar_file_is_named(tmp_path, monkeypatch):
    folder = write_cifar(tmp_path, datasets.CIFAR10, random_arrays(32, 3), monkeypatch)
    path = folder / "train_1"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=f"{path} is truncated or damaged"):
        data.load("cifar10", tmp_path)


def test_an_error_is_not_remembered(tmp_path, monkeypatch):
    with pytest.raises(DataError):
        data.load("mnist", tmp_path)
    write_mnist(tmp_path, random_arrays(28, 1), monkeypatch)
    assert len(data.load("mnist", tmp_path).images) == 20


@pytest.mark.skipif(
    not (REAL_ROOT / "MNIST/raw/train-images-idx3-ubyte").is_file(),
    reason=f"no MNIST in {REAL_ROOT}; set ADVANCED_OPTIMIZERS_DATA to a folder that has it",
)
def test_real_mnist():
    mnist = data.load("mnist", REAL_ROOT)
    assert mnist.images.shape == (60_000, 28, 28, 1)
    assert mnist.test_images.shape == (10_000, 28, 28, 1)
    assert mnist.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    # The constants that MNIST examples use everywhere.
    assert (round(mnist.mean[0], 4), round(mnist.std[0], 4)) == (0.1307, 0.3081)


# cifar10-jpeg


def write_jpeg_archive(root, monkeypatch, classes=("truck", "cat", "airplane")):
    """Two training images and one test image per class, each of its own color, which JPEG preserves."""
    root.mkdir(parents=True, exist_ok=True)
    archive = root / "cifar10_jpeg.zip"
    with zipfile.ZipFile(archive, "w") as files:
        for split, count in (("test", 1), ("train", 2)):
            for number, label in enumerate(classes):
                for index in range(count):
                    buffer = io.BytesIO()
                    color = (number * 80, index * 200, 255 * (split == "test"))
                    Image.new("RGB", (32, 32), color).save(buffer, "JPEG", quality=95)
                    files.writestr(f"{split}/{label}/{index:04}.jpg", buffer.getvalue())
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(data_files, "_CIFAR10_JPEG_SHA256", digest)
    return archive


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
    monkeypatch.setattr(data_files, "_decode_jpegs", lambda archive: pytest.fail("decoded again"))
    assert_equal(read_cifar10_jpeg(tmp_path), first)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_cache_of_a_read_only_folder_is_in_the_users_cache_folder(tmp_path, monkeypatch):
    root = tmp_path / "data"
    write_jpeg_archive(root, monkeypatch)
    root.chmod(0o555)
    read_cifar10_jpeg(root)
    assert [path.name for path in root.iterdir()] == ["cifar10_jpeg.zip"]
    assert cache_of(tmp_path / "user-cache" / "advanced-optimizers").is_file()


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "other arrays"])
def test_a_damaged_cache_is_rebuilt(damage, tmp_path, monkeypatch):
    write_jpeg_archive(tmp_path, monkeypatch)
    expected = read_cifar10_jpeg(tmp_path)
    cache = cache_of(tmp_path)
    content = cache.read_bytes()
    middle = len(content) // 2
    if damage == "other arrays":
        np.savez(cache, images=np.zeros(3))
    else:
        changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        cache.write_bytes({"truncated": content[:middle], "changed": changed, "empty": b""}[damage])
    assert_equal(read_cifar10_jpeg(tmp_path), expected)
    monkeypatch.setattr(data_files, "_decode_jpegs", lambda archive: pytest.fail("the cache was not rebuilt"))
    assert_equal(read_cifar10_jpeg(tmp_path), expected)


def test_without_a_place_for_the_cache_the_images_are_still_read(tmp_path, monkeypatch):
    root = tmp_path / "data"
    write_jpeg_archive(root, monkeypatch)
    root.chmod(0o555)
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a-file"))
    with pytest.warns(UserWarning, match="were not cached"):
        assert len(read_cifar10_jpeg(root).images) == 6


def test_processes_that_build_the_cache_at_once_read_the_same(tmp_path, monkeypatch):
    write_jpeg_archive(tmp_path, monkeypatch)
    # Both decode before either may write, so both write the cache.
    code = """
import sys, time
from pathlib import Path
from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.data import files as data_files
root, digest, number = Path(sys.argv[1]), *sys.argv[2:]
data_files._CIFAR10_JPEG_SHA256 = digest
decode = data_files._decode_jpegs
def decode_and_wait(archive):
    arrays = decode(archive)
    (root / f"decoded-{number}").touch()
    deadline = time.monotonic() + 60
    while len(list(root.glob("decoded-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return arrays
data_files._decode_jpegs = decode_and_wait
print(data.load("cifar10-jpeg", root).checksum)
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path), data_files._CIFAR10_JPEG_SHA256]
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

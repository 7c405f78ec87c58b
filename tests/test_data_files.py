import shutil
from pathlib import Path
from urllib.error import URLError

import pytest
from torchvision import datasets

from advanced_optimizers.experiments.data import datasets as data
from advanced_optimizers.experiments.data import files as data_files
from advanced_optimizers.experiments.data.files import DataError, read_torchvision
from tests.data_helpers import OFFLINE_COMMAND, assert_equal, random_arrays, write_cifar, write_mnist

REAL_ROOT = data_files.default_root()


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """Downloads fail as they do without a network, and the user's cache folder is a temporary one."""

    def download(self):
        raise URLError("no network")

    for kind in (datasets.MNIST, datasets.CIFAR10):
        monkeypatch.setattr(kind, "download", download)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    data._load.cache_clear()


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

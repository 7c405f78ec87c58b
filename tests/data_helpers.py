"""Small datasets in the formats of the real ones, whose checksums replace the real ones."""

import hashlib
import io
import pickle
import struct
import zipfile

import torch
from PIL import Image
from torchvision import datasets

from advanced_optimizers.experiments.data import archives
from advanced_optimizers.experiments.data import files as data_files
from advanced_optimizers.experiments.data.files import Arrays

OFFLINE_COMMAND = "python -m advanced_optimizers.experiments run fer --profile quick"


def assert_equal(found: Arrays, expected: Arrays):
    for part, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(part), torch.as_tensor(wanted), rtol=0, atol=0)


def random_arrays(size, channels, num_classes=10):
    generator = torch.Generator().manual_seed(0)

    def images(count):
        return torch.randint(0, 256, (count, size, size, channels), generator=generator, dtype=torch.uint8)

    return Arrays(images(20), torch.arange(20) % num_classes, images(10), torch.arange(10) % num_classes, num_classes)


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
    monkeypatch.setattr(archives, "_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(archives, "_DATA_CHECKSUM", data_files.checksum(*archives.decode(archive)[:4]))
    return archive

"""The machine that a run trains on: its description in the record, its threads, and its memory."""

from __future__ import annotations

import hashlib
import platform
import re
import resource
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from advanced_optimizers import __version__

_PACKAGE = Path(__file__).resolve().parents[2]

# Files outside the package whose code runs may use, such as a user's own topic.
FURTHER_SOURCES: list[Path] = []

# The source text of a user's algorithm, network or data, by its name in a configuration and by file; it goes into the
# records of its runs. The name holds the text's hash, so another text is another run.
SOURCES: dict[str, Mapping[str, str]] = {}


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, commit and hardware, as they are stored in a record."""
    commit, dirty = _git_state()
    on_gpu = device.type == "cuda"
    return {
        "package_version": __version__,  # of this code; a distribution that is installed may be another version's
        "git_commit": commit,
        "git_dirty": dirty,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "blas": _torch_blas(),
        "numpy": np.__version__,
        "numpy_blas": _numpy_blas(),
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if on_gpu else _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def source_checksum() -> str:
    """A SHA-256 of the package's source and of ``FURTHER_SOURCES``; uncommitted versions of the code differ in it."""
    return _checksum_of((*_package_files(), *FURTHER_SOURCES))


def sources_of(names: Iterable[str]) -> dict[str, str]:
    """The source text of those of the names that have one in ``SOURCES``, by file."""
    return {file: text for name in names for file, text in SOURCES.get(name, {}).items()}


@cache  # by process, as below: every checkpoint asks, and to list the files takes longer than to train on the digits
def _package_files() -> tuple[Path, ...]:
    return tuple(sorted(_PACKAGE.rglob("*.py")))


@cache  # by process: what it runs is what it has loaded
def _checksum_of(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Limits torch to ``count`` threads inside a ``with`` block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _git_state() -> tuple[str | None, bool | None]:
    """The commit of the package's source, and whether the source has changed since; (None, None) outside of git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", str(_PACKAGE)))
    except (OSError, subprocess.CalledProcessError):
        return None, None


@cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@cache
def _torch_blas() -> str:
    """The libraries behind torch's products and convolutions, such as ``mkl 2024.2, oneDNN 3.13.3``."""
    built = torch.__config__.show()
    found = {
        "": re.search(r"BLAS_INFO=(\w+)", built),
        "mkl ": re.search(r"Math Kernel Library Version ([\d.]+)", built),
        "oneDNN ": re.search(r"MKL-DNN v([\d.]+)", built),
    }
    words = [f"{name}{match.group(1)}" for name, match in found.items() if match]
    return ", ".join(word for word in words if word != "mkl" or len(words) == 1) or "unknown"


@cache
def _numpy_blas() -> str:
    """The library behind NumPy's products, such as ``scipy-openblas 0.3.31``."""
    built: Any = np.show_config(mode="dicts")
    try:
        blas = built["Build Dependencies"]["blas"]
        return f"{blas['name']} {blas['version']}"
    except (KeyError, TypeError):  # built in another way than NumPy's own wheels
        return "unknown"


def reset_peak_memory(device: torch.device) -> None:
    """Starts a new measurement of :func:`peak_memory`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak of earlier runs in this process


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of this process on the CPU, of the device's allocator on an accelerator."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

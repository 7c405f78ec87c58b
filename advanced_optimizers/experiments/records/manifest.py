"""The manifest of a folder of records: the checksum of each, as ``sha256sum`` writes and checks it.

It says which records there are, so that one that was deleted, added or moved is noticed, and what is in each: that is
the only protection of a record that was written before records had checksums of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from advanced_optimizers.experiments.records.record import RecordError
from advanced_optimizers.experiments.records.writing import write_if_changed

MANIFEST = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (\S+/\S+/[0-9a-f]{16}\.json)")


def read_manifest(root: Path) -> Mapping[str, str]:
    """The checksums of the records under ``root``, by path relative to it; empty if there is no manifest.

    Raises:
        RecordError: The manifest is damaged.
    """
    path = root / MANIFEST
    try:
        status = path.stat()
        return _parse(path, status.st_mtime_ns, status.st_size)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RecordError(f"the manifest {path} is damaged ({error}): restore it from version control") from error


def write_manifest(root: Path, listed: Mapping[str, str]) -> Path:
    """Writes the checksums, sorted by path, if they changed; returns the manifest's path."""
    path = root / MANIFEST
    write_if_changed(path, "".join(f"{checksum}  {name}\n" for name, checksum in sorted(listed.items())))
    return path


@lru_cache(maxsize=8)  # read for every record that is loaded
def _parse(path: Path, modified: int, size: int) -> dict[str, str]:
    listed: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None or match.group(2) in listed:
            raise ValueError(f"line {number} is {line!r}")
        listed[match.group(2)] = match.group(1)
    return listed

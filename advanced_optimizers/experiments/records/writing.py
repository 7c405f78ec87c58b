"""How every file of the project is written: whole or not at all, even if the power fails, and only if it changed."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import platform
import re
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path

_TEMPORARY = re.compile(r".+\.([0-9a-f]{8})-(\d+)-\d+\.tmp")  # written by _temporary_path: where, by which process
_count = itertools.count()


def write_atomically(path: Path, content: str | bytes | memoryview, *, exclusive: bool = False) -> None:
    """Writes a file so that every reader, and every start after a crash, finds the old content or the new one.

    The content goes to a temporary file and to the disk, then the file gets its name, then the name goes to the disk.
    The folder is made, and temporary files in it that dead processes of this machine left are removed.

    Args:
        path: The file.
        content: Its content; text is written as UTF-8, with its line ends as they are.
        exclusive: Whether the file must not exist yet.

    Raises:
        FileExistsError: The file exists, and ``exclusive`` is set.
        OSError: The file cannot be written, for example because the disk is full. It is as it was before.
    """
    temporary = _temporary_path(path)
    try:
        _make_folder(path.parent)
        _remove_leftovers_once(path.parent)
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            os.link(temporary, path)  # unlike a rename, this fails if the file exists
        else:
            _copy_mode(path, temporary)
            os.replace(temporary, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, temporary, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # it named no file, or the temporary one
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    _sync_folder(path.parent)


def write_if_changed(path: Path, content: str | bytes) -> bool:
    """Writes a file unless it has that content already; returns whether it was written.

    If the lines of the existing file end in CRLF, then so do those of a text that is written.

    Raises:
        OSError: See :func:`write_atomically`.
    """
    path = Path(os.path.realpath(path))  # of a link, what it leads to is written
    before = path.read_bytes() if path.is_file() else None
    if isinstance(content, str):
        content = content.encode()
        if before is not None and b"\r\n" in before and b"\r\n" not in content:
            content = content.replace(b"\n", b"\r\n")
    if content == before:
        return False
    write_atomically(path, content)
    return True


def try_to_write(folder: Path) -> None:
    """Writes a file into a folder, as a new file is written, and removes it again.

    Both its names are those of temporary files, so that a process that dies at it leaves nothing for good.

    Raises:
        OSError: See :func:`write_atomically`.
    """
    probe = _temporary_path(folder / "probe")
    try:
        write_atomically(probe, "", exclusive=True)
    finally:
        with suppress(OSError):
            os.unlink(probe)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files in a folder whose writers, processes of this machine, are dead."""
    with suppress(OSError):
        for path in folder.glob("*.tmp"):
            match = _TEMPORARY.fullmatch(path.name)
            if match and match.group(1) == _machine() and not _is_alive(int(match.group(2))):
                with suppress(OSError):
                    path.unlink()


_remove_leftovers_once = cache(remove_leftovers)  # once per process: a folder of records is written to many times


def _temporary_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.{_machine()}-{os.getpid()}-{next(_count)}.tmp")


@cache
def _machine() -> str:
    """A short name of what process ids count in: this machine, or a container of it."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        namespace = ""
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True


def _copy_mode(path: Path, temporary: Path) -> None:
    with suppress(FileNotFoundError):
        os.chmod(temporary, stat.S_IMODE(path.stat().st_mode))


def _make_folder(folder: Path) -> None:
    """Makes a folder and those above it, and puts their names on the disk."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Puts the names of a folder's files on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no such call
            raise
    finally:
        os.close(descriptor)

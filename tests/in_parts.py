"""``python -m tests.in_parts 2 [pytest's arguments]``: the test files in as many processes, each with its own share.

pytest-xdist would have each process collect all files, and spend eight milliseconds on messages about a test that may
take one. Shares are every other file in the order of the names, which have about the same length.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

TESTS = Path(__file__).parent


def shares(count: int) -> list[list[str]]:
    """The test files, dealt out."""
    files = sorted(str(path.relative_to(TESTS.parent)) for path in TESTS.rglob("test_*.py"))
    return [files[k::count] for k in range(count)]


def main(arguments: list[str]) -> int:
    """Runs all shares at once, each line of theirs with its number in front; returns the first failure, or 0."""
    count = int(arguments[0])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", *arguments[1:], *share],
            cwd=TESTS.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for share in shares(count)
    ]
    readers = [threading.Thread(target=_pass_on, args=pair) for pair in enumerate(processes, 1)]
    for reader in readers:
        reader.start()
    try:
        for reader in readers:
            reader.join()
    except KeyboardInterrupt:  # the tests have heard it too, and say where they were
        for reader in readers:
            reader.join()
    return next((code for process in processes if (code := process.wait())), 0)


def _pass_on(number: int, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(f"{number}| {line}")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``python -m tests.in_parts 2/4 [pytest's arguments]``: the second of four parts of the test files, in one process.

pytest-xdist would have each of its processes collect all files, and spend eight milliseconds on messages about a test
that may take one. A part has every fourth file in the order of the names; all take about as long.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def files_of(part: int, count: int) -> list[str]:
    """The test files of one part, counted from 1."""
    files = sorted(str(path.relative_to(TESTS.parent)) for path in TESTS.rglob("test_*.py"))
    return files[part - 1 :: count]


def main(arguments: list[str]) -> int:
    """Runs a part, each line with its number in front, since other parts print too; returns pytest's exit code."""
    part, count = map(int, arguments[0].split("/"))
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments[1:], *files_of(part, count)],
        cwd=TESTS.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        _pass_on(part, process)
    except KeyboardInterrupt:  # the tests have heard it too, and say where they were
        _pass_on(part, process)
    return process.wait()


def _pass_on(part: int, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(f"{part}| {line}")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The test files in several processes: none is left out, and a failure is heard."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import in_parts


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_file_is_in_one_part(count: int) -> None:
    parts = [in_parts.files_of(part, count) for part in range(1, 1 + count)]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    files = sorted(str(path.relative_to(in_parts.TESTS.parent)) for path in in_parts.TESTS.rglob("test_*.py"))
    assert sorted(file for part in parts for file in part) == files


@pytest.mark.parametrize(("body", "code"), [pytest.param("pass", 0, marks=pytest.mark.slow), ("assert 1 == 2", 1)])
def test_a_failure_is_the_parts(
    body: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "test_first.py"
    file.write_text(f"def test_of_the_first():\n    {body}\n")
    monkeypatch.setattr(in_parts, "files_of", lambda part, count: [str(file)] if (part, count) == (2, 4) else [])
    assert in_parts.main(["2/4", "-p", "no:nbval", "-p", "no:cacheprovider"]) == code
    lines = capfd.readouterr().out.splitlines()
    assert all(line.startswith("2| ") for line in lines)
    assert any("[100%]" in line for line in lines)
    assert any("assert 1 == 2" in line for line in lines) == (code == 1)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["test", "unit"])
def test_make_runs_every_part_once(target: str) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    }
    commands = subprocess.run(
        ["make", "--dry-run", target],
        cwd=in_parts.TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    parts = re.findall(r"tests\.in_parts (\d+)/(\d+)", commands.stdout)
    assert parts
    assert sorted(parts) == [(str(part), str(len(parts))) for part in range(1, 1 + len(parts))]

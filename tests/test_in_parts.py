"""The test files in several processes: none is left out, and a failure is heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import in_parts


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_file_is_in_one_share(count: int) -> None:
    shares = in_parts.shares(count)
    assert len(shares) == count
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    files = sorted(str(path.relative_to(in_parts.TESTS.parent)) for path in in_parts.TESTS.rglob("test_*.py"))
    assert sorted(file for share in shares for file in share) == files


@pytest.mark.parametrize(("body", "code"), [("pass", 0), ("assert 1 == 2", 1)])
def test_one_failing_share_is_a_failure(
    body: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "test_first.py", tmp_path / "test_second.py"]
    files[0].write_text(f"def test_of_the_first():\n    {body}\n")
    files[1].write_text("def test_of_the_second():\n    pass\n")
    monkeypatch.setattr(in_parts, "shares", lambda count: [[str(file)] for file in files])
    assert in_parts.main(["2", "-p", "no:nbval", "-p", "no:cacheprovider"]) == code
    lines = capfd.readouterr().out.splitlines()
    assert all(line.startswith(("1| ", "2| ")) for line in lines)
    assert any(line.startswith("2| ") and "[100%]" in line for line in lines)
    assert any("assert 1 == 2" in line for line in lines) == (code == 1)

"""The command line as a process: what its help loads, and how it ends early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from advanced_optimizers import __version__
from advanced_optimizers.experiments.__main__ import main
from advanced_optimizers.experiments.studies import running
from tests.experiments_helpers import PYPROJECT
from tests.test_imports import BLOCK, in_a_fresh_python

MODULE = "advanced_optimizers.experiments"
COMMANDS = ("list", "run", "show", "reproduce", "notebooks", "report")

# --- Help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)])
def test_help_loads_nothing_but_the_standard_library(arguments: list[str]) -> None:
    printed = in_a_fresh_python(f"""
        import runpy, sys
        before = set(sys.modules)
        sys.argv[1:] = {arguments!r}
        try:
            runpy.run_module({MODULE!r}, run_name="__main__", alter_sys=True)
        except SystemExit as exit:
            assert exit.code == 0
        print("loaded:", *sorted(set(sys.modules) - before))
    """)
    told, _, loaded = printed.rpartition("loaded: ")
    assert told.strip()
    packages = {name.partition(".")[0] for name in loaded.split()}
    assert packages - sys.stdlib_module_names == {"advanced_optimizers"}


def test_help_takes_less_than_a_second() -> None:
    before = os.times()
    subprocess.run([sys.executable, "-m", MODULE, "--help"], check=True, stdout=subprocess.DEVNULL)
    after = os.times()  # processor time: other work on this machine does not count
    assert after.children_user - before.children_user + after.children_system - before.children_system < 1.0


def test_help_describes_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    listed = [line.split() for line in printed.splitlines() if line.startswith("    ")]
    assert [words[0] for words in listed if words[0] in COMMANDS] == list(COMMANDS)
    assert all(len(words) > 1 for words in listed if words[0] in COMMANDS)  # with words on the same line


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", shown)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"advanced-optimizers {__version__}\n"


@pytest.mark.parametrize(
    ("program", "shown"),
    [("bin/advanced-optimizers", "advanced-optimizers"), (f"{MODULE}/__main__.py", f"python -m {MODULE}")],
)
def test_the_help_names_the_command_as_it_was_called(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, program: str, shown: str
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"usage: {shown} [-h]" in capsys.readouterr().out


# --- Early ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "extras"),
    [
        (["list"], "experiments"),
        (["run", "fer"], "experiments"),
        (["reproduce", "fer"], "experiments"),
        (["notebooks"], "experiments,notebooks"),
        (["report", "--check"], "experiments"),
    ],
)
def test_a_missing_package_is_one_line_with_the_extra_to_install(arguments: list[str], extras: str) -> None:
    command = f"import sys\nfrom {MODULE}.__main__ import main\nsys.exit(main({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", BLOCK + command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f" is not installed: pip install 'advanced-optimizers[{extras}]'")


def test_a_module_of_the_project_that_is_missing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"{MODULE}.studies.running", None)
    with pytest.raises(ModuleNotFoundError, match="running"):
        main(["list"])


def closed_pipe() -> int:
    """The writing end of a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [  # noticed at the end, or by the first line printed
        (["--help"], ""),
        pytest.param(["run", "--help"], "", marks=pytest.mark.slow),
        pytest.param(["list"], "1", marks=pytest.mark.slow),
    ],
)
def test_a_reader_that_closes_early_is_not_an_error(arguments: list[str], unbuffered: str) -> None:
    writing = closed_pipe()
    done = subprocess.run(
        [sys.executable, "-m", MODULE, *arguments],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 128 + signal.SIGPIPE


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "run_study", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert main(["run", "fer"]) == 128 + signal.SIGINT
    assert capsys.readouterr() == ("", "interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "status", "last"),
    [
        ("os.kill(os.getppid(), signal.SIGINT); time.sleep(300)", 128 + signal.SIGINT, "interrupted"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 1, "error: cell.ipynb raised: Kernel died"),
    ],
    ids=["ctrl-c", "killed kernel"],
)
def test_a_notebook_that_is_cut_short(tmp_path: Path, cell: str, status: int, last: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"import os, signal, time; {cell}")])
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "cell.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", MODULE, "notebooks"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, " ".join(done.stderr.split())) == (status, last)
    assert not (tmp_path / ".scratch" / "quick" / "notebooks").exists()

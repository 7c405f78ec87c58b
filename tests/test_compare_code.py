"""A user's code: its identity, its neighbors, and what is said about it before anything runs."""

from __future__ import annotations

import hashlib
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from advanced_optimizers.experiments.compare.code import Code, CompareError, code_of, read_code
from advanced_optimizers.experiments.compare.own import OwnOptimizer, own_optimizer
from advanced_optimizers.experiments.compare.protocol import find_algorithm, find_task, make_protocol
from advanced_optimizers.experiments.compare.spaces import parse_fixed, parse_spaces, read_spaces
from advanced_optimizers.experiments.training.algorithms import Range
from tests.compare_helpers import tables as tables
from tests.compare_helpers import write_mine


def own(code: Code, **changes: Any) -> OwnOptimizer:
    return own_optimizer(code, "adamw", **{"spaces": {}, "fixed": {}, "schedule": None, **changes})


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write_mine(tmp_path)


def test_the_name_holds_the_hash_of_the_text(mine: Path) -> None:
    code = read_code(str(mine), "Copy")
    assert code.key == f"user:Copy@{hashlib.sha256(mine.read_bytes()).hexdigest()[:8]}"
    mine.write_text(mine.read_text() + "\n# edited\n")
    assert read_code(str(mine), "Copy").key != code.key


def test_code_is_loaded_from_its_text_wherever_it_is(mine: Path) -> None:
    code = pickle.loads(pickle.dumps(read_code(str(mine), "Copy")))
    mine.unlink()
    kind = code.load()
    assert issubclass(kind, torch.optim.Optimizer)
    assert code.load() is kind


def test_neighbors_are_a_part_of_the_text(tmp_path: Path) -> None:
    main = write_mine(tmp_path, "main_one.py", "import a_helper\nimport torch\nMine = a_helper.Mine\n")
    helper = write_mine(tmp_path, "a_helper.py", "from a_package import part\nclass Mine: value = part.VALUE\n")
    (tmp_path / "a_package").mkdir()
    for name, text in (("__init__", ""), ("part", "VALUE = 3\n")):
        write_mine(tmp_path / "a_package", f"{name}.py", text)
    code = read_code(str(main), "Mine")
    assert list(code.texts) == ["main_one.py", "a_helper.py", "a_package/__init__.py", "a_package/part.py"]
    helper.write_text(helper.read_text() + "# other\n")
    other = read_code(str(main), "Mine")
    assert other.digest != code.digest
    helper.unlink()
    assert code.load().value == 3
    assert "a_helper" in sys.modules


def test_a_class_without_a_file_is_pickled() -> None:
    class Local(torch.optim.SGD):
        pass

    code = code_of(Local)
    assert code.payload is not None
    assert "class Local" in code.texts["Local.py"]
    assert code.load().__name__ == "Local"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_there\n", "mine.py cannot be loaded: ModuleNotFoundError: No module named 'nothing_there'"),
        ("class Mine(:\n", "mine.py cannot be loaded: .* in line 1"),
        ("Mine = 3\n", "Mine of mine.py must be a class or a function"),
        ("def Mine(loader): pass\n", "its first parameter is 'loader': name it params or model"),
        ("def Mine(params, lr): pass\n", r'SEARCH_SPACE = \{"lr": \(1e-4, 1e-1\)\} to mine.py, or give --space lr'),
        ("SEARCH_SPACE = {'lr': 3}\ndef Mine(params, lr): pass\n", r"the range of lr must be \(low, high\)"),
        ("SCHEDULE = 'warm'\ndef Mine(params, lr=1.0): pass\n", "SCHEDULE of mine.py must be one of"),
        ("class Other: pass\nclass Mien: pass\n", "mine.py has no Mine; did you mean Mien.* It defines: Other, Mien"),
    ],
)
def test_code_that_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CompareError, match=message):
        own(read_code(str(write_mine(tmp_path, text=text)), "Mine"))


def test_without_a_space_ten_octaves_around_the_default_are_searched_and_said(mine: Path) -> None:
    found = own(read_code(str(mine), "Copy"))
    assert found.space == {"lr": Range(low=1e-3 / 32, high=1e-3 * 32, log=True)}
    assert "ten octaves around its default" in found.said[0]


def test_options_come_before_the_file(tmp_path: Path) -> None:
    text = "SEARCH_SPACE = {'lr': (1e-4, 1e-1), 'beta': (0.8, 0.99, 'linear')}\nSCHEDULE = 'constant'\nLABEL = 'M'\n"
    code = read_code(str(write_mine(tmp_path, text=f"{text}def Mine(params, lr, beta, decay=0): pass\n")), "Mine")
    found = own(code, spaces=parse_spaces(["lr=0.1..1"]), fixed=parse_fixed(["beta=0.5"]), schedule="own")
    assert (found.label, found.schedule, found.fixed) == ("M", "constant", {"beta": 0.5})
    assert found.space == {"lr": Range(low=0.1, high=1.0, log=True)}
    assert own(code).space["beta"] == Range(low=0.8, high=0.99)


@pytest.mark.parametrize("option", ["lr", "lr=1", "lr=0..1", "lr=2..1", "lr=1..2:cubic", "lr=a..b"])
def test_options_that_are_no_range_are_refused(option: str) -> None:
    with pytest.raises(CompareError, match=r"must|cannot"):
        parse_spaces([option])


def test_whole_numbers_and_words() -> None:
    assert read_spaces({"k": (2, 10, "int")}, "f") == {"k": Range(low=2, high=10, integer=True)}
    assert parse_fixed(["a=1", "b=1e-3", "c=True", "d=word"]) == {"a": 1, "b": 1e-3, "c": True, "d": "word"}


def test_names_of_algorithms_and_tasks() -> None:
    assert [find_algorithm(name) for name in ("muon+adamw", "sgd-nesterov", "lion")] == ["muon-adamw", "sgd", "lion"]
    with pytest.raises(CompareError, match=r"did you mean .*adamw.* as mine.py:Mine"):
        find_algorithm("adamv")
    assert find_task(None).profile == "quick"
    assert find_task("mnist-mlp").name == "referee-mnist"
    with pytest.raises(CompareError, match=r"did you mean .*mnist-mlp"):
        find_task("mnist-mpl")


def test_the_protocol_is_that_of_the_projects_own_comparison() -> None:
    stated = find_task("mnist-mlp")
    protocol = make_protocol(stated, task=stated.tasks[0])
    assert (protocol.tunings, protocol.trials, protocol.runs, protocol.margin) == (4, 8, 3, 0.002)
    halved = find_task("cifar10-jpeg-convnet")
    assert make_protocol(halved, task=halved.tasks[0]).rungs == halved.rungs


def test_few_test_images_are_refused_or_withheld() -> None:
    digits = find_task("digits")
    assert make_protocol(digits, task=digits.tasks[0]).margin is None
    with pytest.raises(CompareError, match=r"40 test images decide nothing: one image is 2.5 points; at least 500"):
        make_protocol(digits, task=digits.tasks[0], test_images=40)
    assert make_protocol(digits, task=digits.tasks[0], test_images=40, verdict=False).margin is None
    assert make_protocol(digits, task=digits.tasks[0], test_images=10_000).margin == pytest.approx(0.006)

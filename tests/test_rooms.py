"""The three rules of the house (DESIGN, "The house"): who may import whom, and what the machinery must not know.

1. An algorithm's room imports only itself, ``_base``, ``_checks`` and ``_flat`` (many tensors in one buffer, which the
   gradient transforms share). The package imports neither ``experiments`` nor
   ``integrations``.
2. In ``experiments`` imports point down: records < data < training < demonstrations < evidence < studies < report <
   compare < __main__. So they do in ``report``, which has rooms of its own: tables < figures < results < blocks <
   documents < the modules that are in none of them.
3. Outside the topics' modules, no module of ``experiments`` knows an algorithm, a task or a claim by name, or imports
   an algorithm's room. A topic that would be too long keeps how its runs are made in ``studies/<name>_runs.py``, which
   is the topic's own.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from advanced_optimizers.experiments.studies.registry import CLAIMS, STUDIES, TOPICS
from advanced_optimizers.experiments.training.algorithms import ALGORITHMS

PACKAGE = Path(__file__).parent.parent / "advanced_optimizers"
NAME = PACKAGE.name
NOT_ROOMS = ("experiments", "integrations", "__pycache__")
ORDER = ("records", "data", "training", "demonstrations", "evidence", "studies", "report", "compare", "__main__")
ORDER_OF_REPORT = ("tables", "figures", "results", "blocks", "documents")
# What every room may import, besides itself and what is outside the package.
SHARED = ("_base", "_checks", "_flat", "_rounding", "_sharded")


def imported(path: Path, package: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The modules of the package that a file imports, as (line, parts below the package)."""
    folder = (package.name, *path.relative_to(package).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) - node.level + 1] if node.level else ()
            module = ".".join((*above, *((node.module,) if node.module else ())))
            names = [f"{module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = tuple(name.split("."))
            if parts[0] == package.name:
                yield node.lineno, parts[1:]


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def rooms(package: Path) -> list[str]:
    return sorted(f.name for f in package.iterdir() if (f / "__init__.py").exists() and f.name not in NOT_ROOMS)


def breaches_of_rule_1(package: Path) -> list[str]:
    found = []
    for path in modules(package):
        inside = path.relative_to(package).parts
        if inside[0] in NOT_ROOMS:
            continue
        for line, target in imported(path, package):
            where = f"{'/'.join(inside)}:{line} imports {'.'.join(target)}"
            forbidden = target[:1] and target[0] in ("experiments", "integrations")
            strange = len(inside) > 1 and target[0] not in (inside[0], *SHARED)
            if forbidden or strange:
                found.append(where)
    return found


def breaches_of_rule_2(package: Path) -> list[str]:
    found = []
    root = package / "experiments"
    for path in modules(root):
        inside = path.relative_to(root)
        if inside.name == "__init__.py" and len(inside.parts) == 1:
            continue
        for line, target in imported(path, package):
            if target[:1] == ("experiments",) and (above := above_itself(inside.parts, target[1:])):
                found.append(f"{inside}:{line} imports {above} from above")
    return found


def above_itself(inside: tuple[str, ...], target: tuple[str, ...]) -> str:
    """The room of a target, if it is above the module that imports it; else nothing."""
    if not target or target[0] not in ORDER:
        return ""
    if ORDER.index(target[0]) > ORDER.index(inside[0].removesuffix(".py")):
        return target[0]
    if inside[0] == "report" == target[0] and inside[1] in ORDER_OF_REPORT and len(target) > 2:
        below = ORDER_OF_REPORT[: ORDER_OF_REPORT.index(inside[1]) + 1]
        return "" if target[1] in below else f"report.{target[1]}"
    return ""


def of_a_topic(module: str, topics: Collection[str]) -> bool:
    return module in topics or module.endswith("_runs")


def breaches_of_rule_3(package: Path, topics: Collection[str], names: Collection[str]) -> list[str]:
    found = []
    root = package / "experiments"
    for path in modules(root):
        inside = path.relative_to(root)
        if inside.parts[0] == "studies" and (of_a_topic(path.stem, topics) or inside.parts[1] == "claims"):
            continue
        for line, target in imported(path, package):
            if target[0] in rooms(package):
                found.append(f"{inside}:{line} imports the room {target[0]}")
            if len(target) > 2 and target[1] == "studies" and of_a_topic(target[2], {*topics, "claims"}):
                found.append(f"{inside}:{line} imports the topic {target[2]}")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(text) for text in docstrings_of(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                found += [f"{inside}:{node.lineno} says {name!r}" for name in names if node.value == name]
    return found


def docstrings_of(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value


def known_names() -> set[str]:
    tasks = {task.name for study in STUDIES.values() for task in study.tasks}
    return {*ALGORITHMS, *tasks, *CLAIMS, *(name for name, _ in STUDIES)}


# ---- the house as it is --------------------------------------------------------------------------------------------


def test_there_are_rooms_and_topics() -> None:
    assert {"fer_optimizer", "zero_shot_transfer"} <= set(rooms(PACKAGE))
    assert len(TOPICS) >= 6


def test_a_room_imports_only_itself_and_what_is_shared() -> None:
    assert breaches_of_rule_1(PACKAGE) == []


def test_imports_of_the_experiments_point_down() -> None:
    assert breaches_of_rule_2(PACKAGE) == []


def test_the_machinery_names_no_topic() -> None:
    assert breaches_of_rule_3(PACKAGE, set(TOPICS), known_names()) == []


def test_every_module_of_the_experiments_is_in_a_room() -> None:
    loose = {path.stem for path in (PACKAGE / "experiments").glob("*.py")}
    assert loose == {"__init__", "__main__"}


def test_every_folder_of_the_experiments_has_its_place_in_the_order() -> None:
    folders = {path.name for path in (PACKAGE / "experiments").iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders <= set(ORDER)


def test_every_folder_of_the_report_has_its_place_in_the_order() -> None:
    folders = {path.name for path in (PACKAGE / "experiments" / "report").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == set(ORDER_OF_REPORT)


# ---- planted breaches ----------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small package that keeps the rules."""
    package = tmp_path / NAME
    files = {
        "_base.py": "from advanced_optimizers._checks import check\n",
        "_checks.py": "import torch\n",
        "a_room/__init__.py": "from advanced_optimizers.a_room.core import A\n",
        "a_room/core.py": "from advanced_optimizers._base import Base\nfrom . import helper\n",
        "a_room/helper.py": "",
        "b_room/__init__.py": "",
        "b_room/core.py": "",
        "experiments/__init__.py": "",
        "experiments/__main__.py": "from advanced_optimizers.experiments.report import tables\n",
        "experiments/data/files.py": "from advanced_optimizers.experiments.records import store\n",
        "experiments/training/loop.py": '"""Trains a-task."""\nNAME = "something else"\n',
        "experiments/report/tables.py": "from advanced_optimizers.experiments.studies import registry\n",
        "experiments/report/tables/kinds.py": "",
        "experiments/report/blocks/keys.py": "from advanced_optimizers.experiments.report.tables import kinds\n",
        "experiments/studies/a_topic.py": "from advanced_optimizers.experiments.studies.a_runs import NAME\n",
        "experiments/studies/a_runs.py": "from advanced_optimizers.a_room import A\nNAME = 'a-task'\n",
        "experiments/studies/registry.py": "",
    }
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def breaches(house: Path) -> list[str]:
    return [
        *breaches_of_rule_1(house),
        *breaches_of_rule_2(house),
        *breaches_of_rule_3(house, {"a_topic"}, {"a-task", "an-algorithm", "a-claim"}),
    ]


def test_a_house_that_keeps_the_rules_has_no_breach(house: Path) -> None:
    assert breaches(house) == []


@pytest.mark.parametrize(
    ("file", "line", "found"),
    [
        ("a_room/core.py", "from advanced_optimizers.b_room import B", "a_room/core.py:1 imports b_room.B"),
        ("a_room/core.py", "from ..b_room import core", "a_room/core.py:1 imports b_room.core"),
        ("a_room/core.py", "import advanced_optimizers.b_room.core", "imports b_room.core"),
        ("a_room/core.py", "def f():\n    from advanced_optimizers import b_room", "a_room/core.py:2 imports b_room"),
        ("_base.py", "from advanced_optimizers.experiments.data import files", "_base.py:1 imports experiments"),
        ("_base.py", "from advanced_optimizers import integrations", "_base.py:1 imports integrations"),
        ("experiments/data/files.py", "from advanced_optimizers.experiments.training import loop", "from above"),
        ("experiments/data/files.py", "from ..report import tables", "data/files.py:1 imports report from above"),
        ("experiments/studies/a_topic.py", "from advanced_optimizers.experiments.report import tables", "from above"),
        (
            "experiments/report/tables/kinds.py",
            "from advanced_optimizers.experiments.report.blocks import keys",
            "report/tables/kinds.py:1 imports report.blocks from above",
        ),
        (
            "experiments/report/blocks/keys.py",
            "from advanced_optimizers.experiments.report.report import fill",
            "report/blocks/keys.py:1 imports report.report from above",
        ),
        ("experiments/training/loop.py", "from advanced_optimizers.a_room import A", "imports the room a_room"),
        (
            "experiments/report/tables.py",
            "from advanced_optimizers.experiments.studies.a_topic import NAME",
            "report/tables.py:1 imports the topic a_topic",
        ),
        (
            "experiments/studies/registry.py",
            "from advanced_optimizers.experiments.studies import a_runs",
            "studies/registry.py:1 imports the topic a_runs",
        ),
        ("experiments/training/loop.py", "LIMITS = {'an-algorithm': 1.0}", "training/loop.py:1 says 'an-algorithm'"),
        ("experiments/report/tables.py", "if task == 'a-task': pass", "report/tables.py:1 says 'a-task'"),
        ("experiments/studies/registry.py", "RULES = ['a-claim']", "studies/registry.py:1 says 'a-claim'"),
    ],
)
def test_a_planted_breach_is_found(house: Path, file: str, line: str, found: str) -> None:
    (house / file).write_text(f"{line}\n")
    assert any(found in breach for breach in breaches(house)), breaches(house)

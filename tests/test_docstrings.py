"""Every example in a docstring of the package runs as it stands: it gets no names but those that it imports itself."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import types

import pytest

import advanced_optimizers

# These import a framework each: test_frameworks_page.py runs their examples.
INTEGRATIONS = tuple(f"advanced_optimizers.integrations.{name}" for name in ("lightning", "timm", "transformers"))
# Flower has an environment of its own; the module's example is a folder, which test_flower.py runs.
FLOWER = "advanced_optimizers.automl.federated.flower"


def modules() -> list[types.ModuleType]:
    """The package and all its modules but those of the frameworks and that of the command line, which would run."""
    found = [advanced_optimizers]
    for info in pkgutil.walk_packages(advanced_optimizers.__path__, "advanced_optimizers.", onerror=_raise):
        if not info.name.endswith(".__main__") and info.name not in (*INTEGRATIONS, FLOWER):
            found.append(importlib.import_module(info.name))
    return found


def _raise(name: str) -> None:
    raise ImportError(name)


def examples_of(module: types.ModuleType) -> list[doctest.DocTest]:
    """The docstrings of a module that hold examples, each to be run without any names."""
    return [test for test in doctest.DocTestFinder().find(module, globs={}) if test.examples]


def failures_of(test: doctest.DocTest) -> str:
    """What went wrong in the examples of one docstring; empty if nothing did."""
    printed: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(test, out=printed.append)
    return "".join(printed) if failed else ""


MODULES = modules()
DOCSTRINGS = [test for module in MODULES for test in examples_of(module)]


@pytest.mark.parametrize("test", DOCSTRINGS, ids=lambda test: test.name.removeprefix("advanced_optimizers."))
def test_examples_run_as_they_stand(test: doctest.DocTest):
    assert failures_of(test) == ""


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_no_example_of_a_module_is_missed(module: types.ModuleType):
    written = re.findall(r"^\s*>>> ", inspect.getsource(module), flags=re.MULTILINE)
    assert sum(len(test.examples) for test in examples_of(module)) == len(written)


def test_there_are_examples():
    assert len(MODULES) >= 60
    assert len(DOCSTRINGS) >= 15
    assert sum(len(test.examples) for test in DOCSTRINGS) >= 55


# ---- and the test itself can fail --------------------------------------------------------------------------------


def module_with(example: str) -> types.ModuleType:
    module = types.ModuleType("planted", f"A module.\n\n{example}\n")
    module.nn = types.SimpleNamespace(Linear=int)  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(
    ("example", "failure"),
    [
        (">>> 1 + 1\n3", "Expected:\n    3\nGot:\n    2"),
        (">>> nn.Linear(2)\n2", "NameError: name 'nn' is not defined"),
        (">>> raise RuntimeError", "RuntimeError"),
    ],
    ids=["another result", "a name that only the module knows", "an error"],
)
def test_an_example_that_does_not_run_is_a_failure(example, failure):
    (test,) = examples_of(module_with(example))
    assert failure in failures_of(test)


def test_an_example_that_runs_is_none():
    (test,) = examples_of(module_with(">>> import math\n>>> math.floor(2.5)\n2"))
    assert len(test.examples) == 2
    assert failures_of(test) == ""

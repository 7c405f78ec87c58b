"""The table of algorithms under test: one row per algorithm, found in the files ``cases_*.py``. See ``case.py``."""

from __future__ import annotations

import importlib
import inspect
import itertools
import os
import sys
from pathlib import Path

from tests.case import Case
from tests.cases_scaled import SCALED

HERE = Path(__file__).resolve().parent


def find_cases(folder: Path) -> tuple[Case, ...]:
    """The rows in the files ``cases_*.py`` of a folder, in the order of file names and then of definition.

    A row under a private name, such as one that is imported to be varied, does not count.
    """
    names = sorted(path.stem for path in folder.glob("cases_*.py"))
    if folder != HERE:
        sys.path.insert(0, str(folder))
    cases: list[Case] = []
    for name in names:
        module = importlib.import_module(f"tests.{name}" if folder == HERE else name)
        rows = [row for name, row in vars(module).items() if isinstance(row, Case) and not name.startswith("_")]
        if not rows:
            raise ValueError(f"{folder / name}.py must define a Case at module level, found none")
        cases += [row for row in rows if not any(row is case for case in cases)]
    if not cases:
        raise ValueError(f"{folder} must hold files named cases_<topic>.py, found none")
    repeated = [name for name, same in itertools.groupby(sorted(case.name for case in cases)) if len(list(same)) > 1]
    if repeated:
        raise ValueError(f"every Case needs a name of its own, {folder} has several named {' and '.join(repeated)}")
    return tuple(cases)


def pairs(cases: tuple[Case, ...]) -> tuple[tuple[Case, Case], ...]:
    """All ordered pairs of outer and inner transform; the simplest one is always there as a partner.

    Two transforms that have a hyperparameter of the same name are refused as a pair: they share one ``param_groups``.
    """
    ordered = itertools.permutations(cases if SCALED in cases else (*cases, SCALED), 2)
    return tuple((outer, inner) for outer, inner in ordered if not own_arguments(outer) & own_arguments(inner))


def own_arguments(case: Case) -> set[str]:
    """The names of a transform's hyperparameters, without what is not a hyperparameter of a group of its own."""
    passed_on = {"params", "lr", "momentum", "base_optimizer", "base_optimizer_kwargs", "foreach", "state_dtype"}
    return set(inspect.signature(case.build).parameters) - passed_on


CASES = find_cases(Path(os.environ.get("CONTRACT_CASES", HERE)).resolve())
FROM_GRADIENTS = tuple(case for case in CASES if case.learns_from_gradients)
SEPARABLE = tuple(case for case in FROM_GRADIENTS if not case.couples_parameters)
WITH_REFERENCE = tuple(case for case in CASES if case.reference is not None)
WITH_LIMIT = tuple(case for case in CASES if case.limit is not None)
TRANSFORMS = tuple(case for case in CASES if case.is_transform)
NESTED = pairs(TRANSFORMS)
NESTED_WITH_REFERENCE = pairs(tuple(case for case in TRANSFORMS if case.reference is not None))

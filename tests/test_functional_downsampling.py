"""Hidden states in front of functions that down-sample, and of a module that is used several times."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from advanced_optimizers import GradientCorrectionOptimizer
from advanced_optimizers.gradient_correction.downsampling import find_downsampling
from tests.gradient_correction_models import EXAMPLE, corrected, digits, hooks
from tests.harness import BITWISE, train
from tests.reference.adjoint_correction import HiddenCorrection, backward
from tests.reference.gradient_correction import GradientCorrection

Down = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """Two convolutions and a linear layer, with a down-sampling after each convolution."""

    def __init__(self, first: Down, second: Down, sides: int = 1) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.linear = nn.Linear(3 * sides**2, 3)
        self.first, self.second = first, second

    def stages(self) -> list[Down]:
        return [
            lambda x: torch.tanh(self.conv1(x)),
            lambda h: torch.tanh(self.conv2(self.first(h))),
            lambda h: self.linear(self.second(h).flatten(1)),
        ]

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages():
            x = stage(x)
        return x


def net(first: Down, second: Down, sides: int = 2) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(first, second, sides)


def functional() -> Net:
    return net(halve, halve)


def halve(h: Tensor) -> Tensor:
    return F.max_pool2d(h, 2)


def every_other(h: Tensor) -> Tensor:
    return h[..., ::2, ::2]


def mean(h: Tensor) -> Tensor:
    return h.mean((2, 3))


class First(nn.Module):
    def forward(self, values: tuple[Tensor, Tensor]) -> Tensor:
        return values[0]


ONE_POOL = nn.AvgPool2d(2)
PAIRS: dict[str, tuple[Down, Down, int]] = {
    "pooling functions": (lambda h: F.avg_pool2d(h, 2), lambda h: F.max_pool2d(input=h, kernel_size=2), 2),
    "with indices": (lambda h: F.max_pool2d(h, 2, return_indices=True)[0], lambda h: F.adaptive_max_pool2d(h, 1), 1),
    "adaptive, interpolated": (lambda h: F.adaptive_avg_pool2d(h, 4), lambda h: F.interpolate(h, scale_factor=0.5), 2),
    "slice, mean": (every_other, lambda h: h.mean(axis=(2, 3)), 1),
    "sum with keepdim, by torch": (halve, lambda h: torch.sum(h, dim=(-1, -2), keepdim=True), 1),
    "one module, twice": (ONE_POOL, ONE_POOL, 2),
    "indices from a module": (nn.Sequential(nn.MaxPool2d(2, return_indices=True), First()), mean, 1),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_equals_its_reference(pair, rng):
    settings = {"gcw_strength": 0.5, "min_cosine": 0.9, "predictor_lr": 0.1, "train_every": 1}
    lr, strength = 0.1, 0.8
    model = net(*PAIRS[pair]).double()
    twin = copy.deepcopy(model)
    example = EXAMPLE.double()
    optimizer = GradientCorrectionOptimizer(
        model.parameters(), SGD, {"lr": lr}, gcode_strength=strength, **settings, model=model, example_input=example
    )
    hidden = [HiddenCorrection(3, strength, 0.9, 0.1, 1) for _ in range(2)]
    slow = GradientCorrection(**{**settings, "gcode_strength": 0.0})
    placed = [twin.conv1.weight, twin.conv2.weight]
    for images, y in digits(rng, 4):
        x = images[:3].double()
        train(model, optimizer, [(x, y[:3])])
        twin.zero_grad()
        backward(twin.stages(), hidden, x, lambda out, y=y: F.cross_entropy(out, y[:3]))
        stepped = {p: p.grad for p in twin.parameters()}
        weights = slow.transform([stepped[p].numpy() for p in placed])
        stepped |= {p: torch.from_numpy(g) for p, g in zip(placed, weights, strict=True)}
        with torch.no_grad():
            for p, g in stepped.items():
                p.sub_(lr * g)
    assert_close(list(model.parameters()), list(twin.parameters()), rtol=0, atol=1e-11)
    assert all(each.theta[-1] != 0.0 for each in hidden)  # they were trained, and thus corrected something
    assert len(optimizer._hidden) == 2


# ---- the same as with modules --------------------------------------------------------------------------------------


def trained(model: nn.Module, **settings: Any) -> tuple[nn.Module, GradientCorrectionOptimizer]:
    optimizer = corrected(model, **{"train_every": 1, **settings})
    train(model, optimizer, digits(torch.Generator().manual_seed(0), 6))
    return model, optimizer


def both_pools() -> Net:
    return net(nn.MaxPool2d(2), nn.MaxPool2d(2))


def one_pool() -> Net:
    pool = nn.MaxPool2d(2)
    return net(pool, pool)


@pytest.mark.parametrize("make", [functional, one_pool])
def test_functions_and_one_module_used_twice_do_what_a_module_for_each_use_does(make):
    (model, optimizer), (twin, modular) = trained(make()), trained(both_pools())
    assert_close(model.state_dict(), twin.state_dict(), **BITWISE)
    assert_close(optimizer.state_dict(), modular.state_dict(), **BITWISE)
    assert optimizer.history[-1].gcode_gate != 0.0


@pytest.mark.parametrize("make", [functional, one_pool])
def test_resumes_bit_for_bit(make):
    batches = digits(torch.Generator().manual_seed(0), 10)
    model = make()
    optimizer = corrected(model)
    train(model, optimizer, batches[:5])
    twin = copy.deepcopy(make())
    twin.load_state_dict(model.state_dict())
    resumed = corrected(twin)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, batches[5:])
    train(twin, resumed, batches[5:])
    assert_close(twin.state_dict(), model.state_dict(), **BITWISE)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize("make", [functional, one_pool])
def test_copies_with_its_model(make, duplicate):
    batches = digits(torch.Generator().manual_seed(0), 8)
    model, optimizer = trained(make())
    twin, copied = duplicate((model, optimizer))
    train(model, optimizer, batches)
    train(twin, copied, batches)
    assert_close(twin.state_dict(), model.state_dict(), **BITWISE)
    assert_close(copied.state_dict(), optimizer.state_dict(), **BITWISE)
    copied.detach()
    assert hooks(twin) == 0
    assert hooks(model) > 0


@pytest.mark.parametrize("make", [functional, one_pool])
def test_detach_leaves_the_model_as_it_was(make):
    model, optimizer = trained(make())
    optimizer.detach()
    assert hooks(model) == 0
    optimizer.detach()  # a second call is harmless


class Seen(TorchFunctionMode):
    """A mode of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_modes_of_the_user_are_left_alone():
    model, _ = trained(functional())
    with Seen() as seen:
        model(EXAMPLE)
    assert seen.names.count("max_pool2d") == 2
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 2, 8, 8))  # one channel too many
    with Seen() as seen:
        model(EXAMPLE)
    assert seen.names.count("max_pool2d") == 2


# ---- checkpointing of activations, compilation ---------------------------------------------------------------------


class Checkpointed(nn.Module):
    def __init__(self, inner: nn.Module, use_reentrant: bool) -> None:
        super().__init__()
        self.inner, self.use_reentrant = inner, use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.inner(x)
        # With reentrant checkpoints, torch computes no gradients unless an input needs one.
        return checkpoint(self.inner, x.requires_grad_(), use_reentrant=self.use_reentrant)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("make", [functional, both_pools])
def test_under_activation_checkpointing(make, use_reentrant):
    (model, _), (twin, _) = trained(Checkpointed(make(), use_reentrant)), trained(make())
    assert_close(list(model.parameters()), list(twin.parameters()), **BITWISE)


def test_one_module_used_twice_is_refused_under_activation_checkpointing():
    with pytest.raises(ValueError, match=r"model must call inner.first \(call 1 of 2\).*activation checkpointing"):
        trained(Checkpointed(one_pool(), use_reentrant=False))


def test_a_compiled_model_is_corrected():
    model = functional()
    optimizer = corrected(model, train_every=1)
    torch.compiler.reset()
    train(torch.compile(model, backend="eager"), optimizer, digits(torch.Generator().manual_seed(0), 6))
    assert_close(list(model.parameters()), list(trained(functional())[0].parameters()), **BITWISE)


# ---- what is not clear is refused, and what is missed is said ------------------------------------------------------


class Skipping(nn.Module):
    """Calls its functions, or its one module, less often in training."""

    def __init__(self, pool: Down) -> None:
        super().__init__()
        self.conv, self.pool, self.linear = nn.Conv2d(1, 3, 1), pool, nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv(x))
        return self.linear((x if self.training else self.pool(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("pool", "match"),
    [
        (halve, "model must call the same functions.*max_pool2d in Skipping had 3.*in training it has 2. Use modules"),
        (nn.MaxPool2d(2), r"model must call its modules as often.*pool \(call 1 of 2\) 2 times; in training.* 1 times"),
    ],
    ids=["functions", "module"],
)
def test_other_calls_in_training_are_refused(pool, match):
    model = Skipping(pool)
    optimizer = corrected(model)
    with pytest.raises(ValueError, match=match):
        model(EXAMPLE)
    model.eval()(EXAMPLE)  # where nothing is corrected, nothing has to be clear
    with torch.no_grad():
        model.train()(EXAMPLE)
    optimizer.detach()
    model(EXAMPLE)


def test_part_of_a_model_may_be_called():
    model, _ = trained(both_pools())
    model.second(model.conv2(model.first(model.conv1(EXAMPLE))))


def test_channels_in_the_last_dimension_are_refused():
    model = net(lambda h: h.movedim(1, -1)[:, ::2, ::2, :].movedim(-1, 1), mean, 1)
    with pytest.raises(ValueError, match=r"model must have its channels in dimension 1.*\(2, 8, 8, 3\).*without model"):
        find_downsampling(model, EXAMPLE)
    assert hooks(model) == 0


def test_images_may_have_their_channels_last():
    model = nn.Sequential(ChannelsFirst(), functional())
    images = torch.zeros(2, 16, 16, 1)
    assert [each.place.name for each in find_downsampling(model, images)] == ["max_pool2d in 1"] * 2


class ChannelsFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, ::2, ::2, :].movedim(-1, 1)


@pytest.mark.parametrize(
    "keeps_sides",
    [
        lambda h: h[..., :4],  # a crop
        lambda h: h[..., ::2],  # pairs of features, as in rotary embeddings
        lambda h: h.flatten(2).mT @ h.flatten(2),
        lambda h: h - h.flatten(2).mean(-1, keepdim=True)[..., None],
        lambda h: h.mean(1),
        lambda h: h.permute(0, 2, 3, 1),
        lambda h: F.linear(h.flatten(2).mT, torch.ones(1, 3)),
        lambda h: F.max_pool2d(h, 3, stride=1, padding=1),
    ],
)
def test_these_do_not_down_sample(keeps_sides):
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return keeps_sides(self.conv(x))

    with pytest.raises(ValueError, match="model must down-sample, but Other has neither"):
        find_downsampling(Other(), EXAMPLE)


def test_layers_on_features_do_not_down_sample():
    tokens = nn.Sequential(nn.Linear(4, 16), nn.GLU(), nn.Linear(8, 2))
    with pytest.raises(ValueError, match="model must down-sample, but Sequential has neither"):
        find_downsampling(tokens, torch.zeros(2, 5, 4))


def test_a_convolution_whose_weight_is_parametrized_is_seen():
    convolution = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 2, stride=2))
    model = nn.Sequential(nn.Conv2d(1, 3, 1), convolution, nn.Flatten(), nn.Linear(64, 3))
    (found,) = find_downsampling(model, EXAMPLE)
    assert found.place.name == "conv2d in 1"
    assert found.weight is model[0].weight


def test_says_once_that_hidden_states_are_not_corrected():
    model = functional()
    optimizer = corrected(model)
    batches = digits(torch.Generator().manual_seed(0), 3)
    with pytest.warns(UserWarning, match="no gradient came to the hidden states before max_pool2d in Net") as caught:
        train(model.eval(), optimizer, batches)
    assert len(caught) == 1
    assert caught[0].filename == train.__code__.co_filename  # where step was called
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(functional())

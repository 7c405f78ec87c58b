"""Which properties of a local learning rule signal propagation has, each tested on a network of three hidden layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from advanced_optimizers import SigPropNet, create_sigprop_optimizer
from benchmarks.result import Result, cpu_environment

_SIZES = (16, [12, 10, 8], 4)
_BATCH = 32


class Property(NamedTuple):
    """A property that a learning rule of a brain would need, and the test for it."""

    name: str
    test: Callable[[], bool]


def run(quick: bool) -> Result:
    """Tests every property; both profiles do the same, since it takes no time."""
    measurements = [{"property": p.name, "holds": p.test()} for p in PROPERTIES]
    return Result(
        name="locality",
        caption="Forward signal propagation: properties that a learning rule of a brain would need, tested on "
        f"a network of {'-'.join(str(size) for size in (_SIZES[0], *_SIZES[1], _SIZES[2]))} units.",
        rows=[{"Property": str(m["property"]), "Holds": "yes" if m["holds"] else "no"} for m in measurements],
        measurements=measurements,
        environment=cpu_environment(),
    )


def no_error_travels_back() -> bool:
    """A layer's loss has no gradient for the weights of any other layer."""
    net, x, y = _network()
    layers = [list(layer.parameters()) for layer in net.layers]
    for number, loss in enumerate(net.local_losses(x, y)[: len(layers)]):
        others = [p for other, params in enumerate(layers) if other != number for p in params]
        gradients = torch.autograd.grad(loss, others, retain_graph=True, allow_unused=True)
        if any(gradient is not None for gradient in gradients):
            return False
    return True


def later_weights_are_not_read() -> bool:
    """A layer learns the same whatever the weights of later layers are: none are carried backward."""
    return all(
        torch.equal(_update(net := _network()[0], number), _update(_scrambled(net, range(number + 1, 3)), number))
        for number in range(3)
    )


def learns_when_reached() -> bool:
    """A layer has learned before the next one computes anything."""
    net, x, y = _network()
    before = [_weight(layer).clone() for layer in net.layers]
    seen = []

    def look(number: int) -> Callable[..., None]:
        return lambda *_: seen.append([not torch.equal(_weight(net.layers[i]), before[i]) for i in range(number)])

    hooks = [layer.register_forward_pre_hook(look(number)) for number, layer in enumerate(net.layers)]
    create_sigprop_optimizer(net, 1e-2, 1e-2).learn(x, y)
    for hook in hooks:
        hook.remove()
    return [all(learned) for learned in seen] == [True, True, True]


def labels_enter_at_the_input() -> bool:
    """The loss of a hidden layer is a function of the two streams only: it needs no label besides them."""
    net, x, y = _network()
    permutation = torch.tensor([1, 2, 3, 0])
    streams, relabeled = _streams(net, x), _streams(net, x)
    losses = [layer.loss(h, t, t0, y) for layer, h, t, t0 in streams]
    others = [layer.loss(h, t, t0, permutation[y]) for layer, h, t, t0 in relabeled]
    return all(torch.equal(a, b) for a, b in zip(losses[1:], others[1:], strict=True))


def one_sample_at_a_time() -> bool:
    """The update of a batch is the mean of the updates of its samples: no sample needs the activity of another."""
    net, x, y = _network()
    whole = torch.autograd.grad(torch.stack(list(net.local_losses(x, y))).sum(), list(net.parameters()))
    single = [torch.zeros_like(gradient) for gradient in whole]
    for i in range(len(y)):
        losses = torch.stack(list(net.local_losses(x[i : i + 1], y[i : i + 1])))
        for total, gradient in zip(single, torch.autograd.grad(losses.sum(), list(net.parameters())), strict=True):
            total += gradient / len(y)
    return all(torch.allclose(a, b, atol=1e-9) for a, b in zip(whole, single, strict=True))


def one_neuron_at_a_time() -> bool:
    """A neuron's update needs only its own activity and its inputs', not what its neighbors in the layer do."""
    net, _, _ = _network()
    changed = copy.deepcopy(net)
    with torch.no_grad():
        _weight(changed.layers[1])[1:] += 0.3 * torch.randn_like(_weight(changed.layers[1])[1:])
    own, others = _update(net, 1)[0], _update(changed, 1)[0]
    return torch.allclose(nn.functional.normalize(own, dim=0), nn.functional.normalize(others, dim=0), atol=1e-6)


PROPERTIES = (
    Property("no error travels back through the layers", no_error_travels_back),
    Property("no weights of later layers are needed (no weight transport)", later_weights_are_not_read),
    Property("a layer learns as soon as it is reached (no update locking)", learns_when_reached),
    Property("a sample's update needs no other sample", one_sample_at_a_time),
    Property("hidden layers need no label beside the two streams", labels_enter_at_the_input),
    Property("a neuron's update needs no other neuron of its layer", one_neuron_at_a_time),
)


def _network() -> tuple[SigPropNet, Tensor, Tensor]:
    torch.manual_seed(0)
    inputs, hidden, classes = _SIZES
    net = SigPropNet(inputs, hidden, classes).double()
    return net, torch.randn(_BATCH, inputs).double(), torch.arange(_BATCH) % classes


def _weight(layer: Any) -> Tensor:
    weight: Tensor = next(p for p in layer.block.parameters() if p.ndim == 2)
    return weight


def _update(net: SigPropNet, number: int) -> Tensor:
    """Returns the gradient from which the weight of a hidden layer learns."""
    _, x, y = _network()
    (gradient,) = torch.autograd.grad(net.local_losses(x, y)[number], _weight(net.layers[number]))
    return gradient


def _scrambled(net: SigPropNet, numbers: range) -> SigPropNet:
    changed = copy.deepcopy(net)
    with torch.no_grad():
        for number in numbers:
            _weight(changed.layers[number]).normal_()
    return changed


def _streams(net: SigPropNet, x: Tensor) -> list[tuple[Any, Tensor, Tensor, Tensor]]:
    h, t = x, net.contexts
    streams = []
    layer: Any
    for layer in net.layers:
        before, h, t = t, layer(h), layer.targets(t)
        streams.append((layer, h, t, before))
    return streams

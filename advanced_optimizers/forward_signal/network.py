"""Networks for forward signal propagation: a user's own sequential, a dense one, and a VGG-style one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_integer, unknown_name
from advanced_optimizers.forward_signal.architectures import check_sizes, dense_model, vgg_model
from advanced_optimizers.forward_signal.layers import (
    ClassifierOutput,
    NeutralOutput,
    SigPropLayer,
    SigPropSignalLayer,
    TargetGenerator,
    TargetOutput,
    last_activation,
    split_into_blocks,
)
from advanced_optimizers.forward_signal.losses import LocalLoss

__all__ = ["OUTPUTS", "SigPropConvNet", "SigPropNet", "SigPropSequential"]

OUTPUTS = ("classifier", "targets", "neutral")


class SigPropSequential(nn.Module):
    r"""A sequential whose layers learn from a signal that comes forward with the input (Kohan et al., 2023).

    Two streams go through the same weights: the input :math:`x`, and the contexts :math:`c`, one-hot, one a class. For
    layers :math:`i = 1 \dots N` with activation :math:`f`:

    .. math::
        h_1 &= f(W_1 x + b_1), \qquad t_1 = f(S_1 c + d_1) \\
        h_i &= f(W_i h_{i-1} + b_i), \qquad t_i = f(W_i t_{i-1} + b_i) \\
        \text{loss}_i &= L(h_i, t_i), \text{ whose gradient goes to } W_i, b_i \text{ (and } S_1, d_1
        \text{ for } i = 1) \text{ alone}

    No gradient crosses a layer's boundary: there is no backward pass over depth, and a layer can learn as soon as it is
    reached. :class:`SigPropOptimizer` does so; or sum :meth:`local_losses` and call ``backward`` as usual.

    A layer begins at a module with weights to learn (``Linear``, ``Conv2d``, a submodule of one's own) and takes the
    norms, activations, dropout and pooling up to the next one. The modules stay the user's objects.

    Args:
        model: At least one layer; with the outputs ``classifier`` and ``neutral`` then a last ``Linear`` for the
            classes.
        input_shape: Shape of one input, such as ``(3, 32, 32)``.
        num_classes: C >= 2.
        loss: Name of a local loss, or a :class:`LocalLoss`: the layers compare their streams by it.
        output: ``classifier``: the last ``Linear`` learns the classes from the last layer's activations (the paper's
            option B), so that calling this network is calling ``model``. ``targets``: every class's target is compared
            with the activations (A.i); all modules with weights are layers. ``neutral``: as ``classifier``, from the
            activations times the target of a uniform context (A.iii).
        fixed_signal: Whether :math:`S_1, d_1` stay as they were drawn.

    Attributes:
        layers: The :class:`SigPropLayer` objects; the first one holds the generator of targets.
        output: Gives the scores.

    Raises:
        TypeError: ``model`` is no ``nn.Sequential``.
        ValueError: It has no layer to train, its last module does not fit the output, layers share weights, or a value
            is out of range.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from advanced_optimizers import SigPropSequential
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> net = SigPropSequential(model, (1, 8, 8), 10)
        >>> x, y = torch.randn(5, 1, 8, 8), torch.tensor([0, 1, 2, 3, 4])
        >>> sum(net.local_losses(x, y)).backward()
        >>> net(x).shape
        torch.Size([5, 10])

    References:
        Kohan, Rietman, Siegelmann: Signal Propagation: The Framework for Learning and Inference in a Forward Pass, IEEE
        TNNLS 2023, doi 10.1109/TNNLS.2022.3230914, arXiv 2204.01723. Formulas from the authors' slides and their
        library (``amassivek/signalpropagation`` at b4cbef2), which we read for them.

    Departures from the paper:
        Targets are computed once a class, not once a sample: the contexts are one-hot, so samples of a class would
        have equal targets. To keep them equal the targets' stream has no dropout (with dropout, as in the library's
        examples, a sample's nearest target is its own, and ``target_max`` learns to tell samples apart).

        Norms with batch statistics take those of the targets for the targets, over the C classes, and these do not
        enter the running statistics; the slides show one batch of both streams, the library two calls, as here.

        Similarities are inner products over the root of the number of values, so that one temperature suits layers of
        any size. The library leaves dense ones as they are, and averages those of images over the positions, which
        leaves the softmax nearly flat.

        The paper leaves open how ``neutral`` turns one comparison into classes; the trained layer is ours.

    Limitations:
        Modules that draw random numbers in ``eval`` mode too give targets that differ from one another at random.
        Data-parallel wrappers hide :meth:`local_losses`; neither they nor ``torch.compile`` are tested.
    """

    contexts: Tensor

    def __init__(
        self,
        model: nn.Sequential,
        input_shape: Sequence[int],
        num_classes: int,
        *,
        loss: str | LocalLoss = "label_direct",
        output: str = "classifier",
        fixed_signal: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Sequential):
            raise TypeError(
                f"model must be an nn.Sequential, whose modules SigProp trains one by one, got {type(model).__name__}"
            )
        check_integer("num_classes", num_classes, 2)
        self.input_shape = tuple(input_shape)
        check_sizes("input_shape", self.input_shape)
        if output not in OUTPUTS:
            raise unknown_name("output", output, OUTPUTS, most=1)
        self.num_classes = num_classes
        self._flattens = len(model) > 0 and isinstance(model[0], nn.Flatten)
        local_loss = loss if isinstance(loss, LocalLoss) else LocalLoss(loss)
        blocks = split_into_blocks(model)
        classifier = _pop_classifier(blocks, num_classes) if _has_classifier(output) else None
        if not blocks:
            raise ValueError(
                "model must have a layer to train before its last Linear (with output='targets': any layer), whose "
                f"weights require gradients, got {model}"
            )
        trained = [*blocks, *([] if classifier is None else [classifier])]
        _check_no_shared_weights(trained)
        shape = _first_activations_shape(trained, self.input_shape)
        like = next(p for p in blocks[0].parameters() if p.requires_grad)
        generator = TargetGenerator(num_classes, shape, last_activation(blocks[0])).to(like)
        generator.requires_grad_(not fixed_signal)
        self.layers = nn.ModuleList(
            [
                SigPropSignalLayer(blocks[0], local_loss, num_classes, generator),
                *(SigPropLayer(block, local_loss, num_classes) for block in blocks[1:]),
            ]
        )
        contexts = torch.eye(num_classes)
        self.output: ClassifierOutput | TargetOutput
        if classifier is None:
            self.output = TargetOutput(local_loss.temperature)
        elif output == "classifier":
            self.output = ClassifierOutput(classifier)
        else:
            self.output = NeutralOutput(classifier)
            contexts = torch.cat([contexts, torch.full((1, num_classes), 1.0 / num_classes)])
        self.register_buffer("contexts", contexts.to(like), persistent=False)

    @property
    def generator(self) -> TargetGenerator:
        """Makes the first layer's targets."""
        first = self.layers[0]
        assert isinstance(first, SigPropSignalLayer)
        return first.generator

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B, num_classes) of inputs (B, *input_shape); no context takes part but those of the output."""
        h = x
        for layer in self.layers:
            h = layer(h)
        t = self.targets()[-1] if self.output.uses_targets else self.contexts
        return self.output.scores(h, t)

    def targets(self) -> list[Tensor]:
        """The targets of each layer, (contexts, ...): one row a class, then that of the neutral context if used."""
        targets = [self.contexts]
        for layer in cast("Iterable[SigPropLayer]", self.layers):
            targets.append(layer.targets(targets[-1]))
        return targets[1:]

    def local_losses(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """One scalar loss a layer, then the classifier's where there is one; gradients stay in their layer.

        Args:
            x: (B, *input_shape), floating; any shape of as many values where ``model`` begins with ``Flatten``.
            y: Labels, int64 (B,), from 0 to ``num_classes - 1``.

        Raises:
            ValueError: A shape, a type or a label does not fit.
        """
        self.check_batch(x, y)
        losses, h, t = [], x, self.contexts
        for unit in self.units():
            h, t, loss = unit.propagate(h, t, y)
            losses += [loss] if loss is not None else []
        return losses

    def units(self) -> list[SigPropLayer | ClassifierOutput | TargetOutput]:
        """What learns or answers on its own, in the order of the forward pass: the layers, then the output."""
        return [*cast("Iterable[SigPropLayer]", self.layers), self.output]

    def check_batch(self, x: Tensor, y: Tensor) -> None:
        """Raises a ValueError unless inputs and labels fit the network and each other."""
        same_size = self._flattens and x[:1].numel() == math.prod(self.input_shape)
        if not x.is_floating_point() or not len(x) or not (x.shape[1:] == self.input_shape or same_size):
            wanted = ", ".join(str(size) for size in self.input_shape)
            raise ValueError(f"x must be floating and of the shape (batch, {wanted}), got {x.dtype} {tuple(x.shape)}")
        if y.shape != (len(x),) or y.dtype != torch.int64:
            raise ValueError(f"y must be int64 labels of the shape ({len(x)},), got {y.dtype} of {tuple(y.shape)}")
        low, high = (int(label) for label in torch.aminmax(y))
        if low < 0 or high >= self.num_classes:
            raise ValueError(
                f"y must hold labels from 0 to {self.num_classes - 1}, the network's num_classes - 1, "
                f"got {low if low < 0 else high}"
            )


class SigPropNet(SigPropSequential):
    """A dense SigProp network: ``Linear`` and ReLU for each hidden layer, then the output.

    Args:
        input_dim: Number of input values; images are flattened.
        hidden_dims: Units of each layer, at least one.
        output_dim: Number of classes.
        loss, output, fixed_signal: As for :class:`SigPropSequential`.

    Raises:
        ValueError: A size or a value is out of range.

    Example:
        >>> import torch
        >>> from advanced_optimizers import SigPropNet
        >>> net = SigPropNet(784, [512, 256], 10)
        >>> net(torch.randn(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dims: Sequence[int],
        output_dim: int,
        *,
        loss: str | LocalLoss = "label_direct",
        output: str = "classifier",
        fixed_signal: bool = False,
    ) -> None:
        model = dense_model(input_dim, hidden_dims, output_dim, _has_classifier(output))
        super().__init__(model, (input_dim,), output_dim, loss=loss, output=output, fixed_signal=fixed_signal)


class SigPropConvNet(SigPropSequential):
    """A VGG-style SigProp network: 3x3 convolutions with norm and ReLU, a max-pool after each stage, then the output.

    Args:
        image_shape: (channels, height, width); the sides must be at least 2 to the power of the number of stages.
        channels: Channels of each stage; later layers being wider than early ones suits local losses.
        num_classes: Number of classes.
        convolutions_per_stage: Layers a stage, >= 1.
        width: Factor on all channels, above 0.
        norm: ``batch``, ``instance`` or None.
        loss, output, fixed_signal: As for :class:`SigPropSequential`.

    Raises:
        ValueError: A size or a value is out of range.

    Example:
        >>> import torch
        >>> from advanced_optimizers import SigPropConvNet
        >>> net = SigPropConvNet((3, 32, 32), (32, 64, 128), 10)
        >>> net(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: Sequence[int],
        num_classes: int,
        *,
        convolutions_per_stage: int = 1,
        width: float = 1.0,
        norm: str | None = "batch",
        loss: str | LocalLoss = "label_direct",
        output: str = "classifier",
        fixed_signal: bool = False,
    ) -> None:
        model = vgg_model(
            image_shape, channels, num_classes, convolutions_per_stage, width, norm, _has_classifier(output)
        )
        super().__init__(model, image_shape, num_classes, loss=loss, output=output, fixed_signal=fixed_signal)


def _has_classifier(output: str) -> bool:
    """Whether a network with this output ends with a ``Linear`` that learns the classes."""
    return output != "targets"


def _pop_classifier(blocks: list[nn.Sequential], num_classes: int) -> nn.Linear:
    """Takes the classifier off the end of the blocks."""
    last = list(blocks.pop()) if blocks else []
    if len(last) != 1 or not isinstance(last[0], nn.Linear):
        raise ValueError(
            "model must end with the Linear that gives the classes (or use output='targets'), its last module with "
            f"weights and what follows are {last}"
        )
    outputs = last[0].out_features
    if outputs != num_classes:
        raise ValueError(f"num_classes must be the {outputs} outputs of model's last Linear, got {num_classes}")
    return last[0]


def _check_no_shared_weights(trained: Sequence[nn.Module]) -> None:
    seen: set[nn.Parameter] = set()
    for number, layer in enumerate(trained, 1):
        params = set(layer.parameters())
        if seen & params:
            raise ValueError(f"model must not share weights between layers, layer {number} has weights of another one")
        seen |= params


@torch.no_grad()
def _first_activations_shape(trained: Sequence[nn.Module], input_shape: tuple[int, ...]) -> torch.Size:
    """The shape of the first layer's activations; runs all modules, so that a wrong ``input_shape`` is found here."""
    modules = nn.ModuleList(trained)
    modes = [(module, module.training) for module in modules.modules()]
    modules.eval()
    like = next(modules.parameters())
    h = torch.zeros(1, *input_shape).to(like)
    shapes = []
    try:
        for module in modules:
            h = module(h)
            shapes.append(h.shape[1:])
    except RuntimeError as error:
        raise ValueError(f"input_shape {input_shape} does not fit the model: {error}") from error
    finally:
        for module, training in modes:
            module.training = training
    return shapes[0]

"""Networks for forward signal propagation: one around the user's own sequential, a dense one and a VGG-style one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_bool, check_integer, count_processes, unknown_name
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
    r"""A sequential model whose layers learn from a signal that travels forward with the input (Kohan et al., 2023).

    Two streams pass through the same weights: the input :math:`x`, and the contexts :math:`c`, which are one-hot, one
    per class. For layers :math:`i = 1 \dots N` with activation :math:`f`:

    .. math::
        h_1 &= f(W_1 x + b_1), \qquad t_1 = f(S_1 c + d_1) \\
        h_i &= f(W_i h_{i-1} + b_i), \qquad t_i = f(W_i t_{i-1} + b_i) \\
        \text{loss}_i &= L(h_i, t_i), \text{ whose gradient reaches only } W_i, b_i \text{ (and } S_1, d_1
        \text{ for } i = 1)

    No gradient crosses the boundary of a layer. So there is no backward pass through the depth of the network, and a
    layer can learn as soon as the forward pass reaches it. :class:`SigPropOptimizer` trains this way. Alternatively,
    sum :meth:`local_losses` and call ``backward`` as usual.

    A layer starts at a module with weights to train (``Linear``, ``Conv2d``, a custom submodule) and includes the
    norms, activations, dropout and pooling up to the next such module. The network uses the user's modules themselves,
    not copies.

    Args:
        model: Must have at least one layer. With the outputs ``classifier`` and ``neutral``, a last ``Linear`` for the
            classes must follow.
        input_shape: Shape of one input, such as ``(3, 32, 32)``.
        num_classes: C >= 2.
        loss: Name of a local loss, or a :class:`LocalLoss`. It compares the two streams of each layer.
        output: ``classifier``: the last ``Linear`` learns the classes from the activations of the last layer (the
            paper's option B), so that calling this network is the same as calling ``model``. ``targets``: the
            activations are compared with the target of each class (option A.i), and every module with weights starts a
            layer. ``neutral``: like ``classifier``, but the ``Linear`` sees the activations times the target of a
            uniform context (option A.iii).
        fixed_signal: Whether :math:`S_1, d_1` keep their initial values.

    Attributes:
        layers: The :class:`SigPropLayer` objects; the first one holds the target generator.
        output: Computes the scores.
        batch_sizes: In several processes, the sizes of the batches given to :meth:`local_losses` since the optimizer's
            last step, by which it weighs the gradients.

    Raises:
        TypeError: ``model`` is not an ``nn.Sequential``.
        ValueError: ``model`` has no layer to train, its last module does not fit the output, layers share weights, or a
            value is out of range.

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
        TNNLS 2023, doi 10.1109/TNNLS.2022.3230914, arXiv 2204.01723. The formulas are from the authors' slides and from
        their library (``amassivek/signalpropagation`` at b4cbef2), which we read for them.

    Departures from the paper:
        Targets are computed once per class, not once per sample: the contexts are one-hot, so all samples of a class
        would have equal targets. To keep them equal, there is no dropout in the target stream. (With dropout, as in the
        library's examples, the target nearest to a sample is its own, and ``target_max`` learns to tell samples apart.)

        Norms with batch statistics compute those of the targets separately, over the C classes, and leave them out of
        the running statistics. The slides show one batch with both streams; the library makes two calls, as we do.

        Similarities are inner products divided by the square root of the number of values, so that one temperature
        suits layers of any size. The library does not scale those of dense layers, and it averages those of images over
        the positions, which leaves the softmax nearly flat.

        The paper leaves open how ``neutral`` turns one comparison into classes; the trained layer is our choice.

    Limitations:
        Modules that draw random numbers even in ``eval`` mode produce targets that differ from one another at random.
        Data-parallel wrappers hide :meth:`local_losses`; without one, :class:`SigPropOptimizer` itself averages the
        gradients over several processes. ``torch.compile`` has not been tested.
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
                "model must be an nn.Sequential, because SigProp trains its modules one by one, "
                f"got {type(model).__name__ if isinstance(model, nn.Module) else repr(model)}"
            )
        num_classes = check_integer("num_classes", num_classes, 2)
        fixed_signal = check_bool("fixed_signal", fixed_signal)
        self.input_shape = check_sizes("input_shape", input_shape)
        if output not in OUTPUTS:
            raise unknown_name("output", output, OUTPUTS, most=1)
        self.num_classes = num_classes
        self.batch_sizes: list[int] = []
        self._flattens = len(model) > 0 and isinstance(model[0], nn.Flatten)
        local_loss = loss if isinstance(loss, LocalLoss) else LocalLoss(loss)
        blocks = split_into_blocks(model)
        classifier = _pop_classifier(blocks, num_classes) if _has_classifier(output) else None
        if not blocks:
            raise ValueError(
                "model must have a layer to train before its last Linear (with output='targets': anywhere), that is, "
                f"a module whose weights require gradients, got {model}"
            )
        trained = [*blocks, *([] if classifier is None else [classifier])]
        _check_no_shared_weights(trained)
        shape, end = _shapes_of_first_and_last(trained, self.input_shape)
        if classifier is not None and end != (num_classes,):
            raise ValueError(
                f"model must give one score per class for each sample, of shape ({num_classes},), but with input_shape "
                f"{self.input_shape} gives {tuple(end)}: put nn.Flatten() before its last Linear"
            )
        like = next(p for p in blocks[0].parameters() if p.requires_grad)
        generator = TargetGenerator(num_classes, shape, last_activation(blocks[0])).to(like)
        _check_first_targets(generator, blocks[0])
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
        """The generator of the first layer's targets."""
        first = self.layers[0]
        assert isinstance(first, SigPropSignalLayer)
        return first.generator

    def forward(self, x: Tensor) -> Tensor:
        """Returns the scores (B, num_classes) of inputs ``(B, *input_shape)``; only the output may use a context."""
        h = x
        for layer in self.layers:
            h = layer(h)
        t = self.targets()[-1] if self.output.uses_targets else self.contexts
        return self.output.scores(h, t)

    def targets(self) -> list[Tensor]:
        """Returns each layer's targets, (contexts, ...): one row per class, then that of a neutral context."""
        targets = [self.contexts]
        for layer in cast("Iterable[SigPropLayer]", self.layers):
            targets.append(layer.targets(targets[-1]))
        return targets[1:]

    def local_losses(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Returns one scalar loss per layer, then the classifier's if there is one; gradients stay in their layer.

        Args:
            x: ``(B, *input_shape)``, in the network's precision. If ``model`` begins with ``Flatten``, any shape with
                as many values.
            y: Labels, int64 (B,), from 0 to ``num_classes - 1``.

        Raises:
            TypeError: One is not a tensor.
            ValueError: A shape, a dtype or a label does not fit the network.
        """
        self.check_batch(x, y)
        if torch.is_grad_enabled() and count_processes() > 1:
            self.batch_sizes.append(len(x))
        losses, h, t = [], x, self.contexts
        for unit in self.units():
            h, t, loss = unit.propagate(h, t, y)
            losses += [loss] if loss is not None else []
        return losses

    def units(self) -> list[SigPropLayer | ClassifierOutput | TargetOutput]:
        """Returns the layers, then the output: everything that learns or answers by itself, in forward order."""
        return [*cast("Iterable[SigPropLayer]", self.layers), self.output]

    def check_batch(self, x: Tensor, y: Tensor) -> None:
        """Raises an error that names ``x`` or ``y`` unless inputs and labels fit the network and each other."""
        for name, value in (("x", x), ("y", y)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a tensor, got {value!r}")
            if value.device != self.contexts.device:
                raise ValueError(f"{name} must be on the network's device {self.contexts.device}, got {value.device}")
        same_size = self._flattens and x[:1].numel() == math.prod(self.input_shape)
        if not x.is_floating_point() or not len(x) or not (x.shape[1:] == self.input_shape or same_size):
            wanted = ", ".join(str(size) for size in self.input_shape)
            raise ValueError(
                f"x must be floating-point of shape (batch, {wanted}), got {x.dtype} of shape {tuple(x.shape)}"
            )
        own = self.contexts.dtype
        casts = torch.is_autocast_enabled(x.device.type) and torch.float64 not in (x.dtype, own)
        if x.dtype != own and not casts:
            raise ValueError(f"x must have the network's dtype {own}, got {x.dtype}: pass x.to({own})")
        if y.shape != (len(x),) or y.dtype != torch.int64:
            raise ValueError(f"y must be int64 labels of shape ({len(x)},), got {y.dtype} of shape {tuple(y.shape)}")
        low, high = (int(label) for label in torch.aminmax(y))
        if low < 0 or high >= self.num_classes:
            raise ValueError(
                f"y must contain labels from 0 to num_classes - 1 = {self.num_classes - 1}, "
                f"got {low if low < 0 else high}"
            )


class SigPropNet(SigPropSequential):
    """A dense SigProp network: ``Linear`` and ReLU for each hidden layer, then the output.

    Args:
        input_dim: Number of input values; images are flattened.
        hidden_dims: Number of units of each hidden layer; at least one layer.
        output_dim: Number of classes.
        loss, output, fixed_signal: As for :class:`SigPropSequential`.

    Raises:
        ValueError: A value is out of range.

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
        channels: Number of channels of each stage. Later layers that are wider than early ones suit local losses.
        num_classes: Number of classes.
        convolutions_per_stage: Number of layers per stage, >= 1.
        width: Factor on all channels, > 0.
        norm: ``batch``, ``instance`` or None.
        loss, output, fixed_signal: As for :class:`SigPropSequential`.

    Raises:
        ValueError: A value is out of range.

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
    """Removes the classifier from the end of the blocks and returns it."""
    last = list(blocks.pop()) if blocks else []
    if len(last) != 1 or not isinstance(last[0], nn.Linear):
        raise ValueError(
            "model must end with the Linear that computes the class scores (or use output='targets'), but its last "
            f"module with weights and the modules after it are {last}"
        )
    outputs = last[0].out_features
    if outputs != num_classes:
        raise ValueError(f"num_classes must equal the {outputs} outputs of model's last Linear, got {num_classes}")
    return last[0]


def _check_no_shared_weights(trained: Sequence[nn.Module]) -> None:
    seen: set[nn.Parameter] = set()
    for number, layer in enumerate(trained, 1):
        params = set(layer.parameters())
        if seen & params:
            raise ValueError(f"model must not share weights between layers, but layer {number} uses those of another")
        seen |= params


@torch.no_grad()
def _check_first_targets(generator: TargetGenerator, block: nn.Module) -> None:
    """Raises a ValueError if the first layer's activation does not fit its output, to which the targets are equal."""
    weight = generator.projection.weight
    try:
        generator(weight.new_zeros(2, weight.shape[1]))
    except RuntimeError as error:
        raise ValueError(
            f"model's first layer must apply its activation to the shape in which it ends, {tuple(generator.shape)}, "
            f"because its targets have that shape and pass through {generator.activation} too, got {block}: {error}"
        ) from error


@torch.no_grad()
def _shapes_of_first_and_last(
    trained: Sequence[nn.Module], input_shape: tuple[int, ...]
) -> tuple[torch.Size, torch.Size]:
    """Returns the shapes of the first and the last layer's activations, for one sample.

    Runs all modules, so that a wrong ``input_shape`` is found here.
    """
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
    except Exception as error:  # a user's module may raise anything
        raise ValueError(f"input_shape {input_shape} does not fit the model: {error}") from error
    finally:
        for module, training in modes:
            module.training = training
    return shapes[0], shapes[-1]

"""Gradients sample by sample, and clipping them over all parameters jointly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from advanced_optimizers.automl.privacy.checks import check_gradients, check_model, check_positive


def per_sample_gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> list[Tensor]:
    """The gradient of the loss of each sample.

    Args:
        model: A model without batch normalization.
        inputs: (n, ...), n >= 1.
        targets: (n, ...).
        loss: (outputs, targets) of a batch of one sample -> a scalar.

    Returns:
        One tensor per parameter that requires a gradient, ``(n, *its shape)``, in the order of ``model.parameters()``.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: A layer mixes the samples of a batch, the lengths differ or are 0, or a gradient is not finite.

    Limitations:
        It holds n gradients of the whole model at once; :func:`.train_private` never does. Random layers, such as
        dropout, are refused by ``torch.func.vmap`` in training mode.
    """
    check_model("model", model)
    check_lengths(inputs, targets)
    parameters = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    fixed = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad} | dict(
        model.named_buffers()
    )

    def loss_of(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(model, (parameters, fixed), (x[None],)), y[None])

    gradients = vmap(grad(loss_of), in_dims=(None, 0, 0))(parameters, inputs, targets)
    return check_gradients("gradients", gradients.values())


def clip_per_sample(gradients: Sequence[Tensor], max_norm: float) -> list[Tensor]:
    r"""Shortens the gradient of each sample, over all parameters jointly.

    .. math::
        \bar g_i = g_i \min\Bigl(1, \frac{C}{\lVert g_i \rVert}\Bigr), \qquad
        \lVert g_i \rVert^2 = \sum_p \lVert g_{i,p} \rVert^2

    Adding or removing a sample then changes :math:`\sum_i \bar g_i` by at most :math:`C`, whatever the sample is. That
    is what noise can be measured by. Clipping each parameter's gradient by itself bounds the change only by
    :math:`C \sqrt{\text{parameters}}`, and clipping the gradient of the whole batch by :math:`2 C`.

    Args:
        gradients: One tensor per parameter, ``(n, *its shape)``, as from :func:`.per_sample_gradients`.
        max_norm: :math:`C` > 0.

    Returns:
        The clipped gradients in the same shapes. Gradients of zero stay zero.

    Raises:
        TypeError: ``gradients`` are not tensors of floating-point numbers.
        ValueError: The tensors differ in n, n is 0, a value is not finite, or ``max_norm`` is not a finite number above
            0.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import clip_per_sample
        >>> weight, bias = clip_per_sample([torch.tensor([[3.0], [0.3]]), torch.tensor([[4.0], [0.4]])], max_norm=1.0)
        >>> weight.flatten().tolist(), bias.flatten().tolist()
        ([0.6000000238418579, 0.30000001192092896], [0.800000011920929, 0.4000000059604645])

    References:
        Abadi et al., *Deep Learning with Differential Privacy*, CCS 2016, arXiv 1607.00133, algorithm 1.
    """
    tensors = check_gradients("gradients", gradients)
    lengths = {tensor.shape[:1] for tensor in tensors}
    if len(lengths) != 1 or not all(length and length[0] for length in lengths):
        raise ValueError(
            f"gradients must have one row per sample, as many in each tensor, got {[tuple(t.shape) for t in tensors]}"
        )
    # In double precision: a norm that is rounded down would let a sample through that is longer than C.
    squares = torch.stack([t.reshape(len(t), -1).double().square().sum(dim=1) for t in tensors]).sum(dim=0)
    factors = check_positive("max_norm", max_norm) / squares.sqrt().clamp(min=max_norm)
    return [t * factors.to(t.dtype).view(-1, *[1] * (t.ndim - 1)) for t in tensors]


def check_lengths(inputs: Tensor, targets: Tensor) -> None:
    """Refuses data that are not tensors with one row per sample, at least one."""
    for name, data in (("inputs", inputs), ("targets", targets)):
        if not isinstance(data, Tensor):
            raise TypeError(f"{name} must be a tensor, got {data!r}")
    if inputs.ndim < 1 or not len(inputs):
        raise ValueError(f"inputs must hold at least one sample, got shape {tuple(inputs.shape)}")
    if targets.ndim < 1 or len(targets) != len(inputs):
        raise ValueError(f"targets must have one row per input, {len(inputs)}, got shape {tuple(targets.shape)}")

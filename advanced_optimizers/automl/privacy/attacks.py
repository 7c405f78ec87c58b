"""Two attacks: what an input was, from its gradient; and whether a sample was trained on, from its loss."""

from __future__ import annotations

import torch
from torch import Tensor

from advanced_optimizers.automl.privacy.checks import check_gradients


def invert_gradient(weight_gradient: Tensor, bias_gradient: Tensor) -> Tensor:
    r"""The input of a linear layer, from the gradients of its weights and biases for **one** sample.

    .. math::
        \frac{\partial L}{\partial W} = \frac{\partial L}{\partial b}\, x^\top
        \quad\Longrightarrow\quad
        x = \frac{(\partial L / \partial W)^\top\, \partial L / \partial b}{\lVert \partial L / \partial b \rVert^2}

    So whoever sees the gradient of a network whose first layer is linear, as the server of federated learning does,
    sees the input: exactly, without any optimization. A constant factor, such as a learning rate or a clip factor,
    cancels.

    Args:
        weight_gradient: (outputs, inputs), of the layer.
        bias_gradient: (outputs,).

    Returns:
        :math:`x`, (inputs,). For the mean gradient of several samples, the weighted mean of their inputs that has the
        least squared error, which need not look like any of them.

    Raises:
        TypeError: A gradient is not a tensor of floating-point numbers.
        ValueError: The shapes do not fit, a value is not finite, or the bias's gradient is zero.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import invert_gradient
        >>> layer, x = torch.nn.Linear(3, 4), torch.tensor([0.5, -1.0, 2.0])
        >>> layer(x).tanh().sum().backward()
        >>> torch.allclose(invert_gradient(layer.weight.grad, layer.bias.grad), x, atol=1e-5)
        True

    References:
        Phong et al., *Privacy-Preserving Deep Learning via Additively Homomorphic Encryption*, 2018, section 3, for one
        unit; recalled. The mean over all units is ours.

    Limitations:
        Only a first layer that is linear and has biases. For other layers and for batches there are attacks by
        optimization (Zhu et al., *Deep Leakage from Gradients*, 2019), which are not here: that this one fails is not a
        proof that the input is safe.
    """
    (weight,) = check_gradients("weight_gradient", weight_gradient)
    (bias,) = check_gradients("bias_gradient", bias_gradient)
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise ValueError(
            "weight_gradient and bias_gradient must be (outputs, inputs) and (outputs,), got "
            f"{tuple(weight.shape)} and {tuple(bias.shape)}"
        )
    square = bias.square().sum()
    if square == 0:
        raise ValueError("bias_gradient must not be zero, got only zeros: no unit of the layer was active")
    return weight.T @ bias / square


def membership_auc(member_losses: Tensor, other_losses: Tensor) -> float:
    """How well a threshold on the loss tells samples that were trained on from others.

    Args:
        member_losses: Losses of samples that were trained on, (n,), n >= 1.
        other_losses: Losses of samples of the same kind that were not, (m,), m >= 1.

    Returns:
        The area under the ROC curve: the probability that a member's loss is the lower one, where equal losses count as
        half. 0.5 where nothing leaks to this attack, 1 where it is always right.

    Raises:
        TypeError: An argument is not a tensor of floating-point numbers.
        ValueError: A shape does not fit, nothing is given, or a loss is NaN or infinite.

    References:
        Yeom et al., *Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting*, CSF 2018, arXiv
        1709.01604; recalled.

    Limitations:
        A weak attack: a value of 0.5 is not a guarantee, and it is an average, which hides samples that are easily
        told.
    """
    (members,) = check_gradients("member_losses", member_losses)
    (others,) = check_gradients("other_losses", other_losses)
    for name, losses in (("member_losses", members), ("other_losses", others)):
        if losses.ndim != 1 or not len(losses):
            raise ValueError(f"{name} must be of shape (n,) with n >= 1, got {tuple(losses.shape)}")
    ordered = others.detach().sort().values
    above = len(ordered) - torch.searchsorted(ordered, members.detach(), right=True)
    not_below = len(ordered) - torch.searchsorted(ordered, members.detach(), right=False)
    return float((above + not_below).double().mean() / (2 * len(ordered)))

"""The layers that muP multiplies in the forward pass (readouts and residual branches), and its attention scale."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_bool, check_integer, check_range
from advanced_optimizers.zero_shot_transfer.module_state import mark_rescaled

__all__ = [
    "MuReadout",
    "MuReadoutConv1d",
    "MuReadoutConv2d",
    "MuResidual",
    "MuSharedReadout",
    "mu_attention_scale",
]


class Multiplied(nn.Module):
    """A module whose forward pass needs a multiplier, which ``set_base_shapes`` sets.

    The multiplier is a number in the module, not on a parameter, so copies, ``functional_call`` and wrappers keep it.
    It is also in ``state_dict``, so a new model computes the same function once it has loaded the weights.
    """

    multiplier: float | None = None

    def required_multiplier(self) -> float:
        """Returns the multiplier.

        Raises:
            RuntimeError: It was never set.
        """
        if self.multiplier is None:
            raise RuntimeError(
                f"{type(self).__name__} does not know its multiplier: call set_base_shapes(model, base) before you use "
                "the model, or load weights that were saved after such a call"
            )
        return self.multiplier

    def get_extra_state(self) -> Tensor:
        """Returns the multiplier, or nothing if it was never set."""
        return torch.tensor([] if self.multiplier is None else [self.multiplier], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Takes the multiplier from a checkpoint.

        Raises:
            ValueError: This model has a different one.
        """
        if state.numel() == 0:
            return
        saved = float(state)
        if self.multiplier is not None and not math.isclose(saved, self.multiplier, rel_tol=1e-9):
            raise ValueError(
                f"{type(self).__name__} has the multiplier {self.multiplier} and the checkpoint has {saved}: set the "
                "base shapes that the checkpoint was trained with"
            )
        self.multiplier = saved
        mark_rescaled(self)  # the weights come from a model that was rescaled when it was created

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str], *rest: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *rest)
        extra = f"{prefix}_extra_state"
        if extra in missing_keys:  # weights from elsewhere, such as the mup package, load as they are
            missing_keys.remove(extra)


class Readout(Multiplied):
    """An output layer: a linear map of ``output_mult * multiplier * x``, from a width to a finite dimension."""

    def __init__(self, *args: Any, readout_zero_init: bool = False, output_mult: float = 1.0, **kwargs: Any) -> None:
        self.output_mult = check_range("output_mult", output_mult, 0.0, open_low=True, open_high=True)
        self.readout_zero_init = check_bool("readout_zero_init", readout_zero_init)
        names = ("in_features", "out_features") if isinstance(self, nn.Linear) else ("in_channels", "out_channels")
        for name, size in (*zip(names, args, strict=False), *((n, kwargs[n]) for n in names if n in kwargs)):
            check_integer(name, size, 1)
        if "bias" in kwargs:
            check_bool("bias", kwargs["bias"])
        super().__init__(*args, **kwargs)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Sets everything to zero with ``readout_zero_init``; otherwise torch draws it as usual."""
        if not self.readout_zero_init:
            super().reset_parameters()  # type: ignore[misc]
            return
        for p in self.parameters(recurse=False):
            p.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layer's own map to ``output_mult * multiplier * x``; the bias is not multiplied."""
        out: Tensor = super().forward(x * (self.output_mult * self.required_multiplier()))
        return out

    def extra_repr(self) -> str:
        """The layer's own text, and the multipliers."""
        return f"{super().extra_repr()}, output_mult={self.output_mult}, multiplier={self.multiplier}"


class MuReadout(Readout, nn.Linear):
    r"""An ``nn.Linear`` from a width to a finite dimension: :math:`W (\alpha\,x / m) + b`.

    :math:`m` is the width multiplier (in table 8; 1 in table 3, :math:`\sqrt m` in table 9) and :math:`\alpha` is
    ``output_mult``. Every output layer of a muP model must be a readout; ``set_base_shapes`` refuses a plain
    ``nn.Linear`` there.

    Args:
        *args: As for ``nn.Linear``: ``in_features, out_features, bias, device, dtype``.
        readout_zero_init: Whether weights and bias start at zero, as the ``mup`` package advises: the untrained output
            is then the same at every width.
        output_mult: :math:`\alpha` > 0, a hyperparameter that transfers across widths.
        **kwargs: As for ``nn.Linear``.

    Raises:
        RuntimeError: ``forward`` was called before base shapes were set.
    """


class MuReadoutConv1d(Readout, nn.Conv1d):
    """An ``nn.Conv1d`` from a width to a finite number of channels; otherwise like :class:`MuReadout`.

    It takes the arguments of ``nn.Conv1d``. The ``mup`` package has no convolutional readout; a convolution is one
    linear map per kernel position.
    """


class MuReadoutConv2d(Readout, nn.Conv2d):
    """Like :class:`MuReadoutConv1d`, with the arguments of ``nn.Conv2d``."""


class MuSharedReadout(MuReadout):
    """A :class:`MuReadout` that shares the weight of an embedding.

    Args:
        weight: The embedding's weight, (vocabulary, width). Its init stays the embedding's.
        bias: Whether to add a bias of size (vocabulary,).
        output_mult: As for :class:`MuReadout`.

    Departures from the ``mup`` package:
        Its ``set_base_shapes`` multiplies the shared weight by the square root of the width multiplier, as if it had
        the init of a linear layer, so the embedding's output grows with width until the user initializes it again; and
        its bias has the size of the width. Here the weight is left as the embedding drew it, and the bias has the right
        size.
    """

    def __init__(self, weight: nn.Parameter, bias: bool = True, output_mult: float = 1.0) -> None:
        if not isinstance(weight, nn.Parameter) or weight.dim() != 2:
            raise TypeError(f"weight must be an embedding's weight, a two-dimensional Parameter, got {weight!r}")
        check_bool("bias", bias)
        vocabulary, width = weight.shape
        super().__init__(
            width, vocabulary, bias=bias, output_mult=output_mult, device=weight.device, dtype=weight.dtype
        )
        self.weight = weight


class MuResidual(Multiplied):
    r"""A residual layer, :math:`\text{shortcut}(x) + \sqrt{L_0 / L}\;\text{branch}(x)`, as depth-muP scales it.

    :math:`L` and :math:`L_0` are the numbers of residual layers here and in the base model: pass them to
    ``set_base_shapes(..., depth=, base_depth=)``. The optimizers divide Adam's learning rate of everything inside
    ``branch`` by :math:`\sqrt{L / L_0}`. SGD's stays the same, because the gradients already contain the multiplier.

    Args:
        branch: The layers whose output is added.
        shortcut: What it is added to; the identity by default.

    References:
        Yang, Yu, Zhu, Hayou, *Tensor Programs VI*, arXiv 2310.02244. Recalled from the paper, not re-read: the
        multiplier :math:`a / \sqrt L` and Adam's :math:`1 / \sqrt L`. Both also follow from one argument: the sum of
        :math:`L` branches with independent initial weights has the same size at every depth only if each is scaled by
        :math:`1 / \sqrt L`; that of their updates, which agree in direction, only if each changes the sum by
        :math:`1 / L`.

    Limitations:
        The paper proves transfer for branches of one layer. For deeper ones (attention, two convolutions) it reports
        that the optimum still moves (recalled). Branches whose outputs have a nonzero mean, such as those that end in a
        ReLU, add up faster than :math:`\sqrt L`; end them in a linear layer.
    """

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        for name, part in (("branch", branch), ("shortcut", shortcut)):
            if not isinstance(part, nn.Module) and not (name == "shortcut" and part is None):
                raise TypeError(f"{name} must be an nn.Module, got {part!r}")
        self.branch = branch
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Returns the sum; further arguments go to the branch."""
        out: Tensor = self.shortcut(x) + self.required_multiplier() * self.branch(x, *args, **kwargs)
        return out


def mu_attention_scale(head_dim: int, base_head_dim: int) -> float:
    r"""Returns the factor for :math:`q \cdot k`, :math:`\sqrt{d_0} / d`: the usual :math:`1/\sqrt d` at the base.

    Queries and keys become correlated in training, so :math:`q \cdot k` grows as :math:`d`, not as :math:`\sqrt d`.

    Args:
        head_dim: :math:`d`, the size of one head.
        base_head_dim: :math:`d_0`, its size in the base model.

    Raises:
        TypeError: A size is not a number.
        ValueError: A size is not positive.

    Example:
        >>> import torch
        >>> from advanced_optimizers import mu_attention_scale
        >>> q = k = v = torch.ones(1, 2, 3, 64)
        >>> scale = mu_attention_scale(head_dim=64, base_head_dim=16)
        >>> out = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)
    """
    d = check_range("head_dim", head_dim, 1, open_high=True)
    d_0 = check_range("base_head_dim", base_head_dim, 1, open_high=True)
    return math.sqrt(d_0) / d

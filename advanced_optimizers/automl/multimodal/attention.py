"""Attention between two sequences: each asks, and the other answers."""

from __future__ import annotations

from torch import Tensor, nn

from advanced_optimizers._checks import check_bool, check_integer
from advanced_optimizers.automl.multimodal.checks import check_padding, check_tokens


class _Block(nn.Module):
    """One direction: the target's positions attend to the source's, then a feed-forward network at each of them."""

    def __init__(self, dim: int, num_heads: int, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=batch_first)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.ff = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))

    def attend(self, target: Tensor, source: Tensor, padding: Tensor | None) -> Tensor:
        attended, _ = self.attention(target, source, source, key_padding_mask=padding, need_weights=False)
        hidden = self.norm1(target + attended)
        return self.norm2(hidden + self.ff(hidden))


class CrossModalAttention(_Block):
    r"""Mutual attention: each modality's positions attend to those of the other.

    .. math::
        \operatorname{CrossAttn}(X, Y) &= \operatorname{softmax}\Bigl(\frac{(X W_q)(Y W_k)^\top}{\sqrt{d / h}}\Bigr)
        (Y W_v) W_o, \\
        H &= \operatorname{LN}_1(X + \operatorname{CrossAttn}(X, Y)), \qquad
        \text{output} = \operatorname{LN}_2(H + \operatorname{FF}(H))

    with :math:`h` heads, once with modality 1 as :math:`X` and once with modality 2. The feed-forward network is
    ``dim`` -> 4 ``dim`` -> ``dim`` with ReLU. Each output is as long as its own modality.

    Args:
        dim: Features per position of both modalities, :math:`d`; a multiple of ``num_heads``.
        num_heads: :math:`h` >= 1.
        batch_first: Whether inputs are (batch, length, dim). The default is torch's, (length, batch, dim). Beware: if
            both modalities are equally long, nothing can tell the two apart, and with the wrong one the samples of a
            batch attend to each other.
        shared: Whether both directions use the same weights.

    Raises:
        TypeError: An argument has another type.
        ValueError: A number is too small, or ``dim`` is not a multiple of ``num_heads``.

    Example:
        >>> import torch
        >>> from advanced_optimizers.automl import CrossModalAttention
        >>> attention = CrossModalAttention(16, num_heads=4, batch_first=True)
        >>> patches, words = attention(torch.randn(2, 9, 16), torch.randn(2, 5, 16))
        >>> patches.shape, words.shape
        (torch.Size([2, 9, 16]), torch.Size([2, 5, 16]))

    References:
        Vaswani et al., *Attention Is All You Need*, NeurIPS 2017, arXiv 1706.03762, equation 1 and section 3; Tsai et
        al., *Multimodal Transformer for Unaligned Multimodal Language Sequences*, ACL 2019, arXiv 1906.00295.

    Departures from the paper:
        The Multimodal Transformer normalizes before each sublayer, has blocks of its own for each direction and goes on
        with attention within each modality. Here, as in the block that this class is named after, layers are
        normalized afterwards and both directions share their weights; ``shared=False`` separates them.

    Limitations:
        No dropout and no positions: permuting the source changes nothing, so add positional encodings before. One call
        is one layer. Checking for NaN waits for the device once per input.
    """

    def __init__(self, dim: int, num_heads: int = 8, *, batch_first: bool = False, shared: bool = True) -> None:
        dim, num_heads = check_integer("dim", dim, 1), check_integer("num_heads", num_heads, 1)
        if dim % num_heads:
            raise ValueError(f"dim must be a multiple of num_heads = {num_heads}, got {dim}")
        batch_first = check_bool("batch_first", batch_first)
        super().__init__(dim, num_heads, batch_first)
        self.dim = dim
        self.batch_first = batch_first
        self.reverse = None if check_bool("shared", shared) else _Block(dim, num_heads, batch_first)

    def forward(
        self,
        modality1: Tensor,
        modality2: Tensor,
        *,
        padding1: Tensor | None = None,
        padding2: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Lets each modality attend to the other.

        Args:
            modality1: (length 1, batch, dim), or (batch, length 1, dim) with ``batch_first``.
            modality2: The same with a length of its own.
            padding1: Bool (batch, length 1), whatever ``batch_first`` is: True at positions of modality 1 that are not
                there and that modality 2 must not attend to. The outputs at such positions mean nothing.
            padding2: The same for modality 2.

        Returns:
            Modality 1 that has attended to modality 2, and modality 2 that has attended to modality 1, in the shapes of
            the inputs.

        Raises:
            TypeError: An input is not a tensor of floating-point numbers.
            ValueError: A shape does not fit, a value is not finite, or a sample is nothing but padding.
        """
        batch_axis, length_axis = (0, 1) if self.batch_first else (1, 0)
        layout = "batch, length" if self.batch_first else "length, batch"
        check_tokens("modality1", modality1, layout, self.dim)
        check_tokens("modality2", modality2, layout, self.dim)
        batch = modality1.shape[batch_axis]
        if modality2.shape[batch_axis] != batch:
            raise ValueError(
                f"modality2 must have the batch of modality1, {batch}, got {modality2.shape[batch_axis]}: inputs are "
                f"({layout}, dim), see batch_first"
            )
        padding1 = check_padding("padding1", padding1, batch, modality1.shape[length_axis])
        padding2 = check_padding("padding2", padding2, batch, modality2.shape[length_axis])
        return self.attend(modality1, modality2, padding2), (self.reverse or self).attend(
            modality2, modality1, padding1
        )

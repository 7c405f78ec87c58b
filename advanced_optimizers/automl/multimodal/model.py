"""A model of images and texts: one score for a pair, by one of several ways to bring the two together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advanced_optimizers._checks import check_choice, check_integer
from advanced_optimizers.automl.multimodal import fusion as ways
from advanced_optimizers.automl.multimodal.checks import check_features, check_finite
from advanced_optimizers.automl.multimodal.contrastive import contrastive_loss

FUSIONS = ("intermediate", "early", "late", "product", "attention", "cosine")


class VisionLanguageModel(nn.Module):
    r"""Scores how well texts go with images.

    With the encodings :math:`i = f(\text{image})` and :math:`t = g(\text{text})`, the logit is, by ``fusion``,

    - ``intermediate``: :math:`m([i; t])`, a network on the concatenated encodings;
    - ``early``: :math:`m([\text{image}; \text{text}])`, a network on the concatenated inputs, without encoders;
    - ``late``: :math:`a(i) + b(t)`, a logit of each alone. Whether a text belongs to an image is what it cannot learn:
      where wrong pairs have the right ones' images and texts, the best such model under the cross-entropy is constant;
    - ``product``: :math:`\langle U i, V t \rangle / \sqrt k + c`;
    - ``attention``: :math:`m([i'; t'])`, after :class:`.CrossModalAttention` between their tokens;
    - ``cosine``: :math:`e^s \cos(U i, V t)` with a learned scale, for :meth:`contrastive_loss`.

    Encodings that are sequences of tokens are replaced by their mean, except where attention takes them.

    Args:
        image_dim: Features of an image (2048 are ResNet-50's), >= 1; None with a ``vision_encoder``.
        text_dim: Features of a text (768 are BERT's), >= 1; None with a ``text_encoder``.
        hidden_dim: Features of the encodings, >= 1.
        fusion: One of the above.
        vision_encoder: f, instead of the built-in Linear-ReLU-Linear: it takes what is passed as ``images`` and returns
            (batch, ``hidden_dim``) or (batch, length, ``hidden_dim``).
        text_encoder: g, likewise.
        fusion_dim: Width of the hidden layer of :math:`m`, :math:`a` and :math:`b`, or number :math:`k` of projected
            features, >= 1. By default ``hidden_dim``.
        num_heads: Heads of ``attention``; ``hidden_dim`` must be a multiple.

    Raises:
        TypeError: An argument has another type.
        ValueError: A number is too small, ``fusion`` is unknown, or ``early`` is given an encoder.

    Example:
        >>> import torch
        >>> from torch.nn.functional import binary_cross_entropy_with_logits
        >>> from advanced_optimizers.automl import VisionLanguageModel
        >>> model = VisionLanguageModel(image_dim=10, text_dim=6, hidden_dim=16, fusion="product")
        >>> logits = model(torch.randn(4, 10), torch.randn(4, 6))
        >>> belongs = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
        >>> binary_cross_entropy_with_logits(logits, belongs).backward()
        >>> model.similarities(torch.randn(4, 10), torch.randn(7, 6)).shape
        torch.Size([4, 7])

    References:
        Radford et al., *Learning Transferable Visual Models From Natural Language Supervision* (CLIP), ICML 2021, arXiv
        2103.00020, for ``cosine``: the normalization and the scale, which begins at 1 / 0.07. The definitions of the
        other ways are ours.

    Departures from the paper:
        CLIP's encoders are large networks; pass your own. Its scale is limited to 100 in training; here, always.

    Limitations:
        Sequences of one batch are equally long: there is no padding. Only ``late`` can do without one of the
        modalities. Checking for NaN waits for the device once per input.
    """

    def __init__(
        self,
        image_dim: int | None = 2048,
        text_dim: int | None = 768,
        hidden_dim: int = 512,
        *,
        fusion: str = "intermediate",
        vision_encoder: nn.Module | None = None,
        text_encoder: nn.Module | None = None,
        fusion_dim: int | None = None,
        num_heads: int = 8,
    ) -> None:
        super().__init__()
        self.fusion_name = check_choice("fusion", fusion, FUSIONS)
        self.hidden_dim = check_integer("hidden_dim", hidden_dim, 1)
        width = self.hidden_dim if fusion_dim is None else check_integer("fusion_dim", fusion_dim, 1)
        self.image_dim = _input_dim("image_dim", image_dim, "vision_encoder", vision_encoder)
        self.text_dim = _input_dim("text_dim", text_dim, "text_encoder", text_encoder)
        if fusion == "early":
            if vision_encoder is not None or text_encoder is not None:
                raise ValueError("fusion must not be 'early' with an encoder, got 'early': it concatenates the inputs")
            self.vision_encoder: nn.Module = nn.Identity()
            self.text_encoder: nn.Module = nn.Identity()
        else:
            self.vision_encoder = vision_encoder or _encoder(self.image_dim, self.hidden_dim)
            self.text_encoder = text_encoder or _encoder(self.text_dim, self.hidden_dim)
        self.fusion = self._fusion(width, num_heads)

    def forward(self, images: Tensor | None, texts: Tensor | None) -> Tensor:
        """The scores of pairs.

        Args:
            images: (batch, ``image_dim``), or sequences (batch, length, ``image_dim``); with a ``vision_encoder``,
                whatever it takes. None if there are none, which only ``late`` fusion allows.
            texts: The same with ``text_dim``.

        Returns:
            Logits, (batch, 1).

        Raises:
            TypeError: An input is not a tensor, or not one of floating-point numbers where the encoder is built in.
            ValueError: A shape does not fit, a batch is empty, a value is not finite, or a modality is missing.
        """
        missing = [name for name, value in (("images", images), ("texts", texts)) if value is None]
        if missing and (self.fusion_name != "late" or len(missing) == 2):
            raise ValueError(
                f"{missing[0]} must not be None with fusion={self.fusion_name!r}: only late fusion can do without one "
                "of the two, and none without both"
            )
        image = None if images is None else self._encoded("images", images)
        text = None if texts is None else self._encoded("texts", texts)
        if image is not None and text is not None and len(image) != len(text):
            raise ValueError(f"texts must have one row per image, {len(image)}, got {len(text)}")
        return self.fusion(image, text)

    def similarities(self, images: Tensor, texts: Tensor) -> Tensor:
        """The score of every image with every text.

        Args:
            images: n images, as for :meth:`forward`.
            texts: m texts.

        Returns:
            (n, m). With ``cosine`` and ``product`` it costs one product of matrices, otherwise n m calls of the fusion.

        Raises:
            TypeError: See :meth:`forward`.
            ValueError: See :meth:`forward`.
        """
        return self.fusion.all_pairs(self._encoded("images", images), self._encoded("texts", texts))

    def contrastive_loss(self, images: Tensor, texts: Tensor, same: Tensor | None = None) -> Tensor:
        """See :func:`.contrastive_loss`: text i belongs to image i.

        Args:
            images: n images, as for :meth:`forward`.
            texts: n texts.
            same: Bool (n, n), True where text j would be right for image i, too.
        """
        return contrastive_loss(self.similarities(images, texts), same=same)

    def _encoded(self, name: str, inputs: Tensor) -> Tensor:
        """Tokens, (batch, length, features)."""
        dim_name, dim, encoder = {
            "images": ("image_dim", self.image_dim, self.vision_encoder),
            "texts": ("text_dim", self.text_dim, self.text_encoder),
        }[name]
        if dim is None:
            _check_batch(name, inputs)
        else:
            check_features(name, inputs, dim_name, dim)
        tokens = encoder(inputs)
        if dim is None and (tokens.ndim not in (2, 3) or tokens.shape[-1] != self.hidden_dim):
            raise ValueError(
                f"{name} must be encoded to (batch, hidden_dim) or (batch, length, hidden_dim) with hidden_dim = "
                f"{self.hidden_dim}, got {tuple(tokens.shape)}"
            )
        return tokens if tokens.ndim == 3 else tokens[:, None]

    def _fusion(self, width: int, num_heads: int) -> ways.Fusion:
        hidden = self.hidden_dim
        match self.fusion_name:
            case "early":
                assert self.image_dim is not None  # without encoders, both are given
                assert self.text_dim is not None
                return ways.Early(self.image_dim, self.text_dim, hidden, width)
            case "intermediate":
                return ways.Intermediate(hidden, width)
            case "late":
                return ways.Late(hidden, width)
            case "product":
                return ways.Product(hidden, width)
            case "attention":
                return ways.Attention(hidden, width, num_heads)
            case _:
                return ways.Cosine(hidden, width)


def _encoder(inputs: int | None, hidden: int) -> nn.Sequential:
    assert inputs is not None  # asked for only where there is no encoder
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden))


def _input_dim(name: str, dim: int | None, encoder_name: str, encoder: nn.Module | None) -> int | None:
    """The features of an input; None, and unchecked, if an encoder of the caller's takes it."""
    if encoder is None:
        if dim is None:
            raise ValueError(f"{name} must be an integer >= 1 without a {encoder_name}, got None")
        return check_integer(name, dim, 1)
    if not isinstance(encoder, nn.Module):
        raise TypeError(f"{encoder_name} must be a torch.nn.Module, or None, got {encoder!r}")
    return None


def _check_batch(name: str, inputs: Tensor) -> None:
    """What can be checked of the inputs of a caller's encoder; they may be the numbers of words."""
    if not isinstance(inputs, Tensor):
        raise TypeError(f"{name} must be a tensor, got {inputs!r}")
    if inputs.ndim < 1 or not len(inputs):
        raise ValueError(f"{name} must hold at least one sample, got shape {tuple(inputs.shape)}")
    if torch.is_floating_point(inputs):
        check_finite(name, inputs)

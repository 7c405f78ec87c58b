"""Ways to make one score of an encoded image and an encoded text.

Each takes tokens, (batch, length, features), of image and text, and returns logits (batch, 1). Where one vector per
sample is needed, it is the mean over the tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from advanced_optimizers.automl.multimodal.attention import CrossModalAttention

# CLIP begins with this scale of its cosines, and never exceeds the other.
INITIAL_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0


def pooled(tokens: Tensor) -> Tensor:
    """One vector per sample, (batch, features)."""
    return tokens.mean(dim=1)


def scorer(inputs: int, hidden: int) -> nn.Sequential:
    """A network with one hidden layer and one output."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 1))


class Fusion(nn.Module):
    """What all ways share: the scores of every image with every text."""

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """(batch, 1) logits of pairs."""
        raise NotImplementedError

    def all_pairs(self, image: Tensor, text: Tensor) -> Tensor:
        """(images, texts) logits; each pair is scored by itself."""
        n, m = len(image), len(text)
        return self(image.repeat_interleave(m, dim=0), text.repeat(n, 1, 1)).view(n, m)


class Early(Fusion):
    """Concatenates the inputs; everything that is learned sees both."""

    def __init__(self, image_dim: int, text_dim: int, hidden_dim: int, fusion_dim: int) -> None:
        super().__init__()
        self.joint = nn.Sequential(
            nn.Linear(image_dim + text_dim, fusion_dim), nn.ReLU(), *scorer(fusion_dim, hidden_dim)
        )

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """See :class:`Fusion`."""
        return self.joint(torch.cat([pooled(image), pooled(text)], dim=1))


class Intermediate(Fusion):
    """Concatenates the encodings, and scores them by a network."""

    def __init__(self, hidden_dim: int, fusion_dim: int) -> None:
        super().__init__()
        self.joint = scorer(2 * hidden_dim, fusion_dim)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """See :class:`Fusion`."""
        return self.joint(torch.cat([pooled(image), pooled(text)], dim=1))


class Late(Fusion):
    """Adds a logit of the image alone and one of the text alone; one of them may be missing."""

    def __init__(self, hidden_dim: int, fusion_dim: int) -> None:
        super().__init__()
        self.of_image = scorer(hidden_dim, fusion_dim)
        self.of_text = scorer(hidden_dim, fusion_dim)

    def forward(self, image: Tensor | None, text: Tensor | None) -> Tensor:
        """See :class:`Fusion`; at most one is None."""
        logits = [
            of(pooled(tokens)) for of, tokens in ((self.of_image, image), (self.of_text, text)) if tokens is not None
        ]
        return torch.stack(logits).sum(dim=0)


class Product(Fusion):
    """The inner product of two projections, divided by the root of their length, and a bias."""

    def __init__(self, hidden_dim: int, fusion_dim: int) -> None:
        super().__init__()
        self.of_image = nn.Linear(hidden_dim, fusion_dim)
        self.of_text = nn.Linear(hidden_dim, fusion_dim)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """See :class:`Fusion`."""
        u, v = self._projected(image, text)
        return (u * v).sum(dim=1, keepdim=True) + self.bias

    def all_pairs(self, image: Tensor, text: Tensor) -> Tensor:
        """See :class:`Fusion`; here it is one product of matrices."""
        u, v = self._projected(image, text)
        return u @ v.T + self.bias

    def _projected(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        u, v = self.of_image(pooled(image)), self.of_text(pooled(text))
        return u / math.sqrt(u.shape[1]), v


class Cosine(Fusion):
    """The cosine of two projections, times a learned scale: what a contrastive loss aligns."""

    def __init__(self, hidden_dim: int, fusion_dim: int) -> None:
        super().__init__()
        self.of_image = nn.Linear(hidden_dim, fusion_dim, bias=False)
        self.of_text = nn.Linear(hidden_dim, fusion_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE)))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """See :class:`Fusion`."""
        i, t = self._embedded(image, text)
        return self._scale() * (i * t).sum(dim=1, keepdim=True)

    def all_pairs(self, image: Tensor, text: Tensor) -> Tensor:
        """See :class:`Fusion`; here it is one product of matrices."""
        i, t = self._embedded(image, text)
        return self._scale() * i @ t.T

    def _embedded(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        return normalize(self.of_image(pooled(image)), dim=1), normalize(self.of_text(pooled(text)), dim=1)

    def _scale(self) -> Tensor:
        return self.logit_scale.clamp(max=math.log(LARGEST_SCALE)).exp()


class Attention(Fusion):
    """Image and text attend to each other; what comes out is pooled, concatenated and scored by a network."""

    def __init__(self, hidden_dim: int, fusion_dim: int, num_heads: int) -> None:
        super().__init__()
        self.attention = CrossModalAttention(hidden_dim, num_heads, batch_first=True)
        self.joint = scorer(2 * hidden_dim, fusion_dim)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """See :class:`Fusion`."""
        image, text = self.attention(image, text)
        return self.joint(torch.cat([pooled(image), pooled(text)], dim=1))

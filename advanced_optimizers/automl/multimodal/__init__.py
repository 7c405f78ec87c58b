"""Two modalities: fusion of images and texts, attention between them, and a loss that aligns them.

- :class:`VisionLanguageModel`: does this text belong to this image? With early, intermediate, late or cross-attention
  fusion, by a product, or by the cosine of embeddings that a contrastive loss aligns.
- :class:`CrossModalAttention`: each of two sequences attends to the other.
- :func:`contrastive_loss`: among all texts of a batch, which belongs to which image, and the other way around.
- :func:`recall_at`: how often what belongs is among the k most similar.
"""

from advanced_optimizers.automl.multimodal.attention import CrossModalAttention
from advanced_optimizers.automl.multimodal.contrastive import contrastive_loss, recall_at
from advanced_optimizers.automl.multimodal.model import VisionLanguageModel

__all__ = ["CrossModalAttention", "VisionLanguageModel", "contrastive_loss", "recall_at"]

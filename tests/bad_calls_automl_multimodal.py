"""Bad calls of the models of two modalities."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from advanced_optimizers.automl import CrossModalAttention, VisionLanguageModel, contrastive_loss, recall_at
from tests.bad_calls import BadCall


def attend(modality1: Any = None, modality2: Any = None, **padding: Any) -> object:
    block = CrossModalAttention(8, num_heads=2, batch_first=True)
    return block(
        torch.zeros(3, 4, 8) if modality1 is None else modality1,
        torch.zeros(3, 5, 8) if modality2 is None else modality2,
        **padding,
    )


def score(images: Any = None, texts: Any = None, fusion: str = "intermediate", **options: Any) -> object:
    model = VisionLanguageModel(**{"image_dim": 6, "text_dim": 5, "hidden_dim": 8, "fusion": fusion, **options})
    return model(torch.zeros(3, 6) if images is None else images, torch.zeros(3, 5) if texts is None else texts)


def model(**changed: Any) -> object:
    return VisionLanguageModel(**{"image_dim": 6, "text_dim": 5, "hidden_dim": 8, **changed})


def model_without_texts(fusion: str) -> object:
    return VisionLanguageModel(6, 5, 8, fusion=fusion)(torch.zeros(3, 6), None)


def with_nan(*shape: int) -> Tensor:
    return torch.zeros(shape).index_fill(0, torch.tensor(0), math.nan)


SQUARE, ALL = torch.zeros(3, 3), torch.ones(3, 3, dtype=torch.bool)
_ALL_PADDING = torch.zeros(3, 5, dtype=torch.bool).index_fill(0, torch.tensor(1), True)

BAD_CALLS = [
    BadCall("CrossModalAttention", "dim", "12", lambda: CrossModalAttention(12)),
    BadCall("CrossModalAttention", "dim", "0", lambda: CrossModalAttention(0)),
    BadCall("CrossModalAttention", "dim", "'8'", lambda: CrossModalAttention("8")),
    BadCall("CrossModalAttention", "num_heads", "-1", lambda: CrossModalAttention(8, num_heads=-1)),
    BadCall("CrossModalAttention", "batch_first", "1", lambda: CrossModalAttention(8, batch_first=1)),
    BadCall("CrossModalAttention", "shared", "'no'", lambda: CrossModalAttention(8, shared="no")),
    BadCall("attend", "modality1", "(4, 8)", lambda: attend(torch.zeros(4, 8))),
    BadCall("attend", "modality1", "(3, 0, 8)", lambda: attend(torch.zeros(3, 0, 8))),
    BadCall("attend", "modality1", "[1.0]", lambda: attend([1.0])),
    BadCall("attend", "modality1", "torch.int64", lambda: attend(torch.zeros(3, 4, 8, dtype=torch.int64))),
    BadCall("attend", "modality1", "NaN", lambda: attend(with_nan(3, 4, 8))),
    BadCall("attend", "modality2", "(3, 5, 9)", lambda: attend(None, torch.zeros(3, 5, 9))),
    BadCall("attend", "modality2", "got 2", lambda: attend(None, torch.zeros(2, 5, 8))),
    BadCall("attend", "padding2", "(3, 4)", lambda: attend(padding2=torch.zeros(3, 4, dtype=torch.bool))),
    BadCall("attend", "padding1", "float32", lambda: attend(padding1=torch.zeros(3, 4))),
    BadCall("attend", "padding2", "sample 1", lambda: attend(padding2=_ALL_PADDING)),
    BadCall("VisionLanguageModel", "image_dim", "0", lambda: model(image_dim=0)),
    BadCall("VisionLanguageModel", "image_dim", "None", lambda: model(image_dim=None)),
    BadCall("VisionLanguageModel", "text_dim", "1.5", lambda: model(text_dim=1.5)),
    BadCall("VisionLanguageModel", "hidden_dim", "-8", lambda: model(hidden_dim=-8)),
    BadCall("VisionLanguageModel", "fusion_dim", "0", lambda: model(fusion_dim=0)),
    BadCall("VisionLanguageModel", "fusion", "'middle'", lambda: model(fusion="middle")),
    BadCall("VisionLanguageModel", "fusion", "'early'", lambda: model(fusion="early", vision_encoder=nn.Identity())),
    BadCall("VisionLanguageModel", "vision_encoder", "'resnet'", lambda: model(vision_encoder="resnet")),
    BadCall("VisionLanguageModel", "dim", "10", lambda: model(hidden_dim=10, fusion="attention")),
    BadCall("score", "images", "(3, 7)", lambda: score(torch.zeros(3, 7))),
    BadCall("score", "images", "(0, 6)", lambda: score(torch.zeros(0, 6))),
    BadCall("score", "images", "NaN", lambda: score(with_nan(3, 6))),
    BadCall("score", "images", "'cat.png'", lambda: score("cat.png")),
    BadCall("score", "images", "(3, 6)", lambda: score(vision_encoder=nn.Identity())),
    BadCall("score", "images", "(0, 8)", lambda: score(torch.zeros(0, 8), vision_encoder=nn.Identity())),
    BadCall("score", "texts", "torch.int64", lambda: score(None, torch.zeros(3, 5, dtype=torch.int64))),
    BadCall("score", "texts", "got 1", lambda: score(None, torch.zeros(1, 5))),
    BadCall("score", "texts", "'product'", lambda: model_without_texts("product")),
    BadCall("contrastive_loss", "similarities", "(3, 4)", lambda: contrastive_loss(torch.zeros(3, 4))),
    BadCall("contrastive_loss", "similarities", "(0, 0)", lambda: contrastive_loss(torch.zeros(0, 0))),
    BadCall("contrastive_loss", "similarities", "NaN", lambda: contrastive_loss(with_nan(3, 3))),
    BadCall("contrastive_loss", "similarities", "torch.int64", lambda: contrastive_loss(ALL.long())),
    BadCall("contrastive_loss", "same", "(2, 2)", lambda: contrastive_loss(SQUARE, same=ALL[:2, :2])),
    BadCall("contrastive_loss", "same", "float32", lambda: contrastive_loss(SQUARE, same=SQUARE)),
    BadCall("recall_at", "k", "got 4", lambda: recall_at(SQUARE, 4, relevant=ALL)),
    BadCall("recall_at", "k", "0", lambda: recall_at(SQUARE, 0, relevant=ALL)),
    BadCall("recall_at", "relevant", "row 0", lambda: recall_at(SQUARE, 1, relevant=~ALL)),
]

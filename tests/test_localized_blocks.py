"""Into which blocks a model falls: those of the studies stay as they are, and backbones are opened."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from advanced_optimizers import LocalizedOptimizer
from advanced_optimizers.experiments.training.models import build_model
from advanced_optimizers.localized_learning.blocks import Block, find_units, make_blocks
from tests.localized_helpers import AT_ONCE

CONVNET = [(name, 1, 3) for name in ("0", "3", "7", "10", "14", "17")]
# Name, layers and parameters of each block, as in all recorded runs.
RECORDED: dict[str, list[tuple[str, int, int]]] = {
    "mlp": [("1", 1, 2), ("3", 1, 2)],
    "mlp2": [("1", 1, 2), ("3", 1, 2), ("5", 1, 2)],
    "convnet": [*CONVNET, ("22", 1, 2)],
    "vgg": [("0", 1, 3), ("4", 1, 3), ("8", 1, 3), ("12", 1, 3), ("16", 1, 2)],
    "resnet18": [
        ("0", 1, 3), ("3", 2, 6), ("4", 2, 6), ("5", 3, 9), ("6", 2, 6),
        ("7", 3, 9), ("8", 2, 6), ("9", 3, 9), ("10", 2, 6), ("13", 1, 2),
    ],
}  # fmt: skip


def blocks_of(model: nn.Module) -> tuple[Block, ...]:
    return make_blocks(find_units(model))


def largest_share(model: nn.Module) -> float:
    sizes = [sum(p.numel() for p in block.params) for block in blocks_of(model)]
    return max(sizes) / sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("image", "width"), [((1, 8, 8), 1.0), ((1, 28, 28), 1.0), ((3, 32, 32), 0.125)])
@pytest.mark.parametrize("name", RECORDED)
def test_models_of_recorded_runs_keep_their_blocks(name, image, width):
    model = build_model(name, image, 10, width)
    blocks = blocks_of(model)
    assert [(block.name, len(block.layers), len(block.params)) for block in blocks] == RECORDED[name]
    assert [p for block in blocks for p in block.params] == list(model.parameters())


class WithHead(nn.Module):
    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.backbone(x))
        return out


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.third(torch.relu(self.second(torch.relu(self.first(x)))))
        return out


def test_a_backbone_is_opened():
    resnet18 = pytest.importorskip("torchvision.models").resnet18
    backbone = resnet18()
    backbone.fc = nn.Identity()
    blocks = [block.name for block in blocks_of(WithHead(backbone, nn.Linear(512, 10)))]
    stages = [f"backbone.layer{stage}.{i}" for stage in range(1, 5) for i in range(2)]
    assert blocks == ["backbone.conv1", *stages, "head"]
    small = [block.name for block in blocks_of(WithHead(Small(), nn.Linear(8, 2)))]
    assert small == ["backbone.first", "backbone.second", "backbone.third", "head"]


def test_a_vision_transformer_has_a_block_for_each_of_its_layers():
    vit = pytest.importorskip("torchvision.models").VisionTransformer
    model = vit(image_size=16, patch_size=8, num_layers=4, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3)
    layers = [f"encoder.layers.encoder_layer_{i}" for i in range(4)]
    assert [block.name for block in blocks_of(model)] == ["conv_proj", *layers, "heads.head"]
    assert largest_share(model) < 0.3


def test_a_language_model_has_a_block_for_each_of_its_layers():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, num_labels=3
    )
    names = [block.name for block in blocks_of(transformers.BertForSequenceClassification(config))]
    # The embeddings have no layer with a localized rule and go with the first layer.
    layers = [f"bert.encoder.layer.{i}" for i in range(1, 4)]
    assert names == ["bert.embeddings", *layers, "bert.pooler", "classifier"]


def test_a_residual_block_stays_one_unit_even_if_it_is_large():
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(8, 64), nn.Linear(64, 8)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = x + self.outer(torch.relu(self.inner(x)))
            return out

    model = nn.Sequential(nn.Linear(8, 8), Residual(), nn.Linear(8, 2))
    assert [block.name for block in blocks_of(model)] == ["0", "1", "2"]
    with pytest.warns(UserWarning, match=r"block '1' holds 92% of the parameters.*all at once"):
        LocalizedOptimizer(model, SGD, {"lr": 0.1}, max_transition=2)


def test_a_large_single_layer_is_nothing_to_warn_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LocalizedOptimizer(build_model("mlp2", (1, 8, 8), 10), SGD, {"lr": 0.1})


def test_lazy_layers_count_as_layers():
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
    optimizer = LocalizedOptimizer(model, SGD, {"lr": 0.1}, selection=AT_ONCE)
    model(torch.randn(4, 5)).sum().backward()
    optimizer.step()
    optimizer.end_epoch(1.0)
    assert [block.name for block in optimizer.blocks] == ["0", "2"]
    assert not model[0].weight.requires_grad

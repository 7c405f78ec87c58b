"""Fusion of two modalities: equality with the slow twin, exact values of the loss, and what must not flow where."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from advanced_optimizers.automl import CrossModalAttention, VisionLanguageModel, contrastive_loss, recall_at
from advanced_optimizers.automl.multimodal.model import FUSIONS
from tests.reference import multimodal as reference

DIM, HEADS = 12, 3


def attention(**options: bool) -> CrossModalAttention:
    return CrossModalAttention(DIM, HEADS, **{"batch_first": True, **options}).double()


def tokens(rng: torch.Generator, length: int, batch: int = 4) -> Tensor:
    return torch.randn(batch, length, DIM, generator=rng, dtype=torch.float64)


# ---- attention between modalities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False], ids=["shared weights", "weights of their own"])
def test_it_is_the_formula_by_einsum(rng: torch.Generator, shared: bool) -> None:
    block, x, y = attention(shared=shared), tokens(rng, 5), tokens(rng, 3)
    own = {name: p.detach() for name, p in block.named_parameters()}
    reverse = own if shared else {name.removeprefix("reverse."): p for name, p in own.items() if "reverse" in name}
    first, second = block(x, y)
    for i in range(len(x)):
        assert_close(first[i], reference.cross_modal_block(x[i], y[i], own, HEADS), atol=1e-12, rtol=1e-10)
        assert_close(second[i], reference.cross_modal_block(y[i], x[i], reverse, HEADS), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("length", [5, 3], ids=["equal lengths", "unequal lengths"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_a_sample_never_sees_another(rng: torch.Generator, batch_first: bool, length: int) -> None:
    block, x, y = attention(batch_first=batch_first), tokens(rng, 5), tokens(rng, length)

    def outputs(y: Tensor) -> tuple[Tensor, ...]:
        if batch_first:
            return block(x, y)
        return tuple(out.transpose(0, 1) for out in block(x.transpose(0, 1), y.transpose(0, 1)))

    changed = y.clone()
    changed[3] += 1.0
    for before, after in zip(outputs(y), outputs(changed), strict=True):
        assert_close(before[:3], after[:3], atol=0, rtol=0)
        assert not before[3].allclose(after[3])


def test_the_order_of_the_source_does_not_matter_and_that_of_the_target_stays(rng: torch.Generator) -> None:
    block, x, y = attention(), tokens(rng, 5), tokens(rng, 4)
    order = torch.tensor([2, 0, 3, 1])
    first, second = block(x, y)
    permuted_first, permuted_second = block(x, y[:, order])
    assert_close(permuted_first, first)
    assert_close(permuted_second, second[:, order])


def test_to_one_position_every_query_attends_alike(rng: torch.Generator) -> None:
    block, x, y = attention(), tokens(rng, 5), tokens(rng, 1)
    attended, weights = block.attention(x, y, y)
    assert_close(weights, torch.ones_like(weights))
    assert_close(attended, attended[:, :1].expand_as(attended))


def test_swapped_arguments_swap_the_outputs_where_weights_are_shared(rng: torch.Generator) -> None:
    x, y = tokens(rng, 5), tokens(rng, 4)
    for shared in (True, False):
        block = attention(shared=shared)
        first, second = block(x, y)
        assert first.allclose(block(y, x)[1]) == second.allclose(block(y, x)[0]) == shared


def test_padding_is_as_if_it_were_cut_off(rng: torch.Generator) -> None:
    block, x, y = attention(), tokens(rng, 5), tokens(rng, 4)
    padding = torch.tensor([[False, False, True, True]]).expand(4, -1)
    first, second = block(x, y, padding2=padding)
    cut_first, cut_second = block(x, y[:, :2])
    assert_close(first, cut_first)
    assert_close(second[:, :2], cut_second)
    assert_close(block(y, x, padding1=padding)[1], cut_first)


def test_evaluation_is_training_without_gradients(rng: torch.Generator) -> None:
    block, x, y = attention(), tokens(rng, 5), tokens(rng, 4)
    trained = block(x, y)
    with torch.no_grad():
        assert_close(block.eval()(x, y), trained)


# ---- the contrastive loss, and retrieval ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 14.3])
def test_the_loss_of_orthonormal_pairs_is_known(scale: float) -> None:
    n = 6
    loss = contrastive_loss(scale * torch.eye(n, dtype=torch.float64))
    assert loss.item() == pytest.approx(math.log1p((n - 1) * math.exp(-scale)), rel=1e-12)


def test_the_loss_is_the_loop_and_cross_entropy_both_ways(rng: torch.Generator) -> None:
    s = torch.randn(7, 7, generator=rng, dtype=torch.float64)
    nothing = torch.zeros(7, 7, dtype=torch.bool)
    same = torch.rand(7, 7, generator=rng) < 0.3
    assert contrastive_loss(s).item() == pytest.approx(reference.contrastive_loss(s.numpy(), nothing.numpy()))
    masked = contrastive_loss(s, same=same)
    assert masked.item() == pytest.approx(reference.contrastive_loss(s.numpy(), same.numpy()))
    assert masked < contrastive_loss(s)
    targets = torch.arange(7)
    assert_close(contrastive_loss(s), (F.cross_entropy(s, targets) + F.cross_entropy(s.T, targets)) / 2)
    assert_close(contrastive_loss(s), contrastive_loss(s.T))
    order = torch.randperm(7, generator=rng)
    assert_close(contrastive_loss(s), contrastive_loss(s[order][:, order]))


def test_a_caption_that_stands_twice_is_not_a_wrong_answer() -> None:
    """Pairs that cannot be told apart: without the mask the loss cannot fall below log 2, with it, it can."""
    s = 50 * torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert contrastive_loss(s) > 2 / 3 * math.log(2) - 1e-4
    assert contrastive_loss(s, same=s > 0) < 1e-4


def test_an_untrained_model_is_near_log_n(rng: torch.Generator) -> None:
    model = VisionLanguageModel(20, 15, 32, fusion="cosine")
    with torch.no_grad():
        model.fusion.logit_scale.zero_()
    loss = model.contrastive_loss(torch.randn(64, 20, generator=rng), torch.randn(64, 15, generator=rng))
    assert loss.item() == pytest.approx(math.log(64), abs=0.1)


def test_the_scale_of_cosines_begins_as_in_clip_and_stops_at_100(rng: torch.Generator) -> None:
    model = VisionLanguageModel(20, 15, 32, fusion="cosine")
    images, texts = torch.randn(8, 20, generator=rng), torch.randn(8, 15, generator=rng)
    start = model.similarities(images, texts)
    with torch.no_grad():
        model.fusion.logit_scale.fill_(9.0)
    assert_close(model.similarities(images, texts), start * 0.07 * 100)


def test_recall_is_counted_by_sorting(rng: torch.Generator) -> None:
    s = torch.randint(0, 6, (40, 9), generator=rng).double()  # with many ties
    relevant = torch.zeros(40, 9, dtype=torch.bool).scatter(1, torch.randint(0, 9, (40, 2), generator=rng), True)
    found = [recall_at(s, k, relevant=relevant) for k in range(1, 10)]
    assert found == [reference.recall_at(s.numpy(), k, relevant.numpy()) for k in range(1, 10)]
    assert found == sorted(found)
    assert found[0] < found[-1] == 1.0
    assert recall_at(torch.zeros(40, 9), 1, relevant=relevant) == 0.0  # equal scores earn nothing


# ---- the model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_pair_has_the_score_of_the_matrix_of_all_pairs(rng: torch.Generator, fusion: str) -> None:
    model = VisionLanguageModel(10, 6, 16, fusion=fusion, num_heads=4).double()
    images = torch.randn(3, 10, generator=rng, dtype=torch.float64)
    texts = torch.randn(3, 4, 6, generator=rng, dtype=torch.float64)  # sequences of four words
    logits = model(images, texts)
    assert logits.shape == (3, 1)
    assert_close(model.similarities(images, texts).diagonal()[:, None], logits)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_signature_of_the_source_holds(rng: torch.Generator) -> None:
    """The two encoders and a network on the concatenation, for features of ResNet-50 and BERT."""
    model = VisionLanguageModel()
    images, texts = torch.randn(2, 2048, generator=rng), torch.randn(2, 768, generator=rng)
    joined = torch.cat([model.vision_encoder(images), model.text_encoder(texts)], dim=1)
    assert_close(model(images, texts), model.fusion.joint(joined))


def test_late_fusion_adds_and_does_without_one_of_the_two(rng: torch.Generator) -> None:
    model = VisionLanguageModel(10, 6, 16, fusion="late")
    images, texts = torch.randn(5, 10, generator=rng), torch.randn(5, 6, generator=rng)
    assert_close(model(images, None) + model(None, texts), model(images, texts))
    matrix = model.similarities(images, texts)
    assert_close(matrix[0, 0] + matrix[1, 1], matrix[0, 1] + matrix[1, 0])  # so no text is the best of one image only


def test_only_attention_looks_at_the_tokens_one_by_one(rng: torch.Generator) -> None:
    images, texts = torch.randn(2, 3, 10, generator=rng), torch.randn(2, 4, 16, generator=rng)
    flattened = texts.mean(dim=1, keepdim=True).expand_as(texts)
    for fusion in ("intermediate", "product", "cosine", "late", "attention"):
        model = VisionLanguageModel(10, None, 16, fusion=fusion, text_encoder=nn.Identity())
        alike = model(images, texts).allclose(model(images, flattened), atol=1e-5)
        assert alike == (fusion != "attention"), fusion


def test_encoders_of_the_callers_take_what_they_like(rng: torch.Generator) -> None:
    words = nn.Embedding(11, 16)
    pixels = nn.Sequential(nn.Flatten(), nn.Linear(49, 32), nn.Unflatten(1, (2, 16)))
    model = VisionLanguageModel(None, None, 16, fusion="attention", vision_encoder=pixels, text_encoder=words)
    assert model(torch.randn(3, 1, 7, 7, generator=rng), torch.randint(0, 11, (3, 5), generator=rng)).shape == (3, 1)

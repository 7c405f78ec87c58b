"""docs/mutransfer_on_real_models.md: its code runs on the libraries' models, and its numbers are what is measured."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import advanced_optimizers as ours
from tests.mu_models import mlp

PAGE = (Path(__file__).parents[1] / "docs" / "mutransfer_on_real_models.md").read_text(encoding="utf-8")
TOLERANCE = 0.15  # of an exponent, for other versions of the libraries and other machines
FLAT, GROWS = 0.25, 0.5

LIBRARIES = {
    "torchvision ResNet": "torchvision",
    "torchvision ViT": "torchvision",
    "timm ViT": "timm",
    "timm ConvNeXt": "timm",
    "GPT-2": "transformers",
    "BERT": "transformers",
    "Llama": "transformers",
}
AS_DRAWN_IS_RIGHT = {"torchvision ResNet", "torchvision ViT"}  # in the forward pass
WIDTHS = {"torchvision ResNet": range(1, 4), "timm ConvNeXt": range(3)}  # in octaves above the base
BASES = {"torchvision ResNet": 8, "timm ConvNeXt": 8}  # 16 for the others


def functions_of(name: str) -> dict[str, Callable[[int], nn.Module]]:
    """What the code of a section of the page defines."""
    pytest.importorskip(LIBRARIES[name])
    section = PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, Any] = {"MuReadout": ours.MuReadout, "MuSharedReadout": ours.MuSharedReadout}
    exec(compile(code, f"the page's section {name}", "exec"), names)
    return names


def row_of(name: str) -> list[float]:
    (row,) = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", PAGE, re.MULTILINE)
    return [float(cell) for cell in row.split("|")]


def data_for(name: str) -> tuple[tuple[Tensor, Tensor], Callable[[Any, Tensor], Tensor]]:
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (8,), generator=rng)
    if LIBRARIES[name] != "transformers":
        side = 16 if name.endswith("ViT") else 32
        return (torch.randn(8, 3, side, side, generator=rng), labels), F.cross_entropy
    tokens = torch.randint(64, (8, 12), generator=rng)
    if name == "BERT":
        return (tokens, labels), lambda out, y: F.cross_entropy(out.logits, y)
    return (tokens, tokens.roll(-1, 1)), lambda out, y: F.cross_entropy(out.logits.flatten(0, 1), y.flatten())


def largest_exponent(name: str, make: Callable[[int], nn.Module]) -> float:
    base = BASES.get(name, 16)
    widths = [base * 2**k for k in WIDTHS.get(name, range(4))]
    data, loss = data_for(name)
    rows = ours.coordinate_check(
        {width: functools.partial(make, width) for width in widths},
        data,
        lambda model: ours.MuAdamW(model, lr=0.01),
        loss=loss,
        steps=4,
    )
    return max(growth.exponent for growth in ours.coordinate_growth(rows))


def measured(name: str) -> list[float]:
    functions = functions_of(name)
    plain, marked = functions["plain"], functions["marked"]
    base = BASES.get(name, 16)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*muP's scale")
        return [
            largest_exponent(name, make)
            for make in (
                lambda width: ours.set_base_shapes(plain(width), None),
                lambda width: ours.set_base_shapes(marked(width), marked(base), delta=marked(2 * base)),
                lambda width: ours.set_base_shapes(
                    marked(width), marked(base), delta=marked(2 * base), reinitialize=True
                ),
            )
        ]


@pytest.mark.parametrize(
    "name", [name if name == "BERT" else pytest.param(name, marks=pytest.mark.slow) for name in LIBRARIES]
)
def test_the_page_s_exponents_are_what_is_measured(name):
    standard, as_drawn, with_lines = found = measured(name)
    assert found == pytest.approx(row_of(name), abs=TOLERANCE)
    assert standard > GROWS
    assert with_lines < FLAT
    assert (as_drawn < FLAT) == (name in AS_DRAWN_IS_RIGHT)


def test_the_page_has_every_model_once():
    table = PAGE.split("\n## The table\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| ([^|]+) \| -?\d", table, re.MULTILINE) == list(LIBRARIES)


@pytest.mark.parametrize("name", ["timm ViT", "timm ConvNeXt", "GPT-2", "BERT", "Llama", "torchvision ResNet"])
def test_the_initial_weights_of_the_library_are_reported(name):
    marked = functions_of(name)["marked"]
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="not of muP's scale") as caught:
        ours.set_base_shapes(marked(64), marked(16), delta=marked(32))
    (message,) = {str(warning.message) for warning in caught if "muP's scale" in str(warning.message)}
    factors = [float(factor) for factor in re.findall(r"\((\d[\d.]*)\)", message.partition(": ")[2])]
    if name == "torchvision ResNet":
        assert factors == pytest.approx([0.5], rel=0.2)  # the first convolution
    else:
        assert min(factors) > 1.6
        assert sorted(factors)[len(factors) // 2] == pytest.approx(2, rel=0.1)  # sqrt(64 / 16)


def test_the_initial_weights_of_torchvision_s_vit_are_right():
    marked = functions_of("torchvision ViT")["marked"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.set_base_shapes(marked(64), marked(16), delta=marked(32))


@pytest.mark.parametrize("name", ["GPT-2", "BERT", "Llama", "timm ViT"])
def test_the_attention_s_scale_can_be_set_as_the_page_says(name):
    model = functions_of(name)["plain"](32).eval()
    x = data_for(name)[0][0]

    def output() -> Tensor:
        with torch.no_grad():
            out = model(x)
        return out if isinstance(out, Tensor) else out.logits

    attribute = "scale" if name == "timm ViT" else "scaling"
    before = output()
    attentions = [m for m in model.modules() if isinstance(getattr(m, attribute, None), float)]
    assert len(attentions) == 2
    for module in attentions:
        setattr(module, attribute, ours.mu_attention_scale(8, 4) * 50)
        if name == "timm ViT":
            module.fused_attn = False
    assert not torch.allclose(output(), before, atol=1e-6)


def test_what_the_page_says_is_refused_is_refused_and_its_other_lines_run():
    pytest.importorskip("transformers")
    pytest.importorskip("torchvision")
    from torchvision.models.resnet import Bottleneck, ResNet
    from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

    def bottlenecks(width: int) -> nn.Module:
        model = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10, width_per_group=width)
        model.fc = ours.MuReadout(2048, 10)
        return model

    def grouped(width: int) -> nn.Module:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=64, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1,
                num_attention_heads=width // 8, num_key_value_heads=1,
            )
        )  # fmt: skip
        model.lm_head = ours.MuReadout(width, 64, bias=False)
        return model

    def masked(width: int) -> nn.Module:
        model = BertForMaskedLM(
            BertConfig(
                vocab_size=64, hidden_size=width, num_hidden_layers=1, num_attention_heads=width // 8,
                intermediate_size=2 * width, max_position_embeddings=16,
            )
        )  # fmt: skip
        model.cls.predictions.decoder = ours.MuSharedReadout(model.bert.embeddings.word_embeddings.weight)
        return model

    with torch.device("meta"):
        with pytest.raises(ValueError, match=r"layer1\.0\.conv3\.weight maps a width"):
            ours.set_base_shapes(bottlenecks(16), bottlenecks(8))
        with pytest.raises(ValueError, match=r"k_proj\.weight maps a width"):
            ours.set_base_shapes(grouped(32), grouped(16))
    model = ours.set_base_shapes(masked(32), masked(16), delta=masked(64), reinitialize=True)
    model(torch.randint(64, (2, 8))).logits.sum().backward()
    ours.MuAdamW(model, lr=0.1).step()
    model.tie_weights()
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


# ---- Muon ----------------------------------------------------------------------------------------------------------


def change_exponent(make: Callable[..., torch.optim.Optimizer], **kwargs: Any) -> float:
    """The growth with width of one step's change of a hidden layer's output, at the same inputs."""
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        pytest.skip("torch.optim.Muon came with torch 2.9")
    rng = torch.Generator().manual_seed(0)
    x, labels = torch.randn(16, 12, generator=rng), torch.arange(16) % 5
    rows = []
    for width in (32, 64, 128):  # Muon computes in bfloat16, which a CPU does slowly
        torch.manual_seed(0)
        model = ours.set_base_shapes(mlp(width), mlp(16), delta=mlp(32))
        optimizer = make(model, [model[2].weight], impl=muon, lr=0.01, weight_decay=0.0, **kwargs)
        hidden = model[:2](x).detach()
        before = model[2](hidden).detach()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()
        change = (model[2](hidden).detach() - before).abs().mean().item()
        rows.append(ours.CoordinateRow(width, 0, 1, "2", change))
    return ours.coordinate_growth(rows)[0].exponent


@pytest.mark.filterwarnings("ignore:impl .* will not transfer across widths")
def test_one_step_of_muon_is_uniform_through_mu_sgd_and_not_through_mu_adam():
    found = {
        "`MuSGD(impl=Muon)`": change_exponent(ours.MuSGD),
        "`MuAdam(impl=Muon)`": change_exponent(ours.MuAdam),
        '`MuSGD(impl=Muon, adjust_lr_fn="match_rms_adamw")`': change_exponent(
            ours.MuSGD, adjust_lr_fn="match_rms_adamw"
        ),
    }
    assert {call: row_of(call)[0] for call in found} == pytest.approx(found, abs=TOLERANCE)
    model = ours.set_base_shapes(mlp(32), mlp(16))
    for make, kwargs in ((ours.MuAdam, {}), (ours.MuSGD, {"adjust_lr_fn": "match_rms_adamw"})):
        with pytest.warns(UserWarning, match=r"Muon.*learning rate will not transfer"):
            make(model, [model[2].weight], impl=torch.optim.Muon, lr=0.01, **kwargs)
    uniform, vanishing, growing = found.values()
    assert abs(uniform) < FLAT
    assert vanishing == pytest.approx(uniform - 1, abs=1e-3)
    assert growing == pytest.approx(uniform + 0.5, abs=1e-3)

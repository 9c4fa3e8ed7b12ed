"""A layer with a low-rank update is trained another way than PEFT's, to the same result."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import families
from afina.methods import _low_rank
from afina.methods._low_rank import Linear, Updated, quicken
from afina.methods.lora import Lora
from afina.models.load import load, load_tokenizer

SHAPES = ("BERT", "Llama", "T5")


def test_the_sum_and_its_gradients_are_those_of_three_layers() -> None:
    torch.manual_seed(0)
    x, weight, bias, first, second = (
        torch.randn(size, dtype=torch.float64, requires_grad=True)
        for size in ((2, 3, 4), (5, 4), (5,), (2, 4), (5, 2))
    )
    linear, asked = nn.functional.linear, (x, first, second)
    plain = linear(x, weight, bias) + 3 * linear(linear(x, first), second)
    fast = Updated.apply(x, weight, bias, first, second, 3.0)
    assert torch.allclose(fast, plain)
    weights = torch.randn_like(plain)
    for mine, theirs in zip(*(torch.autograd.grad(y, asked, weights) for y in (fast, plain)), strict=True):
        assert torch.allclose(mine, theirs)

    def frozen(x: Tensor, first: Tensor, second: Tensor) -> Any:
        return Updated.apply(x, weight.detach(), None, first, second, 3.0)

    assert torch.autograd.gradcheck(frozen, asked)
    assert torch.autograd.gradgradcheck(frozen, asked)  # Sophia asks for the curvature


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: families.build(name, tmp_path_factory.mktemp(name, numbered=False))
        for name in (*SHAPES, "GPT-2")
    }


def trained(method: Lora, folder: Path, fast: bool) -> tuple[nn.Module, int]:
    """Return a model with the method's layers, which already change something, and how many are the other way."""
    torch.manual_seed(0)
    kind = "AutoModelForSeq2SeqLM" if "T5" in folder.name else "AutoModelForSequenceClassification"
    model: Any = method.modify(load(folder, kind, {}, dropout=0.0), load_tokenizer(folder))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    return model.train(), quicken(model) if fast else 0


def logits(model: Any) -> Tensor:
    torch.manual_seed(1)
    ids = torch.randint(5, 50, (4, 10))
    given = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), **given).logits


def gradients(model: Any) -> tuple[Tensor, dict[str, Tensor]]:
    found = logits(model)
    found.pow(2).mean().backward()
    return found.detach(), {name: weight.grad for name, weight in model.named_parameters() if "lora" in name}


@pytest.mark.parametrize("name", SHAPES)
def test_models_learn_alike(name: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    method = Lora(rank=2)
    model, fast = trained(method, folders[name], True)
    calls = []
    apply = Updated.apply
    monkeypatch.setattr(_low_rank.Updated, "apply", lambda *given: calls.append(1) or apply(*given))
    mine, own = gradients(model)
    assert fast == len(calls) == sum(isinstance(module, Linear) for module in model.modules()) > 0
    theirs, plain = gradients(trained(method, folders[name], False)[0])
    assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5)
    assert own.keys() == plain.keys()
    for each, gradient in plain.items():
        assert torch.allclose(own[each], gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max())), each
    calls.clear()
    with torch.no_grad():
        assert torch.allclose(logits(model), mine, rtol=1e-5, atol=1e-5)
    with method.off(model):
        assert not torch.allclose(logits(model), mine, rtol=1e-3, atol=1e-3)
    assert not calls, "answers and the base model go PEFT's way"


@pytest.mark.parametrize(
    ("name", "knobs"),
    [("BERT", {"use_dora": True}), ("BERT", {"lora_dropout": 0.1}), ("GPT-2", {})],
)
def test_what_would_give_something_else_stays(
    name: str, knobs: dict[str, Any], folders: dict[str, Path]
) -> None:
    model, fast = trained(Lora(rank=2, **knobs), folders[name], True)
    assert fast == sum(isinstance(module, Linear) for module in model.modules())
    if knobs:
        assert fast == 0
    else:  # GPT-2's own layers hold their weights the other way round
        assert not any(isinstance(module, Linear) for module in model.get_submodule("transformer").modules())


def test_few_tokens_and_less_precision_go_pefts_way(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _fast = trained(Lora(rank=2), folders["BERT"], True)
    monkeypatch.setattr(_low_rank.Updated, "apply", None)
    assert _low_rank.pays(32 * 8, 32, 2), "else less precision would show nothing below"
    ids = torch.full((1, 7), 7)
    assert model(input_ids=ids).logits.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        assert model(input_ids=ids.expand(32, -1)).logits.requires_grad


@pytest.mark.parametrize(
    ("inputs", "rank", "slower", "faster"),  # tokens, as measured (benchmarks/LOG.md)
    [
        (256, 8, 32, 128),
        (256, 32, 128, 256),
        (512, 8, 128, 256),
        (768, 8, 128, 256),
        (768, 32, 384, 768),
        (1024, 8, 192, 384),
        (1024, 32, 512, 1024),
        (2048, 8, 512, 1024),
    ],
)
def test_one_product_is_for_as_many_tokens_as_pay_for_the_sum(
    inputs: int, rank: int, slower: int, faster: int
) -> None:
    assert not _low_rank.pays(slower, inputs, rank) and _low_rank.pays(faster, inputs, rank)

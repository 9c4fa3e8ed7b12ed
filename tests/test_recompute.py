"""Activation checkpointing: less is kept, and what is learnt is the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn
from transformers.utils import generic

import afina
import toy
import toys
from afina.core import Batch
from afina.errors import InputError
from afina.methods.partial import Partial
from afina.models.load import load_tokenizer
from afina.models.parts import blocks
from afina.models.recompute import check, kept_whole, recompute
from afina.train import forecast, frozen, machine
from afina.train.fit import unfreeze
from afina.train.frozen import Readings
from afina.train.loop import Objective

one_thread = pytest.fixture(scope="module", autouse=True)(toy.one_thread)
NAMES = [
    "classification-full", "classification-lora", "classification-prefix", "masked_lm-full-pairs", "causal_lm-full",
    "causal_lm-houlsby", "seq2seq-full", "seq2seq-lora", "extractive_qa-partial",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("toys"))


def learnt(case: toys.Case, batch: Batch, again: bool) -> tuple[float, dict[str, torch.Tensor], int]:
    """Return the loss of a batch with dropout, the gradients, and how many bytes were kept for them."""
    model = case.model(dropout=None)
    if again:
        recompute(model)
    unfreeze(model, case.method.stages(model)[0])
    objective = Objective(model, case.task.loss).train()
    kept = forecast._kept(objective, batch)
    machine.seed(torch.device("cpu"), 3)
    loss = torch.stack([value * weight for value, weight in objective(batch).values()]).sum()
    loss.backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return float(loss.detach()), found, kept


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_the_same_and_less_is_kept(name: str, folder: Path) -> None:
    case = toys.case(name, folder)
    ((batch,),) = case.batches(case.plan(8))(0, 1)
    loss, plain, most = learnt(case, batch, False)
    same, again, least = learnt(case, batch, True)
    assert same == pytest.approx(loss, rel=1e-5) and plain.keys() == again.keys()
    for weight, gradient in plain.items():
        assert torch.allclose(again[weight], gradient, rtol=1e-5, atol=1e-5), weight
    assert least < 0.8 * most


@pytest.mark.parametrize("name", ["classification-head", "causal_lm-prompt"])
def test_blocks_in_which_nothing_trains_stay_as_they_are(name: str, folder: Path) -> None:
    """Under `head` no gradient passes them; under `prompt` one does, and transformers computes only once what is in eval mode."""
    case = toys.case(name, folder)
    ((batch,),) = case.batches(case.plan(8))(0, 1)
    assert learnt(case, batch, True)[2] == learnt(case, batch, False)[2]


def test_a_decoder_that_classifies_warns_of_no_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(generic.logger, "warning_once", warned.append)
    case, tokenizer = toys.case("classification-full", folder), load_tokenizer(folder / "decoder")
    rows = case.task.encode(case.cleaned, tokenizer, toys.LENGTH)
    case = case._replace(folder=folder / "decoder", tokenizer=tokenizer, rows=rows)
    ((batch,),) = case.batches(case.plan(8))(0, 1)
    learnt(case, batch, True)
    assert not warned


def test_what_frozen_blocks_give_is_kept_all_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "AGAIN", 0.0)
    case, accelerator = toys.case("classification-partial", folder), machine.accelerator("fp32")
    case = case._replace(method=Partial(top_blocks=1))

    def batches() -> Any:
        return (batch for micro in case.batches(case.plan(8))(0, 3) for batch in micro)

    given = Readings(batches, 1000, 100)
    straight, progress = toys.run(case, accelerator, tmp_path / "straight", readings=given)
    with monkeypatch.context() as patched:
        model = toys.Case.model

        def recomputing(self: toys.Case, dropout: float | None = 0.0) -> nn.Module:
            found = model(self, dropout)
            recompute(found)
            return found

        patched.setattr(toys.Case, "model", recomputing)
        again, other = toys.run(case, accelerator, tmp_path / "again", readings=given)
    assert progress.kept == other.kept > 0
    assert all(torch.allclose(straight[name], again[name], atol=1e-5) for name in straight)


def test_one_block_at_a_time_is_counted_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many tokens fit is foretold from what enters every block and from what one of them computes."""
    case, accelerator = toys.case("classification-full", folder), machine.accelerator("fp32")
    plan, counted = case.plan(8, 512), []
    own = forecast._kept
    monkeypatch.setattr(forecast, "_kept", lambda *given: counted.append(own(*given)) or counted[-1])
    model = case.model()
    recompute(model)
    forecast.fitting(accelerator, model, case.method, case.task.loss, case.batches(plan), plan)
    least, most = counted
    assert least < most and len(blocks(model)) == 2
    assert model.is_activation_checkpointing
    with kept_whole(model):
        assert not model.is_activation_checkpointing


def test_a_model_that_cannot_is_refused(tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers.AlbertConfig().save_pretrained(tmp_path / "albert")
    with pytest.raises(InputError, match=r"'albert' cannot .* --activation-checkpointing\.$"):
        check(tmp_path / "albert")
    monkeypatch.chdir(tmp_path)
    toy.table(tmp_path / "toy.csv")
    toy.model(tmp_path / "tiny")
    words = ("finetune", "toy.csv", "--model", "tiny", "--max-steps", "2", "--quiet", "--json")
    said = toy.command(capfd)(*words, "--activation-checkpointing", "--output-dir", "one")
    assert said.code == 0, said.err
    toy.command(capfd)(*words, "--output-dir", "other")
    assert toy.weights(tmp_path / "one") == toy.weights(tmp_path / "other")


def test_plain_text_is_learnt_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Hutchinson's curvature too, which differentiates the gradient once more."""
    monkeypatch.chdir(tmp_path)
    words = [
        "el",
        "gato",
        "duerme",
        "hoy",
        "la",
        "casa",
        "está",
        "lejos",
        "un",
        "perro",
        "come",
        "pan",
        "azul",
    ]
    text = "\n\n".join(f"{one} {other} {one} {third}." for one in words for other in words for third in words)
    Path("text.txt").write_text(text, encoding="utf-8")
    asked: list[nn.Module] = []
    monkeypatch.setattr(
        "afina.models.recompute.recompute", lambda model: asked.append(model) or recompute(model)
    )
    given: dict[str, Any] = {
        "max_steps": 3, "tokens_per_step": 1000, "short_length": 16, "max_length": 32, "quiet": True,
    }  # fmt: skip
    new = given | {"shape": "tiny", "vocab_size": 1000, "max_tokens": 5000, "optimizer": "sophia"}
    new |= {"curvature": "hutchinson"}
    for again in (False, True):
        afina.pretrain("text.txt", output_dir=f"p{again}", activation_checkpointing=again, **new)
        how = {"model": "pFalse/best", "method": "lora", "max_tokens": 3000}
        afina.adapt(
            "text.txt", output_dir=f"a{again}", activation_checkpointing=again, dropout=0.1, **given | how
        )
    assert len(asked) == 2
    for kind in "pa":
        plain, other = (load_file(f"{kind}{again}/best/model.safetensors") for again in (False, True))
        assert all(torch.allclose(plain[name], other[name], atol=1e-5) for name in plain)

"""Logits over a large vocabulary are made part by part: the same losses, gradients and answers, in less memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

import toys
from afina.batching.plan import generator
from afina.core import Batch
from afina.models import heads
from afina.train import machine

NAMES = ["causal_lm-full", "seq2seq-full", "masked_lm-full", "masked_lm-full-pairs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("toys"))


def batch_of(case: toys.Case) -> Batch:
    rows = [row for each in case.rows[:8] for row in case.task.pieces(each)]
    return case.task.collate([(row, generator(0, 0, i)) for i, row in enumerate(rows)], case.tokenizer)


def in_parts(monkeypatch: pytest.MonkeyPatch, logits: int) -> None:
    monkeypatch.setattr(heads, "LOGITS", logits)
    monkeypatch.setattr(heads, "PART", logits)


def learnt(case: toys.Case) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Return the terms of the loss, the gradient, and how many numbers of the largest tensor were kept for it."""
    model, largest = case.model(), 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal largest
        if not isinstance(tensor, torch.nn.Parameter):
            largest = max(largest, tensor.numel())
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        terms = case.task.loss(model, batch_of(case))
    sum((term.sum * term.weight for term in terms.values()), torch.tensor(0.0)).backward()
    gradient = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {name: term.sum.detach() for name, term in terms.items()}, gradient, largest


@pytest.mark.parametrize("name", NAMES)
def test_parts_change_nothing(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = toys.case(name, folder)
    task: Any = case.task
    words = int(case.model().config.vocab_size)  # type: ignore[union-attr, arg-type]
    places = int((batch_of(case).tensors["labels"] != -100).sum())
    whole, gradient, kept = learnt(case)
    with torch.inference_mode():
        answers = task.glance(case.model().eval(), batch_of(case))
    assert places > 5 and kept >= places * words
    in_parts(monkeypatch, 3 * words + 1)  # three places at a time
    parts, same, less = learnt(case)
    assert less < places * words
    for term in whole:
        assert float(parts[term]) == pytest.approx(float(whole[term]), rel=1e-5)
    assert toys.apart(gradient, same) < 1e-4
    with torch.inference_mode():
        assert toys.alike(answers, task.glance(case.model().eval(), batch_of(case)), 1e-5)


def test_a_part_knows_its_second_derivative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, accelerator = toys.case("causal_lm-full", folder), machine.accelerator("fp32")
    whole = toys.curvature(case, accelerator)
    in_parts(monkeypatch, 3 * int(case.model().config.vocab_size))  # type: ignore[union-attr, arg-type]
    assert toys.apart(whole, toys.curvature(case, accelerator)) < 1e-4


def test_what_is_drawn_in_parts_has_a_place_for_each(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = toys.case("masked_lm-full-bag of words", folder)
    task: Any = case.task
    in_parts(monkeypatch, 1)  # one place at a time
    batch = batch_of(case)
    with torch.no_grad():
        drawn = task.drawn(case.model(), batch)
    hidden = batch.tensors["labels"] != -100
    assert torch.equal(drawn.tensors["labels"] != -100, hidden)
    assert drawn.tensors["bag"].shape == (len(batch.tensors["bag"]), 1)

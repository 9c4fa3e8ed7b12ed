"""A new head begins with the best answer that is the same for every row."""

from pathlib import Path

import pytest
import torch
from torch import nn

import toys
from afina.core import Task
from afina.models.load import load
from afina.models.parts import begin, head, is_linear
from afina.names import find, known

TOLD = [
    "-".join(filter(None, (task, "full", variant)))
    for task in known("tasks")
    if find("tasks", task).prior is not Task.prior
    for variant in ("", *toys.VARIANTS.get(task, ()))
    if variant != "windows"  # what a window leaves out is known, but not read
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("prior"))


def last(model: nn.Module) -> nn.Linear:
    """Return the layer that gives the answer."""
    above = head(model)
    found = [each for name, each in model.named_modules() if f"{name}.bias" in above and is_linear(each)]
    assert isinstance(found[-1], nn.Linear)
    return found[-1]


@pytest.mark.parametrize("name", TOLD)
def test_no_constant_answer_has_a_lower_loss(name: str, folder: Path) -> None:
    """A head that reads nothing has no gradient at its start but for the half count that no answer is without."""
    case = toys.case(name, folder)
    model = load(case.folder, case.task.head, case.task.config(), dropout=0.0)
    layer = last(model)
    with torch.no_grad():
        layer.weight.zero_()
    batch = case.task.collate([(row, None) for row in case.rows], case.tokenizer)

    def slope() -> float:
        model.zero_grad()
        terms = case.task.loss(model, batch)
        (sum(term.sum for term in terms.values()) / batch.counts["loss"]).backward()
        assert layer.bias.grad is not None
        return layer.bias.grad.abs().max().item()

    with torch.no_grad():
        layer.bias.fill_(0.7)
        layer.bias[0] = 0.2
    somewhere = slope()
    begin(model, case.task.prior(case.cleaned))
    assert slope() < min(0.03, somewhere / 4)


def test_rare_labels_begin_rare(folder: Path) -> None:
    case = toys.case("multi_label-full", folder)
    prior = case.task.prior(case.cleaned)
    assert prior is not None
    shares = torch.tensor(prior).sigmoid()
    for label, share in zip(case.task.labels, shares.tolist(), strict=True):  # type: ignore[attr-defined]
        found = sum(label in row["label"] for row in case.cleaned) / len(case.cleaned)
        assert abs(share - found) < 1 / len(case.cleaned)


def test_a_head_that_the_checkpoint_brings_is_kept(folder: Path, tmp_path: Path) -> None:
    case = toys.case("classification-full", folder)
    torch.manual_seed(0)
    load(case.folder, case.task.head, case.task.config()).save_pretrained(tmp_path)
    again = load(tmp_path, case.task.head, case.task.config())
    before = last(again).bias.clone()
    begin(again, [-1.0] * len(before))
    assert torch.equal(last(again).bias, before)


def test_random_weights_begin_so_too(folder: Path) -> None:
    case = toys.case("classification-full", folder)
    model = load(case.folder, case.task.head, case.task.config(), random_weights=True)
    wanted = torch.arange(1.0, len(last(model).bias) + 1)
    begin(model, wanted.tolist())
    assert torch.equal(last(model).bias, wanted)


def test_a_head_without_bias_is_left_alone(folder: Path) -> None:
    """That of decoders has none, and a model with one would not be transformers' own any more."""
    case = toys.case("classification-full", folder)
    model = load(folder / "decoder", case.task.head, case.task.config())
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    begin(model, [0.5] * len(case.task.config()["id2label"]))
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())

"""Replay: a model is taught by itself as it began; as a term of its own, in parts too, for Sophia's estimate too."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

import toys
from afina.core import Batch, Loss
from afina.models import heads
from afina.models.heads import divergence
from afina.train.rehearsal import WEIGHT, Rehearsal, rehearsed
from test_vocabulary_in_parts import batch_of, in_parts

NAMES = ["causal_lm-full", "masked_lm-full", "masked_lm-full-pairs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("toys"))


def replay_of(case: toys.Case) -> Batch:
    return rehearsed(lambda _items: batch_of(case))([])


def moved(model: nn.Module) -> nn.Module:
    """Return the model with its weights pushed somewhere else."""
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return model.eval()


def whole(terms: Loss) -> Tensor:
    return torch.stack([term.sum * term.weight for term in terms.values()]).sum()


def test_divergence_is_that_of_kullback_and_leibler() -> None:
    torch.manual_seed(0)
    logits, other = torch.randn(7, 5, requires_grad=True), torch.randn(7, 5)
    ours = divergence(logits, other)
    plain = kl_div(logits.log_softmax(-1), other.log_softmax(-1), log_target=True, reduction="none").sum(-1)
    assert torch.allclose(ours, plain, atol=1e-6)
    found = (torch.autograd.grad(each.sum(), logits, retain_graph=True)[0] for each in (ours, plain))
    assert torch.allclose(*found, atol=1e-6)
    assert divergence(other, other).abs().max() < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_is_what_it_was_has_nothing_to_learn_from_replay(name: str, folder: Path) -> None:
    case = toys.case(name, folder)
    model = case.model().eval()
    rehearsal = Rehearsal.of(case.task, model, "cpu")
    batch = replay_of(case)
    terms = rehearsal.loss(model, batch)
    assert terms.keys() == batch.counts.keys() and all(name.startswith("kept_") for name in terms)
    loss = whole(terms)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-3)
    assert max(weight.grad.abs().max() for weight in model.parameters() if weight.grad is not None) < 1e-3
    # and of text that is no replay it learns as ever
    plain = batch_of(case)
    assert torch.equal(whole(rehearsal.loss(model, plain)), whole(case.task.loss(model, plain)))


@pytest.mark.parametrize("name", NAMES)
def test_replay_leads_back(name: str, folder: Path) -> None:
    case = toys.case(name, folder)
    model = case.model().eval()
    rehearsal = Rehearsal.of(case.task, model, "cpu")
    moved(model)
    assert all(not weight.requires_grad for weight in rehearsal.teacher.parameters())
    batch, found = replay_of(case), []
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _step in range(20):
        loss = whole(rehearsal.loss(model, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert 0 < found[-1] < 0.5 * found[0]


@pytest.mark.parametrize("name", NAMES)
def test_parts_change_nothing(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = toys.case(name, folder)
    model = case.model().eval()
    rehearsal = Rehearsal.of(case.task, model, "cpu")
    moved(model)

    def learnt() -> tuple[Tensor, list[Tensor]]:
        loss = whole(rehearsal.loss(model, replay_of(case)))
        weights = list(model.parameters())
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        return loss, [each for each in found if each is not None]

    at_once, gradient = learnt()
    in_parts(monkeypatch, 3 * int(heads.config(model).vocab_size))
    loss, other = learnt()
    assert torch.allclose(loss, at_once, rtol=1e-5)
    for one, two in zip(gradient, other, strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_of_answers_that_were_drawn_the_likelihood_is_told(name: str, folder: Path) -> None:
    """What Sophia squares: a divergence has the curvature of a likelihood of answers from the model's own."""
    case = toys.case(name, folder)
    task, model = case.task, case.model().eval()
    rehearsal = Rehearsal.of(task, model, "cpu")
    moved(model)
    torch.manual_seed(5)
    replay = rehearsal.drawn(model, replay_of(case))
    torch.manual_seed(5)
    plain = task.drawn(model, batch_of(case))  # type: ignore[attr-defined]
    told, wanted = rehearsal.loss(model, replay), task.loss(model, plain)
    assert {name: (term.sum.item(), term.weight) for name, term in told.items()} == {
        f"kept_{name}": (term.sum.item(), WEIGHT * term.weight) for name, term in wanted.items()
    }
    torch.manual_seed(5)
    same = rehearsal.drawn(model, batch_of(case))
    assert same.counts == plain.counts and torch.equal(same.tensors["labels"], plain.tensors["labels"])


def test_a_next_sentence_head_that_was_drawn_learns_from_the_text(folder: Path) -> None:
    """Its own first answers are none to be kept."""
    case = toys.case("masked_lm-full-pairs", folder)
    model = case.model().eval()
    model.drawn = frozenset({f"{heads.NEXT_SENTENCE}.weight"})  # type: ignore[assignment]
    rehearsal = Rehearsal.of(case.task, model, "cpu")
    kept, plain = rehearsal.loss(model, replay_of(case)), case.task.loss(model, batch_of(case))
    assert kept["kept_nsp"].sum.item() == pytest.approx(plain["nsp"].sum.item(), rel=1e-5)
    assert kept["kept_mlm"].sum.item() == pytest.approx(0, abs=1e-3)

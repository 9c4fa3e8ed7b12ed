"""The learning rate as a function of the step, what decays, and what one step of the loop does."""

from itertools import count, repeat

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from afina.core import Batch, Stage, Term
from afina.errors import InputError
from afina.methods.full import Full
from afina.train import checkpoint, machine
from afina.train.fit import Budget, fit, spans
from afina.train.loop import Objective, steps
from afina.train.optimizer import adamw, rate


def rates(schedule, steps, warmup):
    return [rate(step, steps, warmup, schedule) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "one_cycle", "warmup_stable_decay"])
@pytest.mark.parametrize("warmup", [0, 0.1, 10])
def test_the_rate_rises_to_one_and_falls_towards_zero(schedule, warmup):
    found = rates(schedule, 100, warmup)
    peak = found.index(1.0)
    assert peak == (0 if warmup == 0 else 9)
    assert found[: peak + 1] == sorted(found[: peak + 1]) and found[peak:] == sorted(
        found[peak:], reverse=True
    )
    assert 0 < found[-1] < 0.06, "the last step still learns"


def test_the_schedules_have_their_shapes():
    assert rates("linear", 11, 1)[1:] == pytest.approx([1 - i / 10 for i in range(10)])
    assert rates("cosine", 101, 1)[51] == pytest.approx(0.5)
    cycle = rates("one_cycle", 100, 0.3)
    assert cycle[29] == 1.0 and cycle[14] == pytest.approx(1 / 25 + 24 / 25 / 2) and cycle[0] < 0.05
    assert cycle[30:] == rates("cosine", 100, 0.3)[30:] and cycle[65] == pytest.approx(0.5, abs=0.02)
    slanted = rates("slanted_triangular", 100, 0.1)
    assert slanted[9] == 1.0 and slanted[-1] == pytest.approx(1 / 32 + 31 / 32 / 90)
    stable = rates("warmup_stable_decay", 100, 0.1)
    assert set(stable[9:81]) == {1.0}
    assert stable[80:] == pytest.approx([1 - i / 20 for i in range(20)])


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0, 0.1, 0.9, 1, 50])
def test_the_shortest_training_has_a_rate_too(steps, warmup):
    assert all(0 < each <= 1 for each in rates("linear", steps, warmup))


def test_stages_share_all_steps_out():
    stages = [Stage("a", share=1 / 3), Stage("b", share=1 / 3), Stage("c", share=1 / 3)]
    assert [(start, end) for _stage, start, end in spans(stages, 10)] == [(0, 3), (3, 7), (7, 10)]


class Small(nn.Module):
    """An embedding, a normalisation and a layer: each kind of weight once."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.norm, self.layer = nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, ids):
        return self.layer(self.norm(self.words(ids)))


def test_only_matrices_decay():
    model = Small()
    model.words.weight.requires_grad_(False)
    optimizer = adamw(model, learning_rate=0.1, weight_decay=0.5, beta2=0.98)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for name, weight in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if name == "layer.weight" else 1.0
        assert torch.allclose(weight, before[name] * factor, rtol=1e-6, atol=0), name
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.98)}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4, "a frozen weight has no state"


def loss(model, batch):
    logits = model(batch.tensors["ids"])
    return {"loss": Term(cross_entropy(logits, batch.tensors["gold"], reduction="sum"))}


def batch(gold=(1, 2), counted=2.0):
    return Batch({"ids": torch.tensor([0, 1]), "gold": torch.tensor(gold)}, {"loss": counted}, 2)


def one_step(model, micro, max_grad_norm=1e9, learning_rate=0.5):
    accelerator = machine.accelerator("fp32")
    plain = torch.optim.SGD(model.parameters(), learning_rate)
    objective, optimizer = accelerator.prepare(Objective(model, loss), plain)
    (step,) = steps(accelerator, objective, optimizer, lambda _s: 0.5, [micro], max_grad_norm=max_grad_norm)
    return step


def test_a_step_follows_the_gradient_of_the_mean_loss():
    model, by_hand = Small(), Small()
    step = one_step(model, [batch()])
    mean = loss(by_hand, batch())["loss"].sum / 2
    mean.backward()
    assert step.loss == pytest.approx(mean.item(), rel=1e-6)
    assert (step.index, step.tokens, step.rows, step.learning_rate) == (1, 2, 2, 0.25)
    norm = torch.cat([weight.grad.flatten() for weight in by_hand.parameters()]).norm()
    assert step.grad_norm == pytest.approx(float(norm), rel=1e-5)
    for mine, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(mine, theirs - 0.25 * theirs.grad, atol=1e-7)


def test_a_long_gradient_is_shortened():
    free, clipped = Small(), Small()
    before = torch.cat([weight.detach().flatten() for weight in Small().parameters()])
    long = one_step(free, [batch()]).grad_norm
    assert one_step(clipped, [batch()], max_grad_norm=long / 10).grad_norm == pytest.approx(long, rel=1e-5)
    free_way, clipped_way = (
        torch.cat([weight.detach().flatten() for weight in model.parameters()]) - before
        for model in (free, clipped)
    )
    assert torch.allclose(clipped_way, free_way / 10, atol=1e-6)


def test_a_part_in_which_nothing_counts_changes_nothing():
    model, ignored = Small(), batch(gold=(-100, -100), counted=0.0)
    step = one_step(model, [ignored])
    assert (step.loss, step.grad_norm, step.parts) == (0.0, 0.0, {})
    for mine, fresh in zip(model.parameters(), Small().parameters(), strict=True):
        assert torch.equal(mine, fresh)
    beside, alone = Small(), Small()
    assert one_step(beside, [batch(), ignored]).loss == one_step(alone, [batch()]).loss
    assert torch.equal(beside.layer.weight, alone.layer.weight)


def test_dropout_is_drawn_anew_in_every_step_and_is_the_same_when_a_step_is_repeated():
    class Dropping(Small):
        def forward(self, ids):
            return self.layer(nn.functional.dropout(self.words(ids), 0.5, self.training))

    def losses(start, stop, seed=0):
        accelerator, model = machine.accelerator("fp32"), Dropping()
        plain = torch.optim.SGD(model.parameters(), 0.0)
        objective, optimizer = accelerator.prepare(Objective(model, loss), plain)
        torch.rand(start + 1)  # what was drawn before must not matter
        taken = steps(
            accelerator,
            objective,
            optimizer,
            lambda _step: 1.0,
            repeat([batch()], stop - start),
            max_grad_norm=1.0,
            seed=seed,
            start=start,
        )
        return [step.loss for step in taken]

    straight = losses(0, 6)
    assert len(set(straight)) > 3
    assert losses(0, 2) + losses(2, 6) == straight
    assert losses(0, 6, seed=1) != straight


@pytest.mark.parametrize("spoil", ["loss", "gradient"])
def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(spoil, tmp_path):
    def spoilt(model, batch):
        value = loss(model, batch)["loss"].sum
        if next(step) == 4:  # the square root has an infinite slope at 0, and 0 times that is no number
            value = value * float("nan") if spoil == "loss" else value + (0 * value).sqrt()
        return {"loss": Term(value)}

    step = count(1)
    with pytest.raises(InputError, match=r"no number any more in step 4.*--learning-rate"):
        fit(
            machine.accelerator("fp32"),
            Small(),
            Full(),
            spoilt,
            lambda start, stop, _most: repeat([batch()], stop - start),
            Budget(steps=5, learning_rate=0.1, save_steps=1),
            tmp_path,
            steps_per_epoch=1,
            quiet=True,
        )
    saved = Small()
    assert checkpoint.progress(tmp_path / "last")["step"] == 3
    checkpoint.load_weights(tmp_path / "last", saved)
    assert all(weight.isfinite().all() for weight in saved.parameters())


def test_random_numbers_begin_where_torch_lets_them_begin():
    torch.manual_seed(2**62 + 5)
    usual = torch.rand(3)
    machine.seed(torch.device("cpu"), 2**62 + 5)
    assert torch.equal(torch.rand(3), usual)

"""Sophia's two estimates against exact diagonals, its update by hand, and its runs stopped and resumed."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, one_hot

import toy
import toys
from afina.batching.plan import generator
from afina.core import Batch, Term
from afina.tasks._masks import IGNORED
from afina.train import machine
from afina.train.curvature import gauss_newton_bartlett, hutchinson
from afina.train.loop import Objective
from afina.train.sophia import BETAS, EVERY, RHO, Sophia

one_thread = pytest.fixture(scope="module", autouse=True)(toy.one_thread)
WEIGHTS = {"first": 1.0, "second": 0.3}  # of the two terms of the loss
ROWS, DRAWS = (5, 3), 1000


class Two(nn.Module):
    """Two heads on one body: two terms with counts and weights of their own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        hidden = torch.tanh(self.body(rows))
        return {"first": self.first(hidden), "second": self.second(hidden[::2])}


def loss(model: nn.Module, batch: Batch) -> dict[str, Term]:
    return {
        name: Term(cross_entropy(logits, batch.tensors[name], reduction="sum"), WEIGHTS[name])
        for name, logits in model(batch.tensors["rows"]).items()
    }


def drawn(model: nn.Module, batch: Batch) -> Batch:
    made = {
        name: logits.softmax(-1).multinomial(1)[:, 0] for name, logits in model(batch.tensors["rows"]).items()
    }
    return replace(batch, tensors=batch.tensors | made)


@pytest.fixture(scope="module")
def micro() -> list[Batch]:
    torch.manual_seed(1)
    batches = []
    for n in ROWS:
        golds = {"first": torch.randint(3, (n,)), "second": torch.randint(2, (-(-n // 2),))}
        counts = {name: float(len(gold)) for name, gold in golds.items()}
        batches.append(Batch({"rows": torch.randn(n, 2), **golds}, counts, n))
    return batches


def totals(micro: list[Batch]) -> dict[str, float]:
    return {name: sum(batch.counts[name] for batch in micro) for name in micro[0].counts}


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def exact(model: nn.Module, micro: list[Batch]) -> tuple[Tensor, Tensor]:
    """Return the diagonals of the Gauss-Newton matrix and of the Hessian of the step's loss, by whole matrices."""
    names = [name for name, _weight in model.named_parameters()]
    shapes = [weight.shape for weight in model.parameters()]
    point, counts = flat(model.parameters()).double(), totals(micro)

    def logits(vector: Tensor, rows: Tensor) -> dict[str, Tensor]:
        parts = vector.split([shape.numel() for shape in shapes])
        weights = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return functional_call(model, weights, (rows,))

    def whole(vector: Tensor) -> Tensor:
        sums = torch.zeros((), dtype=torch.float64)
        for batch in micro:
            for name, told in logits(vector, batch.tensors["rows"].double()).items():
                found = cross_entropy(told, batch.tensors[name], reduction="sum")
                sums = sums + WEIGHTS[name] * found / counts[name]
        return sums

    gauss_newton = torch.zeros_like(point)
    for batch in micro:
        rows = batch.tensors["rows"].double()
        jacobians: Any = torch.autograd.functional.jacobian(
            lambda v, rows=rows: tuple(logits(v, rows).values()), point
        )
        for (name, told), jacobian in zip(logits(point, rows).items(), jacobians, strict=True):
            for share, slopes in zip(told.softmax(-1), jacobian, strict=True):
                of_logits = torch.diag(share) - share[:, None] * share[None, :]
                gauss_newton += WEIGHTS[name] / counts[name] * (slopes.T @ of_logits @ slopes).diagonal()
    hessian: Any = torch.autograd.functional.hessian(whole, point)
    return gauss_newton, hessian.diagonal()


@pytest.mark.parametrize("kind", ["gnb", "hutchinson"])
def test_the_mean_of_many_estimates_is_the_exact_diagonal(kind: str, micro: list[Batch]) -> None:
    accelerator, objective = machine.accelerator("fp32"), Objective(Two(), loss)
    weights = list(objective.model.parameters())
    gauss_newton, hessian = exact(objective.model.double(), micro)
    objective.model.float()
    given = (accelerator, objective, weights, micro, totals(micro))
    one = (
        partial(gauss_newton_bartlett, *given, drawn)
        if kind == "gnb"
        else partial(hutchinson, *given, dropout_seed=0)
    )
    estimates = torch.stack([flat(one(seed=17 * seed)).double() for seed in range(DRAWS)])
    wanted = gauss_newton if kind == "gnb" else hessian
    # Each is off by chance alone: by no more than 4.5 standard errors, and in all by little.
    error = estimates.std(0) / DRAWS**0.5
    assert ((estimates.mean(0) - wanted).abs() <= 4.5 * error + 1e-6).all()
    other = hessian if kind == "gnb" else gauss_newton
    near, far = ((estimates.mean(0) - each).norm() / wanted.norm() for each in (wanted, other))
    assert near < 0.1 < 0.15 < far, "and the two diagonals are told apart"
    assert (estimates >= 0).all() or kind == "hutchinson"


@pytest.mark.parametrize("kind", ["gnb", "hutchinson"])
def test_how_a_step_is_cut_changes_no_expectation_and_no_gradient(kind: str, micro: list[Batch]) -> None:
    """The Hessian's estimate is even the same, bit for bit but for rounding: its signs do not know the cut."""
    accelerator, objective = machine.accelerator("fp32"), Objective(Two(), loss)
    weights = list(objective.model.parameters())
    if kind == "hutchinson":
        once = [
            Batch(
                {name: torch.cat([batch.tensors[name] for batch in part]) for name in part[0].tensors}, {}, 0
            )
            for part in ([micro[0]], [micro[1]], micro)
        ]
        cut = hutchinson(accelerator, objective, weights, once[:2], totals(micro), 3, 0)
        # The second head reads every other row, so that the whole is not cut in the same places: rows 0 2 4 | 0 2.
        again = hutchinson(accelerator, objective, weights, micro, totals(micro), 3, 5)
        assert torch.allclose(flat(cut), flat(again), atol=1e-6)
    before = [weight.clone() for weight in weights]
    gauss_newton_bartlett(accelerator, objective, weights, micro, totals(micro), drawn, 0)
    assert all(weight.grad is None for weight in weights)
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("sophia"), initializer_range=0.2)


@pytest.mark.parametrize("name", ["masked_lm-full-pairs", "masked_lm-full-bag of words", "causal_lm-full"])
def test_the_tasks_draw_answers_whose_estimate_is_the_gauss_newton_diagonal_of_their_biases(
    name: str, folder: Path
) -> None:
    """Of a bias on logits the exact diagonal is a mean of p (1 - p), which needs no matrix."""
    case = toys.case(name, folder)
    task: Any = case.task
    model = case.model()
    batch = task.collate([(case.rows[i], generator(0, 0, i)) for i in range(6)], case.tokenizer)
    if name.startswith("causal"):  # whose head has no bias: one is laid over it
        head: Any = model.get_submodule("lm_head")
        head.bias = nn.Parameter(torch.zeros(head.out_features))
        weights = [head.bias]
        with torch.no_grad():
            shares = [
                (model(batch.tensors["input_ids"], attention_mask=batch.tensors["attention_mask"]).logits)
            ]
        shares = [shares[0][batch.tensors["labels"] != IGNORED].softmax(-1)]
        factors = [1.0]
    else:
        wanted = ["cls.predictions.bias"] + ["cls.seq_relationship.bias"] * task.nsp
        weights = [model.get_parameter(each) for each in wanted]
        with torch.no_grad():
            told: Any = model(
                **{each: batch.tensors[each] for each in ("input_ids", "attention_mask", "token_type_ids")}
            )
            shares = [told.prediction_logits[batch.tensors["labels"] != IGNORED].softmax(-1)]
            if task.nsp:
                shares.append(told.seq_relationship_logits[batch.tensors["next"] != IGNORED].softmax(-1))
        factors = [1.0, task.nsp_weight]
        if task.bow_weight:  # the bias is that of the bag's logits too
            from afina.models.heads import hidden_states, pooled, vocabulary

            with torch.no_grad():
                bag = vocabulary(model, pooled(model, hidden_states(model, batch.tensors))).softmax(-1)
            more = task.bow_weight * (bag * (1 - bag)).mean(0)
    exact_ = [
        factor * (share * (1 - share)).mean(0)
        for factor, share in zip(factors, shares, strict=False)
        if len(share)
    ]
    if not name.startswith("causal") and task.bow_weight:
        exact_[0] = exact_[0] + more
    given = (
        machine.accelerator("fp32"),
        Objective(model.eval(), task.loss),
        weights,
        [batch],
        batch.counts,
        task.drawn,
    )
    estimates = [gauss_newton_bartlett(*given, 1000 * seed) for seed in range(400)]
    for told_, wanted_ in zip(zip(*estimates, strict=True), exact_, strict=False):
        found = torch.stack(told_)
        sums = found.sum(1)
        error = float(sums.std()) / len(found) ** 0.5
        assert float(sums.mean()) == pytest.approx(float(wanted_.sum()), abs=4 * error)
        assert error < 0.1 * float(wanted_.sum())
        assert torch.nn.functional.cosine_similarity(found.mean(0), wanted_, dim=0) > 0.9


def test_what_is_drawn_is_as_likely_as_the_model_says(folder: Path) -> None:
    case = toys.case("masked_lm-full-pairs", folder)
    task: Any = case.task
    model = case.model().eval()
    batch = task.collate([(case.rows[i], generator(0, 0, i)) for i in range(4)], case.tokenizer)
    before = {name: tensor.clone() for name, tensor in batch.tensors.items()}
    hidden = batch.tensors["labels"] != IGNORED
    with torch.no_grad():
        share = model(**{name: before[name] for name in ("input_ids", "attention_mask", "token_type_ids")})
        share = share.prediction_logits[hidden][0].softmax(-1)
        torch.manual_seed(0)
        seen = torch.stack([task.drawn(model, batch).tensors["labels"][hidden][0] for _time in range(1500)])
    counted = one_hot(seen, len(share)).float().mean(0)
    assert (counted - share).abs().max() < 0.05
    assert all(torch.equal(batch.tensors[name], before[name]) for name in before), "the batch itself stays"


def test_a_step_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0, 0.5]))
    optimizer = Sophia([{"params": [weight], "lr": 0.1, "weight_decay": 0.5}], 0.1, rho=0.5)
    optimizer.see([torch.tensor([100.0, 100.0, 0.0, -7.0])])
    weight.grad = torch.tensor([1.0, -1.0, 1.0, -1.0])
    optimizer.step()
    momentum, curvature = 1 - BETAS[0], 0.5 * 100 * (1 - BETAS[1])
    small = momentum / curvature
    assert small < 1, "of the first two the curvature decides, of the others the clipping"
    step = torch.tensor([small, -small, 1.0, -1.0])
    assert torch.allclose(weight, torch.tensor([1.0, -2.0, 3.0, 0.5]) * 0.95 - 0.1 * step)
    assert [step for step in range(25) if optimizer.due(step)] == [0, EVERY, 2 * EVERY]
    assert Sophia([weight], 0.1, "hutchinson").param_groups[0]["rho"] == RHO["hutchinson"]


@pytest.mark.parametrize("kind", ["gnb", "hutchinson"])
@pytest.mark.parametrize("name", ["masked_lm-full-pairs", "causal_lm-full"])
def test_a_stopped_and_resumed_run_is_the_straight_run(
    name: str, kind: str, folder: Path, tmp_path: Path
) -> None:
    case, accelerator = toys.case(name, folder), machine.accelerator("fp32")
    given: Any = {"optimizer": "sophia", "curvature": kind, "steps": 14, "learning_rate": 3e-3}
    straight, _progress = toys.run(case, accelerator, tmp_path / "straight", **given)

    def halt(step: int) -> None:
        if step == 13:  # the last state is of step 10: an estimate comes next
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toys.run(case, accelerator, tmp_path / "stopped", halt=halt, **given)
    resumed, _progress = toys.run(case, accelerator, tmp_path / "stopped", resume=True, **given)
    assert all(torch.equal(straight[each], resumed[each]) for each in straight)
    adamw, _progress = toys.run(case, accelerator, tmp_path / "adamw", **given | {"optimizer": "adamw"})
    assert toys.apart(straight, adamw) > 1e-3
    assert toys.apart(straight, toys.weights(case.model())) > 1e-3


@pytest.mark.parametrize("kind", ["gnb", "hutchinson"])
def test_an_estimate_is_timed_without_a_trace(kind: str, folder: Path) -> None:
    from afina.verbs._hours import _estimate

    case, accelerator = toys.case("masked_lm-full-pairs", folder), machine.accelerator("fp32")
    model = case.model()
    before = toys.weights(model)
    assert (
        _estimate(accelerator, model, case.task, kind, next(iter(case.batches(case.plan(8, 64))(0, 1)))) > 0
    )
    assert toys.distance(before, toys.weights(model)) == 0
    assert all(weight.grad is None for weight in model.parameters())

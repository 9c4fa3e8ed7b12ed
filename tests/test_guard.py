"""The guard against spikes: a planted bad step changes nothing, and what was skipped is counted, said and resumed."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import toy
from afina.core import Batch, Term
from afina.methods.full import Full
from afina.train import checkpoint, machine
from afina.train.fit import Budget, Progress, fit
from afina.train.guard import IN_A_ROW, LEAST, WINDOW, Guard

BAD, STEPS = 50, 70
one_thread = pytest.fixture(scope="module", autouse=True)(toy.one_thread)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layer(rows)


def train(
    run: Path,
    *,
    guard: bool,
    bad: str | None,
    stop: int | None = None,
    resume: bool = False,
    quiet: bool = True,
) -> tuple[Net, Progress]:
    """Train a line between three heaps of points; step BAD has a loss or a gradient from elsewhere."""

    def batch(index: int) -> list[Batch]:
        rng = np.random.default_rng(index)
        gold = rng.integers(3, size=32)
        rows = rng.normal(size=(32, 6)) + 2 * np.eye(6)[gold]
        factor = 1.0
        if index + 1 == BAD and bad == "loss":
            rows, factor = 30 * rng.normal(size=(32, 6)), 1e-3  # a long way off, with a short gradient
        elif index + 1 == BAD and bad == "gradient":
            factor = 1e3
        elif index + 1 == BAD and bad == "infinity":
            rows[0, 0] = np.inf
        tensors = {
            "rows": torch.tensor(rows, dtype=torch.float32),
            "gold": torch.tensor(gold),
            "factor": torch.tensor([factor] * 32),
        }
        return [Batch(tensors, {"loss": 32.0}, 32)]

    def loss(model: nn.Module, batch: Batch) -> dict[str, Term]:
        rows, factor = batch.tensors["rows"], batch.tensors["factor"][0]
        found = cross_entropy(model(rows), batch.tensors["gold"], reduction="sum")
        return {"loss": Term(factor * found + (1 - factor) * found.detach())}

    def batches(start: int, end: int, most: int | None = None) -> Any:
        for index in range(start, end):
            if index == stop:
                raise KeyboardInterrupt
            yield batch(index)

    run.mkdir(exist_ok=True)
    model = Net()
    progress = fit(
        machine.accelerator("fp32"),
        model,
        Full(),
        loss,
        batches,
        Budget(steps=STEPS, learning_rate=0.01, save_steps=7, max_grad_norm=1e9, spike_guard=guard),
        run,
        steps_per_epoch=10,
        resume=resume,
        quiet=quiet,
    )
    return model, progress


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "steps.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_bad_batch_changes_no_weight_and_is_counted_and_said(
    bad: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    guarded, progress = train(tmp_path / "guarded", guard=True, bad=bad, quiet=False)
    assert progress.guard.skipped == 1
    assert [line["step"] for line in lines(tmp_path / "guarded") if line["skipped"]] == [BAD]
    assert f"Step {BAD} was skipped" in capfd.readouterr().err
    free, progress = train(tmp_path / "free", guard=False, bad=bad)
    assert progress.guard == Guard() and not any(line["skipped"] for line in lines(tmp_path / "free"))
    assert not torch.equal(guarded.layer.weight, free.layer.weight)


def test_nothing_is_skipped_where_nothing_is_bad(tmp_path: Path) -> None:
    guarded, progress = train(tmp_path / "guarded", guard=True, bad=None)
    free, _progress = train(tmp_path / "free", guard=False, bad=None)
    assert progress.guard.skipped == 0
    assert torch.equal(guarded.layer.weight, free.layer.weight)


def test_the_weights_of_a_skipped_step_are_those_before_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, guard=True, bad="gradient", stop=49)
    saved = checkpoint.progress(tmp_path / "last")
    assert saved and saved["step"] == 49
    before = Net()
    checkpoint.load_weights(tmp_path / "last", before)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, guard=True, bad="gradient", stop=56, resume=True)
    straight, _progress = train(tmp_path / "again", guard=True, bad="gradient")
    after, progress = train(tmp_path, guard=True, bad="gradient", resume=True)
    assert torch.equal(straight.layer.weight, after.layer.weight)
    assert progress.guard == _progress.guard and progress.guard.skipped == 1
    assert not torch.equal(before.layer.weight, after.layer.weight)


def test_what_is_usual_is_learnt_first_and_does_not_hold_for_ever() -> None:
    rng, guard = np.random.default_rng(0), Guard()
    assert not any(guard.skips(value, 1.0) for value in [1.0, 50.0, 1.0]), "too few to say what is usual"
    guard = Guard()
    assert not any(guard.skips(3 + 0.1 * rng.normal(), 1.0) for _step in range(500))
    assert len(guard.losses) == len(guard.norms) == WINDOW
    assert not guard.skips(3.7, 4.9), "six deviations are not enough where they are small"
    guard.norms[-1] = 1.0
    before = asdict(guard)
    assert guard.skips(6.0, 1.0) and guard.skips(3.0, 5.1)
    assert (guard.losses, guard.norms) == (before["losses"], before["norms"])
    assert guard.skipped == 2 and not guard.skips(3.0, 1.0)
    high = [guard.skips(9.0, 1.0) for _step in range(IN_A_ROW + LEAST)]
    assert high == [True] * IN_A_ROW + [False] * LEAST, "a level that stays is the new one"
    assert Guard(**json.loads(json.dumps(asdict(guard)))) == guard


def test_what_is_no_number_is_skipped_but_not_for_ever(tmp_path: Path) -> None:
    guard = Guard()
    assert [guard.skips(float("nan"), 1.0) for _step in range(IN_A_ROW)] == [True] * (IN_A_ROW - 1) + [False]
    assert Guard().skips(1.0, float("inf"))
    guarded, progress = train(tmp_path, guard=True, bad="infinity")
    assert progress.guard.skipped == 1 and bool(guarded.layer.weight.isfinite().all())
    (line,) = [line for line in lines(tmp_path) if line["skipped"]]
    assert line["loss"] is None and line["grad_norm"] is None

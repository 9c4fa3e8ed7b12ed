"""What a training will take, foretold by a few steps that leave everything as it was."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import toy
import toys
from afina.core import Step
from afina.train import machine
from afina.train.forecast import TIMED, forecast
from afina.train.loop import steps
from afina.train.track import peak_memory_mb

one_thread = pytest.fixture(scope="module")(toy.one_thread)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def accelerator() -> Any:
    return machine.accelerator("fp32")


def foretold(case: toys.Case, model: torch.nn.Module, accelerator: Any, total: int) -> tuple[Any, list[int]]:
    """Return the forecast, and the steps that it tried."""
    plan, tried = case.plan(8), []

    def batches(start: int, stop: int, most: int | None = None) -> Any:
        tried.append(start)
        return case.batches(plan)(start, stop, most)

    return forecast(accelerator, model, case.method, case.task.loss, batches, plan, total), tried


@pytest.mark.parametrize(
    "name", ["classification-full", "classification-gradual", "token_labels-lora", "masked_lm-head"]
)
def test_no_weight_and_no_training_is_changed(
    name: str, folder: Path, accelerator: Any, tmp_path: Path
) -> None:
    case = toys.case(name, folder)
    model = case.model(dropout=None)
    before = toys.weights(model)
    found, tried = foretold(case, model, accelerator, 400)
    after = toys.weights(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    assert found.seconds > 0 and 0 < found.memory_mb <= 1.4 * peak_memory_mb()
    stages = len(case.method.stages(model))
    assert len(tried) == stages * (TIMED + 2) and max(tried) < 400
    straight, _progress = toys.run(case, accelerator, tmp_path / "straight")
    foretold(case, case.model(), accelerator, 400)
    again, _progress = toys.run(case, accelerator, tmp_path / "again")
    assert all(torch.equal(straight[name], again[name]) for name in straight)


def test_what_is_timed_stands_for_all_tokens(
    folder: Path, accelerator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(*given: Any, **named: Any) -> Iterator[Step]:
        return (replace(step, seconds=0.001 * step.tokens) for step in steps(*given, **named))

    monkeypatch.setattr("afina.train.forecast.steps", timed)
    case = toys.case("classification-full", folder)
    plan = case.plan(8)
    for total in (plan.steps_per_epoch, 7 * plan.steps_per_epoch):
        found, _tried = foretold(case, case.model(), accelerator, total)
        tokens = sum(plan.lengths) * total / plan.steps_per_epoch
        assert found.seconds == pytest.approx(0.001 * tokens, rel=1e-3)


def test_a_dry_run_says_what_it_will_take(
    folder: Path, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toy.table(tmp_path / "toy.csv")
    toy.model(tmp_path / "tiny")
    run = toy.command(capfd)
    said = run("finetune", "toy.csv", "--model", "tiny", "--dry-run", "--json")
    assert said.code == 0, said.err
    assert "the whole training takes about" in said.err and "MB of memory" in said.err
    assert said.json["details"]["forecast"]["seconds"] > 0
    said = run("finetune", "toy.csv", "--model", "tiny", "--max-steps", "60", "--output-dir", "run", "--json")
    told = said.json["details"]["forecast"]
    assert told["memory_mb"] <= said.json["peak_memory_mb"]
    short = run(
        "finetune", "toy.csv", "--model", "tiny", "--max-steps", "3", "--output-dir", "short", "--json"
    )
    assert short.json["details"]["forecast"] is None

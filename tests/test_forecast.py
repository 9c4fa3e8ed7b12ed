"""What a training will take, foretold by a few steps that leave everything as it was."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import toy
import toys
from afina.core import Step
from afina.methods.partial import Partial
from afina.train import frozen, machine, memory
from afina.train.bundle import Bundle
from afina.train.forecast import HOLES, MOVED, TIMED, fitting, forecast
from afina.train.frozen import Readings
from afina.train.loop import steps
from afina.train.track import peak_memory_mb
from afina.verbs._describe import readings

one_thread = pytest.fixture(scope="module")(toy.one_thread)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def accelerator() -> Any:
    return machine.accelerator("fp32")


def foretold(
    case: toys.Case, model: torch.nn.Module, accelerator: Any, total: int, **given: Any
) -> tuple[Any, list[int]]:
    """Return the forecast, and the steps that it tried."""
    plan, tried = case.plan(8), []

    def batches(start: int, stop: int, most: int | None = None) -> Any:
        tried.append(start)
        return case.batches(plan)(start, stop, most)

    return forecast(accelerator, model, case.method, case.task.loss, batches, plan, total, **given), tried


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


def test_frozen_blocks_are_foretold_by_all_rows_and_the_disk_of_the_run(
    folder: Path, accelerator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few rows always fit; what counts is whether all do, where the run will lie."""
    case = toys.case("classification-partial", folder)._replace(method=Partial(top_blocks=1))
    kept: list[Any] = []
    own = frozen._fill
    monkeypatch.setattr(frozen, "_fill", lambda *given: kept.append(own(*given)) or kept[-1])
    given = Readings(list, 1000, 30)
    for every, free in ((given, 2**30), (given._replace(tokens=10**9), 2**40), (given, 2**10)):
        asked: list[Path] = []
        monkeypatch.setattr(
            frozen.shutil,
            "disk_usage",
            lambda place, free=free, asked=asked: asked.append(place) or Disk(free),
        )
        foretold(case, case.model(), accelerator, 400, readings=every, run=tmp_path / "run" / "first")
        assert asked[0] == tmp_path
    assert kept == [True, False, False]
    assert not list(tmp_path.iterdir())


class Disk(NamedTuple):
    free: int


def test_a_task_that_draws_anew_keeps_nothing(folder: Path) -> None:
    for name, same in (("masked_lm-partial", False), ("classification-partial", True)):
        case = toys.case(name, folder)
        bundle = Bundle(case.model(), case.tokenizer, case.task, case.method, toys.LENGTH)
        assert (readings(bundle, case.rows) is not None) == same


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
    assert told["memory_mb"] <= said.json["peak_memory_mb"] + 0.1  # which is rounded
    short = run(
        "finetune", "toy.csv", "--model", "tiny", "--max-steps", "3", "--output-dir", "short", "--json"
    )
    assert short.json["details"]["forecast"] is None


@pytest.mark.parametrize("name", ["classification-gradual", "classification-lora", "causal_lm-full"])
def test_as_many_tokens_go_through_at_once_as_fit(
    name: str, folder: Path, accelerator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = toys.case(name, folder)
    model, plan = case.model(dropout=None), case.plan(64, 8 * 512)
    before = toys.weights(model)
    longest = max(plan.lengths)

    def found(free: int | None) -> int:
        monkeypatch.setattr(memory, "free", lambda _device: free)
        return fitting(accelerator, model, case.method, case.task.loss, case.batches(plan), plan)

    assert found(None) == found(10**12) == plan.micro_tokens
    least = found(0)
    assert longest / 2 < least <= longest, "one row is tried in any case"
    told: list[int] = []
    monkeypatch.setattr("afina.train.forecast._kept", lambda *_given: told.append(1000) or 1000)
    trained = sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if any(stage.trainable is None or name in stage.trainable for stage in case.method.stages(model))
    )
    assert trained < sum(weight.numel() for weight in model.parameters()) or "lora" not in name
    for halvings in (1, 2):
        tokens = plan.micro_tokens >> halvings
        need = MOVED * trained + (1 + HOLES) * 1000 * (tokens // longest)
        assert found(int(need) + 1) == tokens and found(int(need) - 1) == tokens // 2
    assert told and all(weight.requires_grad for weight in model.parameters())
    assert all(torch.equal(before[name], weight) for name, weight in toys.weights(model).items())


def test_what_a_row_leaves_is_what_it_keeps_for_the_way_back(folder: Path, accelerator: Any) -> None:
    """Of a layer of so many numbers the output is kept once, its views and its weights are not counted."""
    from afina.core import Batch, Term
    from afina.train.forecast import _kept
    from afina.train.loop import Objective

    layer = torch.nn.Linear(10, 1000)

    def loss(model: torch.nn.Module, batch: Batch) -> dict[str, Term]:
        hidden = model(batch.tensors["input_ids"]).relu()
        return {"loss": Term((hidden.view(-1).exp() * hidden.view(-1)).sum())}

    rows = torch.ones(7, 10)
    kept = _kept(Objective(layer, loss), Batch({"input_ids": rows}, {"loss": 7.0}, 70))
    assert kept == 4 * (7 * 10 + 2 * 7 * 1000)  # the rows, what relu gives, and its exponential


def test_a_control_group_may_have_less_than_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    whole = memory.free(cpu)
    if whole is None:
        pytest.skip("this system does not tell what is free")
    for name, text in (("max", "max\n"), ("current", "9000\n"), ("stat", "anon 1\ninactive_file 4000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free(cpu) > 10**6, "no limit"
    (tmp_path / "memory.max").write_text("10000\n")
    assert memory.free(cpu) == 5000, "what is only kept for reading again is free"
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory.free(cpu) == 0


def test_little_memory_is_said_and_a_person_decides(
    tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toy.table(tmp_path / "toy.csv")
    toy.model(tmp_path / "tiny")
    monkeypatch.setattr(memory, "free", lambda _device: 0)
    run = toy.command(capfd)
    few = ("finetune", "toy.csv", "--model", "tiny", "--max-steps", "2", "--json", "--output-dir")
    said = run(*few, "run")
    assert said.code == 0, said.err
    tokens = said.json["details"]["micro_batch_tokens"]
    assert f"is free, so {tokens} go through" in " ".join(said.err.split()) and tokens < 64
    assert f"micro_batch_tokens = {tokens}\n" in (tmp_path / "run" / "run.toml").read_text("utf-8")
    said = run(*few, "own", "--micro-batch-tokens", "100")
    assert "is free, so" not in said.err and said.json["details"]["micro_batch_tokens"] == 100


def test_the_peak_is_that_of_the_process_and_not_of_what_started_it() -> None:
    """Of the other count Linux lets a child begin with its parent's: every run of a comparison would cost as much."""
    ask = "from afina.train.track import peak_memory_mb; print(peak_memory_mb())"
    held = bytearray(400_000_000)
    held[::4096] = b"1" * len(held[::4096])
    own = peak_memory_mb()
    child = subprocess.run([sys.executable, "-c", ask], check=True, stdout=subprocess.PIPE, text=True)
    assert own > 400 and float(child.stdout) < own - 200

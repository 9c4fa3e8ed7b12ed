"""Memory that runs out: the step is taken again in smaller parts, and nothing but that is another."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import toy
import toys
from afina.core import Batch, Loss
from afina.errors import InputError
from afina.tasks._sentence import Sentence
from afina.train import machine, memory
from afina.train.bundle import by_row, glances_and_loss
from afina.train.fit import Budget, Progress, fit
from afina.train.loop import Objective, steps

one_thread = pytest.fixture(scope="module", autouse=True)(toy.one_thread)
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4000000000 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("toys"))


@pytest.fixture(scope="module")
def accelerator() -> Any:
    return machine.accelerator("fp32")


def limited(loss: Callable[[nn.Module, Batch], Loss], most: int, error: Exception = CPU) -> Any:
    """Return a loss that runs out of memory on batches of more than `most` tokens, when all has been computed."""

    def limited(model: nn.Module, batch: Batch) -> Loss:
        found = loss(model, batch)
        if batch.tensors["input_ids"].numel() > most:
            raise error
        return found

    return limited


def failing(loss: Callable[[nn.Module, Batch], Loss], call: int) -> Any:
    """Return a loss that runs out of memory when it is called for the time `call`, from 1."""
    calls = 0

    def failing(model: nn.Module, batch: Batch) -> Loss:
        nonlocal calls
        calls += 1
        if calls == call:
            raise CPU
        return loss(model, batch)

    return failing


def trained(
    case: toys.Case, accelerator: Any, run: Path, micro: int, loss: Any = None, **more: Any
) -> tuple[dict[str, torch.Tensor], Progress]:
    """Train six steps with dropout through `fit`."""
    run.mkdir(exist_ok=True)
    model, plan = case.model(dropout=None), case.plan(6, micro)
    budget = Budget(**{"steps": 6, "learning_rate": 1e-3, "save_steps": 2, **more})
    progress = fit(
        accelerator, model, case.method, loss or case.task.loss, case.batches(plan), budget, run,
        steps_per_epoch=plan.steps_per_epoch, quiet=True, drawn=getattr(case.task, "drawn", None),
    )  # fmt: skip
    return toys.weights(model), progress


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "steps.jsonl").read_text("utf-8").splitlines()]


def test_what_runs_out_is_told_from_other_faults() -> None:
    for error in (
        CPU,
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4000 bytes."),  # Windows
        MemoryError(),
        RuntimeError("could not create a primitive"),  # oneDNN, in bf16
        RuntimeError("could not execute a primitive"),
    ):
        assert isinstance(error, memory.ERRORS) and memory.ran_out(error)
    assert not memory.ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"))
    wrong = (
        "could not create a primitive descriptor for the matmul primitive"  # a shape or a type, not memory
    )
    assert not memory.ran_out(RuntimeError(wrong))
    with pytest.raises(RuntimeError, match="allocate memory") as found:
        torch.empty(2**60)
    assert memory.ran_out(found.value), "torch says it in other words now"


@pytest.mark.parametrize(
    "name, more", [("classification-full", {}), ("masked_lm-full", {"optimizer": "sophia"})]
)
def test_it_goes_on_as_if_the_smaller_batches_had_been_asked_for(
    name: str, more: dict[str, Any], folder: Path, accelerator: Any, tmp_path: Path
) -> None:
    case = toys.case(name, folder)
    found, progress = trained(case, accelerator, tmp_path / "run", 48, limited(case.task.loss, 24), **more)
    most = progress.micro_batch_tokens
    assert most and most <= 24
    if more:  # the estimate that was made before memory ran out is kept, so the gradients alone are another's
        assert lines(tmp_path / "run")[0] == {"step": 1, "micro_batch_tokens": most}
        return
    straight, untold = trained(case, accelerator, tmp_path / "straight", most)
    assert untold.micro_batch_tokens is None
    assert all(torch.equal(straight[name], found[name]) for name in straight), "bit by bit, dropout included"
    said = [line for line in lines(tmp_path / "run") if "micro_batch_tokens" in line]
    assert said == [{"step": 1, "micro_batch_tokens": most}], "once, and kept from then on"
    kept = json.loads((tmp_path / "run" / "last" / "progress.json").read_text("utf-8"))
    assert kept["micro_batch_tokens"] == most, "a run that goes on need not run out again"


@pytest.mark.parametrize("call", [1, 2, 6])
def test_half_a_gradient_is_forgotten(call: int, folder: Path, accelerator: Any) -> None:
    """Without dropout the steps are those of an undisturbed training to rounding; SGD shows gradients as they are."""
    case, seen = toys.case("token_labels-full", folder), []
    plan = case.plan(8, 60)
    whole, undisturbed = toys.train(case, accelerator, 3, 60)
    model = case.model()
    objective, optimizer = accelerator.prepare(
        Objective(model, failing(case.task.loss, call)), torch.optim.SGD(model.parameters(), lr=0.5)
    )
    batches = case.batches(plan)

    def smaller(index: int, micro: list[Batch]) -> list[Batch]:
        assert all(weight.grad is None for weight in model.parameters())
        parts, most = memory.smaller(micro, partial(batches, index, index + 1))
        assert len(parts) > len(micro) > 1 and most < 60
        return parts

    taken = list(
        steps(
            accelerator, objective, optimizer, lambda _step: 1.0, batches(0, 3), max_grad_norm=1e9, smaller=smaller,
            observe=lambda index, _micro, _totals: seen.append(index),
        )
    )  # fmt: skip
    accelerator.free_memory()
    assert seen == [0, 1, 2], "no step is observed twice"
    assert [step.rows for step in taken] == [step.rows for step in undisturbed]
    for step, other in zip(taken, undisturbed, strict=True):
        assert step.loss == pytest.approx(other.loss, rel=1e-5)
        assert step.grad_norm == pytest.approx(other.grad_norm, rel=1e-5)
    assert toys.apart(whole, toys.weights(model)) < 1e-6


def test_what_cannot_be_helped_is_said(
    folder: Path, accelerator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = toys.case("classification-full", folder)
    run = partial(trained, case, accelerator)
    with pytest.raises(InputError, match=r"one row at a time.*--max-length"):
        run(tmp_path / "a", 48, limited(case.task.loss, 0))
    with pytest.raises(RuntimeError, match="shapes"):
        run(tmp_path / "b", 48, limited(case.task.loss, 0, RuntimeError("shapes differ")))
    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", lambda *_given, **_named: (_ for _ in ()).throw(CPU))
        with pytest.raises(InputError, match="--method lora"):
            run(tmp_path / "c", 48)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"2 processes.*--micro-batch-tokens"):
        run(tmp_path / "d", 48, limited(case.task.loss, 24))


@pytest.mark.parametrize("name", ["classification-full", "masked_lm-full", "causal_lm-full"])
def test_answers_are_the_same_from_smaller_batches(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = toys.case(name, folder)
    model, task = case.model(), case.task
    given = model, task, case.tokenizer, case.rows
    sizes: list[int] = []

    def ask(model: nn.Module, batch: Batch) -> list[Any]:
        size = batch.tensors["input_ids"].numel()
        sizes.append(size)
        if size > 60:
            raise CPU
        return task.glance(model, batch)

    assert toys.alike(by_row(*given, 400, task.glance), by_row(*given, 400, ask), 1e-5)
    assert sizes[0] > 60 and max(sizes[1:]) < sizes[0]
    assert sum(size > 60 for size in sizes) <= 4, "what is too much once is not tried again"
    whole, mean = glances_and_loss(*given, 400)
    loss = type(task).loss
    with monkeypatch.context() as patched:
        patched.setattr(
            type(task), "loss", lambda self, model, batch: limited(partial(loss, self), 60)(model, batch)
        )
        parts, same = glances_and_loss(*given, 400)
    assert same == pytest.approx(mean, rel=1e-5) and toys.alike(whole, parts, 1e-5)
    with pytest.raises(InputError, match="one row at a time"):
        by_row(*given, 400, limited(task.glance, 0))  # type: ignore[arg-type]


def test_a_person_is_told(tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy.table(tmp_path / "toy.csv")
    toy.model(tmp_path / "tiny")
    loss = Sentence.loss
    monkeypatch.setattr(
        Sentence, "loss", lambda self, model, batch: limited(partial(loss, self), 64)(model, batch)
    )
    said = toy.command(capfd)(
        "finetune", "toy.csv", "--model", "tiny", "--max-steps", "3", "--output-dir", "run", "--json"
    )
    assert said.code == 0, said.err
    assert said.err.count("ran out of memory and is taken again") == 1
    most = said.json["details"]["micro_batch_tokens"]
    assert {"step": 1, "micro_batch_tokens": most} in toy.steps(tmp_path / "run") and most <= 64


# Rows of numbers, whose activations are what takes memory; as much of it as is left is given to the process.
REAL = """
import resource, sys
from pathlib import Path
import torch
from torch import nn
from afina.batching.plan import by_tokens
from afina.core import Batch, Term
from afina.methods.full import Full
from afina.train import machine
from afina.train.fit import Budget, fit

torch.set_num_threads(1)
accelerator = machine.accelerator("fp32")
ROWS, WIDTH = 8192, 1024

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(8, WIDTH)
    def forward(self, rows):
        found = self.layer(rows)
        for _layer in range(24):  # 32 MB each for all rows
            found = found.relu()
        return found

def batches(start, stop, most=None):
    for index in range(start, stop):
        rows = torch.randn(ROWS, 8, generator=torch.Generator().manual_seed(index))
        parts = by_tokens(range(ROWS), [8] * ROWS, most or 8 * ROWS)
        yield [Batch({"input_ids": rows[part]}, {"loss": float(len(part))}, 8 * len(part)) for part in parts]

def train(run):
    model = Net()
    loss = lambda model, batch: {"loss": Term(model(batch.tensors["input_ids"]).square().sum() / WIDTH)}
    progress = fit(accelerator, model, Full(), loss, batches, Budget(steps=2, learning_rate=1e-3, warmup_steps=0),
                   Path(run), steps_per_epoch=2, quiet=True)
    return torch.cat([weight.detach().ravel() for weight in model.parameters()]), progress.micro_batch_tokens

size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 350 * 2**20, resource.RLIM_INFINITY))
short, most = train(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
whole, unlimited = train(sys.argv[2])
assert unlimited is None, unlimited
print(most, float((short - whole).abs().max()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is limited as Linux does it")
def test_a_process_that_really_runs_out_goes_on(tmp_path: Path) -> None:
    for name in ("short", "whole"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", REAL, str(tmp_path / "short"), str(tmp_path / "whole")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    most, apart = done.stdout.split()
    assert 8 <= int(most) <= 8 * 4096 and float(apart) < 1e-5
    assert {"step": lines(tmp_path / "short")[0]["step"]} == {"step": 1}
    assert "micro_batch_tokens" in lines(tmp_path / "short")[0]

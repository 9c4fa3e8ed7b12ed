"""What a run goes on from survives a full disk and a kill: the old state is whole until the new one is."""

import errno
import json
import os
import resource
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from afina.errors import InputError
from afina.train import atomic, checkpoint
from afina.train.optimizer import adamw
from afina.train.track import Log, read


def trained(seed: int, steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a layer and its optimizer after some steps."""
    torch.manual_seed(seed)
    model = nn.Linear(200, 50)
    optimizer = adamw(model, 0.1, 0.01, 0.999)
    for _step in range(steps):
        model(torch.randn(4, 200)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def save(folder: Path, seed: int) -> None:
    model, optimizer = trained(seed)
    checkpoint.save(folder, model, {"weight", "bias"}, optimizer, {"step": seed})


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_weights_and_optimizer_come_back_bit_by_bit(tmp_path):
    save(tmp_path / "last", 1)
    model, optimizer = trained(2, steps=0)
    checkpoint.load_weights(tmp_path / "last", model)
    checkpoint.load_optimizer(tmp_path / "last", model, optimizer)
    old, before = trained(1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), old.parameters(), strict=True))
    for mine, theirs in zip(model.parameters(), old.parameters(), strict=True):
        state = before.state[theirs]
        assert optimizer.state[mine].keys() == state.keys() >= {"exp_avg", "exp_avg_sq", "step"}
        assert all(torch.equal(optimizer.state[mine][key], state[key]) for key in state)
    assert checkpoint.progress(tmp_path / "last") == {"step": 1}
    assert {file.suffix for file in (tmp_path / "last").iterdir()} == {".safetensors", ".json"}


def test_only_the_trained_weights_are_kept(tmp_path):
    model, optimizer = trained(1)
    checkpoint.save(tmp_path / "last", model, {"bias"}, optimizer, {"step": 1})
    other, _optimizer = trained(2)
    before = other.weight.clone()
    checkpoint.load_weights(tmp_path / "last", other)
    assert torch.equal(other.bias, model.bias) and torch.equal(other.weight, before)


def test_a_new_run_has_no_progress(tmp_path):
    assert checkpoint.progress(tmp_path / "last") is None


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), SafetensorError("No space left on device")]
)
def test_a_full_disk_leaves_the_old_state_whole(call, error, tmp_path, monkeypatch):
    save(tmp_path / "run" / "last", 1)
    before, calls, write = content(tmp_path), [], checkpoint.save_file

    def full(tensors, file):
        calls.append(file)
        if len(calls) == call:
            Path(file).write_bytes(b"half")
            raise error
        write(tensors, file)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(InputError, match=r"Cannot write .*last: No space left on device\. Free some space"):
        save(tmp_path / "run" / "last", 2)
    assert len(calls) == call
    assert content(tmp_path) == before


def test_a_write_that_really_fails_leaves_the_old_state_whole(tmp_path):
    """The system itself cuts the file off after 10,000 bytes of about 40,000."""
    save(tmp_path / "last", 1)
    before, limits = content(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(InputError, match="Cannot write"):
            save(tmp_path / "last", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(tmp_path) == before
    save(tmp_path / "last", 2)
    assert checkpoint.progress(tmp_path / "last") == {"step": 2}


class Killed(BaseException):
    """Stands for the end of the process: no handler runs."""


@pytest.mark.parametrize("moment", ["flush", "rename 1", "rename 2"])
def test_a_kill_at_any_moment_leaves_one_whole_state(moment, tmp_path, monkeypatch):
    """Twice in a row, as a machine that fails tends to do, and then a save that works."""
    last, count, rename = tmp_path / "last", [], Path.rename
    save(last, 1)

    def killed_rename(self, target):
        count.append(target)
        if moment == f"rename {len(count)}":
            raise Killed
        return rename(self, target)

    def killed_flush(_file):
        raise Killed

    for _time in range(2):
        count.clear()
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Path, "rename", killed_rename)
            if moment == "flush":
                patch.setattr(atomic, "_flush", killed_flush)
            save(last, 2)
            raise Killed  # the second time there is one renaming less to be killed in
        step = checkpoint.progress(last)["step"]
        model, _optimizer = trained(5, steps=0)
        checkpoint.load_weights(last, model)
        whole, _optimizer = trained(step)
        assert torch.equal(model.weight, whole.weight)
    save(last, 3)
    assert checkpoint.progress(last) == {"step": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["last"]


def test_a_text_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    file = tmp_path / "run.toml"
    atomic.write_text(file, "ñ = 1\n")

    def full(_file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "_flush", full)
    with pytest.raises(InputError, match=r"run\.toml: No space left on device"):
        atomic.write_text(file, "ñ = 2\n")
    assert content(tmp_path) == {"run.toml": "ñ = 1\n".encode()}


def test_the_log_goes_on_where_the_state_stands(tmp_path):
    file = tmp_path / "steps.jsonl"
    log = Log(file)
    for step in range(1, 8):
        log.write({"step": step, "loss": 1 / step})
    with file.open("a") as stream:
        stream.write('{"step": 8, "lo')  # a kill in mid-line
    Log(file, resume_at=5).write({"step": 6, "loss": 0.5})
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in read(file)][-1] == 0.5
    Log(file)
    assert file.read_text() == "", "a run that begins anew keeps no old lines"


def test_weights_are_as_readable_as_other_files(tmp_path):
    from safetensors.torch import save_file

    before = os.umask(0o022)
    try:
        with atomic.replaced(tmp_path / "best") as new:
            save_file({"a": torch.zeros(2)}, new / "model.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "best" / "model.safetensors").stat().st_mode & 0o777 == 0o644

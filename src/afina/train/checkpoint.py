"""The state from which a stopped run goes on: weights, optimizer and progress, as safetensors and JSON."""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from afina.errors import InputError
from afina.messages import _


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Give an empty folder to write into, and put it in `folder`'s place when all of it has been written.

    A full disk or a kill leaves the old folder whole. Raises InputError where writing fails.
    """
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        yield new
        for file in new.rglob("*"):
            _flush(file)
        if folder.exists():  # else the old one is all there is until the new one is in place
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise cannot_write(folder, error) from None


def write_text(file: Path, text: str) -> None:
    """Write a file so that it is either the old one or the new one, never half; InputError where that fails."""
    new = file.with_name(file.name + ".new")
    try:
        new.write_text(text, encoding="utf-8")
        _flush(new)
        new.replace(file)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise cannot_write(file, error) from None


def cannot_write(place: Path, error: OSError) -> InputError:
    """Say that `place` could not be written and why."""
    return InputError(
        _(
            "Cannot write {place}: {reason}. Free some space or choose another folder with --output-dir."
        ).format(place=place, reason=error.strerror or error)
    )


def save(
    folder: Path,
    model: nn.Module,
    trained: Collection[str],
    optimizer: torch.optim.Optimizer,
    progress: dict[str, Any],
) -> None:
    """Write `last/`: the `trained` weights (those of every stage), the optimizer's state, and the progress."""
    with replaced(folder) as new:
        weights = {name: weight for name, weight in model.named_parameters() if name in trained}
        state = {
            f"{name}|{key}": value
            for name, weight in weights.items()
            for key, value in optimizer.state.get(weight, {}).items()
            if isinstance(value, torch.Tensor)
        }
        _write(
            lambda: save_file(
                {n: w.detach().contiguous() for n, w in weights.items()}, new / "weights.safetensors"
            )
        )
        _write(lambda: save_file(state, new / "optimizer.safetensors"))
        (new / "progress.json").write_text(json.dumps(progress), encoding="utf-8")


def progress(folder: Path) -> dict[str, Any] | None:
    """Return the progress of the last whole checkpoint of a run, None where it has none."""
    file = _whole(folder) / "progress.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def load_weights(folder: Path, model: nn.Module) -> None:
    """Put the weights of `last/` back, bit by bit."""
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in load_file(_whole(folder) / "weights.safetensors").items():
            own[name].copy_(weight)


def load_optimizer(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the optimizer's state of `last/` back, bit by bit: only within the stage that it was saved in."""
    own = dict(model.named_parameters())
    for key, value in load_file(_whole(folder) / "optimizer.safetensors").items():
        name, _bar, what = key.rpartition("|")
        optimizer.state[own[name]][what] = value.to(own[name].device)  # fused AdamW keeps even its step there


def _whole(folder: Path) -> Path:
    """Return the folder, or the one before it where a kill came between the two renamings of `replaced`."""
    return folder if (folder / "progress.json").is_file() else folder.with_name(folder.name + ".old")


def _write(write: Callable[[], None]) -> None:
    """Run a safetensors write; its own error type is turned into the OSError that it is."""
    from safetensors import SafetensorError

    try:
        write()
    except SafetensorError as error:
        raise OSError(None, str(error)) from None


def _flush(file: Path) -> None:
    if file.is_file():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())

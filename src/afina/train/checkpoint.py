"""The state from which a stopped run goes on: weights, optimizer and progress, as safetensors and JSON."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from afina.train.atomic import replaced


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
        save_file({n: w.detach().contiguous() for n, w in weights.items()}, new / "weights.safetensors")
        save_file(state, new / "optimizer.safetensors")
        (new / "progress.json").write_text(json.dumps(progress), encoding="utf-8")


def progress(folder: Path) -> dict[str, Any] | None:
    """Return the progress of the last whole checkpoint of a run, None where it has none."""
    file = _whole(folder) / "progress.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def began(run: Path, resume: bool, now: float) -> float:
    """Return when a run would have begun without the pauses between its sittings, of which this one began `now`."""
    saved = (progress(run / "last") if resume else None) or {}
    return now - max(saved.get("total", 0.0), saved.get("seconds", 0.0))


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

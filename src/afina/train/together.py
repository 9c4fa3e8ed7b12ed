"""Several trained models on one base: weights that are alike bit by bit are in memory once."""

import hashlib
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from afina.train.bundle import Bundle
from afina.train.run import Run


def together(*runs: str | Path) -> dict[str, Bundle]:
    """Return the models of several runs, by the names given, to answer side by side in little more memory than one.

    Of runs whose method keeps the base model's weights only what each has trained comes on top. They are for
    answering alone: weights of one are weights of the others. Raises InputError as `Run` does.
    """
    found: dict[str, Bundle] = {}
    held: dict[tuple[object, ...], Tensor] = {}
    for run in runs:
        found[str(run)] = Run(run).bundle
        share(found[str(run)].model, held)
    return found


def share(model: nn.Module, held: dict[tuple[object, ...], Tensor]) -> None:
    """Let the model use those of the `held` weights that are equal to its own, and hold the others for the next one.

    Weights are known by their content and not by their names, which methods change.
    """
    for weight in chain(model.parameters(), model.buffers()):
        data = weight.detach().contiguous()
        content = hashlib.blake2b(data.reshape(-1).view(torch.uint8).cpu().numpy().data).digest()
        weight.requires_grad_(False)
        weight.data = held.setdefault((data.device, data.dtype, data.shape, content), weight.data)

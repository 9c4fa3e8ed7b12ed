"""A Houlsby adapter and a low-rank update at one place, and the gate between them."""

import torch
from torch import Tensor, nn

from afina.methods._houlsby import Bottleneck


class Pair(nn.Module):
    """Both are added to what a layer gives; a learnt gate says how much of each. Starts near the identity.

    In parallel both start from the layer; in sequence the adapter works on what the update has changed.
    """

    def __init__(
        self, inputs: int, width: int, size: int, rank: int, scale: float, dropout: float, in_sequence: bool
    ):
        super().__init__()
        self.adapter = Bottleneck(width, size)
        self.first, self.second = nn.Linear(inputs, rank, bias=False), nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.second.weight)
        self.gate = nn.Parameter(torch.zeros(1))
        self.dropout = nn.Dropout(dropout)
        self.scale, self.in_sequence, self.on = scale, in_sequence, True

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return `y`, what the layer made of `x`, with both added."""
        if not self.on:
            return y
        share = 2 * self.gate.sigmoid()  # 1 and 1 to begin with
        updated = y + (2 - share) * self.scale * self.second(self.first(self.dropout(x)))
        return updated + share * self.adapter.update(updated if self.in_sequence else y)


def attach(layer: nn.Module, pair: Pair) -> None:
    """Let the output of `layer` go through `pair`, which becomes its submodule `pair`."""
    layer.add_module("pair", pair)
    layer.register_forward_hook(_through)


def _through(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return layer.pair(inputs[0], output)  # type: ignore[operator]

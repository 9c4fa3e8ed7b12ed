"""The bottleneck that Houlsby adapters are made of."""

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Down, bend, up, added to what comes in; `on` False lets it through as it is. Starts near the identity."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        nn.init.normal_(self.up.weight, std=1e-3)
        nn.init.zeros_(self.up.bias)
        nn.init.zeros_(self.down.bias)
        self.on = True

    def update(self, x: Tensor) -> Tensor:
        """Return what is added to `x`."""
        return self.up(torch.nn.functional.gelu(self.down(x)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.update(x) if self.on else x


def attach(layer: nn.Module, bottleneck: Bottleneck) -> None:
    """Let the output of `layer` go through `bottleneck`, which becomes its submodule `adapter`."""
    layer.add_module("adapter", bottleneck)
    layer.register_forward_hook(_through)


def _through(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return layer.adapter(output)  # type: ignore[operator]

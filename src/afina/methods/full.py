"""Train every weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afina.core import Stage
from afina.messages import N_
from afina.methods._whole import Whole
from afina.settings import setting

if TYPE_CHECKING:
    from torch import nn


class Full(Whole):
    """Fine-tune all weights: the most that a model can learn, and the most memory."""

    layer_decay: float = setting(
        1.0,
        N_("Factor on the learning rate from each block to the one below it (1: all learn alike)."),
        gt=0,
        le=1,
    )

    def presets(self, hidden_size: int) -> dict[str, Any]:
        """Small models want larger steps (Turc et al. 2019); up to width 256 even more: benchmarks/results/presets.json."""
        return {"learning_rate": 1e-3 if hidden_size <= 256 else 1e-4 if hidden_size <= 512 else 3e-5}

    def stages(self, model: nn.Module) -> list[Stage]:
        """Layer-wise decay as in ELECTRA (Clark et al. 2020): the head learns fastest, the embeddings slowest."""
        from afina.models.parts import depths

        if self.layer_decay == 1:
            return [Stage("all")]
        depth = depths(model)
        top = max(depth.values())
        return [Stage("all", rates={name: self.layer_decay ** (top - each) for name, each in depth.items()})]

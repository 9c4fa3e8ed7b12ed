"""Train every weight."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.core import Method

if TYPE_CHECKING:
    from torch import nn


class Full(Method):
    """Fine-tune all weights: the most that a model can learn, and the most memory."""

    def presets(self, hidden_size: int) -> dict[str, Any]:
        """Small models want larger steps (Turc et al. 2019); up to width 256 even more: see benchmarks/LOG.md."""
        return {"learning_rate": 5e-4 if hidden_size <= 256 else 1e-4 if hidden_size <= 512 else 3e-5}

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`."""
        model.save_pretrained(folder)  # type: ignore[operator]

    def load(self, folder: Path, head: str, config: Mapping[str, Any]) -> nn.Module:
        """Return the model that `folder` holds."""
        from afina.models.load import load

        return load(folder, head, config)

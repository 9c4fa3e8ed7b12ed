"""Train the head alone, on a body that stays as it is."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar

from afina.messages import N_
from afina.methods._adapter import Adapter

if TYPE_CHECKING:
    from torch import nn


class Head(Adapter):
    """A linear probe (Alain & Bengio 2017): what does the frozen body know? Fast, and the least that can be learnt."""

    change: ClassVar[str] = N_("head only")

    def presets(self, hidden_size: int) -> dict[str, Any]:
        return {"learning_rate": 3e-2 if hidden_size <= 256 else 3e-3}

    def trains(self, model: nn.Module) -> Collection[str]:
        from afina.models.parts import head

        return head(model)

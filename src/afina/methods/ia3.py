"""Learnt factors on keys, values and the feed-forward part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from afina.messages import N_
from afina.methods._peft import Peft

if TYPE_CHECKING:
    from torch import nn


class Ia3(Peft):
    """Keys, values and what goes into each last feed-forward layer are multiplied (Liu et al. 2022), by PEFT.

    The smallest of the adapters. Where a model keeps query, key and value in one layer, the query is multiplied too.
    It can be merged.
    """

    change: ClassVar[str] = N_("scaled activations")

    def presets(self, hidden_size: int) -> dict[str, Any]:
        return {"learning_rate": 4e-2 if hidden_size <= 256 else 3e-3}

    def config(self, model: nn.Module) -> Any:
        from peft import IA3Config
        from torch import nn

        from afina.models.parts import places

        named = places(model, "key", "value", "feed_forward")
        # PEFT's own list for BERT takes the attention's output for a feed-forward layer as well.
        return IA3Config(
            target_modules=named,
            feedforward_modules=places(model, "feed_forward"),
            fan_in_fan_out=not all(isinstance(model.get_submodule(name), nn.Linear) for name in named),
        )

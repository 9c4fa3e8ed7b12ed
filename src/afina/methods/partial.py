"""Train the top of the model: its highest blocks and the head."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar

from afina.errors import InputError
from afina.messages import N_, _
from afina.methods._adapter import Adapter
from afina.settings import setting

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


class Partial(Adapter):
    """The top blocks and the head learn; embeddings and lower blocks stay as they are, without dropout."""

    change: ClassVar[str] = N_("part of the weights")

    top_blocks: int = setting(2, N_("How many of the highest blocks are trained."), ge=1)

    def presets(self, hidden_size: int) -> dict[str, Any]:
        return {"learning_rate": 1.5e-3 if hidden_size <= 256 else 1e-4 if hidden_size <= 512 else 3e-5}

    def inserts(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None) -> None:
        from afina.models.parts import blocks

        if self.top_blocks > len(blocks(model)):
            raise InputError(
                _("The model has {blocks} blocks, so --top-blocks cannot be {asked}.").format(
                    blocks=len(blocks(model)), asked=self.top_blocks
                )
            )

    def trains(self, model: nn.Module) -> Collection[str]:
        from afina.models.parts import depths, head

        depth = depths(model)
        top = max(depth.values()) - self.top_blocks
        return {name for name, each in depth.items() if each >= top} | head(model)

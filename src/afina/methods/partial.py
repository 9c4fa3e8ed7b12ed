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
    """The top blocks and the head learn; embeddings and lower blocks stay as they are, without dropout.

    A head tied to the embeddings (GPT-2, T5) is theirs and stays as it is. Of an encoder-decoder the decoder's blocks
    lie above the encoder's.
    """

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
        from afina.models.parts import blocks, depths

        below = len(blocks(model)) - self.top_blocks
        return {name for name, each in depths(model).items() if each > below}

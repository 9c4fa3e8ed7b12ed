"""Unfreeze from the top down, each part at its own rate: ULMFiT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afina.core import Stage
from afina.messages import N_
from afina.methods._whole import Whole
from afina.settings import setting

if TYPE_CHECKING:
    from torch import nn


class Gradual(Whole):
    """First the head learns, then one more group of blocks at a time, at last all (Howard & Ruder 2018).

    A head tied to the embeddings thaws with them, so the highest blocks begin there.

    Each group learns slower than the one above it, and each stage has a slanted triangle of its own. The paper
    unfreezes a layer an epoch and divides its rate by 2.6; a dozen blocks would leave the lowest no rate at all, so
    here the steps are those of groups.
    """

    unfreezing_groups: int = setting(
        4, N_("Into how many groups the blocks are divided that thaw one after the other."), ge=1
    )
    unfreezing_share: float = setting(
        0.5, N_("Share of the steps after which every weight is trained."), gt=0, lt=1
    )
    rate_divisor: float = setting(
        2.6, N_("By how much each group learns slower than the one above it."), ge=1
    )

    def presets(self, hidden_size: int) -> dict[str, Any]:
        return {"learning_rate": 3e-3 if hidden_size <= 256 else 3e-4 if hidden_size <= 512 else 1e-4}

    def stages(self, model: nn.Module) -> list[Stage]:
        from afina.models.parts import blocks, depths, head

        depth, count = depths(model), len(blocks(model))
        size = -(-count // self.unfreezing_groups)
        headed = bool(head(model))
        lowest = int(
            headed or size < count
        )  # the embeddings thaw with the lowest blocks, but never first of all
        # 0 the head, or the highest blocks where it has no weights of its own; then the groups of blocks downwards.
        group = {
            name: -(-(count + 1 - max(each, lowest)) // size) - (not headed) for name, each in depth.items()
        }
        rates = {name: self.rate_divisor**-each for name, each in group.items()}
        thawed = [
            frozenset(name for name, each in group.items() if each <= i) for i in range(max(group.values()))
        ]
        share = self.unfreezing_share / len(thawed)
        return [
            *(
                Stage(f"top {i}", each, share, rates=rates, lr_scheduler_type="slanted_triangular")
                for i, each in enumerate(thawed)
            ),
            Stage(
                "all", share=1 - self.unfreezing_share, rates=rates, lr_scheduler_type="slanted_triangular"
            ),
        ]

"""Low-rank updates beside the frozen linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from afina.messages import N_
from afina.methods._peft import Peft
from afina.settings import setting

if TYPE_CHECKING:
    from torch import nn


class Lora(Peft):
    """Every linear layer of the body gets an update of low rank beside it (Hu et al. 2022), by PEFT.

    With rsLoRA the update is divided by the root of the rank (Kalajdzievski 2023), so that high ranks learn too; with
    DoRA the length of the weights is learnt apart from their direction (Liu et al. 2024). It can be merged.
    """

    change: ClassVar[str] = N_("added layers")

    rank: int = setting(8, N_("Rank of the update: how much a layer can learn."), ge=1)
    lora_alpha: int = setting(
        16, N_("The update is multiplied by this over the rank (over its root with --use-rslora)."), ge=1
    )
    lora_dropout: float = setting(0.0, N_("Dropout before the update, in training."), ge=0, lt=1)
    use_rslora: bool = setting(False, N_("Divide the update by the root of the rank (rsLoRA)."))
    use_dora: bool = setting(False, N_("Learn length and direction of the weights apart (DoRA)."))

    def presets(self, hidden_size: int) -> dict[str, Any]:
        return {"learning_rate": 3e-3 if hidden_size <= 256 else 1e-3 if hidden_size <= 512 else 3e-4}

    def places(self, model: nn.Module) -> list[str]:
        """Return the paths of the layers that get an update: all linear ones of the body."""
        from afina.models.parts import linear

        return linear(model)

    def quicken(self, model: nn.Module) -> None:
        from afina.methods._low_rank import quicken

        quicken(model)

    def config(self, model: nn.Module) -> Any:
        from peft import LoraConfig
        from torch import nn

        places = self.places(model)
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
            target_modules=places,
            fan_in_fan_out=not all(isinstance(model.get_submodule(name), nn.Linear) for name in places),
        )

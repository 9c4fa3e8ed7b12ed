"""Houlsby adapters and LoRA together, with a learnt gate where they meet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from afina.errors import InputError
from afina.messages import N_, _
from afina.methods._adapter import Adapter
from afina.methods.houlsby import Houlsby
from afina.methods.lora import Lora
from afina.settings import setting

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


class Hybrid(Houlsby, Lora):
    """LoRA on every linear layer, adapters before the residual sums; where both are, a learnt gate weighs them.

    The gate is one number a place (after UniPELT, Mao et al. 2022). DoRA is used where LoRA stands alone.
    """

    arrangement: Literal["parallel", "sequence"] = setting(
        "parallel",
        N_("parallel: adapter and LoRA side by side; sequence: the adapter works on what LoRA has changed."),
    )

    def presets(self, hidden_size: int) -> dict[str, Any]:
        return {"learning_rate": 2e-3 if hidden_size <= 256 else 1e-3 if hidden_size <= 512 else 3e-4}

    def inserts(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None) -> None:
        from afina.methods._hybrid import Pair, attach
        from afina.models.parts import inputs, width

        meeting = self.meeting(model)
        Lora.inserts(self, model, tokenizer)
        scale = self.lora_alpha / (self.rank**0.5 if self.use_rslora else self.rank)
        for layer in map(model.get_submodule, meeting):
            pair = Pair(
                inputs(layer), width(layer), self.adapter_size, self.rank, scale, self.lora_dropout,
                self.arrangement == "sequence",
            )  # fmt: skip
            attach(layer, pair)

    def meeting(self, model: nn.Module) -> list[str]:
        """Return the paths of the layers where adapter and LoRA meet."""
        from afina.models.parts import places

        return places(model, *self.roles)

    def places(self, model: nn.Module) -> list[str]:
        meeting = self.meeting(model)
        return [name for name in Lora.places(self, model) if name not in meeting]

    def trains(self, model: nn.Module) -> Collection[str]:
        pairs = {name for name, _weight in model.named_parameters() if ".pair." in name}
        return {*Houlsby.trains(self, model), *Lora.trains(self, model), *pairs}

    def switches(self, model: nn.Module, on: bool) -> None:
        from afina.methods._hybrid import Pair

        Lora.switches(self, model, on)
        for module in model.modules():
            if isinstance(module, Pair):
                module.on = on

    def merge(self, model: nn.Module) -> nn.Module:
        raise InputError(
            _("Adapters bend what goes through them, so they cannot be merged into the weights.")
        )

    def save(self, model: nn.Module, folder: Path, base: str | None) -> None:
        """Write `adapter_model.safetensors` and the label map; PEFT has no form for it."""
        Adapter.save(self, model, folder, base)

    def load(self, folder: Path, head: str, config: Mapping[str, Any], base: Path | None) -> nn.Module:
        return Adapter.load(self, folder, head, config, base)

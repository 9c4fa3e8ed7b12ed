"""Small bottlenecks inside every block."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from afina.errors import InputError
from afina.messages import N_, _
from afina.methods._adapter import Adapter
from afina.settings import setting

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


class Houlsby(Adapter):
    """A bottleneck before each residual sum (Houlsby et al. 2019); the normalisations of the body learn too.

    Two a block, or with Pfeiffer's placement one, after the feed-forward part (Pfeiffer et al. 2021).
    """

    change: ClassVar[str] = N_("added layers")

    adapter_size: int = setting(64, N_("Width of the bottleneck: how much it can learn."), ge=1)
    placement: Literal["houlsby", "pfeiffer"] = setting(
        "houlsby",
        N_("houlsby: after attention and feed-forward part; pfeiffer: after the feed-forward part only."),
    )

    def presets(self, hidden_size: int) -> dict[str, Any]:
        return {"learning_rate": 3e-3 if hidden_size <= 256 else 1e-3 if hidden_size <= 512 else 3e-4}

    @property
    def roles(self) -> tuple[str, ...]:
        """What the layers do that an adapter stands behind."""
        return ("feed_forward",) if self.placement == "pfeiffer" else ("attention", "feed_forward")

    def inserts(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None) -> None:
        from afina.methods._houlsby import Bottleneck, attach
        from afina.models.parts import places, width

        for layer in map(model.get_submodule, places(model, *self.roles)):
            attach(layer, Bottleneck(width(layer), self.adapter_size))

    def trains(self, model: nn.Module) -> Collection[str]:
        from afina.models.parts import norms

        names = {name for name, _weight in model.named_parameters() if ".adapter." in name}
        return names | norms(model)

    def switches(self, model: nn.Module, on: bool) -> None:
        from afina.methods._houlsby import Bottleneck

        for module in model.modules():
            if isinstance(module, Bottleneck):
                module.on = on

    def merge(self, model: nn.Module) -> nn.Module:
        raise InputError(
            _("Adapters bend what goes through them, so they cannot be merged into the weights.")
        )

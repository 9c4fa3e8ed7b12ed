"""Learnt keys and values in front of the text's own, in every block."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar

from afina.errors import InputError
from afina.messages import N_, _
from afina.methods._adapter import Adapter
from afina.settings import setting

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


class Prefix(Adapter):
    """Every attention of a text to itself also sees a learnt prefix (Li & Liang 2021), in encoders as in decoders.

    While it learns, keys and values come out of a small network, which makes the training steady; saved is only what
    came out of it, so a saved prefix can be used but not trained on. It takes no positions from the text.
    """

    packs: ClassVar[bool] = False
    change: ClassVar[str] = N_("added vectors")

    prefix_length: int = setting(20, N_("How many learnt keys and values stand before the text."), ge=1)
    prefix_hidden: int = setting(
        128, N_("Width of the network that the prefix comes out of while it learns."), ge=1
    )

    def presets(self, hidden_size: int) -> dict[str, Any]:
        return {"learning_rate": 2e-3 if hidden_size <= 256 else 1e-3}

    def inserts(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None) -> None:
        from afina.methods._prefix import ATTENTION, Prefix, Trunk
        from afina.models.parts import CROSS, config, places, width

        if getattr(config(model), "attn_logit_softcapping", None):
            raise InputError(
                _(
                    "Method 'prefix' does not know the attention of a model of the kind '{kind}', which caps its logits. Choose "
                    "another method, such as lora."
                ).format(kind=config(model).model_type)
            )
        trunk = Trunk(self.prefix_length, self.prefix_hidden, self.prefix_hidden) if tokenizer else None
        shape = config(model)
        heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
        for name in places(model, "key"):
            if any(cross in name for cross in CROSS):
                continue
            layer = model.get_submodule(name)
            fused = name.endswith(("Wqkv", "c_attn"))  # three of one width, all heads alike
            size = width(layer) // 3 if fused else width(layer)
            assert size % heads == 0
            path = name.rpartition(".")[0]
            model.get_submodule(path).add_module("prefix", Prefix(self.prefix_length, size, trunk))
        model.set_attn_implementation(ATTENTION)  # type: ignore[operator]

    def trains(self, model: nn.Module) -> Collection[str]:
        return {name for name, _weight in model.named_parameters() if ".prefix." in name}

    def switches(self, model: nn.Module, on: bool) -> None:
        for _name, prefix in _prefixes(model):
            prefix.on = on

    def merge(self, model: nn.Module) -> nn.Module:
        raise InputError(_("A prefix is read beside the text, so it cannot be merged into the weights."))

    def saved(self, model: nn.Module) -> dict[str, Tensor]:
        own = self.trains(model)
        others = {name: weight for name, weight in Adapter.saved(self, model).items() if name not in own}
        return others | {f"{name}.table": prefix().detach() for name, prefix in _prefixes(model)}


def _prefixes(model: nn.Module) -> list[tuple[str, Any]]:
    from afina.methods._prefix import Prefix

    return [(name, module) for name, module in model.named_modules() if isinstance(module, Prefix)]

"""Train the biases alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, ClassVar

from afina.errors import InputError
from afina.messages import N_, _
from afina.methods._adapter import Adapter

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


class Bitfit(Adapter):
    """Only the biases of the body and the head learn (Ben Zaken et al. 2022): about a thousandth of the weights.

    The linear layers of a model that has none (Llama, T5, ModernBERT) get biases of zero to begin with.
    """

    change: ClassVar[str] = N_("biases")

    def presets(self, hidden_size: int) -> dict[str, Any]:
        return {"learning_rate": 1e-2 if hidden_size <= 256 else 1e-3}

    def inserts(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase | None) -> None:
        import torch
        from torch import nn

        from afina.models.parts import linear, width

        bare = [layer for layer in map(model.get_submodule, linear(model)) if layer.bias is None]
        for layer in bare:
            layer.bias = nn.Parameter(torch.zeros(width(layer)))
        model.bare = bare  # type: ignore[assignment]

    def trains(self, model: nn.Module) -> Collection[str]:
        from afina.models.parts import inside

        names = (name for name, _weight in model.named_parameters())
        return {name for name in names if name.endswith(".bias") and inside(model, name)}

    def switches(self, model: nn.Module, on: bool) -> None:
        """A sum with zeros may round otherwise than no sum, so the biases that were put in are taken out."""
        bare: Any = model.bare
        for layer in bare:
            if on:
                layer.bias = layer.kept
                del layer.kept
            else:
                layer.__dict__["kept"], layer.bias = layer.bias, None

    def merge(self, model: nn.Module) -> nn.Module:
        if model.bare:
            raise InputError(
                _(
                    "This kind of model has no biases of its own, so those that were trained cannot be merged into it."
                )
            )
        return model

"""The training of a linear layer with an update of low rank beside it, in PEFT's place and form, for fewer products.

PEFT adds what two thin layers give to what the frozen one gives. Here the update is added to the frozen weights, which
many tokens pay for, and one product gives the same sum. The thin products that the way back is left with are written
so that the short side comes first: the other way round the processor's library takes up to seven times as long.
"""

from collections.abc import Iterator
from typing import Any

import torch
from peft.tuners import lora
from torch import Tensor, nn

from afina.methods._peft import NAME, layers

# What the sum with the weights costs in tokens, for each number that a layer takes: so much in any case and so much more
# a rank. The saving grows with the tokens and with what the layer gives, the cost with both sides (benchmarks/LOG.md).
SUM, RANK = 20 / 88, 1 / 88


class Updated(torch.autograd.Function):
    """What a linear layer gives for x [..., inputs] with its weights [outputs, inputs] + scale · second · first.

    Gradients are those of x, `first` [rank, inputs] and `second` [outputs, rank]; the layer's own weights are frozen.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, first: Tensor, second: Tensor, scale: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, first, second)
        ctx.scale = scale
        return nn.functional.linear(x, torch.addmm(weight, second, first, alpha=scale), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weight, first, second = ctx.saved_tensors
        rows, back = x.flatten(0, -2), gradient.flatten(0, -2)
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = gradient @ torch.addmm(weight, second, first, alpha=ctx.scale)
        for_first = (second.t().contiguous() @ back.t()) @ rows * ctx.scale
        for_second = ((first @ rows.t()) @ back * ctx.scale).t()
        return for_x, None, None, for_first, for_second, None


class Linear(lora.Linear):
    """PEFT's layer, of which one training on CPU in float32 is computed the other way; all else is as it was."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        base: Any = self.get_base_layer()
        plain = (
            torch.is_grad_enabled()
            and not (args or kwargs or self.disable_adapters or self.merged)
            and self.active_adapters == [NAME]
            and not base.weight.requires_grad
            and (base.bias is None or not base.bias.requires_grad)
            and x.device.type == "cpu"
            and x.dtype == base.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and pays(x.numel() // x.shape[-1], x.shape[-1], self.r[NAME])
        )
        if not plain:
            return super().forward(x, *args, **kwargs)
        first: Any = self.lora_A[NAME]
        second: Any = self.lora_B[NAME]
        return Updated.apply(x, base.weight, base.bias, first.weight, second.weight, self.scaling[NAME])


def pays(tokens: int, inputs: int, rank: int) -> bool:
    """Return whether one product is sooner done for so many tokens than a layer's own with two thin ones beside."""
    return tokens >= inputs * (SUM + RANK * rank)


def quicken(model: nn.Module) -> int:
    """Let PEFT's low-rank layers in the model be trained this way where it gives the same; return how many do."""
    found = 0
    for layer in _plain(model):
        layer.__class__ = Linear
        found += 1
    return found


def _plain(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers without dropout, bias or DoRA before, in or after the update of a linear layer."""
    for _name, layer in layers(model):
        if (
            type(layer) is lora.Linear
            and type(layer.get_base_layer()) is nn.Linear
            and NAME not in layer.lora_variant
            and not layer.lora_bias[NAME]
            and isinstance(layer.lora_dropout[NAME], nn.Identity)
        ):
            yield layer

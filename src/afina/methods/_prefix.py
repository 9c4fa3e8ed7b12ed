"""Keys and values put in front of those of a text, in any model that asks transformers for its attention."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "afina_prefix"


class Trunk(nn.Module):
    """The vectors of the prefix and the first layer over them, which all blocks share (Li & Liang 2021)."""

    def __init__(self, length: int, width: int, hidden: int):
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(length, width))
        self.layer = nn.Linear(width, hidden)

    def forward(self) -> Tensor:
        return torch.tanh(self.layer(self.vectors))


class Prefix(nn.Module):
    """The keys and values [2, length, width] of one attention: out of the trunk while it learns, then a table."""

    def __init__(self, length: int, width: int, trunk: Trunk | None):
        super().__init__()
        self.on = True
        self.trunk = trunk
        if trunk is None:
            self.table = nn.Parameter(torch.zeros(2, length, width))
        else:
            self.out = nn.Linear(trunk.layer.out_features, 2 * width)
            nn.init.normal_(self.out.weight, std=0.02)

    def forward(self) -> Tensor:
        if self.trunk is None:
            return self.table
        return self.out(self.trunk()).unflatten(-1, (2, -1)).transpose(0, 1)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention; every token also sees the prefix of `module`, where it has one.

    key, value [rows, heads, tokens, head width]; the mask [rows, 1, queries, tokens] is True or 0 where one may look.
    """
    prefix = getattr(module, "prefix", None)
    if prefix is None or not prefix.on:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    rows, heads, tokens, width = key.shape
    queries = query.shape[2]
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    if attention_mask is None and causal and queries > 1:
        ones = torch.ones(queries, tokens, dtype=torch.bool, device=key.device)
        attention_mask = ones.tril(tokens - queries)[None, None]
    front = [
        table.unflatten(-1, (heads, width)).transpose(0, 1).expand(rows, -1, -1, -1).to(key.dtype)
        for table in prefix()
    ]
    length = front[0].shape[2]
    if attention_mask is not None:
        allowed = True if attention_mask.dtype == torch.bool else 0.0
        attention_mask = nn.functional.pad(attention_mask, (length, 0), value=allowed)
    bias = options.pop("position_bias", None)
    if bias is not None:  # T5's, which knows no distance to a prefix
        options["position_bias"] = nn.functional.pad(bias, (length, 0))
    options["is_causal"] = False
    return sdpa_attention_forward(
        module,
        query,
        torch.cat([front[0], key], 2),
        torch.cat([front[1], value], 2),
        attention_mask,
        **options,
    )


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)

"""Rows of unlike length as one tensor."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Return the rows as one tensor [rows, longest], filled up on the right with `value`."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])


def inputs(rows: Sequence[dict[str, Any]], pad_id: int) -> dict[str, Tensor]:
    """Return `input_ids`, `attention_mask` and, where the rows have them, `token_type_ids`, padded."""
    tensors = {
        "input_ids": pad([row["input_ids"] for row in rows], pad_id),
        "attention_mask": pad([[1] * len(row["input_ids"]) for row in rows], 0),
    }
    if "token_type_ids" in rows[0]:
        tensors["token_type_ids"] = pad([row["token_type_ids"] for row in rows], 0)
    return tensors

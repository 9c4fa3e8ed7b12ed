"""Rows of one whole text or two, as the windows that a model reads of each, and their logits as those of a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from afina.core import Batch, Row
from afina.tasks._windows import AT_ONCE, read

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


def windowed(
    texts: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, max_length: int, doc_stride: int
) -> Iterator[tuple[list[Row], int]]:
    """Yield each row as windows that reach its end, and how many tokens the text beside lost; `texts` [1 or 2, rows]."""
    for found in read(list(zip(*texts, strict=True)), tokenizer, max_length, doc_stride):
        windows = [_window(each.ids.tolist(), each.types.tolist(), len(texts)) for each in found.windows]
        yield windows, found.cut


def truncated(
    texts: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[tuple[list[Row], int]]:
    """Yield each row as one window, its end cut off where it is too long, and 0: no text lies beside windows."""
    for start in range(
        0, len(texts[0]), AT_ONCE
    ):  # what is cut off is held on to as long as the rest of its call
        some = [list(column[start : start + AT_ONCE]) for column in texts]
        told = tokenizer(*some, truncation=True, max_length=max_length, return_token_type_ids=True)
        for ids, types in zip(told["input_ids"], told["token_type_ids"], strict=True):
            # Of an empty text some tokenizers make nothing at all.
            yield [_window(ids or [tokenizer.pad_token_id], types or [0], len(texts))], 0


def row_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return the logits of each row [rows, answers]: the mean over its windows."""
    import torch

    from afina.models.heads import outputs

    (logits,) = outputs(model, batch, "logits")
    if len(logits) == len(batch.rows):  # a window each
        return logits
    windows = [len(row["windows"]) for row in batch.rows]
    return torch.stack([each.mean(0) for each in logits.split(windows)])


def _window(ids: list[int], types: list[int], texts: int) -> Row:
    """Return what the model reads at once, with segment ids where there are two texts."""
    return {"input_ids": ids} | ({"token_type_ids": types} if texts > 1 else {})

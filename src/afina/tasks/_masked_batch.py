"""Rows of a masked language model as the arrays of a batch: put together, hidden in part, padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from afina.core import Row
from afina.tasks._masks import IGNORED, choose, hide

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

SHIFTED = 0.5  # of the rows that leave positions free begin at a later one, so that those are learnt too


def arrays(
    items: Sequence[tuple[Row, np.random.Generator | None]],
    tokenizer: PreTrainedTokenizerBase,
    share: float,
    whole_words: bool,
    nsp: bool,
) -> dict[str, np.ndarray]:
    """Return what the model reads and guesses of rows [rows, tokens], and as `next` which segments follow [rows].

    Of the tokens that are not special `share` are hidden; `labels` holds these, else IGNORED, as `next` does where
    there is nothing to know.
    """
    import numpy as np

    from afina.models.pieces import pieces

    mask: Any = tokenizer.mask_token_id
    ordinary = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    words = pieces(tokenizer) if whole_words else None
    rows = [_assembled(row, rng, nsp, tokenizer) for row, rng in items]
    width = max(len(ids) for ids, _second, _follows in rows)
    ids = np.full((len(rows), width), tokenizer.pad_token_id, dtype=np.int64)
    types, attention = np.zeros_like(ids), np.zeros_like(ids)
    labels = np.full_like(ids, IGNORED)
    positions = np.tile(np.arange(width), (len(rows), 1))
    for i, ((row, second, _follows), (asked, rng)) in enumerate(zip(rows, items, strict=True)):
        if "texts" in asked:  # what is hidden was hidden by the person, and no one knows the gold
            hidden, gold = row, np.where(row == mask, mask, IGNORED)
        else:
            places = np.flatnonzero(~np.isin(row, tokenizer.all_special_ids))
            chosen = choose(row, places, rng, share, words)
            hidden, gold = hide(row, chosen, rng, mask, ordinary)
        ids[i, : len(row)], labels[i, : len(row)] = hidden, gold
        types[i, second : len(row)], attention[i, : len(row)] = 1, 1
        if (free := asked.get("free")) and rng is not None:
            positions[i] += rng.integers(free + 1) * (rng.random() < SHIFTED)
    read = {"input_ids": ids, "attention_mask": attention, "token_type_ids": types, "labels": labels}
    read["next"] = np.array([follows for _ids, _second, follows in rows])
    return read | ({"position_ids": positions} if positions[:, 0].any() else {})


def _assembled(row: Row, rng: Any, nsp: bool, tokenizer: PreTrainedTokenizerBase) -> tuple[Any, int, int]:
    """Return [CLS] A [SEP] (B [SEP]) as an array, where the second segment begins, and whether it follows."""
    import numpy as np

    if "texts" in row:
        return np.asarray(row["input_ids"], dtype=np.int64), row["second"], IGNORED
    follows = IGNORED
    segments = row.get("segments")
    if segments is None:
        segments, follows = row["draw"](rng, nsp)
    parts = [[tokenizer.cls_token_id], segments[0], [tokenizer.sep_token_id]]
    second = len(segments[0]) + 2
    if len(segments) == 2:
        parts += [segments[1], [tokenizer.sep_token_id]]
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts]), second, follows

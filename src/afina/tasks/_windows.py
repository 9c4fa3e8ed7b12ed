"""Texts of any length as rows that the model can take, and where in them each word begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from afina.errors import InputError
from afina.messages import _

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Place = tuple[int, int]  # a window and a token in it
Windows = list[list[int]]


def windows(
    rows: Sequence[tuple[str, Sequence[Sequence[int]]]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    overlap: int,
) -> list[tuple[Windows, list[Place | None]]]:
    """Return, for each (text, words [start, end]), its windows of ids and the place of each word's first sub-token.

    A text of more than `max_length` tokens, special ones counted, becomes several windows; two neighbours share one in
    `overlap` of their tokens, and a word is placed where most tokens stand around it. A word that begins within a
    token has that token; one that no token covers (control characters, blanks) has None. InputError for a tokenizer
    that does not say where its tokens come from.
    """
    if not rows:
        return []
    if not tokenizer.is_fast:
        raise InputError(
            _(
                "The tokenizer of this model cannot say where in a text its tokens lie. Choose another --model."
            )
        )
    special = tokenizer.num_special_tokens_to_add()
    told = tokenizer(
        [text for text, _words in rows],
        truncation=True,
        max_length=max_length,
        stride=max(0, max_length - special) // overlap,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    of_row: list[list[int]] = [[] for _row in rows]
    for window, row in enumerate(told["overflow_to_sample_mapping"]):
        of_row[row].append(window)
    found = []
    for (text, words), mine in zip(rows, of_row, strict=True):
        parts = [_first(text, words, told["offset_mapping"][i], told["special_tokens_mask"][i]) for i in mine]
        # At the text's own ends nothing is missing around a word.
        room = [
            _room(part, i == 0, i == len(parts) - 1, len(told["input_ids"][w]))
            for i, (part, w) in enumerate(zip(parts, mine, strict=True))
        ]
        best = np.argmax(room, axis=0) if len(words) else []
        places: list[Place | None] = [
            (int(window), int(parts[window][word])) if parts[window][word] >= 0 else None
            for word, window in enumerate(best)
        ]
        found.append(([told["input_ids"][i] or [tokenizer.pad_token_id] for i in mine], places))
    return found


def _first(text: str, words: Sequence[Sequence[int]], offsets: Any, special: Sequence[int]) -> np.ndarray:
    """Return the token of one window at which each word begins, -1 where it holds none of it."""
    kept = [
        (_after_blanks(text, *at), at[1], i)
        for i, at in enumerate(offsets)
        if not special[i] and at[0] < at[1]
    ]
    kept = [token for token in kept if token[0] < token[1]]
    if not kept or not words:
        return np.full(len(words), -1)
    starts, ends, places = np.array(kept).T
    first, last = np.array(words).T
    at = np.searchsorted(starts, first)
    inside = np.minimum(at, len(starts) - 1)
    begins = (at < len(starts)) & (starts[inside] < last)
    before = np.maximum(at - 1, 0)
    covers = (at > 0) & (ends[before] > first) & (first < last)
    return np.where(begins, places[inside], np.where(covers, places[before], -1))


def _after_blanks(text: str, start: int, end: int) -> int:
    """Some tokenizers count the blank before a word as part of its token."""
    while start < end and text[start].isspace():
        start += 1
    return start


def _room(places: np.ndarray, begins: bool, ends: bool, tokens: int) -> np.ndarray:
    left = np.full(len(places), tokens) if begins else places
    right = np.full(len(places), tokens) if ends else tokens - 1 - places
    return np.where(places < 0, -1, np.minimum(left, right))

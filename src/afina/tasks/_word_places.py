"""Where in the windows of a text each of its words begins, in one row and in a batch of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from afina.core import Row
from afina.tasks._windows import Long, Window, read

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

Place = tuple[int, int]  # a window and a token in it
IGNORED = -100  # what cross_entropy passes over: a tag that no training row has, and what fills a batch up
NOWHERE = -1  # a word without any token of its own
BEYOND = -2  # a word after those that the model reads, which gets no tag


def find(
    rows: Sequence[tuple[str, Sequence[Sequence[int]]]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    doc_stride: int,
    long: Long = "windows",
) -> Iterator[tuple[list[list[int]], list[Place | None], int]]:
    """Yield, for each text and its words [start, end], its windows of ids, the words' places, and how many are read.

    The place of a word is that of its first sub-token, in the window where most tokens stand around it. A word that
    begins within a token has that token; one that no token covers (control characters, blanks) has None. The words
    after those that are read, of a text that is cut, have None too.
    """
    told = read([(text,) for text, _words in rows], tokenizer, max_length, doc_stride)
    for (text, words), (windows, offsets, _cut) in zip(rows, told, strict=True):
        read_words = len(words)
        if long == "truncate" and len(windows) > 1:
            windows = windows[:1]
            end = int(offsets[int((windows[0].texts == 0).sum()) - 1, 1])
            read_words = sum(start < end for start, _end in words)
        starts = [int(offsets[window.begin - 1, 1]) if window.begin else 0 for window in windows]
        parts = [_first(text, words, window, start) for window, start in zip(windows, starts, strict=True)]
        yield [window.ids.tolist() for window in windows], _best(parts, windows), read_words


def apart(row: Row) -> list[Row]:
    """Return each window of an encoded row as a row of its own, with the words that have their place in it."""
    words: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for place, tag in zip(row["places"], row["tags"], strict=True):
        if place is not None:
            words[place[0]].append((place[1], tag))
    return [
        {
            "windows": [row["windows"][window]],
            "places": [(0, token) for token, _tag in mine],
            "read": len(mine),
            "tags": [tag for _token, tag in mine],
        }
        for window, mine in sorted(words.items())
    ]


def stack(rows: Sequence[Row], padding: int) -> dict[str, Tensor]:
    """Return the windows of encoded rows [windows, tokens] and where in them their words are.

    `places` [rows, words] count the tokens of all windows, or are NOWHERE or BEYOND; `labels` [rows, words] are the
    gold tags, `words` [rows] how many words a row has.
    """
    import torch

    from afina.batching.pad import inputs, pad

    tensors = inputs([{"input_ids": ids} for row in rows for ids in row["windows"]], padding)
    width, first, places = tensors["input_ids"].shape[1], 0, []
    for row in rows:
        at = [NOWHERE if place is None else (first + place[0]) * width + place[1] for place in row["places"]]
        at[row["read"] :] = [BEYOND] * (len(at) - row["read"])
        places.append(at or [NOWHERE])
        first += len(row["windows"])
    tensors["places"] = pad(places, NOWHERE)
    tensors["words"] = torch.tensor([len(row["places"]) for row in rows])
    tensors["labels"] = pad([row["tags"] or [IGNORED] * max(len(row["places"]), 1) for row in rows], IGNORED)
    return tensors


def _best(parts: Sequence[np.ndarray], windows: Sequence[Window]) -> list[Place | None]:
    """Return the place of each word in the window with most room around it; `parts` are its places by window."""
    # At the text's own ends nothing is missing around a word.
    room = [
        _room(part, number == 0, number == len(parts) - 1, len(window.ids))
        for number, (part, window) in enumerate(zip(parts, windows, strict=True))
    ]
    return [
        (int(window), int(parts[window][word])) if parts[window][word] >= 0 else None
        for word, window in enumerate(np.argmax(room, axis=0))
    ]


def _first(text: str, words: Sequence[Sequence[int]], window: Window, start: int) -> np.ndarray:
    """Return the token at which each word begins in a window, -1 where it does not; the window begins at `start`."""
    kept = [
        (_after_blanks(text, *place), place[1], i)
        for i, place in enumerate(window.places.tolist())
        if window.texts[i] == 0 and place[0] < place[1]
    ]
    kept = [token for token in kept if token[0] < token[1]]
    if not kept or not len(words):
        return np.full(len(words), -1)
    starts, ends, places = np.array(kept).T
    first, last = np.array(words).T
    at = np.searchsorted(starts, first)
    inside = np.minimum(at, len(starts) - 1)
    begins = (at < len(starts)) & (starts[inside] < last)
    before = np.maximum(at - 1, 0)
    covers = (at > 0) & (ends[before] > first) & (first < last)
    here = np.where(begins, places[inside], np.where(covers, places[before], -1))
    return np.where(
        first < start, -1, here
    )  # what is here of a word that began before is not its first token


def _after_blanks(text: str, start: int, end: int) -> int:
    """Some tokenizers count the blank before a word as part of its token."""
    while start < end and text[start].isspace():
        start += 1
    return start


def _room(places: np.ndarray, begins: bool, ends: bool, tokens: int) -> np.ndarray:
    left = np.full(len(places), tokens) if begins else places
    right = np.full(len(places), tokens) if ends else tokens - 1 - places
    return np.where(places < 0, -1, np.minimum(left, right))

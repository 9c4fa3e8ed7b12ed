"""Where in the windows of a text each of its words begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from afina.tasks._windows import Long, Window, read

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Place = tuple[int, int]  # a window and a token in it


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

"""A question beside every stretch of its context: long contexts as overlapping windows, answers as tokens in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from afina.tasks._windows import Long, Read, read

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
HALF_CHARACTERS = re.compile(
    "[\ud800-\udfff]"
)  # which a shell or broken JSON may hand on, and no tokenizer takes


class Window(NamedTuple):
    """One stretch of a context beside its question, as the model reads it.

    `ids` and `types` [tokens]; `places` [context tokens, 2] are where those tokens stand
    in the context, in characters; the first of them is token `first`. `null` is the token that stands for "no
    answer here". `starts` [context tokens] says which tokens have more of the context around them here than in
    any other window: a span is looked for only where its first token does. `gold` is (first, last) token of the
    answer, (null, null) where none of it is here, and IGNORED twice where it is cut or not known.
    """

    ids: np.ndarray
    types: np.ndarray
    first: int
    places: np.ndarray
    null: int
    starts: np.ndarray
    gold: tuple[int, int]


class Text(NamedTuple):
    """What is encoded: `answer` is (start, end) in characters, None where there is none, IGNORED where not known."""

    question: str
    context: str
    answer: tuple[int, int] | None


def encode(
    texts: Sequence[Text],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    doc_stride: int,
    long: Long = "windows",
) -> Iterator[tuple[list[Window], int]]:
    """Yield for each text its windows of at most `max_length` tokens and how many of the question's were cut.

    The context slides (see `_windows.read`); of a text that is to be cut only the first window is there, and an
    answer that does not lie in it is not known.
    """
    pairs = [
        [HALF_CHARACTERS.sub("\ufffd", part) for part in (text.question, text.context)] for text in texts
    ]
    for text, found in zip(texts, read(pairs, tokenizer, max_length, doc_stride, 1), strict=True):
        yield _windows(found, tokenizer.cls_token_id, text.answer, long), found.cut


def stack(windows: Sequence[Window], padding: int) -> dict[str, Tensor]:
    """Return windows as tensors, [windows, tokens] but for `gold` [windows, 2]; `allowed` is where an answer may be."""
    import torch

    width = max(len(window.ids) for window in windows)
    ids = np.full((len(windows), width), padding, np.int64)
    types, attention, allowed = np.zeros_like(ids), np.zeros_like(ids), np.zeros(ids.shape, bool)
    for i, window in enumerate(windows):
        ids[i, : len(window.ids)], attention[i, : len(window.ids)] = window.ids, 1
        types[i, : len(window.types)] = window.types
        allowed[i, window.first : window.first + len(window.places)] = True
        allowed[i, window.null] = True
    gold = np.array([window.gold for window in windows])
    arrays = {"input_ids": ids, "attention_mask": attention, "token_type_ids": types}
    return {
        name: torch.from_numpy(each) for name, each in (arrays | {"allowed": allowed, "gold": gold}).items()
    }


def _windows(found: Read, cls: int | None, answer: tuple[int, int] | None, long: Long) -> list[Window]:
    gold, kept = _tokens(found.places, answer), found.windows
    if long == "truncate" and len(kept) > 1:
        kept = kept[:1]
        if gold is not None and gold[1] >= int((kept[0].texts == 1).sum()):
            gold = IGNORED, IGNORED
    begins = [window.begin for window in kept]
    lengths = [int((window.texts == 1).sum()) for window in kept]
    most = _most_around(begins, lengths, len(found.places))
    made = []
    for number, (window, begin, length) in enumerate(zip(kept, begins, lengths, strict=True)):
        inside, at_cls = np.flatnonzero(window.texts == 1), np.flatnonzero(window.ids == cls)
        first, null = int(inside[0]) if length else 0, int(at_cls[0]) if len(at_cls) else 0
        here = slice(begin, begin + length)
        made.append(
            Window(
                window.ids,
                window.types,
                first,
                found.places[here],
                null,
                most[here] == number,
                _here(gold, begin, begin + length, first, null),
            )
        )
    return made


def _tokens(document: np.ndarray, answer: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return first and last token of the answer, None where there is no answer, IGNORED where it has no token."""
    if answer is None:
        return None
    start, end = answer
    first = np.flatnonzero(document[:, 1] > start)
    last = np.flatnonzero(document[:, 0] < end)
    if start < 0 or not len(first) or not len(last) or first[0] > last[-1]:
        return IGNORED, IGNORED
    return int(first[0]), int(last[-1])


def _here(gold: tuple[int, int] | None, begin: int, end: int, first: int, null: int) -> tuple[int, int]:
    """Return the gold tokens within the window that holds the tokens `begin` to `end` of the context."""
    if gold is None:
        return null, null
    start, last = gold
    if start < 0:
        return IGNORED, IGNORED
    if begin <= start and last < end:
        return start - begin + first, last - begin + first
    return (null, null) if last < begin or start >= end else (IGNORED, IGNORED)


def _most_around(begins: Sequence[int], lengths: Sequence[int], tokens: int) -> np.ndarray:
    """Return, a token of the context, the window in which it is farthest from an edge (Devlin et al. 2019)."""
    best, window = np.full(tokens, -1), np.zeros(tokens, np.int64)
    for number, (begin, length) in enumerate(zip(begins, lengths, strict=True)):
        here = slice(begin, begin + length)
        around = np.minimum(np.arange(length), np.arange(length)[::-1])
        nearer = around > best[here]
        best[here] = np.where(nearer, around, best[here])
        window[here] = np.where(nearer, number, window[here])
    return window

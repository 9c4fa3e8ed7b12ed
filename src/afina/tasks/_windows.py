"""Rows of more tokens than the model takes, as windows that overlap; and the settings that say so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Long = Literal["truncate", "windows"]
AT_ONCE = 256  # rows tokenized together
WHOLE = 10**9  # a length that no row has


def when_long(default: Long) -> Any:
    """Declare what becomes of a row that is longer than the model takes."""
    return setting(
        default,
        N_(
            "What becomes of a row of more than --max-length tokens: truncate cuts its end off, windows reads all of "
            "it in overlapping windows (default: truncate for whole texts, else windows)."
        ),
    )


def shared() -> Any:
    """Declare how much two windows share."""
    return setting(
        128, N_("Tokens that neighbouring windows of a long row share, at most half a window."), ge=0
    )


class Window(NamedTuple):
    """What the model reads at once of a row, special tokens included.

    `ids` and `types` [tokens]; `places` [tokens, 2] are where in their text they stand, in characters; `texts`
    [tokens] is which text of the row each belongs to, -1 for special ones. `begin` is how many tokens of the text
    that slides stand before those of this window.
    """

    ids: np.ndarray
    types: np.ndarray
    places: np.ndarray
    texts: np.ndarray
    begin: int


class Read(NamedTuple):
    """A row as its windows; `places` [tokens, 2] of the whole text that slides; tokens `cut` off the other text."""

    windows: list[Window]
    places: np.ndarray
    cut: int


def read(
    rows: Sequence[Sequence[str]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    doc_stride: int,
    slides: int | None = None,
) -> Iterator[Read]:
    """Yield each row, of one text or two, as windows of at most `max_length` tokens, special ones counted.

    Of a row that is too long one text slides, and neighbouring windows share `doc_stride` of its tokens, or half of
    what fits where that is less. Of two texts it is number `slides`, or the one with more tokens; the other stays
    beside every window, and loses of its end what goes beyond half of the model and what the sliding text leaves
    free. InputError for a tokenizer that does not say where its tokens come from.
    """
    if not tokenizer.is_fast:
        raise InputError(
            _(
                "The tokenizer of this model cannot say where in a text its tokens lie. Choose another --model."
            )
        )
    for start in range(0, len(rows), AT_ONCE):
        some = [list(texts) for texts in zip(*rows[start : start + AT_ONCE], strict=True)]
        # A limit that nothing reaches: without one the tokenizer would warn of what is cut here.
        told = tokenizer(*some, truncation=True, max_length=WHOLE)
        for whole in told.encodings or ():
            yield _read(whole, tokenizer, max_length, doc_stride, slides)


def _read(
    whole: Any, tokenizer: PreTrainedTokenizerBase, max_length: int, doc_stride: int, slides: int | None
) -> Read:
    texts = np.array([-1 if text is None else text for text in whole.sequence_ids], np.int64)
    ids, types = np.array(whole.ids, np.int64), np.array(whole.type_ids, np.int64)
    places = np.array(whole.offsets, np.int32).reshape(-1, 2)
    if not len(ids):  # an empty text, and a tokenizer without special tokens
        ids, types, texts = np.array([tokenizer.pad_token_id]), np.array([0]), np.array([-1])
        places = np.zeros((1, 2), np.int32)
    lengths = [int((texts == text).sum()) for text in (0, 1)]
    if slides is None:
        slides = int(lengths[1] > lengths[0])
    sliding = np.flatnonzero(texts == slides)
    if len(ids) <= max_length:
        return Read([Window(ids, types, places, texts, 0)], places[sliding], 0)
    beside = np.flatnonzero(texts == 1 - slides)
    room = max_length - (len(ids) - len(sliding) - len(beside))
    kept = min(len(beside), max(room // 2, room - len(sliding)))
    frame = np.setdiff1d(np.arange(len(ids)), np.concatenate([sliding, beside[kept:]]))
    room -= kept
    step = max(1, room - min(doc_stride, room // 2))  # beside an empty text a long one takes all the room
    windows = []
    for begin in range(0, max(1, len(sliding) - room + step), step):
        mine = np.sort(np.concatenate([frame, sliding[begin : begin + room]]))
        windows.append(Window(ids[mine], types[mine], places[mine], texts[mine], begin))
    return Read(windows, places[sliding], len(beside) - kept)

"""A question beside every stretch of its context: long contexts as overlapping windows, answers as tokens in them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
AT_ONCE = 256  # rows tokenized together
HALF_CHARACTERS = re.compile(
    "[\ud800-\udfff]"
)  # which a shell or broken JSON may hand on, and no tokenizer takes


class Window(NamedTuple):
    """One stretch of a context beside its question, as the model reads it.

    `ids` and, where the model has them, `types` [tokens]; `places` [context tokens, 2] are where those tokens stand
    in the context, in characters; the first of them is token `first`. `null` is the token that stands for "no
    answer here". `starts` [context tokens] says which tokens have more of the context around them here than in
    any other window: a span is looked for only where its first token does. `gold` is (first, last) token of the
    answer, (null, null) where none of it is here, and IGNORED twice where it is cut or not known.
    """

    ids: np.ndarray
    types: np.ndarray | None
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
    texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, max_length: int, doc_stride: int
) -> Iterator[tuple[list[Window], int]]:
    """Yield for each text its windows of at most `max_length` tokens and how many of the question's were cut.

    Neighbours share `doc_stride` tokens of the context, or half of what fits where that is less. A question may
    fill half of the window; what goes beyond is cut off its end.
    """
    for start in range(0, len(texts), AT_ONCE):
        yield from _encode(texts[start : start + AT_ONCE], tokenizer, max_length, doc_stride)


def _encode(
    texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, max_length: int, doc_stride: int
) -> list[tuple[list[Window], int]]:
    special = tokenizer.num_special_tokens_to_add(pair=True)
    most = max(1, (max_length - special) // 2)
    questions = [HALF_CHARACTERS.sub("\ufffd", text.question) for text in texts]
    tokens = tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    cut = [max(0, len(each) - most) for each in tokens]
    questions = [
        question[: places[most - 1][1]] if beyond else question
        for question, places, beyond in zip(questions, tokens, cut, strict=True)
    ]
    by_stride: dict[int, list[int]] = defaultdict(list)
    for row, (places, beyond) in enumerate(zip(tokens, cut, strict=True)):
        room = max_length - special - (len(places) - beyond)
        by_stride[min(doc_stride, room // 2)].append(row)
    found: list[list[Window]] = [[] for _text in texts]
    for stride, rows in by_stride.items():
        whole = tokenizer(
            [questions[row] for row in rows],
            [HALF_CHARACTERS.sub("\ufffd", texts[row].context) for row in rows],
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        of_row: dict[int, list[int]] = defaultdict(list)
        for window, row in enumerate(whole["overflow_to_sample_mapping"]):
            of_row[rows[row]].append(window)
        for row, windows in of_row.items():
            found[row] = _windows(whole, windows, stride, tokenizer.cls_token_id, texts[row].answer)
    return list(zip(found, cut, strict=True))


def _windows(
    whole: Any, windows: Sequence[int], stride: int, cls: int | None, answer: tuple[int, int] | None
) -> list[Window]:
    parts = []
    for window in windows:
        inside = [i for i, part in enumerate(whole.sequence_ids(window)) if part == 1]
        first = inside[0] if inside else 0
        places = np.asarray(whole["offset_mapping"][window], np.int32).reshape(-1, 2)
        parts.append((first, places[first : first + len(inside)]))
    # Every window but the first begins with the last `stride` tokens of the one before.
    begins = np.cumsum([0, *(len(places) - stride for _first, places in parts[:-1])])
    document = np.concatenate([parts[0][1], *(places[stride:] for _first, places in parts[1:])])
    gold = _tokens(document, answer)
    most = _most_around(begins, [len(places) for _first, places in parts], len(document))
    made = []
    for number, (window, (first, places)) in enumerate(zip(windows, parts, strict=True)):
        ids = np.asarray(whole["input_ids"][window], np.int64)
        types = whole.get("token_type_ids")
        at_cls = np.flatnonzero(ids == cls)
        null = int(at_cls[0]) if len(at_cls) else 0
        begin, end = int(begins[number]), int(begins[number]) + len(places)
        made.append(
            Window(
                ids,
                None if types is None else np.asarray(types[window], np.int64),
                first,
                places,
                null,
                most[begin:end] == number,
                _here(gold, begin, end, first, null),
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


def _most_around(begins: np.ndarray, lengths: Sequence[int], tokens: int) -> np.ndarray:
    """Return, a token of the context, the window in which it is farthest from an edge (Devlin et al. 2019)."""
    best, window = np.full(tokens, -1), np.zeros(tokens, np.int64)
    for number, (begin, length) in enumerate(zip(begins, lengths, strict=True)):
        here = slice(begin, begin + length)
        around = np.minimum(np.arange(length), np.arange(length)[::-1])
        nearer = around > best[here]
        best[here] = np.where(nearer, around, best[here])
        window[here] = np.where(nearer, number, window[here])
    return window

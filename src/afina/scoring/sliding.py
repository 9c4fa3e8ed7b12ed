"""What a question answerer must beat: the words nearest to where the question's words stand in the text.

A sliding window as in SQuAD's first baselines (Richardson et al. 2013; Rajpurkar et al. 2016), with the question's
words weighted by their inverse document frequency in the training texts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from afina.sample import spread

WORD = re.compile(r"\w+")
END = re.compile(r"[.!?;:\n]")
WIDTHS = (4, 10, 25)  # words to each side over which a word of the question still counts
LENGTHS = (1, 2, 3, 5)  # words of an answer
TUNING_ROWS = 300

Quality = Callable[[str, Sequence[str]], float]


class Span(NamedTuple):
    """Where the answer stands in the context, in characters."""

    start: int
    end: int


def tfidf_span(
    train: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], quality: Quality
) -> list[Span]:
    """Return the span of each row's context that words of its question surround most, none of them within it.

    Rows have `context`, `question` and, in `train`, `answers`. Width of the window and length of the answer are
    those with the best mean `quality` (answer, golds) on training rows.
    """
    contexts = list(dict.fromkeys(row["context"] for row in train))
    times = Counter(word for context in contexts for word in set(_words(context)[0]))
    rarity = {word: math.log((1 + len(contexts)) / (1 + n)) for word, n in times.items()}
    unknown = math.log(1 + len(contexts))

    def spans(row: dict[str, Any]) -> dict[tuple[int, int], Span]:
        return _spans(row["context"], row["question"], rarity, unknown)

    known = [row for row in train if row["answers"]]
    sample = [known[place] for place in spread(len(known), TUNING_ROWS)]
    sums: Counter[tuple[int, int]] = Counter()
    for row in sample:
        golds = [answer["text"] for answer in row["answers"]]
        for choice, span in spans(row).items():
            sums[choice] += quality(row["context"][span.start : span.end], golds)  # type: ignore[assignment]
    best = max(sums, key=lambda choice: sums[choice], default=(WIDTHS[1], LENGTHS[1]))
    return [spans(row)[best] for row in rows]


def _words(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    found = [(match.group().lower(), match.span()) for match in WORD.finditer(text)]
    return [word for word, _span in found], [span for _word, span in found]


def _spans(
    context: str, question: str, rarity: dict[str, float], unknown: float
) -> dict[tuple[int, int], Span]:
    """Return the best span for each choice of (width, length)."""
    words, places = _words(context)
    nothing = {(width, length): Span(0, 0) for width in WIDTHS for length in LENGTHS}
    if not words:
        return nothing
    asked = set(_words(question)[0])
    weight = np.array([rarity.get(word, unknown) for word in words])
    in_question = np.array([word in asked for word in words])
    # Words that stand on two sides of a sentence's end make no answer together.
    sentence = np.cumsum([0, *(bool(END.search(context, a[1], b[0])) for a, b in pairwise(places))])
    found = {}
    for width in WIDTHS:
        kernel = 1 - np.abs(np.arange(-width, width + 1)) / (width + 1)
        near = np.convolve(np.where(in_question, weight, 0.0), kernel)[width : width + len(words)]
        # A rare word near the question's words says more than `de` beside them.
        worth = np.where(in_question, -np.inf, near * np.sqrt(np.maximum(weight, 1e-3)))
        for length in LENGTHS:
            found[width, length] = _best(worth, sentence, places, min(length, len(words)))
    return found


def _best(worth: np.ndarray, sentence: np.ndarray, places: list[tuple[int, int]], length: int) -> Span:
    windows = np.lib.stride_tricks.sliding_window_view(worth, length)
    whole = sentence[length - 1 :] == sentence[: len(sentence) - length + 1]
    totals = np.where(whole, windows.mean(1), -np.inf)
    first = int(totals.argmax())
    return Span(places[first][0], places[first + length - 1][1])

"""From start and end logits of all windows of a context to its best answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from afina.tasks._context_windows import Window


def decode(
    context: str,
    windows: Sequence[Window],
    logits: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    longest: int,
    n_best: int,
    with_null: bool,
) -> dict[str, Any]:
    """Return the `n_best` spans of at most `longest` tokens, the best first, and what speaks for no answer at all.

    `logits` are (start, end) [tokens] of each window. A span lies within one window, and counts once: in the window
    that shows most of the context around its first token. Its `logit` is the sum of the two, its `score` the
    probability among all spans of all windows and, `with_null`, no answer, whose logit is the least that a
    window gives it (Devlin et al. 2019), for an answer in one window suffices.
    """
    ranked: list[tuple[float, int, int]] = []
    totals = []
    null = math.inf
    for window, (starts, ends) in zip(windows, logits, strict=True):
        null = min(null, float(starts[window.null]) + float(ends[window.null]))
        scores = _scores(window, starts, ends, longest)
        flat = scores.ravel()
        finite = flat[np.isfinite(flat)]
        if not len(finite):
            continue
        totals.append(float(finite.max()) + math.log(float(np.exp(finite - finite.max()).sum())))
        # More than asked for: spans of unlike tokens may be the same characters.
        many = min(4 * n_best, len(finite))
        for place in np.argpartition(-flat, many - 1)[:many]:
            token, further = divmod(int(place), scores.shape[1])
            start, end = int(window.places[token, 0]), int(window.places[token + further, 1])
            ranked.append((float(flat[place]), start, end))
    if with_null:
        totals.append(null)
    top = max(totals, default=0.0)
    whole = top + math.log(sum(math.exp(total - top) for total in totals)) if totals else 0.0
    spans: dict[tuple[int, int], dict[str, Any]] = {}
    for logit, start, end in sorted(ranked, key=lambda each: (-each[0], each[1:])):
        start, end = _trimmed(context, start, end)
        if len(spans) == n_best:
            break
        if start < end and (start, end) not in spans:
            spans[start, end] = {
                "text": context[start:end],
                "start": start,
                "end": end,
                "score": math.exp(logit - whole),
                "logit": logit,
            }
    none = {"score": math.exp(null - whole), "logit": null} if with_null else None
    return {"spans": list(spans.values()), "null": none}


def threshold(rises: Sequence[float], gains: Sequence[float]) -> float:
    """Return how far 'no answer' may be ahead of the best answer so that questions are answered at the most gain.

    `rises` says of each question how far the threshold must rise until it is answered, `gains` what that is worth.
    """
    if not rises:
        return 0.0
    order = np.argsort(rises, kind="stable")
    ahead, total = np.asarray(rises)[order], np.cumsum(np.asarray(gains)[order])
    if total.max() <= 0:  # nothing is gained by answering any of them
        return float(ahead.min() - 1)
    best = int(total.argmax())
    after = ahead[best + 1] if best + 1 < len(ahead) else ahead[best] + 1
    return float(ahead[best] + after) / 2


def _scores(window: Window, starts: np.ndarray, ends: np.ndarray, longest: int) -> np.ndarray:
    """Return the logit of the span from each context token to the one `j` further [tokens, longest], -inf if none."""
    count = len(window.places)
    if not count:
        return np.empty((0, longest))
    here = slice(window.first, window.first + count)
    begin = np.where(window.starts, starts[here].astype(float), -np.inf)
    end = np.append(ends[here].astype(float), np.full(longest - 1, -np.inf))
    return begin[:, None] + np.lib.stride_tricks.sliding_window_view(end, longest)


def _trimmed(context: str, start: int, end: int) -> tuple[int, int]:
    """Return the span without blanks at its ends: some tokenizers count the blank before a word as part of it."""
    text = context[start:end]
    return start + len(text) - len(text.lstrip()), end - (len(text) - len(text.rstrip()))

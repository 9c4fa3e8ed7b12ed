"""How surprised a language model is: loss a token, perplexity, and what another model does on the same rows."""

from __future__ import annotations

import math

import numpy as np

from afina.core import Difference, Score

LEAST = 30  # rows; with fewer the variance of a ratio is hardly known
Z = 1.959963984540054


def ratio(top: np.ndarray, bottom: np.ndarray) -> Score:
    """Return sum(top) / sum(bottom) over rows [n] with an interval over rows (linearised; Cochran 1977)."""
    n, value = len(top), float(top.sum() / max(bottom.sum(), 1))
    if n < LEAST or not bottom.any():
        return Score(value, None, None, n)
    half = Z * float(np.std(top - value * bottom, ddof=1)) / math.sqrt(n) / float(bottom.mean())
    return Score(value, value - half, value + half, n)


def perplexity(loss: Score) -> Score:
    """Return e to the loss: among how many equally likely tokens the model seems to choose."""
    low, high = (None if end is None else _exp(end) for end in (loss.low, loss.high))
    return Score(_exp(loss.value), low, high, loss.n)


def difference(a: np.ndarray, b: np.ndarray, tokens: np.ndarray) -> Difference:
    """Return by how much less a token costs `a` than `b`: summed losses [n] over the same rows of `tokens`."""
    gap = b - a
    value = float(gap.sum() / max(tokens.sum(), 1))
    if len(gap) < 2:
        return Difference("loss", value, -math.inf, math.inf, 1.0)
    spread = (
        float(np.std(gap - value * tokens, ddof=1)) / math.sqrt(len(gap)) / max(float(tokens.mean()), 1e-9)
    )
    p = math.erfc(abs(value) / spread / math.sqrt(2)) if spread else float(value == 0)
    return Difference("loss", value, value - Z * spread, value + Z * spread, p)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))

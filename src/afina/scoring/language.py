"""How surprised a language model is: loss a token, perplexity, and what another model does on the same rows."""

from __future__ import annotations

import math

import numpy as np

from afina.core import Difference, Score

LEAST = 30  # rows; with fewer the variance of a ratio is hardly known
Z = 1.959963984540054
TOSSES, SEED = 5000, 2000


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
    """Return by how much less a token costs `a` than `b`: summed losses [n] over the same rows of `tokens`.

    The interval is Student's over rows, linearised; p that of rows which change sides by the toss of a coin, exact
    where they are few: four rows can show nothing.
    """
    from scipy.stats import t

    gap, total = b - a, max(float(tokens.sum()), 1.0)
    value, n = float(gap.sum() / total), len(gap)
    if n < 2:  # as wide as the losses themselves
        bound = float(max(a.sum(), b.sum(), 0.0) / total)
        return Difference("loss", value, -bound, bound, 1.0)
    half = float(t.ppf(0.975, n - 1)) * float(np.std(gap - value * tokens, ddof=1)) * math.sqrt(n) / total
    return Difference("loss", value, value - half, value + half, _by_coin(gap))


def _by_coin(gap: np.ndarray) -> float:
    """Return how often a sum of the gaps with signs of a tossed coin is as far from 0 as theirs."""
    if len(gap) <= 12:
        signs = 1 - 2 * (np.arange(2 ** len(gap))[:, None] >> np.arange(len(gap)) & 1)
        return float((np.abs(signs @ gap) >= abs(gap.sum()) - 1e-12).mean())
    signs = np.random.default_rng(SEED).choice([-1, 1], (TOSSES, len(gap)))
    return float(((np.abs(signs @ gap) >= abs(gap.sum()) - 1e-12).sum() + 1) / (TOSSES + 1))


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))

"""Figures that are sums over sums, of words or entities, where the row is the unit that was drawn.

Words of one sentence are right or wrong together, so their number overstates how much is known. The variance of a
ratio is that of its rows (linearised; Cochran, 1977); as many independent items as would have this variance give
Wilson's interval (effective sample size; Korn and Graubard, 1998), never more than there are. A score without any
error then has an interval too. Measured over 15 to 200 rows, levels of 0.5 to 0.97 and weak to strong clustering,
92 to 98 % of the intervals hold the truth (1,500 draws each; `tests/test_scoring_entities.py` draws fewer).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from afina.core import Difference, Score
from afina.scoring.confusion import METRICS, Margins
from afina.scoring.intervals import Z, derivatives, intervals, smoothed, wilson

LEAST = 10  # rows that hold an item; with fewer their variance is hardly known
RESAMPLES = 5000
AT_ONCE = 250
SEED = 2000


def share(part: np.ndarray, whole: np.ndarray) -> Score:
    """Return sum(part) / sum(whole) over rows [n] with `part` of each row's `whole` items right; 0 of nothing is 0."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    total, filled = whole.sum(), int((whole > 0).sum())
    value = float(part.sum() / total) if total else 0.0
    if filled < LEAST:
        return Score(value, None, None, len(part))
    low, high = _wilson(value, _variance(part - value * whole) / total**2, total, filled)
    return Score(value, low, high, len(part))


def f1(right: np.ndarray, gold: np.ndarray, said: np.ndarray) -> Score:
    """Return F1 = 2J / (1 + J) by way of J = right / (gold or said), which is a share of items."""
    found = share(right, np.asarray(gold) + said - right)
    low, high = (None if end is None else 2 * end / (1 + end) for end in (found.low, found.high))
    return Score(float(2 * right.sum() / max((gold + said).sum(), 1)), low, high, found.n)


def of_confusion(name: str, counts: np.ndarray, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Score:
    """Return a metric of a confusion matrix [k, k] whose items come in rows of (true classes, said classes).

    The limits are the wider of two: those of independent items, which know rare classes, and those of the rows'
    variance. None where either has too little to go by.
    """
    metric, n = METRICS[name], len(rows)
    value, alone = float(metric(Margins.of(counts))), intervals(counts)[name]
    if alone is None or n < LEAST:
        return Score(value, None, None, n)
    influence = derivatives(metric, smoothed(counts))[0]
    sums = np.array([influence[list(true), list(said)].sum() for true, said in rows])
    low, high = _wilson(value, _variance(sums - sums.mean()), counts.sum(), n)
    return Score(value, min(low, alone[0]), max(high, alone[1]), n)


def difference(metric: str, a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> Difference:
    """Return sum(part) / sum(whole) of `a` less that of `b` on the same rows [n], with paired interval and p-value.

    The interval is linearised, with one item more that only `a`, and one that only `b` has right (as Bonett and
    Price, 2012, add for shares); p is that of approximate randomisation by row (Yeh, 2000).
    """
    (top_a, under_a), (top_b, under_b) = a, b
    value, influence = 0.0, np.zeros(len(top_a))
    steps = []
    for sign, top, under in ((1, top_a, under_a), (-1, top_b, under_b)):
        total = max(under.sum(), 1.0)
        value += sign * top.sum() / total
        influence = influence + sign * (top - top.sum() / total * under) / total
        steps.append(top[top > 0].min() / total if (top > 0).any() else 1.0 / total)
    variance = _variance(influence) + 2 * max(steps) ** 2
    half = Z * float(np.sqrt(variance))
    return Difference(
        metric, float(value), max(float(value) - half, -1.0), min(float(value) + half, 1.0),
        _randomisation(a, b, float(value)),
    )  # fmt: skip


def _variance(influence: np.ndarray) -> float:
    """Return the variance of a sum over rows whose expectation is 0."""
    n = len(influence)
    return float((influence**2).sum() * n / max(n - 1, 1))


def _wilson(value: float, variance: float, items: float, rows: int) -> tuple[float, float]:
    from scipy.special import stdtrit

    spread = value * (1 - value)
    independent = min(spread / variance, items) if variance > 0 and spread > 0 else min(items, rows)
    z = float(stdtrit(rows - 1, 0.975))
    low, high = wilson(np.asarray(value * independent), np.asarray(independent), z)
    return float(low), float(high)


def _randomisation(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], value: float) -> float:
    """Return how often rows that change sides by the toss of a coin differ as much as `value`."""
    rng = np.random.default_rng(SEED)
    gap = np.stack([b[0] - a[0], b[1] - a[1]], 1)
    sums_a, sums_b = (np.array([top.sum(), under.sum()]) for top, under in (a, b))
    gap = gap[(gap != 0).any(1)]
    as_far = 0
    for _batch in range(RESAMPLES // AT_ONCE):
        moved = rng.integers(0, 2, (AT_ONCE, len(gap))) @ gap
        one, other = sums_a + moved, sums_b - moved
        apart = one[:, 0] / np.maximum(one[:, 1], 1) - other[:, 0] / np.maximum(other[:, 1], 1)
        as_far += int((np.abs(apart) >= abs(value) - 1e-12).sum())
    return (as_far + 1) / (RESAMPLES + 1)

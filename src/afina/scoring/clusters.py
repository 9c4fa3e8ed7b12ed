"""Means of figures between 0 and 1 over rows that come in clusters, such as the questions about one text.

Rows of a cluster are alike, so that many of them tell less than as many independent ones. The variance of a mean
is that of the clusters' sums (linearised ratio; Cochran, 1977), and the interval is Wilson's for as many
independent rows as would have this variance, with Student's t for the number of clusters (as in `intervals`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from afina.core import Difference, Score
from afina.scoring.intervals import wilson

LEAST = 8  # clusters; with fewer their variance is hardly known
ROUNDING = 1e-24  # the variance of figures that are all alike, but for the last digit
RESAMPLES = 5000
SEED = 2000


def mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Score:
    """Return the mean of `values` [n] in 0 … 1 with its interval, None for fewer than eight `clusters` [n]."""
    n, value = len(values), sum(values) / len(values)
    sums = _sums(np.asarray(values) - value, clusters)
    if len(sums) < LEAST:
        return Score(value, None, None, n)
    variance = _variance(sums, n)
    # Where all rows are alike nothing is known of the variance: then a cluster tells no more than one row.
    rows = value * (1 - value) / variance if variance > ROUNDING else float(len(sums))
    low, high = wilson(np.asarray(value * rows), np.asarray(rows), _t(len(sums)))
    return Score(value, float(low), float(high), n)


def difference(
    metric: str, a: Sequence[float], b: Sequence[float], clusters: Sequence[Hashable]
) -> Difference:
    """Return by how much the mean of `a` is above that of `b` on the same rows, with paired interval and p-value.

    p is that of approximate randomisation (Yeh, 2000): does it matter which system gave the answers to which
    cluster? The interval has one row more in favour of either side, so that a difference without spread has one.
    With one cluster nothing can be shown.
    """
    gaps = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    n, value = len(gaps), float(gaps.mean())
    sums = _sums(gaps, clusters)
    if len(sums) < 2:
        return Difference(metric, value, -1.0, 1.0, 1.0)
    spread = np.append(_sums(gaps - value, clusters), [1 - value, -1 - value])
    half = _t(len(sums)) * np.sqrt(_variance(spread, n + 2))
    signs = np.random.default_rng(SEED).integers(0, 2, (RESAMPLES, len(sums))) * 2 - 1
    as_far = int((np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9).sum())
    p = (as_far + 1) / (RESAMPLES + 1)
    return Difference(metric, value, max(value - float(half), -1.0), min(value + float(half), 1.0), p)


def _sums(values: np.ndarray, clusters: Sequence[Hashable]) -> np.ndarray:
    places: dict[Hashable, int] = {}
    of_row = [places.setdefault(cluster, len(places)) for cluster in clusters]
    return np.bincount(of_row, values, len(places))


def _variance(sums: np.ndarray, n: int) -> float:
    return float(len(sums) / (len(sums) - 1) * (sums**2).sum() / n**2)


def _t(clusters: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(clusters - 1, 0.975))

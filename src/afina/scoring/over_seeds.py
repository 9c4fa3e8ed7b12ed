"""Systems that were trained several times, compared on the same rows: rows and seeds are both drawn by chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from afina.core import Difference, Row

GROUPS = 100  # of rows that are left out together: enough for a variance, few enough for a slow metric
FEWEST = 30  # rows that a variance can be taken from
SEED = 1969
RANGES = {"spearman": (-1.0, 1.0), "loss": (0.0, math.inf)}  # of main metrics; that of all others is 0 to 1

Watch = Callable[[Sequence[Any], Sequence[Row]], tuple[str, float]]


class System(NamedTuple):
    """A system's metric with each seed, and its pseudo-values [groups]: what each group of rows says of the mean."""

    values: np.ndarray
    pseudo: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.values.mean())


class Pair(NamedTuple):
    """Two systems by name and how much better `a` is; its p-value is Holm's, over all pairs compared."""

    a: str
    b: str
    difference: Difference


def system(watches: Sequence[Watch], answers: Sequence[Sequence[Any]], rows: Sequence[Row]) -> System:
    """Return the metric of the answers [seeds, rows], one watch a seed, and its grouped jackknife (Shao & Tu 1995, chapter 2)."""
    groups = min(GROUPS, len(rows))
    group = np.random.default_rng(SEED).permutation(len(rows)) % groups
    left = [np.flatnonzero(group != each).tolist() for each in range(groups)]
    values = np.array([watch(each, rows)[1] for watch, each in zip(watches, answers, strict=True)])
    without = np.array(
        [
            np.mean(
                [
                    watch([each[i] for i in kept], [rows[i] for i in kept])[1]
                    for watch, each in zip(watches, answers, strict=True)
                ]
            )
            for kept in left
        ]
    )
    return System(values, groups * values.mean() - (groups - 1) * without)


def compare(systems: Mapping[str, System], metric: str, direction: int = 1) -> list[Pair]:
    """Return every pair of systems; `direction` is -1 where less of the metric is better.

    The variance of a difference is that over rows (paired) and that over seeds, the latter pooled over all systems
    with several seeds, for three alone say little. Its degrees of freedom are Satterthwaite's (1946), p-values
    are Holm's (1979). With one seed a difference is one between these two trained models, not between methods.
    """
    every = list(systems.values())
    found = [
        Pair(a, b, _difference(systems[a], systems[b], metric, direction, every))
        for a, b in combinations(systems, 2)
    ]
    return _holm(found)


def interval(one: System, every: Sequence[System], metric: str) -> tuple[float, float] | None:
    """Return the 95 % interval of a system's mean over rows and seeds, None with fewer than 30 rows.

    It ends where the metric does.
    """
    if len(one.pseudo) < FEWEST:
        return None
    half = _half_width(*_variance(one.pseudo, *_of_seeds([one], every)))
    least, most = RANGES.get(metric, (0.0, 1.0))
    return max(least, one.mean - half), min(most, one.mean + half)


def _of_seeds(means: Sequence[System], every: Sequence[System]) -> tuple[float, int]:
    """Return the variance that seeds bring to a sum of `means`, pooled over `every` system, and its freedom."""
    several = [each.values for each in every if len(each.values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    parts = sum(1 / len(each.values) for each in means if len(each.values) > 1)
    if not parts:
        return 0.0, 0
    pooled = sum(float(values.var(ddof=1)) * (len(values) - 1) for values in several) / freedom
    return pooled * parts, freedom


def _variance(pseudo: np.ndarray, of_seeds: float, freedom: int) -> tuple[float, float]:
    """Return the variance of the mean and its degrees of freedom."""
    of_rows = float(pseudo.var(ddof=1)) / len(pseudo)
    both = of_rows + of_seeds
    below = of_rows**2 / (len(pseudo) - 1) + (of_seeds**2 / freedom if freedom else 0.0)
    return both, both**2 / below if below else 1.0


def _half_width(variance: float, freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, freedom)) * variance**0.5


def _difference(a: System, b: System, metric: str, direction: int, every: Sequence[System]) -> Difference:
    from scipy.stats import t

    value = direction * (a.mean - b.mean)
    variance, degrees = _variance(a.pseudo - b.pseudo, *_of_seeds([a, b], every))
    half = _half_width(variance, degrees)
    p = 2 * float(t.sf(abs(value) / variance**0.5, degrees)) if variance else float(value == 0)
    return Difference(metric, value, value - half, value + half, p)


def _holm(pairs: list[Pair]) -> list[Pair]:
    order = sorted(range(len(pairs)), key=lambda i: pairs[i].difference.p)
    adjusted, highest = [0.0] * len(pairs), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(pairs) - rank) * pairs[i].difference.p))
        adjusted[i] = highest
    return [
        Pair(pair.a, pair.b, pair.difference._replace(p=p)) for pair, p in zip(pairs, adjusted, strict=True)
    ]

"""Systems that were trained several times, compared on the same rows: rows and seeds are both drawn by chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from afina.core import Difference, Row
from afina.scoring.intervals import Z

GROUPS = 100  # of rows that are left out together: enough for a variance, few enough for a slow metric
SEED = 1969
RANGES = {"spearman": (-1.0, 1.0), "loss": (0.0, math.inf)}  # of main metrics; that of all others is 0 to 1

Watch = Callable[[Sequence[Any], Sequence[Row]], tuple[str, float]]


class System(NamedTuple):
    """A system's metric with each seed, and its pseudo-values [groups]: what each group of `rows` says of the mean.

    One that is not `trained` would be the same with another seed: a baseline.
    """

    values: np.ndarray
    pseudo: np.ndarray
    rows: int
    trained: bool = True

    @property
    def mean(self) -> float:
        return float(self.values.mean())


class Pair(NamedTuple):
    """Two systems by name and how much better `a` is; its p-value is Holm's, over all pairs compared."""

    a: str
    b: str
    difference: Difference


def system(
    watches: Sequence[Watch],
    answers: Sequence[Sequence[Any]],
    rows: Sequence[Row],
    clusters: Sequence[Collection[Hashable]] = (),
    *,
    trained: bool = True,
) -> System:
    """Return the metric of the answers [seeds, rows], one watch a seed, and its grouped jackknife (Shao & Tu 1995, chapter 2).

    Rows that share a name in `clusters` [rows] are left out together, for many that are alike tell less than as many
    independent ones.
    """
    group = _dealt(clusters or [()] * len(rows))
    groups = int(group.max()) + 1
    left = [np.flatnonzero(group != each).tolist() for each in range(groups if groups > 1 else 0)]
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
    return System(values, groups * values.mean() - (groups - 1) * without, len(rows), trained)


def _dealt(names: Sequence[Collection[Hashable]]) -> np.ndarray:
    """Return the group of each row: rows that share a name are one unit, and units are dealt to at most 100 groups."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    places: dict[Hashable, int] = {}
    ties = [
        (i, len(names) + places.setdefault(name, len(places))) for i, its in enumerate(names) for name in its
    ]
    rows, named = np.array(ties, int).reshape(-1, 2).T
    every = len(names) + len(places)
    graph = coo_array((np.ones(len(rows)), (rows, named)), shape=(every, every))
    units, of_row = connected_components(graph, directed=False)
    return (np.random.default_rng(SEED).permutation(units) % min(GROUPS, units))[of_row[: len(names)]]


def compare(systems: Mapping[str, System], metric: str, direction: int = 1) -> list[Pair]:
    """Return every pair of systems; `direction` is -1 where less of the metric is better.

    The variance of a difference is that over rows (paired), with one row more in favour of either side, and that
    over seeds, the latter pooled over all systems with several seeds, for three alone say little. Its degrees of
    freedom are Satterthwaite's (1946), p-values are Holm's (1979). Where no system has several seeds, a difference is
    one between these two trained models, not between methods.
    """
    every = list(systems.values())
    found = [
        Pair(a, b, _difference(systems[a], systems[b], metric, direction, every))
        for a, b in combinations(systems, 2)
    ]
    return _holm(found)


def interval(
    one: System, every: Sequence[System], metric: str, alone: tuple[float, float] | None
) -> tuple[float, float] | None:
    """Return the 95 % interval of a system's mean over rows and seeds, None where even one over rows is refused.

    `alone` are the limits over rows that scoring one run gives, which know few rows and rare classes better than
    the jackknife does: on each side the greater variance of the two counts. Limits that have Student's t already get
    it again, so with few clusters it errs on the wide side. It ends where the metric does.
    """
    if alone is None or len(one.pseudo) < 2:
        return None
    of_rows, of_seeds = _of_mean(one.pseudo), _of_seeds([one], every)
    below, above = (
        _half_width(*_both(max(of_rows, (reach / Z) ** 2), len(one.pseudo) - 1, *of_seeds))
        for reach in (one.mean - alone[0], alone[1] - one.mean)
    )
    least, most = RANGES.get(metric, (0.0, 1.0))
    return max(least, one.mean - below), min(most, one.mean + above)


def _of_seeds(means: Sequence[System], every: Sequence[System]) -> tuple[float, int]:
    """Return the variance that seeds bring to a sum of `means`, pooled over `every` system, and its freedom."""
    several = [each.values for each in every if len(each.values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    # One of which a single seed has ended varies as much as the others.
    parts = sum(1 / len(each.values) for each in means if each.trained)
    if not parts or not several:
        return 0.0, 0
    pooled = sum(float(values.var(ddof=1)) * (len(values) - 1) for values in several) / freedom
    return pooled * parts, freedom


def _of_mean(pseudo: np.ndarray) -> float:
    return float(pseudo.var(ddof=1)) / len(pseudo)


def _both(of_rows: float, rows: int, of_seeds: float, freedom: int) -> tuple[float, float]:
    """Return the variance of the mean over rows and seeds, and its degrees of freedom; `rows` are those over rows."""
    both = of_rows + of_seeds
    below = of_rows**2 / rows + (of_seeds**2 / freedom if freedom else 0.0)
    return both, both**2 / below if below else 1.0


def _half_width(variance: float, freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, freedom)) * variance**0.5


def _difference(a: System, b: System, metric: str, direction: int, every: Sequence[System]) -> Difference:
    from scipy.stats import t

    value = direction * (a.mean - b.mean)
    least, most = RANGES.get(metric, (0.0, 1.0))
    bound = most - least if math.isfinite(most) else max(a.mean, b.mean)
    if len(a.pseudo) < 2:
        return Difference(metric, value, -bound, bound, 1.0)
    gaps = direction * (a.pseudo - b.pseudo)
    # One row more in favour of either side: a difference without spread has an interval too.
    more = 2 * (bound / a.rows) ** 2 if math.isfinite(most) else 0.0
    variance, degrees = _both(_of_mean(gaps) + more, len(gaps) - 1, *_of_seeds([a, b], every))
    half = _half_width(variance, degrees)
    p = 2 * float(t.sf(abs(value) / variance**0.5, degrees)) if variance else float(value == 0)
    # Never below that of as many signs that all point one way: five texts can show nothing.
    p = max(p, 2.0 ** (1 - len(gaps)))
    if math.isfinite(most):
        return Difference(metric, value, max(value - half, -bound), min(value + half, bound), p)
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

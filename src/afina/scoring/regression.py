"""The figures of numbers against numbers: rank and linear correlation, and the size of the errors.

Every figure is a function of means over rows, so one row's influence on it is known (infinitesimal jackknife;
Jaeckel, 1972) and gives its variance, whatever the numbers' distribution: Fisher's z alone is too narrow where
tails are heavy or errors grow with the number (Bishara and Hittner, 2017). Correlations are taken on the scale of
z = artanh(r), errors on that of the logarithm; on the former the normal theory (Bonett and Wright, 2000) counts
where it is wider. Coverage is measured in `tests/test_scoring_sets_numbers.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from afina.core import Difference, Score, Scores
from afina.errors import InputError
from afina.messages import _
from afina.scoring.intervals import Z

ROWS = 25  # fewer give no interval
ROWS_OF_ERRORS = 100
HEAVY = (
    3.6  # a larger ratio of 95 % to 50 % quantile (normal: 2.9), and no interval of a mean of squares holds
)
RANGES = 5  # of gold numbers that the details tell apart
RESAMPLES = 5000
AT_ONCE = 250
SEED = 2000

Influence = tuple[float, np.ndarray]
"""A figure and the influence of each row on it, [n]: their sum is 0, their squares add up to the variance."""


def score(gold: Sequence[float], answers: Sequence[float]) -> Scores:
    """Return Spearman's and Pearson's correlation, the root of the mean squared and the mean absolute error.

    A correlation with answers or gold that are all alike is 0, and its interval is None, as it is under
    `ROWS` rows. InputError where there is no row, or an answer that is no number.
    """
    x, y = np.asarray(answers, float), np.asarray(gold, float)
    if len(y) == 0:
        raise InputError(_("There is no row to score. Give a file with at least one labelled row."))
    broken = int((~np.isfinite(x)).sum())
    if broken:
        raise InputError(
            _(
                "The model's answer to {broken} of {n} rows is no number (NaN or infinite), so it cannot be "
                "scored. Train again with a lower learning rate."
            ).format(broken=broken, n=len(y))
        )
    errors = np.abs(x - y)
    values = {
        "spearman": _correlation(*spearman(x, y)),
        "pearson": _correlation(*pearson(x, y), _even(x - x.mean()) and _even(y - y.mean())),
        "rmse": _root_mean(errors, 2),
        "mae": _root_mean(errors, 1),
    }
    return Scores(values, {"numbers": by_range(y, x)})


def rank_correlation(gold: Sequence[float], answers: Sequence[float]) -> float:
    """Return Spearman's correlation alone, 0 where all answers or all gold numbers are alike."""
    return spearman(np.asarray(answers, float), np.asarray(gold, float))[0]


def spearman(x: np.ndarray, y: np.ndarray) -> Influence:
    """Return Spearman's correlation (ties share their mean rank) and each row's influence on it."""
    u, v = _shares(x), _shares(y)
    # A row moves the ranks of those above it, and so every product they are in.
    moved = [_above(a, b) for a, b in ((x, v), (y, u), (x, u), (y, v))]
    products = u * v + moved[0] + moved[1], u * u + 2 * moved[2], v * v + 2 * moved[3]
    return _ratio(
        *((mean(a, b), one) for (a, b), one in zip(((u, v), (u, u), (v, v)), products, strict=True))
    )


def pearson(x: np.ndarray, y: np.ndarray) -> Influence:
    """Return Pearson's correlation and each row's influence on it."""
    u, v = x - x.mean(), y - y.mean()
    return _ratio(*((mean(a, b), a * b) for a, b in ((u, v), (u, u), (v, v))))


def difference(gold: Sequence[float], a: Sequence[float], b: Sequence[float]) -> Difference:
    """Return by how much Spearman's correlation of `a` is above that of `b` on the same rows.

    The interval comes from the rows' influences, the p-value from approximate randomisation (Yeh, 2000): what if
    it did not matter which system gave a row which rank? InputError where there is no row.
    """
    from scipy.special import stdtrit
    from scipy.stats import rankdata

    if len(gold) == 0:
        raise InputError(_("There is no row to compare on. Give a file with at least one labelled row."))
    y, first, second = (np.asarray(numbers, float) for numbers in (gold, a, b))
    (of_a, by_a), (of_b, by_b) = spearman(first, y), spearman(second, y)
    value, n = of_a - of_b, len(y)
    if n < ROWS:
        return Difference("spearman", value, -2.0, 2.0, 1.0)
    half = float(stdtrit(n - 1, 0.975) * np.sqrt(((by_a - by_b) ** 2).sum() * n / (n - 1)))
    ranks = [rankdata(numbers) - (n + 1) / 2 for numbers in (first, second, y)]
    rng, as_far = np.random.default_rng(SEED), 0
    for _batch in range(RESAMPLES // AT_ONCE):
        swap = rng.random((AT_ONCE, n)) < 0.5
        sides = np.where(swap, ranks[1], ranks[0]), np.where(swap, ranks[0], ranks[1])
        of_sides = [_plain(side, ranks[2]) for side in sides]
        as_far += int((np.abs(of_sides[0] - of_sides[1]) >= abs(value) - 1e-12).sum())
    p = (as_far + 1) / (RESAMPLES + 1)
    return Difference("spearman", value, max(value - half, -2.0), min(value + half, 2.0), p)


def by_range(gold: np.ndarray, answers: np.ndarray) -> dict[str, object]:
    """Return, for ranges of the gold number with like many rows, the mean answer and the mean absolute error."""
    edges = np.unique(np.quantile(gold, np.linspace(0, 1, RANGES + 1)))
    place = np.clip(np.searchsorted(edges, gold, "right") - 1, 0, max(len(edges) - 2, 0))
    ranges = []
    for each in np.unique(place):
        here = place == each
        ranges.append(
            {
                "low": float(gold[here].min()),
                "high": float(gold[here].max()),
                "n": int(here.sum()),
                "gold": float(gold[here].mean()),
                "answer": float(answers[here].mean()),
                "mae": float(np.abs(answers[here] - gold[here]).mean()),
            }
        )
    return {"low": float(gold.min()), "mean": float(gold.mean()), "high": float(gold.max()), "ranges": ranges}


def mean(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean product."""
    return float((a * b).mean())


def _shares(x: np.ndarray) -> np.ndarray:
    """Return the share of rows below each, those level with it counting half, about its mean: ranks, in effect."""
    from scipy.stats import rankdata

    return (rankdata(x) - (len(x) + 1) / 2) / len(x)


def _above(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return for each row the mean of the weights of the rows above it in `x`, level ones counting half."""
    _values, place, times = np.unique(x, return_inverse=True, return_counts=True)
    here = np.bincount(place, weights, len(times))
    return ((here.sum() - np.cumsum(here)) + here / 2)[place] / len(x)


def _ratio(*parts: tuple[float, np.ndarray]) -> Influence:
    """Return covariance / root of the variances' product, from each mean and what each row adds to it."""
    (covariance, together), (of_x, in_x), (of_y, in_y) = parts
    n = len(together)
    if of_x <= 1e-24 or of_y <= 1e-24:
        return 0.0, np.zeros(n)
    value = covariance / np.sqrt(of_x * of_y)
    influence = together / np.sqrt(of_x * of_y) - value / 2 * (in_x / of_x + in_y / of_y)
    return float(np.clip(value, -1, 1)), (influence - influence.mean()) / n


def _even(distances: np.ndarray) -> bool:
    """Whether the tail of the distances is no heavier than about that of a normal distribution.

    By quantiles, so that the choice says little about the mean itself.
    """
    middle, far = np.quantile(np.abs(distances), [0.5, 0.95])
    return bool(far <= HEAVY * middle)


def _correlation(value: float, influence: np.ndarray, even: bool = True) -> Score:
    """Return the correlation with its interval, made on the scale of artanh."""
    from scipy.special import stdtrit

    n = len(influence)
    if n < ROWS or not even or not influence.any():
        return Score(value, None, None, n)
    inner = float(np.clip(value, -1 + 1e-9, 1 - 1e-9))
    seen = np.sqrt((influence**2).sum() * n / (n - 1)) / (1 - inner**2)
    half = max(float(stdtrit(n - 1, 0.975) * seen), Z * np.sqrt((1 + inner**2 / 2) / (n - 3)))
    low, high = np.tanh([np.arctanh(inner) - half, np.arctanh(inner) + half])
    return Score(value, min(float(low), value), max(float(high), value), n)


def _root_mean(errors: np.ndarray, power: int) -> Score:
    """Return the root of the mean of the errors' powers with its interval, made on the scale of the logarithm."""
    from scipy.special import stdtrit

    n, each = len(errors), errors**power
    value = float(each.mean() ** (1 / power))
    if n < ROWS_OF_ERRORS or value == 0 or not _even(errors):
        return Score(value, None, None, n)
    half = float(stdtrit(n - 1, 0.975) * each.std(ddof=1) / np.sqrt(n) / each.mean() / power)
    if power == 2:
        half = max(half, Z / np.sqrt(2 * n))
    return Score(value, value * float(np.exp(-half)), value * float(np.exp(half)), n)


def _plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each row of `x` [times, n] with `y` [n], 0 where there is none."""
    u, v = x - x.mean(1, keepdims=True), y - y.mean()
    spread = np.sqrt((u * u).sum(1) * (v * v).sum())
    return np.divide(u @ v, spread, out=np.zeros(len(x)), where=spread > 1e-12)

"""Is one system better than another on the same rows?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from afina.core import Difference
from afina.errors import InputError
from afina.messages import _
from afina.scoring.confusion import METRICS, Margins, Metric
from afina.scoring.intervals import Z, derivatives, smoothed, variance_of_sum

Decision = Literal["better", "worse", "no difference shown"]

RESAMPLES = 5000
AT_ONCE = 250
SEED = 2000
SHARES = {"accuracy", "weighted_recall"}  # shares of rows that were answered rightly


class Pairs(NamedTuple):
    """The kinds of pairs of answers: true class, class said by `a`, class said by `b`, number of rows; each [m]."""

    true: np.ndarray
    a: np.ndarray
    b: np.ndarray
    rows: np.ndarray


def difference(
    metric: str,
    gold: Sequence[str],
    a_predictions: Sequence[str],
    b_predictions: Sequence[str],
    labels: Sequence[str],
) -> Difference:
    """Return by how much `a` is better than `b` in `metric` on the same rows, with paired interval and p-value.

    Accuracy has McNemar's mid-p test (Fagerland et al., 2013) and the interval of Bonett and Price (2012). The
    others have approximate randomisation (Yeh, 2000: does it matter which system gave which answer?) and the
    delta method over pairs of answers with one pair more in favour of either side, as Bonett and Price add.
    InputError where there is no row or no such metric.
    """
    if metric not in METRICS:
        raise InputError(
            _("There is no metric '{name}'. There are: {all}.").format(name=metric, all=", ".join(METRICS))
        )
    if len(gold) == 0:
        raise InputError(_("There is no row to compare on. Give a file with at least one labelled row."))
    every = [*labels, *sorted({*gold, *a_predictions, *b_predictions} - set(labels))]
    place = {label: index for index, label in enumerate(every)}
    rows = [[place[label] for label in row] for row in zip(gold, a_predictions, b_predictions, strict=True)]
    kinds, times = np.unique(np.asarray(rows, dtype=np.int64), axis=0, return_counts=True)
    pairs = Pairs(kinds[:, 0], kinds[:, 1], kinds[:, 2], times)
    if metric in SHARES:
        return _of_shares(metric, pairs)
    figure = METRICS[metric]
    a, b = (_margins(pairs.true, said, times, len(every)) for said in (pairs.a, pairs.b))
    value = float(figure(a) - figure(b))
    half, bound = _half_width(figure, pairs, len(every)), 2.0 if metric == "mcc" else 1.0
    p = _randomisation(figure, pairs, len(every), value)
    return Difference(metric, value, max(value - half, -bound), min(value + half, bound), p)


def decision(difference: Difference) -> Decision:
    """Return what the difference shows of `a`; anything that p and interval do not agree on is not shown."""
    if not difference.shown:
        return "no difference shown"
    return "better" if difference.value > 0 else "worse"


def _of_shares(metric: str, pairs: Pairs) -> Difference:
    """Compare the shares of rows that were answered rightly; only rows that one side alone has right count."""
    from scipy.stats import binom

    n = int(pairs.rows.sum())
    only_a = int(pairs.rows[(pairs.a == pairs.true) & (pairs.b != pairs.true)].sum())
    only_b = int(pairs.rows[(pairs.b == pairs.true) & (pairs.a != pairs.true)].sum())
    fewer, split = min(only_a, only_b), binom(only_a + only_b, 0.5)
    p = 1.0 if only_a == only_b else float(2 * split.cdf(fewer) - split.pmf(fewer))
    x, y = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = Z * np.sqrt((x + y - (x - y) ** 2) / (n + 2))
    low, high = max(float(x - y - half), -1.0), min(float(x - y + half), 1.0)
    return Difference(metric, (only_a - only_b) / n, low, high, p)


def _margins(true: np.ndarray, said: np.ndarray, rows: np.ndarray, k: int) -> Margins:
    return Margins(
        np.bincount(true, rows * (true == said), k),
        np.bincount(true, rows, k),
        np.bincount(said, rows, k),
    )


def _table(true: np.ndarray, said: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    return np.bincount(true * k + said, rows, k * k).reshape(k, k)


def _half_width(figure: Metric, pairs: Pairs, k: int) -> float:
    """Return half the width of the 95 % interval of figure(a) - figure(b)."""
    tables = [_table(pairs.true, said, pairs.rows, k) for said in (pairs.a, pairs.b)]
    of_a, of_b = (derivatives(figure, smoothed(table))[0] for table in tables)
    # One pair more that only `a`, and one that only `b` has right, spread over the errors as chance would.
    both = tables[0] + tables[1]
    chance = smoothed(both) - both
    right_a, right_b = np.diag(of_a)[:, None], np.diag(of_b)[:, None]
    seen = of_a[pairs.true, pairs.a] - of_b[pairs.true, pairs.b]
    true = np.concatenate([pairs.true, np.repeat(np.arange(k), k), np.repeat(np.arange(k), k)])
    weights = np.concatenate([pairs.rows, chance.ravel(), chance.ravel()])
    influence = np.concatenate([seen, (right_a - of_b).ravel(), (of_a - right_b).ravel()])
    variance, z = variance_of_sum(true, weights, influence, tables[0].sum(1))
    return z * float(np.sqrt(variance))


def _randomisation(figure: Metric, pairs: Pairs, k: int, value: float) -> float:
    """Return how often answers that change sides by the toss of a coin differ as much as `value`."""
    rng = np.random.default_rng(SEED)
    a, b = (_margins(pairs.true, said, pairs.rows, k) for said in (pairs.a, pairs.b))
    true, of_a, of_b, rows = (part[pairs.a != pairs.b] for part in pairs)
    kinds, classes = np.arange(len(true)), np.eye(k)
    # What one change of sides adds to the margins of `a` and takes from those of `b`.
    right = classes[true] * ((of_b == true).astype(float) - (of_a == true))[:, None]
    said = classes[of_b] - classes[of_a]
    as_far = 0
    for _batch in range(RESAMPLES // AT_ONCE):
        changed = rng.binomial(rows, 0.5, (AT_ONCE, len(kinds)))
        more_right, more_said = changed @ right, changed @ said
        gap = figure(Margins(a.right + more_right, a.gold, a.said + more_said)) - figure(
            Margins(b.right - more_right, b.gold, b.said - more_said)
        )
        as_far += int((np.abs(gap) >= abs(value) - 1e-12).sum())
    return (as_far + 1) / (RESAMPLES + 1)

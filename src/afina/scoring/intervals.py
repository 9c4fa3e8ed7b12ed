"""95 % intervals of the figures of a confusion matrix; `tests/test_scoring_coverage.py` measures their coverage.

Shares (accuracy, precision and recall of one class) have Wilson's interval (1927). F1 of one class is
2J / (1 + J) with J = right / (gold + said - right), itself a share, and so has Wilson's limits for J.

A mean over classes has two weak spots, and an approximation for each. With rare classes its variance is badly
known: the limits of the classes are recovered into limits of the mean (MOVER; Zou and Donner, 2008). With many
classes of few rows the classes' limits lean to one side together: the delta method (for macro-F1: Takahashi et
al., 2022) gives variance and bias of the mean itself, and Wilson's interval for as many rows as would have this
variance gives the limits. On each side the wider of the two counts. A percentile bootstrap is too narrow in
both cases.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from afina.scoring.confusion import METRICS, Margins, Metric, f1, precision, ratio, recall

Interval = tuple[float, float]

Z = 1.959963984540054  # 97.5 % of a standard normal distribution lie below
ROWS_A_CLASS = 8  # on average, for MCC at least; with fewer, coverage can fall below 90 %
CELLS_AT_ONCE = 4096


def wilson(part: np.ndarray, whole: np.ndarray, z: float = Z) -> tuple[np.ndarray, np.ndarray]:
    """Return the limits of the shares `part / whole` (Wilson, 1927), 0 and 1 where `whole` is 0."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    value, middle = ratio(part, whole), part + z * z / 2
    spread = z * np.sqrt(part * (1 - value) + z * z / 4)
    low, high = (middle - spread) / (whole + z * z), (middle + spread) / (whole + z * z)
    # Rounding must not push a limit past the value or out of [0, 1].
    return np.where(whole > 0, np.clip(low, 0, value), 0.0), np.where(whole > 0, np.clip(high, value, 1), 1.0)


def share(part: float, whole: float) -> Interval | None:
    """Return the interval of one share, None where there is no row."""
    low, high = wilson(np.asarray(part), np.asarray(whole))
    return (float(low), float(high)) if whole else None


def f1_of_class(right: float, gold: float, said: float) -> Interval | None:
    """Return the interval of the F1 of one class, None where no row is or is said to be of it."""
    found = share(right, gold + said - right)
    return found and (2 * found[0] / (1 + found[0]), 2 * found[1] / (1 + found[1]))


def intervals(counts: np.ndarray) -> dict[str, Interval | None]:
    """Return the 95 % interval of every metric of a confusion matrix [k, k], a row a true class.

    None stands where there are too few rows for one: a class without any, fewer than eight rows a class on
    average, for MCC fewer than eight of the rarest class. Accuracy needs one row only.
    """
    counts = np.asarray(counts, float)
    m, k, n = Margins.of(counts), len(counts), counts.sum()
    found: dict[str, Interval | None] = dict.fromkeys(METRICS)
    found["accuracy"] = found["weighted_recall"] = share(m.right.sum(), n)
    if k < 2 or m.gold.min() < 1 or n < ROWS_A_CLASS * k:
        return found
    smooth = smoothed(counts)
    for name in METRICS.keys() - {"accuracy", "weighted_recall", "mcc"}:
        low, high, bias = linearised(METRICS[name], smooth, m)
        kind, _, figure = name.partition("_")
        a, b = recovered(CLASS_LIMITS[figure](counts), None if kind == "macro" else m.gold / n, n)
        found[name] = _around(METRICS[name](m), min(low, a - bias), max(high, b - bias))
    if m.gold.min() >= ROWS_A_CLASS:
        low, high, _ = linearised(METRICS["mcc"], smooth, m, least=-1.0)
        found["mcc"] = _around(METRICS["mcc"](m), low, high)
    return found


def _around(value: np.ndarray, low: float, high: float) -> Interval:
    """Return the limits with `value` between them, which a correction for bias may have left out."""
    return min(float(value), float(low)), max(float(value), min(float(high), 1.0))


# From the classes' limits to the mean's ---------------------------------------------------------------

ClassLimits = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _precisions(counts: np.ndarray) -> ClassLimits:
    m = Margins.of(counts)
    return precision(m), *wilson(m.right, m.said), np.eye(len(counts))


def _recalls(counts: np.ndarray) -> ClassLimits:
    m = Margins.of(counts)
    return recall(m), *wilson(m.right, m.gold), np.eye(len(counts))


def _f1s(counts: np.ndarray) -> ClassLimits:
    """The F1 of two classes go together, for an error between them lowers both."""
    m = Margins.of(counts)
    low, high = wilson(m.right, m.gold + m.said - m.right)
    # One more right row and one more error a class: no error yet does not mean that none can be shared.
    right, errors = m.right + 1, counts + counts.T + 1 / (len(counts) - 1)
    np.fill_diagonal(errors, 0.0)
    wrong = errors.sum(1)
    F = ratio(2 * right, 2 * right + wrong)
    part = F / np.sqrt(right * (2 - 2 * F) ** 2 + F**2 * wrong)
    together = np.outer(part, part) * errors
    np.fill_diagonal(together, 1.0)
    return f1(m), 2 * low / (1 + low), 2 * high / (1 + high), together


CLASS_LIMITS: dict[str, Callable[[np.ndarray], ClassLimits]] = {
    "precision": _precisions,
    "recall": _recalls,
    "f1": _f1s,
}


def recovered(classes: ClassLimits, shares: np.ndarray | None, n: float) -> Interval:
    """Return limits of a mean over classes from their values, limits and correlations (Zou and Donner, 2008).

    `shares` are the weights where these are themselves measured on `n` rows, None for equal, known weights.
    """
    values, low, high, together = classes
    weights = np.full(len(values), 1 / len(values)) if shares is None else shares
    mean = weights @ values
    below, above = weights * (values - low), weights * (high - values)
    of_weights = 0.0 if shares is None else Z * Z * (weights @ (values - mean) ** 2) / n
    down, up = below @ together @ below + of_weights, above @ together @ above + of_weights
    return float(mean - np.sqrt(down)), float(mean + np.sqrt(up))


# Limits of the mean itself -----------------------------------------------------------------------------------


def smoothed(counts: np.ndarray) -> np.ndarray:
    """Return the counts and one error more, spread as chance would: a perfect score has a variance, too."""
    m = Margins.of(counts)
    chance = np.outer(m.gold, m.said + 0.5)
    np.fill_diagonal(chance, 0.0)
    return counts + chance / chance.sum()


def derivatives(metric: Metric, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return first and second derivative of a metric with respect to the count of each cell, both [k, k].

    The first is the influence of one row more of that kind (infinitesimal jackknife; Jaeckel, 1972).
    """
    m, k = Margins.of(counts), len(counts)
    still = metric(m)
    first, second = np.zeros(k * k), np.zeros(k * k)
    cells = np.arange(k * k)
    for some in np.array_split(cells, -(-len(cells) // CELLS_AT_ONCE)):
        true, told = some // k, some % k
        step = 0.01 * np.minimum(np.minimum(m.gold[true], m.said[told]), 1.0)
        step = np.where(step > 0, step, 0.01)
        gold, said = np.zeros((2, len(some), k))
        gold[np.arange(len(some)), true] = step
        said[np.arange(len(some)), told] = step
        right = np.where((true == told)[:, None], gold, 0.0)
        more = metric(Margins(m.right + right, m.gold + gold, m.said + said))
        less = metric(Margins(m.right - right, m.gold - gold, m.said - said))
        first[some], second[some] = (more - less) / (2 * step), (more - 2 * still + less) / step**2
    return first.reshape(k, k), second.reshape(k, k)


def variance_of_sum(
    true: np.ndarray, weights: np.ndarray, influence: np.ndarray, gold: np.ndarray
) -> tuple[float, float]:
    """Return the variance of a weighted sum of influences, and how many standard errors hold 95 %.

    The first three are [m], a kind of row each. The true classes are strata, each with a variance that is known
    as well as its number of rows, `gold` [k], allows (Satterthwaite, 1946).
    """
    from scipy.special import stdtrit

    centred = influence - (weights @ influence) / weights.sum()
    of_class = np.bincount(true, weights * centred**2, len(gold))
    variance = float(of_class.sum())
    if variance == 0:
        return 0.0, Z
    freedom = variance**2 / (of_class**2 / np.maximum(gold - 1, 1)).sum()
    return variance, float(stdtrit(freedom, 0.975))


def linearised(
    metric: Metric, smooth: np.ndarray, m: Margins, least: float = 0.0
) -> tuple[float, float, float]:
    """Return the limits of a metric between `least` and 1 by the delta method, and its bias."""
    first, second = derivatives(metric, smooth)
    k = len(smooth)
    variance, z = variance_of_sum(np.repeat(np.arange(k), k), smooth.ravel(), first.ravel(), m.gold)
    width = 1 - least
    level = (float(metric(Margins.of(smooth))) - least) / width
    if variance > 0 and 0 < level < 1:
        rows = (
            level * (1 - level) / (variance / width**2)
        )  # as many would have this variance if it were a share
    else:  # nothing right: no row has an influence
        rows = m.gold.sum()
    bias = 0.5 * float((smooth * second).sum())
    value = min(max((float(metric(m)) - bias - least) / width, 0.0), 1.0)
    low, high = wilson(np.asarray(value * rows), np.asarray(rows), z)
    return least + width * float(low), least + width * float(high), bias

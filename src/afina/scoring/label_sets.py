"""The figures of sets of labels: any number of a known list a row.

A row is drawn whole, with all its labels, so the rows' influences (infinitesimal jackknife; Jaeckel, 1972) give the
variance of every figure. Limits are Wilson's (1927) for as many rows as would have this variance if the figure
were a share; of macro-F1 also those recovered from the labels' own limits (Zou and Donner, 2008), the wider side
counting, as in `intervals`. Coverage is measured in `tests/test_scoring_sets_numbers.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from afina.core import Difference, Score, Scores
from afina.errors import InputError
from afina.messages import _
from afina.scoring.confusion import ratio
from afina.scoring.intervals import Interval, f1_of_class, recovered, share, wilson

ROWS = 20  # fewer give no interval but that of a share
ROWS_A_LABEL = 8  # that have the rarest label or were given it; with fewer macro-F1 has none
RESAMPLES = 5000
AT_ONCE = 100
SEED = 2000


def score(gold: Sequence[Sequence[str]], said: np.ndarray, labels: Sequence[str]) -> Scores:
    """Return the figures of `said` [n, k], true where a row was given a label, against the rows' `gold` sets.

    Macro-F1 is over `labels` and the gold labels that are not among them (`unseen`), 0 where a label neither
    occurs nor was given (scikit-learn's `zero_division=0`). A row without labels that was given none counts 1 in
    `samples_f1` (`zero_division=1`). InputError where there is no row.
    """
    if len(gold) == 0:
        raise InputError(_("There is no row to score. Give a file with at least one labelled row."))
    every, true, told = tables(gold, said, labels)
    right, n = true & told, len(true)
    hits, has, given = (table.sum(1) for table in (right, true, told))
    each_row = ratio(2 * hits, has + given)
    each_row[(has + given) == 0] = 1.0
    exact = (true == told).all(1)
    of_label = [part.sum(0) for part in (right, true, told)]
    f1s = ratio(2 * of_label[0], of_label[1] + of_label[2])
    values = {
        "micro_f1": _of_sums(2 * hits, has + given),
        "macro_f1": _score(float(f1s.mean()), _macro(right, true, told), n),
        "samples_f1": _of_sums(each_row, np.ones(n)),
        "micro_precision": _of_sums(hits, given),
        "micro_recall": _of_sums(hits, has),
        "subset_accuracy": _score(float(exact.mean()), share(int(exact.sum()), n), n),
    }
    per_class = {
        label: {
            "precision": float(ratio(tp, said_so)),
            "recall": float(ratio(tp, of_gold)),
            "f1": float(f),
            "n": int(of_gold),
            "said": int(said_so),
        }
        for label, tp, of_gold, said_so, f in zip(every, *of_label, f1s, strict=True)
    }
    return Scores(values, {"per_class": per_class, "unseen": every[len(labels) :]})


def tables(
    gold: Sequence[Sequence[str]], said: np.ndarray, labels: Sequence[str]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return all labels, those that training never saw last, and who has and who was given which [n, all]."""
    every = [*labels, *sorted({label for row in gold for label in row} - set(labels))]
    place = {label: column for column, label in enumerate(every)}
    true = np.zeros((len(gold), len(every)), dtype=bool)
    for row, of_row in enumerate(gold):
        true[row, [place[label] for label in of_row]] = True
    told = np.zeros_like(true)
    told[:, : len(labels)] = said
    return every, true, told


def micro_f1(true: np.ndarray, told: np.ndarray) -> float:
    """Return micro-F1 alone of two boolean tables [n, k]."""
    return float(ratio(2 * (true & told).sum(), true.sum() + told.sum()))


def shared_threshold(true: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the one threshold for all labels with the best micro-F1 of `probabilities` [n, k] on these rows.

    For probabilities that are right, one threshold for all labels is the best for micro-F1 (Lipton et al., 2014).
    It lies in the middle between two probabilities; 0.5 where no row has a label.
    """
    flat, gold = probabilities.ravel(), true.ravel()
    if not gold.any():
        return 0.5
    order = np.argsort(-flat, kind="stable")
    flat, hits = flat[order], np.cumsum(gold[order])
    f1 = 2 * hits / (gold.sum() + np.arange(1, len(flat) + 1))
    ends = np.append(flat[1:] < flat[:-1], True)  # a threshold cannot part equal probabilities
    best = int(np.argmax(np.where(ends, f1, -1.0)))
    below = flat[best + 1] if best + 1 < len(flat) else 0.0
    return float(min(max((flat[best] + below) / 2, 1e-6), 1 - 1e-6))


def difference(true: np.ndarray, a: np.ndarray, b: np.ndarray) -> Difference:
    """Return by how much micro-F1 of `a` is above that of `b`; boolean tables [n, k], the same rows.

    The interval comes from the rows' influences with one row more in favour of either side, the p-value from
    approximate randomisation (Yeh, 2000). InputError where there is no row.
    """
    from scipy.special import stdtrit

    if len(true) == 0:
        raise InputError(_("There is no row to compare on. Give a file with at least one labelled row."))
    n = len(true)
    parts = [np.stack([2 * (true & told).sum(1), true.sum(1) + told.sum(1)]).astype(float) for told in (a, b)]
    totals = [part.sum(1) for part in parts]
    value = float(ratio(*totals[0]) - ratio(*totals[1]))
    size = max(float(np.mean([total[1] for total in totals])), 1.0)
    seen = sum(
        sign * (part[0] - ratio(*total) * part[1]) / max(total[1], 1.0)
        for sign, part, total in zip((1, -1), parts, totals, strict=True)
    )
    one_more = (
        2 * (size / n / size) ** 2
    )  # a row that one side has all right and the other all wrong, and its twin
    half = float(stdtrit(max(n - 1, 1), 0.975) * np.sqrt((np.asarray(seen) ** 2).sum() + one_more))
    rng, as_far, gap = np.random.default_rng(SEED), 0, parts[1] - parts[0]
    for _batch in range(RESAMPLES // AT_ONCE):
        moved = (rng.random((AT_ONCE, n)) < 0.5).astype(float) @ gap.T
        first, second = totals[0] + moved, totals[1] - moved
        apart = ratio(first[:, 0], first[:, 1]) - ratio(second[:, 0], second[:, 1])
        as_far += int((np.abs(apart) >= abs(value) - 1e-12).sum())
    p = (as_far + 1) / (RESAMPLES + 1)
    return Difference("micro_f1", value, max(value - half, -1.0), min(value + half, 1.0), p)


def _score(value: float, interval: Interval | None, n: int) -> Score:
    low, high = interval or (None, None)
    return Score(value, low, high, n)


def _of_sums(part: np.ndarray, whole: np.ndarray) -> Score:
    """Return the ratio of two sums over rows [n] with its interval."""
    n, total = len(part), float(whole.sum())
    value = float(part.sum() / total) if total else 0.0
    if n < ROWS or total == 0:
        return Score(value, None, None, n)
    return Score(value, *_limits(value, (part - value * whole) / total, n), n)


def _limits(value: float, influence: np.ndarray, n: int) -> Interval:
    """Return Wilson's limits for as many rows as would have this variance if the figure were a share of them.

    One row more that is all wrong and one that is all right count too: no error yet does not mean that none comes.
    """
    from scipy.special import stdtrit

    level = (value * n + 0.5) / (n + 1)
    more = (value / n) ** 2 + ((1 - value) / n) ** 2
    rows = level * (1 - level) / (float((influence**2).sum()) * n / (n - 1) + more)
    low, high = wilson(np.asarray(value * rows), np.asarray(rows), float(stdtrit(n - 1, 0.975)))
    return float(low), float(high)


def _macro(right: np.ndarray, true: np.ndarray, told: np.ndarray) -> Interval | None:
    """Return the limits of macro-F1, None where a label is too rare."""
    n = len(true)
    hits, either = right.sum(0), true.sum(0) + told.sum(0)
    if n < ROWS or (either - hits).min() < ROWS_A_LABEL or true.sum(0).min() < 1:
        return None
    f1s = ratio(2 * hits, either)
    influences = (2 * right - f1s * (true.astype(float) + told)) / either  # [n, k]
    low, high = _limits(float(f1s.mean()), influences.mean(1), n)
    spread = np.sqrt((influences**2).sum(0))
    together = ratio(influences.T @ influences, np.outer(spread, spread))
    np.fill_diagonal(together, 1.0)
    of_labels: list[Any] = [
        f1_of_class(h, g, s) for h, g, s in zip(hits, true.sum(0), told.sum(0), strict=True)
    ]
    lows, highs = np.array(of_labels).T
    a, b = recovered((f1s, lows, highs, together), None, n)
    return max(min(low, a), 0.0), min(max(high, b), 1.0)

"""The confusion matrix and every figure that can be computed from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Metric = Callable[["Margins"], np.ndarray]


class Margins(NamedTuple):
    """Rows by class, shape [..., k]: answered rightly, having the class in truth, said to have it."""

    right: np.ndarray
    gold: np.ndarray
    said: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray) -> Margins:
        """Return the margins of confusion matrices [..., k, k] with a row a true class."""
        return cls(np.einsum("...ii->...i", counts), counts.sum(-1), counts.sum(-2))


def count(
    gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """Return all labels and their confusion matrix [k, k], a row a true label.

    Labels of `gold` or `predicted` that are not in `labels` come after them, in alphabetical order: a label
    that training never saw is a class of its own, on which every answer is wrong.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold labels, but {len(predicted)} predicted ones")
    every = [*labels, *sorted({*gold, *predicted} - set(labels))]
    place = {label: index for index, label in enumerate(every)}
    k = len(every)
    cells = [place[true] * k + place[told] for true, told in zip(gold, predicted, strict=True)]
    return every, np.bincount(np.asarray(cells, dtype=np.int64), minlength=k * k).reshape(k, k)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `part / whole`, and 0 where `whole` is 0 (scikit-learn's `zero_division=0`)."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def precision(m: Margins) -> np.ndarray:
    """Return the precision of each class, [..., k]."""
    return ratio(m.right, m.said)


def recall(m: Margins) -> np.ndarray:
    """Return the recall of each class, [..., k]."""
    return ratio(m.right, m.gold)


def f1(m: Margins) -> np.ndarray:
    """Return the F1 of each class, [..., k]."""
    return ratio(2 * m.right, m.gold + m.said)


def accuracy(m: Margins) -> np.ndarray:
    """Return the share of rows that were answered rightly."""
    return ratio(m.right.sum(-1), m.gold.sum(-1))


def mcc(m: Margins) -> np.ndarray:
    """Return Matthews' correlation coefficient for any number of classes (Gorodkin, 2004)."""
    n = m.gold.sum(-1)
    covariance = m.right.sum(-1) * n - (m.gold * m.said).sum(-1)
    spread = (n**2 - (m.gold**2).sum(-1)) * (n**2 - (m.said**2).sum(-1))
    return ratio(covariance, np.sqrt(np.maximum(spread, 0.0)))


def _macro(figure: Metric) -> Metric:
    return lambda m: figure(m).mean(-1)


def _weighted(figure: Metric) -> Metric:
    return lambda m: ratio((figure(m) * m.gold).sum(-1), m.gold.sum(-1))


METRICS: dict[str, Metric] = {
    "macro_f1": _macro(f1),
    "accuracy": accuracy,
    "weighted_f1": _weighted(f1),
    "macro_precision": _macro(precision),
    "macro_recall": _macro(recall),
    "weighted_precision": _weighted(precision),
    "weighted_recall": _weighted(recall),
    "mcc": mcc,
}

"""The figures of a classification: one label a row out of a known list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from afina.core import Score, Scores
from afina.errors import InputError
from afina.messages import _
from afina.names import unknown
from afina.scoring import confusion, intervals
from afina.scoring.confusion import METRICS, Margins


def score(
    gold: Sequence[str], probabilities: np.ndarray, labels: Sequence[str], positive: str | None = None
) -> Scores:
    """Return the figures of `probabilities` [n, k], a column a label, against the rows' `gold` labels.

    Macro and weighted figures are over `labels` and the gold labels that are not among them (`unseen`), with 0
    where there is nothing to divide by: a label without rows lowers a macro figure, as in scikit-learn with
    `zero_division=0`, and its interval is None. With two labels the figures of the `positive` one (the
    second, where none is named) follow, each over the rows that it is about. InputError where there is no row,
    no such label, or a probability that is no number.
    """
    if len(gold) == 0:
        raise InputError(_("There is no row to score. Give a file with at least one labelled row."))
    if positive is not None and positive not in labels:
        raise InputError(unknown(positive, list(labels), "labels"))
    probabilities = np.asarray(probabilities, float)
    if probabilities.shape != (len(gold), len(labels)):
        raise ValueError(f"probabilities are {probabilities.shape}, not {(len(gold), len(labels))}")
    broken = int((~np.isfinite(probabilities)).any(1).sum())
    if broken:
        raise InputError(
            _(
                "The model's answer to {broken} of {n} rows is no number (NaN or infinite), so it cannot be "
                "scored. Train again with a lower learning rate."
            ).format(broken=broken, n=len(gold))
        )
    predicted = [labels[column] for column in probabilities.argmax(1).tolist()]
    every, counts = confusion.count(gold, predicted, labels)
    margins = Margins.of(counts)
    found = intervals.intervals(counts)
    values = {name: _score(metric(margins), found[name], len(gold)) for name, metric in METRICS.items()}
    if len(labels) == 2:
        positive = labels[1] if positive is None else positive
        values |= _of_positive(margins, every.index(positive))
    return Scores(
        values,
        {
            "per_class": per_class(margins, every),
            "confusion": {"labels": every, "counts": counts.tolist()},
            "positive": positive,
            "unseen": every[len(labels) :],
        },
    )


def macro_f1(gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> float:
    """Return macro-F1 without interval, over `labels` and the gold labels that are not among them."""
    return float(METRICS["macro_f1"](Margins.of(confusion.count(gold, predicted, labels)[1])))


def _score(value: np.ndarray | float, interval: intervals.Interval | None, n: int) -> Score:
    low, high = interval or (None, None)
    return Score(float(value), low, high, n)


def _of_positive(m: Margins, place: int) -> dict[str, Score]:
    right, gold, said = (int(of_class[place]) for of_class in m)
    either = gold + said - right
    return {
        "positive_precision": _score(right / max(said, 1), intervals.share(right, said), said),
        "positive_recall": _score(right / max(gold, 1), intervals.share(right, gold), gold),
        "positive_f1": _score(
            2 * right / max(gold + said, 1), intervals.f1_of_class(right, gold, said), either
        ),
    }


def per_class(m: Margins, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Each label's precision, recall and F1, the rows `n` that have it and those that were `said` to."""
    figures = zip(
        labels, confusion.precision(m), confusion.recall(m), confusion.f1(m), m.gold, m.said, strict=True
    )
    return {
        label: {"precision": float(p), "recall": float(r), "f1": float(f), "n": int(n), "said": int(said)}
        for label, p, r, f, n, said in figures
    }

"""What a fine-tuned model must beat: the share of each label, and TF-IDF with logistic regression."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from afina.scoring.classification import macro_f1
from afina.scoring.features import of_texts
from afina.scoring.label_sets import micro_f1, shared_threshold

STRENGTHS = (1.0, 4.0, 16.0, 64.0)  # inverse strength of the L2 penalty, scikit-learn's C
PENALTIES = (0.3, 1.0, 3.0, 10.0)  # of ridge regression
FOLDS = 3
TUNING_ROWS = 5000  # C is chosen on at most so many rows
TUNING_ROWS_TIMES_LABELS = 100_000  # and on fewer where labels are many, for the time grows with both
ALIKE_AT_ONCE = 256  # rows held against all training rows
SEED = 0


def majority(train_labels: Sequence[str], n: int, labels: Sequence[str]) -> np.ndarray:
    """Return each label's share of the training rows as the probabilities [n, k] of every row."""
    times = Counter(train_labels)
    shares = np.asarray([times[label] for label in labels], float) / max(len(train_labels), 1)
    return np.tile(shares, (n, 1))


def tfidf(
    train_texts: Sequence[str], train_labels: Sequence[str], texts: Sequence[str], labels: Sequence[str]
) -> np.ndarray:
    """Return the probabilities [n, k] of a logistic regression on TF-IDF of words, pairs and pieces of words.

    Where no text holds a letter, the answer is that of `majority`.
    """
    features = of_texts(train_texts, texts)
    if features is None:
        return majority(train_labels, len(texts), labels)
    return logistic(features[0], train_labels, features[1], labels)


def logistic(known: Any, train_labels: Sequence[str], asked: Any, labels: Sequence[str]) -> np.ndarray:
    """Return the probabilities [n, k] of a logistic regression on sparse features [rows, features].

    The strength of its penalty is the one with the best cross-validated macro-F1 on training rows (Wang and
    Manning, 2012, on how hard such baselines are to beat). A label without training rows has probability 0;
    where there is one label only, the answer is that of `majority`.
    """
    if len(set(train_labels)) < 2:
        return majority(train_labels, asked.shape[0], labels)
    gold = np.asarray(train_labels, dtype=object)
    model = _fit(known, gold, _strength(known, gold, labels))
    probabilities = np.zeros((asked.shape[0], len(labels)))
    columns = [list(labels).index(label) for label in model.classes_]
    probabilities[:, columns] = model.predict_proba(asked)
    return probabilities


def most_frequent(true: np.ndarray, n: int) -> np.ndarray:
    """Return the same labels for `n` rows, 0 or 1 [n, k]: the most frequent ones, as many as score best in `true`."""
    order = np.argsort(-true.mean(0), kind="stable")
    told = [np.isin(np.arange(true.shape[1]), order[: m + 1]) for m in range(true.shape[1])]
    best = max(told, key=lambda some: micro_f1(true, np.tile(some, (len(true), 1))))
    return np.tile(best.astype(float), (n, 1))


def one_vs_rest(known: Any, true: np.ndarray, asked: Any) -> np.ndarray:
    """Return the labels, 0 or 1 [n, k], by one logistic regression a label on sparse features [rows, features].

    Penalty and threshold, one for all labels, are those with the best cross-validated micro-F1 on training rows.
    """
    order = np.random.default_rng(SEED).permutation(len(true))
    order = order[: max(min(TUNING_ROWS, TUNING_ROWS_TIMES_LABELS // true.shape[1]), 2 * FOLDS)]
    folds = np.arange(len(order)) % FOLDS
    parts = [(order[folds != fold], order[folds == fold]) for fold in range(FOLDS)]
    best, strength, threshold = -1.0, STRENGTHS[1], 0.5
    for each in STRENGTHS if len(order) >= 2 * FOLDS else ():
        told = np.zeros(true.shape)
        for outer, inner in parts:
            told[inner] = _probabilities(known[outer], true[outer], known[inner], each)
        at = shared_threshold(true[order], told[order])
        quality = micro_f1(true[order], told[order] >= at)
        if quality > best:
            best, strength, threshold = quality, each, at
    return (_probabilities(known, true, asked, strength) >= threshold).astype(float)


def _probabilities(rows: Any, true: np.ndarray, asked: Any, strength: float) -> np.ndarray:
    """Return each label's probability [n, k]; a label that all or no rows have has their share."""
    found = np.tile(true.mean(0), (asked.shape[0], 1))
    some = np.flatnonzero(true.any(0) & ~true.all(0))
    if len(some):
        told = _fit(rows, true[:, some].astype(int), strength).predict_proba(asked)
        found[:, some] = told[:, -1:] if len(some) == 1 else told
    return found


def ridge(
    known: Any, numbers: Sequence[float], asked: Any, ends: tuple[float, float] | None = None
) -> np.ndarray:
    """Return the numbers [n] of a ridge regression on sparse features [rows, features], kept between `ends`.

    The strength of its penalty is the one with the smallest cross-validated squared error on training rows.
    """
    from sklearn.linear_model import Ridge

    gold = np.asarray(numbers, float)

    def told(rows: Any, of_rows: np.ndarray, others: Any, penalty: float) -> np.ndarray:
        model = Ridge(alpha=penalty, solver="sparse_cg", tol=1e-3, random_state=SEED).fit(rows, of_rows)
        return np.clip(model.predict(others), *(ends or (-np.inf, np.inf)))

    order = np.random.default_rng(SEED).permutation(len(gold))[:TUNING_ROWS]
    folds = np.arange(len(order)) % FOLDS
    parts = [(order[folds != fold], order[folds == fold]) for fold in range(FOLDS)]

    def error(penalty: float) -> float:
        return sum(
            float(((told(known[outer], gold[outer], known[inner], penalty) - gold[inner]) ** 2).sum())
            for outer, inner in parts
        )

    best = min(PENALTIES, key=error) if len(order) >= 2 * FOLDS else PENALTIES[1]
    return told(known, gold, asked, best)


def _fit(rows: Any, gold: np.ndarray, strength: float) -> Any:
    """Return one regression a label, by liblinear: on one thread, for on a busy machine BLAS threads wait."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    one = LogisticRegression(C=strength, solver="liblinear", dual=True, tol=0.1, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the answers settle long before the weights
        return OneVsRestClassifier(one).fit(rows, gold)


def _strength(rows: Any, gold: np.ndarray, labels: Sequence[str]) -> float:
    """Return the inverse penalty with the best macro-F1 over the folds; the middle one where rows are too few."""
    order = np.random.default_rng(SEED).permutation(len(gold))
    order = order[: max(min(TUNING_ROWS, TUNING_ROWS_TIMES_LABELS // len(labels)), FOLDS * len(labels))]
    folds = _folds(gold, order)
    parts = [(order[folds != fold], order[folds == fold]) for fold in range(FOLDS)]
    if any(len(inner) == 0 or len(set(gold[outer])) < 2 for outer, inner in parts):
        return STRENGTHS[1]

    def quality(strength: float) -> float:
        told = np.empty(len(gold), dtype=object)
        for outer, inner in parts:
            told[inner] = _fit(rows[outer], gold[outer], strength).predict(rows[inner])
        return macro_f1(gold[order].tolist(), told[order].tolist(), labels)

    return max(STRENGTHS, key=quality)


def _folds(gold: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the fold of each row in `order`: the rows of a label take turns, so that one row is no obstacle."""
    turn: Counter[str] = Counter()
    folds = np.empty(len(order), dtype=np.int64)
    start = {label: index for index, label in enumerate(sorted(set(gold[order])))}
    for position, label in enumerate(gold[order]):
        folds[position] = (start[label] + turn[label]) % FOLDS
        turn[label] += 1
    return folds


def nearest(train_texts: Sequence[str], texts: Sequence[str]) -> list[int | None]:
    """Return for each text the training text that is most alike by the cosine of TF-IDF; None where no word is known."""
    features = of_texts(train_texts, texts)
    if features is None:
        return [None] * len(texts)
    from sklearn.preprocessing import normalize

    known, asked = (normalize(matrix) for matrix in features)
    found: list[int | None] = []
    for start in range(0, len(texts), ALIKE_AT_ONCE):
        alike = (asked[start : start + ALIKE_AT_ONCE] @ known.T).toarray()
        found += [int(row.argmax()) if row.any() else None for row in alike]
    return found

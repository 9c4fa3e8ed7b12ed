"""What a fine-tuned model must beat: the share of each label, and TF-IDF with logistic regression."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from afina.scoring.classification import macro_f1

STRENGTHS = (1.0, 4.0, 16.0, 64.0)  # inverse strength of the L2 penalty, scikit-learn's C
FOLDS = 3
TUNING_ROWS = 5000  # C is chosen on at most so many rows
TUNING_ROWS_TIMES_LABELS = 100_000  # and on fewer where labels are many, for the time grows with both
LONG_TEXT = 10_000_000  # characters; above, pieces of words are left out to save time and memory
LARGEST_VOCABULARY = 200_000
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

    The strength of its penalty is the one with the best cross-validated macro-F1 on training rows (Wang and
    Manning, 2012, on how hard such baselines are to beat). A label without training rows has probability 0;
    where there is one label only, or no letter in any text, the answer is that of `majority`.
    """
    if len(set(train_labels)) < 2 or not texts:
        return majority(train_labels, len(texts), labels)
    features = _features(sum(map(len, train_texts)))
    try:
        known = features.fit_transform(train_texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error) and "no terms remain" not in str(error):
            raise
        return majority(train_labels, len(texts), labels)
    gold = np.asarray(train_labels, dtype=object)
    model = _fit(known, gold, _strength(known, gold, labels))
    probabilities = np.zeros((len(texts), len(labels)))
    columns = [list(labels).index(label) for label in model.classes_]
    probabilities[:, columns] = model.predict_proba(features.transform(texts))
    return probabilities


def _features(characters: int) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
    if characters > LONG_TEXT:
        return words.set_params(min_df=2, max_features=LARGEST_VOCABULARY)
    pieces = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5))
    return make_union(words, pieces)


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

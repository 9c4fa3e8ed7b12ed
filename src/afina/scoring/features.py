"""What the linear baselines see of a text, or of a pair of texts: TF-IDF of words, pairs and pieces of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LONG_TEXT = 10_000_000  # characters; above, pieces of words are left out to save time and memory
LARGEST_VOCABULARY = 200_000

Features = tuple[Any, Any]
"""Sparse matrices [rows, features] of the training rows and of those that are asked for."""


def of_texts(train: Sequence[str], asked: Sequence[str]) -> Features | None:
    """Return the features of single texts, learnt from `train` alone; None where no text holds a letter."""
    features = vectorizer(sum(map(len, train)))
    known = _learnt(features, train)
    return None if known is None or not asked else (known, features.transform(asked))


def of_pairs(train: Sequence[Sequence[str]], asked: Sequence[Sequence[str]]) -> Features | None:
    """Return the features of pairs: what the two texts share, where they differ, the second, and how alike they are.

    `train` and `asked` are the first texts and the second ones. Products and differences of the two vectors are
    what Mou et al. (2016) give a classifier of pairs; beside them stand the cosine, the shares of common words
    and the difference in length.
    """
    features = vectorizer(sum(len(text) for texts in train for text in texts))
    known = _learnt(features, [*train[0], *train[1]])
    if known is None or not asked[0]:
        return None
    rows = len(train[0])
    others = (features.transform(texts) for texts in asked)
    return _pairs(known[:rows], known[rows:], *train), _pairs(*others, *asked)


def vectorizer(characters: int) -> Any:
    """Return the untrained features of texts with so many characters in all."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
    if characters > LONG_TEXT:
        return words.set_params(min_df=2, max_features=LARGEST_VOCABULARY)
    pieces = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5))
    return make_union(words, pieces)


def _learnt(features: Any, texts: Sequence[str]) -> Any:
    """Learn the vocabulary of the texts and return their features; None where there is none."""
    try:
        return features.fit_transform(texts)
    except ValueError as error:
        if "empty vocabulary" not in str(error) and "no terms remain" not in str(error):
            raise
        return None


def _pairs(one: Any, other: Any, first: Sequence[str], second: Sequence[str]) -> Any:
    """Return what two texts have together and apart, from the features of each and from their words."""
    import numpy as np
    from scipy import sparse
    from sklearn.preprocessing import normalize

    a, b = normalize(one), normalize(other)
    shared = a.multiply(b)
    words = [(set(x.lower().split()), set(y.lower().split())) for x, y in zip(first, second, strict=True)]
    common = np.array([[len(x & y) / max(len(x), 1), len(x & y) / max(len(y), 1)] for x, y in words])
    lengths = np.array([[len(x), len(y)] for x, y in words], float)
    longer = (lengths[:, :1] - lengths[:, 1:]) / np.maximum(lengths.sum(1, keepdims=True), 1)
    alike = np.hstack([np.asarray(shared.sum(1)), common, longer, np.abs(longer)])
    return sparse.hstack([sparse.csr_matrix(2 * alike), shared.sqrt(), abs(a - b), b]).tocsr()

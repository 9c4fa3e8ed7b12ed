"""The baselines that every model is measured against."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from afina.scoring import baselines, features
from afina.scoring.baselines import majority, tfidf
from afina.scoring.classification import macro_f1

GOOD = ["muy bueno", "excelente", "me encanta", "great stuff", "qué maravilla"]
BAD = ["muy malo", "horrible", "lo odio", "awful stuff", "qué desastre"]
THINGS = ["el servicio", "the food", "este libro", "mi teléfono", "la película", "el niño"]
TEXTS = [f"{thing} {word}" for thing in THINGS for word in GOOD + BAD]
LABELS = ["bién" if word in GOOD else "mal" for _ in THINGS for word in GOOD + BAD]


def test_majority_tells_the_shares() -> None:
    told = majority(["a", "a", "a", "b"], 3, ["b", "a", "c"])
    assert told.tolist() == [[0.25, 0.75, 0.0]] * 3
    assert majority(["a"], 0, ["a", "b"]).shape == (0, 2)


def test_tfidf_learns_and_says_the_same_twice() -> None:
    new = ["el coche excelente", "el coche horrible", "my dog great stuff", ""]
    told = tfidf(TEXTS, LABELS, new, ["mal", "bién"])
    assert told.shape == (4, 2) and told.sum(1) == pytest.approx(1.0)
    assert told.argmax(1)[:3].tolist() == [1, 0, 1]
    assert np.array_equal(told, tfidf(TEXTS, LABELS, new, ["mal", "bién"]))


def test_tfidf_with_labels_of_one_row_or_none() -> None:
    told = tfidf(
        [*TEXTS, "pregunta suelta"], [*LABELS, "otra"], ["mi libro"], ["bién", "mal", "nunca", "otra"]
    )
    assert told[0, 2] == 0.0 and told[0, 3] > 0 and told.sum() == pytest.approx(1.0)
    each_once = tfidf(["uno", "dos", "tres"], ["1", "2", "3"], ["dos"], ["1", "2", "3"])
    assert each_once.argmax() == 1
    assert tfidf(["uno", "dos"], ["1", "2"], ["dos"], ["1", "2"]).argmax() == 1


def test_tfidf_where_there_is_nothing_to_learn() -> None:
    assert tfidf(["uno", "dos"], ["1", "1"], ["tres"], ["1", "2"]).tolist() == [[1.0, 0.0]]
    assert tfidf(["", "  ", "!!"], ["1", "2", "2"], ["x"], ["1", "2"])[0] == pytest.approx([1 / 3, 2 / 3])
    assert tfidf(TEXTS, LABELS, [], ["mal", "bién"]).shape == (0, 2)


def test_tfidf_of_long_texts_is_of_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "LONG_TEXT", 100)
    assert tfidf(TEXTS, LABELS, ["el coche excelente"], ["mal", "bién"]).argmax() == 1


def test_folds_hold_every_label_where_they_can() -> None:
    gold = np.asarray(["a"] * 9 + ["b"] * 3 + ["c"], dtype=object)
    folds = baselines._folds(gold, np.random.default_rng(0).permutation(13))
    order = np.random.default_rng(0).permutation(13)
    for fold in range(3):
        inside = Counter(gold[order[folds == fold]])
        assert inside["a"] == 3 and inside["b"] == 1
    assert sorted(Counter(folds).values())[0] >= 4


@pytest.mark.slow
def test_tfidf_on_spanish_tweets(shared_data: Path) -> None:
    """Macro-F1 58.3 when written; a guess at random has about 33, the majority 17."""
    parts = []
    for name in ("train.csv", "dev.csv"):
        with (shared_data / "tweet_sentiment_es" / name).open(encoding="utf-8", newline="") as file:
            parts.append([(row["text"], row["label"]) for row in csv.DictReader(file)])
    train, dev = parts
    labels = sorted({label for _, label in train})
    told = tfidf([t for t, _ in train], [y for _, y in train], [t for t, _ in dev], labels)
    said = [labels[i] for i in told.argmax(1)]
    assert macro_f1([y for _, y in dev], said, labels) > 0.54

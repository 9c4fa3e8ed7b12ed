"""Who a task is held against whose answer is a text: what each is called, and what it answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from afina.core import Rival, Row
from afina.messages import N_
from afina.scoring.ngram import Sequence_, Trigram

TEXT_RIVALS = {
    "ngram": Rival(
        N_("Trigrams"),
        N_("counting trigrams"),
        N_(
            "Counted trigrams guess a token from how often it stood after the two before it in the training rows."
        ),
        only_measured=True,
    ),
}
TARGET_RIVALS = {
    "ngram": Rival(
        N_("Trigrams"),
        N_("counting trigrams"),
        N_(
            "Counted trigrams guess a token of the answer from how often it stood after the two before it in the "
            "training answers: what one gets without reading the source. They write nothing."
        ),
        only_measured=True,
    ),
    "majority": Rival(
        N_("Most frequent"),
        N_("the most frequent answer"),
        N_("The most frequent answer of the training rows, whatever the source is."),
    ),
    "copy": Rival(
        N_("Copy"),
        N_("the source as it is"),
        N_("The source, copied as it is: hard to beat where little of it is to be changed."),
    ),
    "nearest": Rival(
        N_("Nearest"),
        N_("the answer of the most similar source"),
        N_(
            "The answer of the training row whose source is most alike, by TF-IDF of words and pieces of words."
        ),
    ),
}


def trigrams(train: Sequence[Sequence_], asked: Sequence[Sequence_], vocabulary: int) -> list[dict[str, Any]]:
    """Return the answers of trigrams counted in `train`, which have a loss and no text."""
    counted = Trigram(train, vocabulary)
    losses = [counted.loss(ids, marked) for ids, marked in asked]
    return [{"loss": loss, "tokens": tokens, "text": None} for loss, tokens in losses]


def looked_up(train: Sequence[Row], rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """Return the answers of who repeats, copies or looks up, which have a text and no loss."""
    from afina.scoring.baselines import nearest

    usual = Counter(row["target"] for row in train).most_common(1)[0][0]
    alike = nearest([row["source"] for row in train], [row["source"] for row in rows])
    texts = {
        "majority": [usual] * len(rows),
        "copy": [row["source"].strip() for row in rows],
        "nearest": [usual if i is None else train[i]["target"] for i in alike],
    }
    return {
        name: [{"loss": None, "tokens": 0, "text": text} for text in told] for name, told in texts.items()
    }

"""What is told of the tags that a model gave to the words of a text: spans of characters, and how right they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from afina.core import Difference, Row, Scores
from afina.scoring import entities as spans_of
from afina.tasks._tag_set import TagSet
from afina.tasks._tagged import on_text
from afina.tasks._word_places import BEYOND

NOTHING = "–"
UNREAD = "(–)"  # what stands for the tag of a word beyond, and is none that a file could hold


class TagAnswers(TagSet):
    """A task whose answer is the `tags` of a row's words, by their places among `labels`, and their `probabilities`."""

    def predict(self, answer: Any, row: Row) -> dict[str, Any]:
        """Return the spans that are told (start, end, text, label, score), and the mean probability of the words."""
        text, probabilities = row["text"], answer["probabilities"]
        (tags,), words = self._tags([answer]), self._words(row)
        found = (
            spans_of.chunks(tags)
            if self.kind == "entities"
            else [(i, i + 1, tag) for i, tag in enumerate(tags) if tag != UNREAD]
        )
        told = [
            _span(text, words[first][0], words[end - 1][1], label)
            | {"score": _mean(probabilities[first:end])}
            for first, end, label in found
        ]
        read = [p for p, tag in zip(probabilities, answer["tags"], strict=True) if tag != BEYOND]
        return {"prediction": told, "probability": _mean(read) if read else None}

    def line(self, row: Row, answer: Any) -> Row:
        """Return text, gold and answer as a person reads them, what only one of them has, and both with places."""
        told = self.predict(answer, row)
        gold, said = self._gold_spans(row), told["prediction"]
        missed, wrong = (
            [one for one in a if not any(_place(one) == _place(other) for other in b)]
            for a, b in ((gold, said), (said, gold))
        )
        return {
            "text": row["text"],
            "label": spans_of.in_words(gold) or NOTHING,
            "prediction": spans_of.in_words(said) or NOTHING,
            "probability": told["probability"],
            "missed": spans_of.in_words(missed),
            "wrong": spans_of.in_words(wrong),
            "label_spans": gold,
            "prediction_spans": said,
        }

    def restate(self, answers: Sequence[Any], task: Self) -> list[Any]:
        """Return the tags by their places among the labels of `task`, which must know them all."""
        place = {tag: task.labels.index(label) for tag, label in enumerate(self.labels)} | {BEYOND: BEYOND}
        return [answer | {"tags": [place[tag] for tag in answer["tags"]]} for answer in answers]

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> Scores:
        """Return entity F1, precision and recall, or accuracy and macro-F1 where each word counts by itself."""
        if self.kind == "entities":
            kinds = sorted({label[2:] for label in self.labels[1:]})
            found = spans_of.score([row["entities"] for row in rows], self._entities(answers, rows), kinds)
        else:
            found = spans_of.words([row["tags"] for row in rows], self._tags(answers), sorted(self.labels))
        unread = sum(answer["tags"].count(BEYOND) for answer in answers)
        if unread:
            unseen = [label for label in found.details["unseen"] if label != UNREAD]
            found = replace(found, details=found.details | {"unread": unread, "unseen": unseen})
        return found

    def watch(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[str, float]:
        if self.kind == "entities":
            gold = [row["entities"] for row in rows]
            return "entity_f1", spans_of.f1(gold, self._entities(answers, rows))
        pairs = [
            pair
            for tags, row in zip(self._tags(answers), rows, strict=True)
            for pair in zip(tags, row["tags"], strict=True)
        ]
        return "accuracy", sum(a == b for a, b in pairs) / max(len(pairs), 1)

    def difference(self, a: Sequence[Any], b: Sequence[Any], rows: Sequence[Row]) -> Difference:
        if self.kind == "entities":
            sides = [self._entities(answers, rows) for answers in (a, b)]
            return spans_of.difference([row["entities"] for row in rows], *sides)
        return spans_of.words_difference([row["tags"] for row in rows], self._tags(a), self._tags(b))

    def _gold_spans(self, row: Row) -> list[dict[str, Any]]:
        if self.kind == "entities":
            return [_span(row["text"], *entity) for entity in row["entities"]]
        return [
            _span(row["text"], start, end, tag)
            for (start, end), tag in zip(row["words"], row["tags"], strict=True)
        ]

    def _entities(self, answers: Sequence[Any], rows: Sequence[Row]) -> list[list[Any]]:
        return [
            on_text(spans_of.chunks(tags), row["words"])
            for tags, row in zip(self._tags(answers), rows, strict=True)
        ]

    def _tags(self, answers: Sequence[Any]) -> list[list[str]]:
        """Return the tag of each word; a word that was not read is in no entity and has no word's tag."""
        names = dict(enumerate(self.labels))
        names[BEYOND] = spans_of.OUTSIDE if self.kind == "entities" else UNREAD
        return [[names[i] for i in answer["tags"]] for answer in answers]


def _span(text: str, start: int, end: int, label: str) -> dict[str, Any]:
    return {"start": start, "end": end, "text": text[start:end], "label": label}


def _place(span: dict[str, Any]) -> tuple[Any, ...]:
    return span["start"], span["end"], span["label"]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

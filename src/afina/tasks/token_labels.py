"""One label a word: named entities, parts of speech."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import About, Batch, Difference, Loss, Rival, Row, Scores, Term
from afina.messages import N_
from afina.scoring import entities as spans_of
from afina.tasks._tag_set import TagSet
from afina.tasks._tagged import on_text
from afina.tasks._windows import Long, shared, when_long
from afina.tasks._word_places import BEYOND, IGNORED, apart, find, stack

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

NOTHING = "–"
UNREAD = "(–)"  # what stands for the tag of a word beyond, and is none that a file could hold


RIVALS = {
    "majority": Rival(
        N_("Majority"),
        N_("the most frequent tag"),
        N_(
            "The most frequent tag of the training rows for every word: what one gets without reading the text."
        ),
    ),
    "most_frequent_tag": Rival(
        N_("Tag per word"),
        N_("the most frequent tag of each word"),
        N_(
            "Each word gets the tag that it had most often in the training rows, whatever stands around it; words never "
            "seen get the most frequent tag of all."
        ),
    ),
}


class TokenLabels(TagSet):
    """Give each word one of the tags that the training rows have, at its first sub-token; the others are ignored.

    Entities are learnt as IOB2 tags and told as spans of characters. A row longer than the model is read in overlapping windows, each word where it has most text around it, or cut: the
    words beyond then get no tag, which is scored as an error. Answers are the place of each word's tag among `labels`
    and its probability. The loss is cross-entropy over the words that are read.
    """

    head: ClassVar[str] = "AutoModelForTokenClassification"

    long: Long = when_long("windows")
    doc_stride: int = shared()

    def about(self) -> About:
        return About(
            N_("A tagger of words that was fine-tuned with afina."),
            N_(
                "It knows only what it learnt to mark, also where other labels would fit; a high probability is no proof."
            ),
            N_("It marks entities of {n} kinds:")
            if self.kind == "entities"
            else N_("It gives each word one of {n} labels:"),
            RIVALS,
            pipeline="token-classification",
        )

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
        """Return, a row, its `windows` of ids, its words' `places` (window, token), how many are `read`, gold `tags`."""
        label = {label: i for i, label in enumerate(self.labels)}
        texts = [(row["text"], self._words(row)) for row in rows]
        found = find(texts, tokenizer, max_length, self.doc_stride, self.long)
        return [
            {
                "windows": windows,
                "places": places,
                "read": read,
                "tags": [label.get(tag, IGNORED) for tag in self._gold(row)],
            }
            for (windows, places, read), row in zip(found, rows, strict=True)
        ]

    def length(self, row: Row) -> int:
        """Return the tokens of all windows, padding counted."""
        return len(row["windows"]) * max(map(len, row["windows"]))

    def learnt(self, row: Row) -> list[tuple[int, bool]]:
        learnt = {place for place, tag in zip(row["places"], row["tags"], strict=True) if tag != IGNORED}
        return [
            (token, (window, at) in learnt)
            for window, ids in enumerate(row["windows"])
            for at, token in enumerate(ids)
        ]

    def pieces(self, row: Row) -> list[Row]:
        """Return each window with the words that have their place in it; the loss is a sum over words."""
        return apart(row)

    def collate(
        self, items: Sequence[tuple[Row, np.random.Generator | None]], tokenizer: PreTrainedTokenizerBase
    ) -> Batch:
        """Return the windows of all rows [windows, tokens], and where in them each row's words [rows, words] are."""
        rows = [row for row, _rng in items]
        tensors = stack(rows, tokenizer.pad_token_id)
        learnt = tensors["labels"][(tensors["labels"] != IGNORED) & (tensors["places"] >= 0)].tolist()
        count = sum(self.weights[i] for i in learnt) if self.weights else float(len(learnt))
        return Batch(tensors, {"loss": count}, int(tensors["attention_mask"].sum()), rows)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        import torch
        from torch.nn.functional import cross_entropy

        places, labels = batch.tensors["places"], batch.tensors["labels"]
        learnt = (labels != IGNORED) & (places >= 0)
        logits = _logits(model, batch)[places[learnt]]
        weight = torch.tensor(self.weights, device=logits.device) if self.weights else None
        return {"loss": Term(cross_entropy(logits, labels[learnt], weight=weight, reduction="sum"))}

    def answer(self, model: nn.Module, batch: Batch) -> list[Any]:
        import torch

        places = batch.tensors["places"]
        sure, best = _logits(model, batch)[places.clamp_min(0)].softmax(-1).max(-1)
        best, sure = torch.where(places >= 0, best, 0), torch.where(places >= 0, sure, 0.0)
        best = torch.where(places == BEYOND, BEYOND, best)
        return [
            {"tags": tags[:words], "probabilities": probabilities[:words]}
            for tags, probabilities, words in zip(
                best.tolist(), sure.tolist(), batch.tensors["words"].tolist(), strict=True
            )
        ]

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

    def restate(self, answers: Sequence[Any], task: TokenLabels) -> list[Any]:
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

    def baselines(
        self, train: Sequence[Row], rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> dict[str, list[Any]]:
        """Return the answers of the most frequent tag, and of the most frequent tag of each word, known from training."""
        place = {label: i for i, label in enumerate(self.labels)}
        every, by_word = Counter[str](), defaultdict[str, Counter[str]](Counter)
        for row in train:
            for word, tag in zip(self._written(row), self._gold(row), strict=True):
                every[tag] += 1
                by_word[word][tag] += 1
        common = place[every.most_common(1)[0][0]]
        known = {word: place[tags.most_common(1)[0][0]] for word, tags in by_word.items()}
        texts = [self._written(row) for row in rows]
        return {
            "majority": [_answer([common] * len(words)) for words in texts],
            "most_frequent_tag": [_answer([known.get(word, common) for word in words]) for words in texts],
        }

    def difference(self, a: Sequence[Any], b: Sequence[Any], rows: Sequence[Row]) -> Difference:
        if self.kind == "entities":
            sides = [self._entities(answers, rows) for answers in (a, b)]
            return spans_of.difference([row["entities"] for row in rows], *sides)
        return spans_of.words_difference([row["tags"] for row in rows], self._tags(a), self._tags(b))

    @classmethod
    def toy(cls) -> list[Row]:
        people, places = (
            ["Ana", "Luis Vega", "Emma", "John Ray"],
            ["Lima", "Nueva York", "Paris", "Ávila", "San Luis"],
        )
        rows = []
        for person in people:
            for place in places:
                for before, between, after in (("hoy", "vive en", "."), ("", "left", "today , they said")):
                    parts = [(before, ""), (person, "PER"), (between, ""), (place, "LOC"), (after, "")]
                    words = [(word, kind, i) for part, kind in parts for i, word in enumerate(part.split())]
                    rows.append(
                        {
                            "tokens": [word for word, _kind, _i in words],
                            "tags": [
                                f"{'I' if i else 'B'}-{kind}" if kind else "O" for _word, kind, i in words
                            ],
                        }
                    )
        return rows

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


def _answer(tags: list[int]) -> dict[str, Any]:
    return {"tags": tags, "probabilities": [1.0] * len(tags)}


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return the logits [windows x tokens, labels]."""
    from afina.models.heads import outputs

    (logits,) = outputs(model, batch, "logits")
    return logits.flatten(0, 1)

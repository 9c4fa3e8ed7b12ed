"""One label a word: named entities, parts of speech."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from afina.core import About, Batch, Difference, Loss, Rival, Row, Scores, Splits, Term
from afina.errors import InputError
from afina.messages import N_, _
from afina.scoring import entities as spans_of
from afina.settings import setting
from afina.tasks._tagged import Tagged, on_text
from afina.tasks._windows import Long, shared, when_long

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # what cross_entropy passes over: a tag that no training row has, and what fills a batch up
NOWHERE = -1  # a word without any token of its own
BEYOND = -2  # a word after those that the model reads, which gets no tag
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


class TokenLabels(Tagged):
    """Give each word one of the tags that the training rows have, at its first sub-token; the others are ignored.

    Entities are learnt as IOB2 tags and told as spans of characters. A row longer than the model is read in overlapping windows, each word where it has most text around it, or cut: the
    words beyond then get no tag, which is scored as an error. Answers are the place of each word's tag among `labels`
    and its probability. The loss is cross-entropy over the words that are read.
    """

    head: ClassVar[str] = "AutoModelForTokenClassification"

    class_weight: Literal["none", "balanced"] = setting(
        "none", N_("balanced: rare labels weigh more in the loss, by the inverse of their frequency.")
    )
    long: Long = when_long("windows")
    doc_stride: int = shared()
    labels: tuple[str, ...] = setting((), N_("Names of the labels, in the model's order."), found=True)
    weights: tuple[float, ...] = setting((), N_("Weight of each label in the loss."), found=True)

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

    def learn(self, rows: Sequence[Row]) -> TokenLabels:
        counts = Counter(tag for row in rows for tag in self._gold(row))
        if self.kind == "entities":
            counts.update(
                {f"{begins}-{label}": 0 for row in rows for label in self.counted(row) for begins in "BI"}
            )
        # The first is what is said of a word that the model does not see: nothing, or the most frequent tag.
        first = spans_of.OUTSIDE if self.kind == "entities" else counts.most_common(1)[0][0]
        labels = (first, *sorted(counts.keys() - {first}))
        total = sum(counts.values())
        balanced = tuple(total / (len(labels) * max(counts[label], 1)) for label in labels)
        return self.replace(labels=labels, weights=balanced if self.class_weight == "balanced" else ())

    def check(self, splits: Splits) -> None:
        counts = Counter(label for row in splits.train for label in self.counted(row))
        if self.kind == "entities" and not counts:
            raise InputError(_("No training row has an entity; there is nothing to find."))
        if self.kind == "words" and len(counts) < 2:
            raise InputError(
                _("All training words have the same tag '{tag}'; there is nothing to tell apart.").format(
                    tag=next(iter(counts), "")
                )
            )
        items = sum(len(row["words"]) for row in splits.train)
        if len(counts) > 50 and len(counts) > items / 10:
            raise InputError(
                _(
                    "Column '{column}' has {labels} different tags in {words} words: it holds no tags. Name another "
                    "with --label."
                ).format(column=self.label, labels=len(counts), words=items)
            )

    def warn(self, splits: Splits) -> list[str]:
        known = {label for row in splits.train for label in self.counted(row)}
        notes = []
        if self.kind == "words" and all(label.isdecimal() for label in known):
            notes.append(
                _(
                    "The tags are numbers, so they are scored word by word. For entities give their names: B-PER, I-PER, O."
                )
            )
        for name, part in ((_("validation"), splits.validation), (_("test"), splits.test)):
            unseen = Counter(label for row in part for label in self.counted(row) if label not in known)
            if unseen:
                notes.append(
                    _(
                        "The {part} part has labels that no training row has; each counts as an error: {labels}."
                    ).format(
                        part=name, labels=", ".join(f"{label} ({n})" for label, n in unseen.most_common(10))
                    )
                )
        return notes

    def config(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
        }

    def prior(self, rows: Sequence[Row]) -> list[float]:
        from afina.tasks._prior import log_shares

        place = {label: i for i, label in enumerate(self.labels)}
        found = [place[tag] for row in rows for tag in self._gold(row) if tag in place]
        return log_shares(found, len(self.labels), self.weights)

    def group(self, row: Row) -> str | None:
        return " ".join(self._gold(row))

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
        """Return, a row, its `windows` of ids, its words' `places` (window, token), how many are `read`, gold `tags`."""
        from afina.tasks._word_places import find

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
        words: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for place, tag in zip(row["places"], row["tags"], strict=True):
            if place is not None:
                words[place[0]].append((place[1], tag))
        return [
            {
                "windows": [row["windows"][window]],
                "places": [(0, token) for token, _tag in mine],
                "read": len(mine),
                "tags": [tag for _token, tag in mine],
            }
            for window, mine in sorted(words.items())
        ]

    def collate(
        self, items: Sequence[tuple[Row, np.random.Generator | None]], tokenizer: PreTrainedTokenizerBase
    ) -> Batch:
        """Return the windows of all rows [windows, tokens], and where in them each row's words [rows, words] are."""
        import torch

        from afina.batching.pad import inputs, pad

        rows = [row for row, _rng in items]
        windows = [ids for row in rows for ids in row["windows"]]
        tensors = inputs([{"input_ids": ids} for ids in windows], tokenizer.pad_token_id)
        width, first, places = tensors["input_ids"].shape[1], 0, []
        for row in rows:
            at = [
                NOWHERE if place is None else (first + place[0]) * width + place[1] for place in row["places"]
            ]
            at[row["read"] :] = [BEYOND] * (len(at) - row["read"])
            places.append(at or [NOWHERE])
            first += len(row["windows"])
        tensors["places"] = pad(places, NOWHERE)
        tensors["words"] = torch.tensor([len(row["places"]) for row in rows])
        tensors["labels"] = pad(
            [row["tags"] or [IGNORED] * max(len(row["places"]), 1) for row in rows], IGNORED
        )
        learnt = tensors["labels"][(tensors["labels"] != IGNORED) & (tensors["places"] >= 0)].tolist()
        count = sum(self.weights[i] for i in learnt) if self.weights else float(len(learnt))
        return Batch(tensors, {"loss": count}, sum(map(len, windows)), rows)

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
        self, train: Sequence[Row], rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase
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

"""One label a word: named entities, parts of speech."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator

from afina.core import About, Batch, Difference, Loss, Rival, Row, Scores, Splits, Table, Task, Term
from afina.errors import InputError
from afina.messages import N_, _
from afina.scoring import entities as spans_of
from afina.settings import setting
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
SHOWN_TAGS = 5
SHOWN = 60  # characters of a wrong value in a message


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


class TokenLabels(Task):
    """Give each word one of the tags that the training rows have, at its first sub-token; the others are ignored.

    Entities are learnt as IOB2 tags and told as spans of characters, whatever form they came in. A row is `text`,
    `words` [[start, end]] and `entities` [[start, end, label]] or, where each word counts by itself, `tags`. A row
    longer than the model is read in overlapping windows, each word where it has most text around it, or cut: the
    words beyond then get no tag, which is scored as an error. Answers are the place of each word's tag among `labels`
    and its probability. The loss is cross-entropy over the words that are read.
    """

    head: ClassVar[str] = "AutoModelForTokenClassification"

    text: str | None = setting(None, N_("Column that holds the text (default: guessed and said)."))
    label: str | None = setting(None, N_("Column that holds the label (default: guessed and said)."))
    tags: Literal["auto", "entities", "words"] = setting(
        "auto",
        N_(
            "What tags mark: entities, scored whole, or each word by itself (auto: entities where they begin with B- or I-)."
        ),
    )
    overlaps: Literal["error", "longest"] = setting(
        "error", N_("Entities that overlap are an error, or only the longest is kept.")
    )
    class_weight: Literal["none", "balanced"] = setting(
        "none", N_("balanced: rare labels weigh more in the loss, by the inverse of their frequency.")
    )
    long: Long = when_long("windows")
    doc_stride: int = shared()
    kind: Literal["", "entities", "words"] = setting("", N_("What the tags mark."), found=True)
    labels: tuple[str, ...] = setting((), N_("Names of the labels, in the model's order."), found=True)
    weights: tuple[float, ...] = setting((), N_("Weight of each label in the loss."), found=True)

    @field_validator("text", "label", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value  # a column of CoNLL

    def choose_columns(self, table: Table) -> TokenLabels:
        from afina.data.columns import guess, named_like
        from afina.data.spans import is_entities

        numbered = _numbered(table)
        label = named_like(table, "tags", self.label) or (numbered[-1] if len(numbered) > 1 else None)
        values = [row[label] for row in table.rows if row[label]] if label else []
        if label is None or not values or not isinstance(values[0], list):
            raise InputError(_unfit(table, label))
        if is_entities(values[0]):
            text = guess(table, "text", self.text, taken=[label])
            return self.replace(text=text, label=label, kind="entities")
        tokens = named_like(table, "tokens", self.text) or (numbered[0] if numbered else None)
        if tokens == label:
            raise InputError(
                _(
                    "Column '{column}' cannot be both text and label. Name two with --text and --label."
                ).format(column=tokens)
            )
        if tokens is None or not any(isinstance(row[tokens], list) for row in table.rows):
            raise InputError(_unfit(table, label))
        return self.replace(text=tokens, label=label, kind=self.kind or self._kind(values))

    def choose_inputs(self, table: Table) -> TokenLabels:
        """Return a copy that knows the column of tokens, of texts where there is none."""
        from afina.data.columns import guess, named_like

        tokens = named_like(table, "tokens", self.text) or next(iter(_numbered(table)), None)
        if tokens is None or not any(isinstance(row[tokens], list) for row in table.rows):
            return self.replace(text=guess(table, "text", self.text))
        return self.replace(text=tokens)

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

    def _kind(self, rows: Sequence[list[Any]]) -> str:
        from afina.data.conll import TAG

        if self.tags != "auto":
            return self.tags
        counted = Counter(str(tag) for tags in rows for tag in tags)
        odd = sorted(tag for tag in counted if not TAG.fullmatch(tag))
        if not odd:
            return "entities" if counted.keys() != {"O"} else "words"
        typed = sum(times for tag, times in counted.items() if TAG.fullmatch(tag) and tag != "O")
        if typed > sum(counted[tag] for tag in odd):
            number = next(n for n, tags in enumerate(rows, 1) if any(str(tag) in odd for tag in tags))
            raise InputError(
                _(
                    "Most tags mark entities (B-, I-), but these do not: {tags}; the first in row {row}. Mend them, or say "
                    "with --tags words that each is a label of its own."
                ).format(tags=", ".join(repr(tag) for tag in odd[:SHOWN_TAGS]), row=number)
            )
        return "words"

    def clean(self, row: Row) -> Row | None:
        from afina.data.columns import text_of
        from afina.data.spans import entities, is_entities, words

        value, text = row.get(self.label or "label"), row.get(self.text or "text")
        asked = self.ask(row if isinstance(text, list) else text_of(text) or "")
        if value is None or not asked["text"].strip():
            return None
        if isinstance(value, list) and "words" not in asked:
            if not is_entities(value):
                raise InputError(
                    _("column '{column}' holds no entities: {value}.").format(
                        column=self.label, value=str(value)[:SHOWN]
                    )
                )
            found = entities(value, asked["text"], keep_longest=self.overlaps == "longest")
            return asked | {"words": words(asked["text"]), "entities": found}
        tags = _tags(value, len(asked.get("words", ())), self.label)
        if self.kind == "words":
            return asked | {"tags": tags}
        return asked | {"entities": _on_text(spans_of.chunks(tags), asked["words"])}

    def ask(self, given: Any) -> Row:
        """Return the text and, of a row of tokens, where its words lie; `predict` finds the words of a text itself."""
        from afina.data.spans import located

        row = given if isinstance(given, Mapping) else {"text": given}
        tokens = row.get(self.text, row.get("text"))
        if not isinstance(tokens, list):
            return super().ask(given)
        written = row.get("text")
        text, places = located(
            [str(token) for token in tokens], written if isinstance(written, str) else None
        )
        return {"text": text, "words": places}

    def remarks(self, raw: Sequence[Row], cleaned: Sequence[Row]) -> list[str]:
        if self.kind != "entities":
            return []
        notes = []
        values = [row.get(self.label or "label") for row in raw]
        tagged = [
            value for value in values if isinstance(value, list) and value and isinstance(value[0], str)
        ]
        count, iob1 = spans_of.irregular(tagged) if self._kind(tagged) == "entities" else (0, False)
        if iob1:
            notes.append(_("The tags are IOB1 (an entity begins with I-); they were turned into IOB2."))
        elif count:
            notes.append(_("Entities that do not begin with B- and were mended: {n}.").format(n=count))
        dropped = sum(map(len, (value for value in values if isinstance(value, list)))) if not tagged else 0
        dropped -= sum(len(row["entities"]) for row in cleaned) if not tagged else 0
        if dropped:
            notes.append(
                _("Entities that repeat or overlap a longer one and were left out: {n}.").format(n=dropped)
            )
        inside = sum(_within_words(row) for row in cleaned)
        if inside:
            notes.append(
                _(
                    "Entities that begin or end within a word, where the model cannot find their limits: {n}."
                ).format(n=inside)
            )
        return notes

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

    def strata(self, rows: Sequence[Row]) -> list[str | None]:
        """Keep rows with and without entities in proportion: their labels are too many combinations."""
        return [str(bool(row["entities"])) if self.kind == "entities" else None for row in rows]

    def counted(self, row: Row) -> list[str]:
        return [one[2] for one in row["entities"]] if self.kind == "entities" else row["tags"]

    def key(self, row: Row) -> Any:
        return row["text"]

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

    def _words(self, row: Row) -> list[list[int]]:
        from afina.data.spans import words

        return row["words"] if "words" in row else words(row["text"])

    def _written(self, row: Row) -> list[str]:
        return [row["text"][start:end] for start, end in self._words(row)]

    def _gold(self, row: Row) -> list[str]:
        """Return the true tag of each word, none where the row has none."""
        if "entities" in row:
            return spans_of.tags(row["words"], row["entities"])
        return row.get("tags", [])

    def _gold_spans(self, row: Row) -> list[dict[str, Any]]:
        if self.kind == "entities":
            return [_span(row["text"], *entity) for entity in row["entities"]]
        return [
            _span(row["text"], start, end, tag)
            for (start, end), tag in zip(row["words"], row["tags"], strict=True)
        ]

    def _entities(self, answers: Sequence[Any], rows: Sequence[Row]) -> list[list[Any]]:
        return [
            _on_text(spans_of.chunks(tags), row["words"])
            for tags, row in zip(self._tags(answers), rows, strict=True)
        ]

    def _tags(self, answers: Sequence[Any]) -> list[list[str]]:
        """Return the tag of each word; a word that was not read is in no entity and has no word's tag."""
        names = dict(enumerate(self.labels))
        names[BEYOND] = spans_of.OUTSIDE if self.kind == "entities" else UNREAD
        return [[names[i] for i in answer["tags"]] for answer in answers]


def _tags(value: Any, words: int, column: str | None) -> list[str]:
    """Return a row's tags as texts; InputError where they are not one a word."""
    from afina.data.columns import label_text

    if not isinstance(value, list):
        raise InputError(
            _("column '{column}' holds {value}, no list of tags.").format(
                column=column, value=str(value)[:SHOWN]
            )
        )
    if len(value) != words:
        raise InputError(
            _("there are {words} tokens but {tags} tags in column '{column}'; each token needs one.").format(
                words=words, tags=len(value), column=column
            )
        )
    found = [label_text(tag) for tag in value]
    if None in found:
        raise InputError(_("token {n} has no tag.").format(n=found.index(None) + 1))
    return [tag for tag in found if tag is not None]


def _numbered(table: Table) -> list[str]:
    """Return the columns of CoNLL, which have numbers for names."""
    return [column for column in table.columns if column.isdigit()]


def _on_text(chunks: Iterable[tuple[int, int, str]], words: Sequence[Sequence[int]]) -> list[list[Any]]:
    """Return entities [start, end, label] in characters of those in words."""
    return [[words[first][0], words[end - 1][1], label] for first, end, label in chunks]


def _within_words(row: Row) -> int:
    """Return how many entities of a row begin or end where no word does."""
    starts, ends = ({place[i] for place in row["words"]} for i in (0, 1))
    return sum(start not in starts or end not in ends for start, end, _label in row["entities"])


def _span(text: str, start: int, end: int, label: str) -> dict[str, Any]:
    return {"start": start, "end": end, "text": text[start:end], "label": label}


def _place(span: dict[str, Any]) -> tuple[Any, ...]:
    return span["start"], span["end"], span["label"]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _answer(tags: list[int]) -> dict[str, Any]:
    return {"tags": tags, "probabilities": [1.0] * len(tags)}


def _unfit(table: Table, label: str | None) -> str:
    found = _("{source} has the columns {names}").format(source=table.source, names=", ".join(table.columns))
    if label is not None:
        found += ", " + _("and '{label}' holds no lists").format(label=label)
    return (
        found
        + ". "
        + _(
            "This task needs CoNLL (.conll) or CoNLL-U (.conllu), or JSON Lines with `tokens` and `tags`, or with `text` and "
            "`entities` (start, end, label); name other columns with --text and --label."
        )
    )


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return the logits [windows x tokens, labels]."""
    from afina.models.heads import outputs

    (logits,) = outputs(model, batch, "logits")
    return logits.flatten(0, 1)

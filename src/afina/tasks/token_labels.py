"""One label a word: named entities, parts of speech."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import About, Batch, Loss, Rival, Row, Term
from afina.messages import N_
from afina.tasks._tag_answers import TagAnswers
from afina.tasks._windows import Long, shared, when_long
from afina.tasks._word_places import BEYOND, IGNORED, apart, find, stack

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

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


class TokenLabels(TagAnswers):
    """Give each word one of the tags that the training rows have, at its first sub-token; the others are ignored.

    Entities are learnt as IOB2 tags and told as spans of characters. A row longer than the model is read in
    overlapping windows, each word where it has most text around it, or cut: the words beyond then get no tag, which is
    scored as an error. The loss is cross-entropy over the words that are read.
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

    def learnt(self, row: Row) -> list[list[tuple[int, bool]]]:
        learnt = {place for place, tag in zip(row["places"], row["tags"], strict=True) if tag != IGNORED}
        return [
            [(token, (window, at) in learnt) for at, token in enumerate(ids)]
            for window, ids in enumerate(row["windows"])
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


def _answer(tags: list[int]) -> dict[str, Any]:
    return {"tags": tags, "probabilities": [1.0] * len(tags)}


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return the logits [windows x tokens, labels]."""
    from afina.models.heads import outputs

    (logits,) = outputs(model, batch, "logits")
    return logits.flatten(0, 1)

"""One label a text: sentiment, topic, intent, spam …"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from afina.core import Batch, Difference, Loss, Row, Scores, Splits, Table, Task, Term
from afina.errors import InputError
from afina.messages import N_, _
from afina.names import unknown
from afina.settings import setting

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # what cross_entropy passes over: a label that no training row has


class Classification(Task):
    """Give each text one of the labels that the training rows have.

    Answers are probabilities [labels]. The loss is cross-entropy, each row weighted by its class where
    `class_weight` asks for it; its count is then the sum of the weights.
    """

    head: ClassVar[str] = "AutoModelForSequenceClassification"

    text: str | None = setting(None, N_("Column that holds the text (default: guessed and said)."))
    label: str | None = setting(None, N_("Column that holds the label (default: guessed and said)."))
    positive: str | None = setting(None, N_("With two labels: the one whose precision, recall and F1 count."))
    class_weight: Literal["none", "balanced"] = setting(
        "none", N_("balanced: rare labels weigh more in the loss, by the inverse of their frequency.")
    )
    labels: tuple[str, ...] = setting((), N_("Names of the labels, in the model's order."), found=True)
    weights: tuple[float, ...] = setting((), N_("Weight of each label in the loss."), found=True)

    def choose_columns(self, table: Table) -> Classification:
        from afina.data.columns import guess

        text = guess(table, "text", self.text)
        label = guess(table, "label", self.label, taken=[text])
        if text == label:
            raise InputError(
                _(
                    "Column '{column}' cannot be both text and label. Name two with --text and --label."
                ).format(column=text)
            )
        return self.replace(text=text, label=label)

    def clean(self, row: Row) -> Row | None:
        from afina.data.columns import label_text, text_of

        text, label = text_of(row.get(self.text or "text")), label_text(row.get(self.label or "label"))
        if text is None or label is None or not text.strip():
            return None
        return {"text": text, "label": label}

    def learn(self, rows: Sequence[Row]) -> Classification:
        counts = Counter(row["label"] for row in rows)
        labels = tuple(sorted(counts))
        balanced = tuple(len(rows) / (len(labels) * counts[label]) for label in labels)
        return self.replace(labels=labels, weights=balanced if self.class_weight == "balanced" else ())

    def check(self, splits: Splits) -> None:
        counts = Counter(row["label"] for row in splits.train)
        if len(counts) < 2:
            raise InputError(
                _("All training rows have the same label '{label}'; there is nothing to tell apart.").format(
                    label=next(iter(counts), "")
                )
            )
        if len(counts) > 50 and len(counts) > len(splits.train) / 3:
            raise InputError(
                _(
                    "Column '{column}' has {labels} different values in {rows} rows: it holds no labels. "
                    "Name another with --label."
                ).format(column=self.label, labels=len(counts), rows=len(splits.train))
            )
        for name, part in ((_("validation"), splits.validation), (_("test"), splits.test)):
            unseen = Counter(row["label"] for row in part if row["label"] not in counts)
            if unseen:
                raise InputError(
                    _(
                        "The {part} part has labels that no training row has: {labels}. "
                        "Add training rows for them, correct the labels, or take the rows out."
                    ).format(
                        part=name, labels=", ".join(f"{label} ({n})" for label, n in unseen.most_common(10))
                    )
                )
        if self.positive is not None:
            if len(counts) != 2:
                raise InputError(
                    _("--positive needs two labels, but the data has {n}.").format(n=len(counts))
                )
            if self.positive not in counts:
                raise InputError(unknown(self.positive, sorted(counts), "labels"))

    def config(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
        }

    def group(self, row: Row) -> str | None:
        return row["label"]

    def key(self, row: Row) -> Any:
        return row["text"]

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
        place = {label: i for i, label in enumerate(self.labels)}
        ids = tokenizer([row["text"] for row in rows], truncation=True, max_length=max_length)["input_ids"]
        return [
            {"input_ids": each, "label": place.get(row.get("label", ""), IGNORED)}
            for each, row in zip(ids, rows, strict=True)
        ]

    def collate(
        self, items: Sequence[tuple[Row, np.random.Generator | None]], tokenizer: PreTrainedTokenizerBase
    ) -> Batch:
        import torch

        from afina.batching.pad import inputs

        rows = [row for row, _rng in items]
        gold = [row["label"] for row in rows]
        tensors = inputs(rows, tokenizer.pad_token_id) | {"labels": torch.tensor(gold)}
        counted = [i for i in gold if i != IGNORED]
        count = sum(self.weights[i] for i in counted) if self.weights else float(len(counted))
        return Batch(tensors, {"loss": count}, sum(len(row["input_ids"]) for row in rows))

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        import torch
        from torch.nn.functional import cross_entropy

        logits = _logits(model, batch).float()
        weight = torch.tensor(self.weights, device=logits.device) if self.weights else None
        return {"loss": Term(cross_entropy(logits, batch.tensors["labels"], weight=weight, reduction="sum"))}

    def answer(self, model: nn.Module, batch: Batch) -> list[Any]:
        return _logits(model, batch).float().softmax(-1).tolist()

    def predict(self, answer: Any, row: Row) -> dict[str, Any]:
        return {
            "prediction": self._label(answer),
            "probability": max(answer),
            "probabilities": dict(zip(self.labels, answer, strict=True)),
        }

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> Scores:
        import numpy as np

        from afina.scoring.classification import score

        return score([row["label"] for row in rows], np.asarray(answers), self.labels, self.positive)

    def watch(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[str, float]:
        from afina.scoring.classification import macro_f1

        told = [self._label(answer) for answer in answers]
        gold = [row["label"] for row in rows]
        return "macro_f1", macro_f1(gold, told, sorted({*gold, *told}))  # a sample need not hold every label

    def baselines(self, train: Sequence[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        """Return the answers of the majority label and of TF-IDF with logistic regression."""
        from afina.scoring.baselines import majority, tfidf

        texts, labels = [row["text"] for row in train], [row["label"] for row in train]
        return {
            "majority": majority(labels, len(rows), self.labels).tolist(),
            "tfidf": tfidf(texts, labels, [row["text"] for row in rows], self.labels).tolist(),
        }

    def difference(self, a: Sequence[Any], b: Sequence[Any], rows: Sequence[Row]) -> Difference:
        from afina.scoring.paired import difference

        gold = [row["label"] for row in rows]
        told_a, told_b = ([self._label(answer) for answer in answers] for answers in (a, b))
        return difference("macro_f1", gold, told_a, told_b, self.labels)

    def _label(self, answer: Sequence[float]) -> str:
        return self.labels[max(range(len(answer)), key=answer.__getitem__)]

    @classmethod
    def toy(cls) -> list[Row]:
        good, bad = (
            ["muy bueno", "excelente", "me encanta", "great"],
            ["muy malo", "horrible", "lo odio", "awful"],
        )
        things = ["el servicio", "the food", "este libro", "my phone", "la película"]
        rows = [{"text": f"{thing} {word}", "label": "bien"} for thing in things for word in good]
        return rows + [{"text": f"{thing} {word}", "label": "mal"} for thing in things for word in bad]


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    return model(input_ids=batch.tensors["input_ids"], attention_mask=batch.tensors["attention_mask"]).logits

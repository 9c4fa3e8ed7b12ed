"""What the tasks over whole texts share: one or two texts a row go in, one answer comes out.

A `Sentence` reads the texts; what an answer is (a label, a set of labels, a number) its `Form` knows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import Batch, Difference, Loss, Row, Scores, Splits, Table, Task, Term
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting
from afina.tasks._form import Form
from afina.tasks._text_windows import row_logits, truncated, windowed
from afina.tasks._windows import Long, shared, when_long

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
    from transformers import PreTrainedTokenizerBase


class Sentence(Task):
    """Give each row, of one text or of a pair, one answer.

    An encoded row holds `windows`: one, cut where the row is too long, or with `long="windows"` as many as reach its
    end. The logits of a row are the mean of those of its windows, in training as in answering. Of a pair the longer
    text slides and the other stays beside it (see `_windows.read`).
    """

    head: ClassVar[str] = "AutoModelForSequenceClassification"

    text: str | None = setting(None, N_("Column that holds the text (default: guessed and said)."))
    label: str | None = setting(None, N_("Column that holds the label (default: guessed and said)."))
    long: Long = when_long("truncate")
    doc_stride: int = shared()

    @property
    @abstractmethod
    def form(self) -> Form:
        """What an answer is."""

    def choose_columns(self, table: Table) -> Any:
        from afina.data.columns import guess
        from afina.data.number import check_signs

        task = self.choose_inputs(table)
        texts = [getattr(task, role) for role in self.inputs]
        label = guess(table, self.form.role, self.label, taken=texts)
        if label in texts:
            raise InputError(
                _(
                    "Column '{column}' cannot be both text and label. Name two with --text and --label."
                ).format(column=label)
            )
        if len(set(texts)) < len(texts):
            raise InputError(
                _(
                    "The two texts of a pair lie in two columns, but both are '{column}'. Name two with --text "
                    "and --text-pair."
                ).format(column=texts[0])
            )
        if self.form.role == "number":
            check_signs([row[label] for row in table.rows], table.source)
        return task.replace(label=label)

    def choose_inputs(self, table: Table) -> Any:
        from afina.data.columns import guess, guess_pair

        if len(self.inputs) == 1:
            return self.replace(text=guess(table, "text", self.text))
        first, second = (getattr(self, role) for role in self.inputs)
        texts = guess_pair(table, first, second, taken=[self.label] if self.label else [])
        return self.replace(**dict(zip(self.inputs, texts, strict=True)))

    def clean(self, row: Row) -> Row | None:
        from afina.data.value import text_of

        texts = {role: text_of(row.get(getattr(self, role) or role)) or "" for role in self.inputs}
        gold = self.form.read(row.get(self.label or "label"))
        if gold is None or not all(text.strip() for text in texts.values()):
            return None
        return texts | {"label": gold}

    def learn(self, rows: Sequence[Row]) -> Sentence:
        return self.replace(**self.form.learn(golds(rows)))

    def check(self, splits: Splits) -> None:
        others = {_("validation"): golds(splits.validation), _("test"): golds(splits.test)}
        self.form.check(golds(splits.train), others, self.label or "label")

    def config(self) -> dict[str, Any]:
        return self.form.config()

    def prior(self, rows: Sequence[Row]) -> list[float]:
        return self.form.prior(golds(rows))

    def group(self, row: Row) -> str | None:
        return self.form.text(row["label"])

    def strata(self, rows: Sequence[Row]) -> list[str | None]:
        return self.form.strata(golds(rows))

    def counted(self, row: Row) -> Sequence[str]:
        return self.form.counted(row["label"])

    def key(self, row: Row) -> Any:
        texts = tuple(row[role] for role in self.inputs)
        return texts if len(texts) > 1 else texts[0]

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
        texts = [[row[role] for row in rows] for role in self.inputs]
        if self.long == "windows":
            read = windowed(texts, tokenizer, max_length, self.doc_stride)
        else:
            read = truncated(texts, tokenizer, max_length)
        return [
            {"windows": windows, "cut": cut, "label": self.form.encode(row.get("label"))}
            for row, (windows, cut) in zip(rows, read, strict=True)
        ]

    def length(self, row: Row) -> int:
        """Return the tokens of all windows, padding counted."""
        return len(row["windows"]) * max(len(window["input_ids"]) for window in row["windows"])

    def unseen(self, row: Row, whole: int) -> int:
        return row["cut"] if len(row["windows"]) > 1 else super().unseen(row, whole)

    def collate(
        self, items: Sequence[tuple[Row, np.random.Generator | None]], tokenizer: PreTrainedTokenizerBase
    ) -> Batch:
        """Return the windows of all rows [windows, tokens]; the rows' gold answers [rows]."""
        import torch

        from afina.batching.pad import inputs

        rows = [row for row, _rng in items]
        windows = [window for row in rows for window in row["windows"]]
        gold = [row["label"] for row in rows]
        tensors = inputs(windows, tokenizer.pad_token_id) | {"labels": torch.tensor(gold)}
        tokens = sum(len(window["input_ids"]) for window in windows)
        return Batch(tensors, {"loss": self.form.count(gold)}, tokens, rows)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        return {"loss": Term(self.form.loss(row_logits(model, batch), batch.tensors["labels"]))}

    def answer(self, model: nn.Module, batch: Batch) -> list[Any]:
        return self.form.answer(row_logits(model, batch))

    def predict(self, answer: Any, row: Row) -> dict[str, Any]:
        return self.form.predict(answer)

    def line(self, row: Row, answer: Any) -> dict[str, Any]:
        return super().line(row, answer) | self.form.line(row["label"], answer)

    @property
    def tunes(self) -> bool:
        return type(self.form).tune is not Form.tune

    def tune(self, answers: Sequence[Any], rows: Sequence[Row]) -> Sentence:
        return self.replace(**self.form.tune(answers, golds(rows)))

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> Scores:
        return self.form.score(answers, golds(rows))

    def calibration(self, answers: Sequence[Any], rows: Sequence[Row]) -> float | None:
        return self.form.calibration(answers, golds(rows))

    def watch(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[str, float]:
        return self.form.watch(answers, golds(rows))

    def main(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[str, float]:
        return self.form.main(answers, golds(rows))

    def baselines(
        self, train: Sequence[Row], rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> dict[str, list[Any]]:
        """Return the answers of one who reads no text, and of TF-IDF with a linear model."""
        from afina.scoring.features import of_pairs, of_texts

        known, asked = ([[row[role] for row in part] for role in self.inputs] for part in (train, rows))
        features = of_texts(*known, *asked) if len(self.inputs) == 1 else of_pairs(known, asked)
        learnt, constant = golds(train), self.form.majority(golds(train), len(rows))
        linear = constant if features is None else self.form.linear(features[0], learnt, features[1])
        return {"majority": constant, "tfidf": linear}

    def difference(self, a: Sequence[Any], b: Sequence[Any], rows: Sequence[Row]) -> Difference:
        return self.form.difference(a, b, golds(rows))


def golds(rows: Sequence[Row]) -> list[Any]:
    """Return the gold answers of cleaned rows."""
    return [row["label"] for row in rows]

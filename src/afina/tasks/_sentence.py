"""What the tasks over whole texts share: one or two texts a row go in, one answer comes out.

A `Sentence` reads the texts; what an answer is (a label, a set of labels, a number) its `Form` knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import Batch, Difference, Loss, Row, Scores, Splits, Table, Task, Term
from afina.data.columns import Role
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting
from afina.tasks._windows import Long, shared, when_long

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


class Form(ABC):
    """One kind of gold answer, from the cell of a table to the figures; knows what `learn` found."""

    role: ClassVar[Role] = "label"
    """What the column that holds it is looked for as."""

    @abstractmethod
    def read(self, cell: Any) -> Any:
        """Return the gold answer that a cell holds, None where it is blank; InputError where it is wrong."""

    @abstractmethod
    def learn(self, gold: Sequence[Any]) -> dict[str, Any]:
        """Return the fields of the task that only the training rows can tell."""

    @abstractmethod
    def check(self, train: Sequence[Any], others: Mapping[str, Sequence[Any]], column: str) -> None:
        """Raise InputError where `train` cannot be learnt from or another part, by its name, not be scored."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return what the model's configuration must know."""

    @abstractmethod
    def prior(self, gold: Sequence[Any]) -> list[float]:
        """Return the logits of the best answer that is the same for every row."""

    def text(self, gold: Any) -> str | None:
        """Return the gold answer as one text, None where it is no label."""
        return gold

    def strata(self, gold: Sequence[Any]) -> list[str | None]:
        """Return by row what a drawn split keeps in proportion."""
        return [self.text(each) for each in gold]

    def counted(self, gold: Any) -> Sequence[str]:
        """Return the labels that a row counts for."""
        return (gold,)

    @abstractmethod
    def encode(self, gold: Any | None) -> Any:
        """Return the gold answer as numbers, one that no loss counts for None or what the model cannot give."""

    @abstractmethod
    def count(self, encoded: Sequence[Any]) -> float:
        """Return how much the loss of these rows sums over."""

    @abstractmethod
    def loss(self, logits: Tensor, encoded: Tensor) -> Tensor:
        """Return the summed loss of `logits` [rows, answers]."""

    @abstractmethod
    def answer(self, logits: Tensor) -> list[Any]:
        """Return one answer a row."""

    @abstractmethod
    def predict(self, answer: Any) -> dict[str, Any]:
        """Return what a person is told of one answer."""

    def line(self, gold: Any, answer: Any) -> dict[str, Any]:
        """Return what `predictions.csv` says beside gold and prediction."""
        return {}

    def tune(self, answers: Sequence[Any], gold: Sequence[Any]) -> dict[str, Any]:
        """Return the fields of the task that answers to validation rows can better."""
        return {}

    @abstractmethod
    def score(self, answers: Sequence[Any], gold: Sequence[Any]) -> Scores:
        """Return the figures, the main metric first."""

    def calibration(self, answers: Sequence[Any], gold: Sequence[Any]) -> float | None:
        """Return the calibration error, None where answers are no probabilities."""
        return None

    @abstractmethod
    def watch(self, answers: Sequence[Any], gold: Sequence[Any]) -> tuple[str, float]:
        """Return the main metric and its value, cheaply."""

    def main(self, answers: Sequence[Any], gold: Sequence[Any]) -> tuple[str, float]:
        """Return the main metric and its value as `score` gives it."""
        return self.watch(answers, gold)

    @abstractmethod
    def majority(self, train: Sequence[Any], n: int) -> list[Any]:
        """Return the answers to `n` rows of somebody who knows the training answers and reads no text."""

    @abstractmethod
    def linear(self, known: Any, train: Sequence[Any], asked: Any) -> list[Any]:
        """Return the answers of a linear model on features, sparse [rows, features] both."""

    @abstractmethod
    def difference(self, a: Sequence[Any], b: Sequence[Any], gold: Sequence[Any]) -> Difference:
        """Return the paired difference of the main metric."""


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
        from afina.data.columns import text_of

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
        read = self._windows if self.long == "windows" else self._cut
        return [
            {"windows": windows, "cut": cut, "label": self.form.encode(row.get("label"))}
            for row, (windows, cut) in zip(rows, read(texts, tokenizer, max_length), strict=True)
        ]

    def _windows(
        self, texts: list[list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> Iterator[tuple[list[Row], int]]:
        from afina.tasks._windows import read

        rows = list(zip(*texts, strict=True))
        for found in read(rows, tokenizer, max_length, self.doc_stride):
            yield (
                [_read(each.ids.tolist(), each.types.tolist(), len(self.inputs)) for each in found.windows],
                found.cut,
            )

    def _cut(
        self, texts: list[list[str]], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> Iterator[tuple[list[Row], int]]:
        told = tokenizer(*texts, truncation=True, max_length=max_length, return_token_type_ids=True)
        for ids, types in zip(told["input_ids"], told["token_type_ids"], strict=True):
            # Of an empty text some tokenizers make nothing at all.
            yield [_read(ids or [tokenizer.pad_token_id], types or [0], len(self.inputs))], 0

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
        return {"loss": Term(self.form.loss(_pooled(model, batch), batch.tensors["labels"]))}

    def answer(self, model: nn.Module, batch: Batch) -> list[Any]:
        return self.form.answer(_pooled(model, batch))

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


def _read(ids: list[int], types: list[int], texts: int) -> Row:
    """Return what the model reads at once, with segment ids where there are two texts."""
    return {"input_ids": ids} | ({"token_type_ids": types} if texts > 1 else {})


def _pooled(model: nn.Module, batch: Batch) -> Tensor:
    """Return the logits of each row [rows, answers]: the mean over its windows."""
    import torch

    from afina.models.heads import outputs

    (logits,) = outputs(model, batch, "logits")
    windows = [len(row["windows"]) for row in batch.rows]
    return torch.stack([each.mean(0) for each in logits.split(windows)])


def golds(rows: Sequence[Row]) -> list[Any]:
    """Return the gold answers of cleaned rows."""
    return [row["label"] for row in rows]

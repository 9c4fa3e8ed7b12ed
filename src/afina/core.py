"""The types that everything else hands around."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from afina.messages import N_
from afina.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of one file or folder, the columns in file order, and what the reader wants the person to know."""

    rows: list[Row]
    columns: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Splits:
    """The three parts of the data; a part that does not exist is empty. `fingerprint` names their content."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    fingerprint: str
    notes: tuple[str, ...] = ()


class Score(NamedTuple):
    """One figure with its 95 % interval over `n` items; low and high are None where too few rows allow none."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Scores:
    """What a task says of its answers: `values` (the first is the main metric) and details without interval."""

    values: dict[str, Score]
    details: dict[str, Any] = field(default_factory=dict)


class Difference(NamedTuple):
    """How much better `a` is than `b` on the same rows: a paired 95 % interval and a two-sided p-value."""

    metric: str
    value: float
    low: float
    high: float
    p: float

    @property
    def shown(self) -> bool:
        """Whether a difference is shown at the 5 % level: p and interval must agree."""
        return self.p < 0.05 and (self.low > 0 or self.high < 0)


class Term(NamedTuple):
    """One part of a loss: a **sum** over items, never a mean, and its weight in the whole."""

    sum: Tensor
    weight: float = 1.0


Loss = Mapping[str, Term]


@dataclass(frozen=True)
class Batch:
    """One micro-batch: tensors (rows first), how many items each term of its loss sums over, its tokens."""

    tensors: dict[str, Tensor]
    counts: dict[str, float]
    tokens: int

    def to(self, device: Any) -> Batch:
        """Return the batch with its tensors on `device`."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        return Batch(moved, self.counts, self.tokens)


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in one optimizer step; `index` counts from 1, `tokens` are those that are no padding."""

    index: int
    loss: float
    parts: dict[str, float]
    grad_norm: float
    learning_rate: float
    tokens: int
    rows: int
    seconds: float


class Stage(NamedTuple):
    """A stretch of training: which weights train (None: all), its share of the steps, its learning-rate factor."""

    name: str
    trainable: frozenset[str] | None = None
    share: float = 1.0
    learning_rate_factor: float = 1.0


class Task(Settings, ABC):
    """What to learn: which columns, which head, which loss, which answers, which scores.

    Frozen; its fields are the knobs a person may set and what `learn` found in the data, and are saved as JSON
    beside the weights. A file `tasks/name.py` holds class `Name`. No torch at the top of the file.
    """

    head: ClassVar[str]
    """Name of the `AutoModelFor…` class whose heads the task uses."""
    direction: ClassVar[int] = 1
    """1 where more of the main metric is better, -1 where less is."""
    pipeline: ClassVar[str] = ""
    """Name of the transformers pipeline that answers as the task does, and the Hub's name for the task."""
    pipeline_options: ClassVar[Mapping[str, str]] = {}
    """What that pipeline must be told."""
    card: ClassVar[str] = N_("A model that was fine-tuned with afina.")
    """What its model is, in the first sentence of the model card."""
    reads_all: ClassVar[bool] = False
    """Whether rows longer than the model are read in overlapping windows; else what is too long is cut."""

    @abstractmethod
    def choose_columns(self, table: Table) -> Task:
        """Return a copy that knows its columns, guessed where the person named none; InputError if it can not."""

    @abstractmethod
    def clean(self, row: Row) -> Row | None:
        """Return the row with its fields in the task's form (labels as strings …), None where it cannot be used."""

    def learn(self, rows: Sequence[Row]) -> Task:
        """Return a copy that knows what only the data can tell, such as the label names."""
        return self

    def remarks(self, raw: Sequence[Row], cleaned: Sequence[Row]) -> list[str]:
        """Return what the person should know of how a file's rows were read, before and after `clean`."""
        return []

    @abstractmethod
    def check(self, splits: Splits) -> None:
        """Raise InputError where the rows cannot be learnt from; called before anything is loaded or written."""

    def warn(self, splits: Splits) -> list[str]:
        """Return what of the parts stops nothing but should be known, such as labels that only the test has."""
        return []

    def config(self) -> dict[str, Any]:
        """Return what the model's configuration must know (number and names of labels …)."""
        return {}

    @abstractmethod
    def group(self, row: Row) -> str | None:
        """Return what a stratified split keeps in proportion (the label), None where there is nothing."""

    def counted(self, row: Row) -> list[str]:
        """Return the labels that a row adds to the table of labels: by default its group."""
        group = self.group(row)
        return [] if group is None else [group]

    @abstractmethod
    def key(self, row: Row) -> Any:
        """Return what makes two rows the same to the model; such rows never lie on two sides of a split."""

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
        """Return one encoded row a row, with `input_ids` (a list of ints) and, where known, the gold answer.

        A gold answer that the model cannot give is encoded as one that no loss counts.
        """

    def length(self, row: Row) -> int:
        """Return the tokens of an encoded row, special ones counted."""
        return len(row["input_ids"])

    @abstractmethod
    def collate(
        self, items: Sequence[tuple[Row, np.random.Generator | None]], tokenizer: PreTrainedTokenizerBase
    ) -> Batch:
        """Return a padded batch; random choices (masks) draw from each row's own generator."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the summed loss by term; never a mean, never through the model's own `labels=`."""

    @abstractmethod
    def answer(self, model: nn.Module, batch: Batch) -> list[Any]:
        """Return one answer a row, as numbers (probabilities …); no gradient is asked for."""

    def question(self, row: Row) -> Row:
        """Return what the model is asked of a row of a person's file, without the gold answer."""
        value = row.get(getattr(self, "text", None) or "text")
        # A shell may hand on bytes that are no UTF-8, which no tokenizer takes.
        return {"text": "" if value is None else str(value).encode("utf-8", "replace").decode()}

    @abstractmethod
    def predict(self, answer: Any, row: Row) -> dict[str, Any]:
        """Return what a person is told of the answer to a row: `prediction` and `probability` or `score`."""

    def line(self, answer: Any, row: Row) -> Row:
        """Return a line of `predictions.csv`: the row, its gold as `label` where it has one, and what was told."""
        return row | self.predict(answer, row)

    @abstractmethod
    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> Scores:
        """Return the figures of `answers` against the rows' gold, the main metric first."""

    def watch(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[str, float]:
        """Return the main metric and its value alone, cheaply: what training is watched and stopped by."""
        name, score = next(iter(self.score(answers, rows).values.items()))
        return name, score.value

    @abstractmethod
    def baselines(self, train: Sequence[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        """Return the answers of each baseline of the task to `rows`, learnt from `train` alone."""

    @abstractmethod
    def difference(self, a: Sequence[Any], b: Sequence[Any], rows: Sequence[Row]) -> Difference:
        """Return the paired difference of the main metric between two lists of answers to the same rows."""

    @classmethod
    @abstractmethod
    def toy(cls) -> list[Row]:
        """Return a few dozen invented rows that tests, docs and `--dry-run` use."""


class Method(Settings, ABC):
    """How the model may change: what is put into it, and what of it is trained when.

    Frozen; its fields are its knobs. A file `methods/name.py` holds class `Name`. No torch at the top of the file.
    """

    def presets(self, hidden_size: int) -> dict[str, Any]:
        """Return the training settings that suit this method at this width, used where the person set none."""
        return {}

    def modify(self, model: nn.Module) -> nn.Module:
        """Return the model with what the method puts into it."""
        return model

    def stages(self, model: nn.Module) -> list[Stage]:
        """Return the stretches of training, in order; their shares add up to one."""
        return [Stage("all")]

    @abstractmethod
    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the trained weights into `folder` in Hugging Face's (or PEFT's) format."""

    @abstractmethod
    def load(self, folder: Path, head: str, config: Mapping[str, Any]) -> nn.Module:
        """Return the model that `save` wrote, in float32, with the same answers."""

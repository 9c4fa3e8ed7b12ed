"""The types that everything else hands around."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from afina.errors import InputError
from afina.messages import N_, _
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


class Rival(NamedTuple):
    """What a baseline is called: in a table, in a sentence, and in a sentence of its own that explains it."""

    short: str
    name: str
    meaning: str


class About(NamedTuple):
    """What report and model card say of a task, in English marked with `N_`, and how transformers calls it.

    `options` are further arguments of a call of transformers' `pipeline`, as Python; `unit` says what a person
    must make of the score that comes back.
    """

    model: str = N_("A model that was fine-tuned with afina.")
    limit: str = N_("It always gives an answer, also where none fits; a high probability is no proof.")
    rivals: Mapping[str, Rival] = {}
    pipeline: str = "text-classification"
    options: str = ""
    unit: str = ""


class Task(Settings, ABC):
    """What to learn: which columns, which head, which loss, which answers, which scores.

    Frozen; its fields are the knobs a person may set and what `learn` found in the data, and are saved as JSON
    beside the weights. A file `tasks/name.py` holds class `Name`. No torch at the top of the file.
    """

    head: ClassVar[str]
    """Name of the `AutoModelFor…` class whose heads the task uses."""
    direction: ClassVar[int] = 1
    """1 where more of the main metric is better, -1 where less is."""
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    """The fields of a row that the model is asked with; each is a setting that names its column."""

    @abstractmethod
    def choose_columns(self, table: Table) -> Task:
        """Return a copy that knows its columns, guessed where the person named none; InputError if it can not."""

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Return by role (text, label …) the columns that the task reads, as far as they are chosen."""
        named = {role: getattr(self, role, None) for role in (*self.inputs, "label")}
        return {role: (column,) for role, column in named.items() if column}

    @abstractmethod
    def clean(self, row: Row) -> Row | None:
        """Return the row with its fields in the task's form (labels as strings …), None where it cannot be used.

        Raises InputError, without the row's number, where what it holds is wrong.
        """

    def about(self) -> About:
        """Return the task's words in report and model card."""
        return About()

    def question(self, given: Any) -> Row:
        """Return what a person asks as a row with the fields `inputs`; InputError where one is missing.

        One text stands for itself; several come as a list, as a text with tabs between them, or as a row under
        the fields' names or those of the columns in training.
        """
        if isinstance(given, Mapping):
            own = {role: getattr(self, role, None) for role in self.inputs}
            texts = [given.get(role, given.get(own[role])) for role in self.inputs]
        elif isinstance(given, str):
            texts = given.split("\t") if len(self.inputs) > 1 else [given]
        else:
            texts = list(given)
        if len(texts) != len(self.inputs) or any(text is None for text in texts):
            raise InputError(
                _(
                    "This model answers {n} texts at once ({names}), but here is: {given}. Give a file with a column "
                    "for each, texts with a tab between them, or rows from Python."
                ).format(n=len(self.inputs), names=", ".join(self.inputs), given=str(given)[:80])
            )
        return dict(zip(self.inputs, map(str, texts), strict=True))

    def learn(self, rows: Sequence[Row]) -> Task:
        """Return a copy that knows what only the data can tell, such as the label names."""
        return self

    @abstractmethod
    def check(self, splits: Splits) -> None:
        """Raise InputError where the rows cannot be learnt from; called before anything is loaded or written."""

    def config(self) -> dict[str, Any]:
        """Return what the model's configuration must know (number and names of labels …)."""
        return {}

    def notes(self) -> list[str]:
        """Return what a person should know of what was found in the data, in sentences."""
        return []

    @abstractmethod
    def group(self, row: Row) -> str | None:
        """Return the row's gold answer as one text (the label), None where there is none."""

    def strata(self, rows: Sequence[Row]) -> list[str | None]:
        """Return by row what a drawn split keeps in proportion."""
        return [self.group(row) for row in rows]

    def counted(self, row: Row) -> Sequence[str]:
        """Return the labels that the row counts for, where rows are counted by label."""
        found = self.group(row)
        return () if found is None else (found,)

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

    @abstractmethod
    def predict(self, answer: Any) -> dict[str, Any]:
        """Return what a person is told of one answer: `prediction` and `probability` or `score`."""

    def line(self, row: Row, answer: Any) -> dict[str, Any]:
        """Return the row of `predictions.csv`: the fields of `row`, then what is told of the answer."""
        return row | {name: told for name, told in self.predict(answer).items() if not isinstance(told, dict)}

    def tune(self, answers: Sequence[Any], rows: Sequence[Row]) -> Task:
        """Return a copy that answers better (thresholds …), learnt from answers to validation rows alone."""
        return self

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

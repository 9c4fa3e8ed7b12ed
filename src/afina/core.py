"""The types that everything else hands around."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from afina.errors import InputError
from afina.messages import N_, _
from afina.names import ENCODER
from afina.settings import Settings

SMALL = 256  # width of the widest models whose learning rates were searched: results/presets-tasks.json

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

Row = dict[str, Any]
Curvature = Literal["gnb", "hutchinson"]
Schedule = Literal["linear", "cosine", "one_cycle", "warmup_stable_decay", "slanted_triangular"]


@dataclass(frozen=True)
class Table:
    """Rows of one file or folder, the columns in file order, and what the reader wants the person to know.

    `lines` of a file with a word a line (CoNLL) are those in which each row begins.
    """

    rows: list[Row]
    columns: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()


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
    """One micro-batch: tensors (rows first), how many items each term of its loss sums over, its tokens.

    `rows` are the encoded rows, for a task whose answers need more of them than tensors, or whose tensors hold
    several entries a row; `tokenizer` is there for a task whose answers are written texts.
    """

    tensors: dict[str, Tensor]
    counts: dict[str, float]
    tokens: int
    rows: Sequence[Row] = ()
    tokenizer: PreTrainedTokenizerBase | None = None

    def to(self, device: Any) -> Batch:
        """Return the batch with its tensors on `device`."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()}
        return replace(self, tensors=moved)


@dataclass(frozen=True, slots=True)
class Step:
    """What happened in one optimizer step; `index` counts from 1, `tokens` are those that are no padding.

    A step that was `skipped` changed no weight.
    """

    index: int
    loss: float
    parts: dict[str, float]
    grad_norm: float
    learning_rate: float
    tokens: int
    rows: int
    seconds: float
    skipped: bool = False


class Stage(NamedTuple):
    """A stretch of training: which weights train (None: all), its share of the steps, its learning-rate factor.

    `rates` are factors of single weights on top of it (1 where a weight is not named). `lr_scheduler_type` is the
    shape of its learning rate, where the method wants another than the run's.
    """

    name: str
    trainable: frozenset[str] | None = None
    share: float = 1.0
    learning_rate_factor: float = 1.0
    rates: Mapping[str, float] | None = None
    lr_scheduler_type: Schedule | None = None


class Rival(NamedTuple):
    """What a baseline is called: in a table, in a sentence, and in a sentence of its own that explains it.

    One that is `only_measured` cannot do what a model of the task does, so nobody is told to use it instead.
    """

    short: str
    name: str
    meaning: str
    only_measured: bool = False


class About(NamedTuple):
    """What report and model card say of a task, in English marked with `N_`, and how transformers calls it.

    `labels` leads in the labels' names. `pipeline` is the Hub's name for the task, and that of the template which says
    how to use its model; `options` are further arguments of transformers' `pipeline`, as Python; `reading` says what
    a person must make of the score that comes back. An empty `limit` is left out.
    """

    model: str = N_("A model that was fine-tuned with afina.")
    limit: str = N_("It always gives an answer, also where none fits; a high probability is no proof.")
    labels: str = N_("It knows {n} labels:")
    rivals: Mapping[str, Rival] = {}
    pipeline: str = "text-classification"
    options: str = ""
    reading: str = ""


def mended(text: str) -> str:
    """Return a text with a question mark for each half of a character, which no tokenizer takes; places stay."""
    return text.encode("utf-8", "replace").decode()


class Task(Settings, ABC):
    """What to learn: which columns, which head, which loss, which answers, which scores.

    Frozen; its fields are the knobs a person may set and what `learn` found in the data, and are saved as JSON
    beside the weights. A file `tasks/name.py` holds class `Name`. No torch at the top of the file.
    """

    head: ClassVar[str]
    """Name of the `AutoModelFor…` class whose heads the task uses."""
    embedded: ClassVar[str | None] = ENCODER
    """The model that ships with afina and is taken where none is named; None where none is of the right kind."""
    pace: ClassVar[float] = 1.0
    """Factor on a method's preset learning rate that suits the task; for models up to SMALL wide, where it was searched."""
    direction: ClassVar[int] = 1
    """1 where more of the main metric is better, -1 where less is."""
    writes: ClassVar[bool] = False
    """Whether an answer is written token by token, so that many rows at once save most of the time."""
    inputs: ClassVar[tuple[str, ...]] = ("text",)
    """Fields that name the columns which the model reads; a cleaned row holds them under the field's own name."""
    gold: ClassVar[tuple[str, ...]] = ("label",)
    """Fields that name the columns which hold the answer."""

    @abstractmethod
    def choose_columns(self, table: Table) -> Task:
        """Return a copy that knows its columns, guessed where the person named none; InputError if it can not."""

    def choose_inputs(self, table: Table) -> Task:
        """Return a copy that knows the columns of its `inputs` alone, chosen so too: for rows without an answer."""
        return self

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Return by role (text, label …) the columns that the task reads, as far as they are chosen."""
        named = {role: getattr(self, role, None) for role in (*self.inputs, *self.gold)}
        return {role: (column,) for role, column in named.items() if column}

    @abstractmethod
    def clean(self, row: Row) -> Row | None:
        """Return the row with its fields in the task's form (labels as strings …), None where it cannot be used.

        Raises InputError, without the row's number, where what it holds is wrong.
        """

    def about(self) -> About:
        """Return the task's words in report and model card."""
        return About()

    def learn(self, rows: Sequence[Row]) -> Task:
        """Return a copy that knows what only the data can tell, such as the label names."""
        return self

    def lacks(self, row: Row) -> bool:
        """Return whether a row that `clean` leaves out lacks what a column should hold; of others `remarks` tells."""
        return True

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

    def prior(self, rows: Sequence[Row]) -> list[float] | None:
        """Return what a new head should give for a row that it cannot read yet, by the gold answers of training rows.

        Where it begins at nought instead, the first steps teach all outputs at once how rare each answer is, through
        the features below: with many rare labels these may never tell rows apart again (Lin et al. 2017). None where
        the task has no say in it.
        """
        return None

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

    def together(self, row: Row) -> Any:
        """Return what the rows that a drawn split must not part have in common: by default only copies."""
        return self.key(row)

    def cluster(self, row: Row) -> Hashable | None:
        """Return what rows that are alike beyond chance have in common (their context), None where each stands alone."""
        return None

    @abstractmethod
    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
        """Return one encoded row a row, with `input_ids` (a list of ints) and, where known, the gold answer.

        A gold answer that the model cannot give is encoded as one that no loss counts.
        """

    def length(self, row: Row) -> int:
        """Return the tokens of an encoded row, special ones counted."""
        return len(row["input_ids"])

    def unseen(self, row: Row, whole: int) -> int:
        """Return how many of the `whole` tokens of a row the model does not see of its encoded form."""
        return max(0, whole - self.length(row))

    def pieces(self, row: Row) -> list[Row]:
        """Return what training draws from: the encoded row, or its parts where its loss is their sum (windows)."""
        return [row]

    def learnt(self, row: Row) -> list[list[tuple[int, bool]]] | None:
        """Return the tokens of an encoded row, window by window, and which are learnt; None if the task learns none."""
        return None

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

    def glance(self, model: nn.Module, batch: Batch) -> list[Any]:
        """Return what `watch` needs of the answers, where that is cheaper to have than whole ones."""
        return self.answer(model, batch)

    def ask(self, given: Any) -> Row:
        """Return what a person asks as a row that `encode` takes, without a gold answer; InputError where it is none.

        One text stands for itself; several come as a list, as one text with tabs between them, or as a row under
        the columns of training or the names of `inputs`.
        """
        texts = [given]
        if isinstance(given, Mapping):
            texts = [given.get(getattr(self, name, None), given.get(name)) for name in self.inputs]
        elif isinstance(given, str):
            whole = mended(given)
            texts = whole.split("\t") if len(self.inputs) > 1 else [whole]
        elif isinstance(given, list | tuple) and len(self.inputs) > 1:
            texts = list(given)
        if len(texts) != len(self.inputs):
            raise InputError(
                _(
                    "This model answers {n} texts at once ({names}), but here is: {given}. Give a file with a column "
                    "for each, texts with a tab between them, or rows from Python."
                ).format(n=len(self.inputs), names=f" {_('and')} ".join(self.inputs), given=str(given)[:80])
            )
        for name, text in zip(self.inputs, texts, strict=True):
            if text is None and isinstance(given, Mapping):
                sentence = _("there is no text under '{name}'. This model answers rows of: {all}.")
                raise InputError(sentence.format(name=name, all=", ".join(self.inputs)))
            if not isinstance(text, str):
                sentence = _(
                    "{value!r} is no text. Give a list of texts, or of rows with the task's columns."
                )
                raise InputError(sentence.format(value=text))
        return dict(zip(self.inputs, texts, strict=True))

    def asked_columns(self) -> set[str]:
        """Return the columns that `ask` reads of a row, as far as they are there."""
        return {getattr(self, name, None) or name for name in self.inputs} | set(self.inputs)

    @abstractmethod
    def predict(self, answer: Any, row: Row) -> dict[str, Any]:
        """Return what a person is told of the answer to a row: `prediction` and `probability` or `score`."""

    def line(self, row: Row, answer: Any) -> dict[str, Any]:
        """Return the line of `predictions.csv` about one row; the report's examples are chosen from them.

        Its `label` is the gold, and `right` says whether the answer counts as right where equality does not.
        """
        told = self.predict(answer, row)
        return row | {name: value for name, value in told.items() if not isinstance(value, dict)}

    @property
    def tunes(self) -> bool:
        """Whether `tune` has anything to better."""
        return type(self).tune is not Task.tune

    def tune(self, answers: Sequence[Any], rows: Sequence[Row]) -> Task:
        """Return a copy that answers better (thresholds …), learnt from answers to validation rows alone."""
        return self

    def restate(self, answers: Sequence[Any], task: Any) -> list[Any]:
        """Return answers by which `task`, a copy that learnt from other rows, says and scores what this one does.

        What `tune` found is applied: copies that were tuned apart can then be scored together.
        """
        return list(answers)

    @abstractmethod
    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> Scores:
        """Return the figures of `answers` against the rows' gold, the main metric first."""

    def watch(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[str, float]:
        """Return the main metric and its value alone, of glances: what training is watched and stopped by."""
        name, score = next(iter(self.score(answers, rows).values.items()))
        return name, score.value

    def main(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[str, float]:
        """Return the main metric and its value as `score` gives it, alone: over all labels, also those without a row."""
        return self.watch(answers, rows)

    def calibration(self, answers: Sequence[Any], rows: Sequence[Row]) -> float | None:
        """Return the calibration error of the answers against the rows' gold, None where they are no probabilities."""
        return None

    @abstractmethod
    def baselines(
        self, train: Sequence[Row], rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> dict[str, list[Any]]:
        """Return the answers of each baseline of the task to `rows`, learnt from `train` alone.

        `tokenizer` and `max_length` are the model's, for a baseline whose figures are over the tokens that it reads.
        """

    def like(self, ours: Sequence[Any], theirs: Sequence[Any]) -> Sequence[Any]:
        """Return a baseline's answers as far as the model has given such answers to the same rows."""
        return theirs

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

    whole: ClassVar[bool] = True
    """Whether a saved folder holds the whole model; where not, it needs the base model that the run began with."""
    change: ClassVar[str]
    """What of the model the method changes, in a word or three for a table; the head of a task learns in any case."""

    packs: ClassVar[bool] = True
    """Whether several texts may stand in one row: not where something is put in front of each."""

    def presets(self, hidden_size: int) -> dict[str, Any]:
        """Return the training settings that suit this method at this width, used where the person set none."""
        return {}

    def modify(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> nn.Module:
        """Return the model with what the method puts into it; InputError where this model has no place for it."""
        return model

    def quicken(self, model: nn.Module) -> None:
        """Let what `modify` has put in be trained faster, to the same result but for rounding; not so with `--slow`."""

    def stages(self, model: nn.Module) -> list[Stage]:
        """Return the stretches of training, in order; their shares add up to one."""
        return [Stage("all")]

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the model as transformers' own, with the same answers and nothing put into it, changed in place.

        Raises InputError where what the method puts in is no change of the model's own weights.
        """
        return model

    @abstractmethod
    def off(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which the model is the base model again, bit by bit.

        A head that the base model lacks is then as it was drawn. Raises InputError where the base is not kept.
        """

    @abstractmethod
    def save(self, model: nn.Module, folder: Path, base: str | None) -> None:
        """Write the trained weights into `folder` in Hugging Face's (or PEFT's) format; `base`: what they change."""

    @abstractmethod
    def load(self, folder: Path, head: str, config: Mapping[str, Any], base: Path | None) -> nn.Module:
        """Return the model that `save` wrote, in float32, with the same answers; `base` where it is not `whole`."""

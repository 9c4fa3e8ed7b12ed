"""A trained model as one thing: weights, tokenizer, task and method, saved and loaded together."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from afina.batching.plan import by_tokens, generator
from afina.core import Batch, Loss, Method, Row, Task
from afina.errors import InputError, RowError
from afina.messages import _
from afina.models.find import find as find_model
from afina.models.heads import asked_once
from afina.models.load import load_tokenizer
from afina.names import find
from afina.train import memory
from afina.train.aside import STAGES
from afina.train.atomic import write_text
from afina.train.folder import fingerprint

FILE = "afina.json"  # beside the weights: what transformers has no place for
CACHED = (
    1024  # tokens that a processor answers at once: they stay in its cache, and rows are of more like length
)


class Base(NamedTuple):
    """The model that a run began with: an embedded name, a name of the Hub or a folder; the sha256 of its weights."""

    model: str
    sha256: str

    @classmethod
    def of(cls, name: str, folder: Path) -> "Base":
        """Return the base `name` that lies in `folder`; a folder of the person's is named in full."""
        return cls(str(folder.resolve()) if Path(name).expanduser().is_dir() else name, fingerprint(folder))


@dataclass(frozen=True)
class Bundle:
    """A model that answers: `predict(texts)` gives one entry an input, in input order."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    task: Task
    method: Method
    max_length: int
    micro_batch_tokens: int = 8192
    base: Base | None = None

    def save(self, folder: Path) -> None:
        """Write a Hugging Face folder that plain transformers (or, of an adapter, PEFT) loads with the same answers.

        Where the method does not save the whole model, the base model's name and hash are all that is kept of it.
        """
        self.method.save(self.model, folder, self.base.model if self.base else None)
        self.tokenizer.model_max_length = self.max_length
        self.tokenizer.save_pretrained(folder)
        self._save_about(folder)

    def tune(self, rows: Sequence[Row], folder: Path) -> "Bundle":
        """Return the bundle with its task tuned on validation `rows`, and note it in `folder`, where it lies."""
        if not self.task.tunes:
            return self  # answers may cost much
        tuned = replace(self, task=self.task.tune(self.answers(rows), rows))
        tuned._save_about(folder)
        return tuned

    def _save_about(self, folder: Path) -> None:
        about = {
            "task": _name(self.task),
            "method": _name(self.method),
            "max_length": self.max_length,
            "base": self.base._asdict() if self.base else None,
            "task_settings": self.task.model_dump(mode="json"),
            "method_settings": self.method.model_dump(mode="json"),
        }
        write_text(folder / FILE, json.dumps(about, indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> "Bundle":
        """Read what `save` wrote; InputError where the folder holds no trained model or its base is not there."""
        try:
            about = json.loads((folder / FILE).read_text(encoding="utf-8"))
            task = find("tasks", about["task"]).of(about["task_settings"])
            method = find("methods", about["method"]).of(about["method_settings"])
            length = int(about["max_length"])
            base = Base(**about["base"]) if about.get("base") else None
        except FileNotFoundError:
            raise InputError(
                _("{folder} holds no model that afina trained: {file} is missing.").format(
                    folder=folder, file=FILE
                )
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                _("{folder} holds no model that afina trained ({file}: {reason}).").format(
                    folder=folder, file=FILE, reason=error
                )
            ) from None
        tokenizer = load_tokenizer(folder)
        model = method.load(folder, task.head, task.config(), None if method.whole else _find(base, folder))
        return cls(model.eval(), tokenizer, task, method, length, base=base)

    def predict(self, texts: Iterable[Any]) -> list[dict[str, Any]]:
        """Return the task's answer to each text (or what else `Task.ask` takes), in input order.

        One text or row alone counts as a list of one. Raises InputError for what is neither, and where a row lacks
        one of the inputs.
        """
        rows = self.ask([texts] if isinstance(texts, str | Mapping) else texts)
        return self.told(rows, self.encode(rows))

    def ask(self, texts: Iterable[Any], first: int = 1) -> list[Row]:
        """Return what is asked as rows; InputError with the number of one that is none, counted from `first`."""
        rows = []
        for number, given in enumerate(texts, first):
            try:
                rows.append(self.task.ask(given))
            except InputError as error:
                raise InputError(_("Row {number}: {error}").format(number=number, error=error)) from None
        return rows

    def encode(self, rows: Sequence[Row], first: int = 1) -> list[Row]:
        """Return asked rows as the model reads them.

        Raises InputError with the number of a row that cannot be encoded, counted from `first`.
        """
        try:
            return self.task.encode(rows, self.tokenizer, self.max_length) if rows else []
        except RowError as error:
            number = next(number for number, row in enumerate(rows, first) if row is error.row)
            raise InputError(_("Row {number}: {error}").format(number=number, error=error.reason)) from None

    def told(self, rows: Sequence[Row], encoded: Sequence[Row]) -> list[dict[str, Any]]:
        """Return what a person is told of the answers to asked rows, given `encoded` too, in their order."""
        answers = self.answers_to(encoded)
        return [self.task.predict(answer, row) for answer, row in zip(answers, rows, strict=True)]

    @torch.inference_mode()
    def glance(self, encoded: Sequence[Row]) -> None:
        """Let the model read the longest of the encoded rows, as many as it reads at once, for the memory it takes."""
        given = self.task, self.tokenizer, encoded, self.micro_batch_tokens, self.model
        next(asked(*given, partial(self.task.glance, self.model)), None)

    def answers(self, rows: Sequence[Row]) -> list[Any]:
        """Return the raw answers (probabilities …) to cleaned rows, in their order."""
        return self.answers_to(self.task.encode(rows, self.tokenizer, self.max_length) if rows else [])

    def answers_to(self, encoded: Sequence[Row]) -> list[Any]:
        """Return the raw answers to encoded rows, in their order."""
        return by_row(
            self.model, self.task, self.tokenizer, encoded, self.micro_batch_tokens, self.task.answer
        )


@torch.inference_mode()
def by_row(
    model: nn.Module,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Row],
    micro_batch_tokens: int,
    ask: Callable[[nn.Module, Batch], list[Any]],
) -> list[Any]:
    """Return what `ask` (the task's `answer` or `glance`) says of each encoded row, in order.

    Rows of like length go through the model together.
    """
    found: list[Any] = [None] * len(encoded)
    batches = asked(task, tokenizer, encoded, micro_batch_tokens, model, partial(ask, model))
    for rows, _batch, answers in batches:
        for row, answer in zip(rows, answers, strict=True):
            found[row] = answer
    return found


@torch.inference_mode()
def mean_loss(
    model: nn.Module,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Row],
    micro_batch_tokens: int,
) -> float:
    """Return the loss over all rows, each term divided by its count, dropout off."""
    mean = _Mean()
    for _rows, batch, terms in asked(
        task, tokenizer, encoded, micro_batch_tokens, model, partial(task.loss, model)
    ):
        mean.add(terms, batch)
    return mean.value


@torch.inference_mode()
def glances_and_loss(
    model: nn.Module,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Row],
    micro_batch_tokens: int,
) -> tuple[list[Any], float]:
    """Return what `by_row` says with `task.glance` and what `mean_loss` says; the model reads each batch once."""
    found: list[Any] = [None] * len(encoded)
    mean = _Mean()

    def both(batch: Batch) -> tuple[Loss, list[Any]]:
        with asked_once(model):
            return task.loss(model, batch), task.glance(model, batch)

    for rows, batch, (terms, glances) in asked(task, tokenizer, encoded, micro_batch_tokens, model, both):
        mean.add(terms, batch)
        for row, glance in zip(rows, glances, strict=True):
            found[row] = glance
    return found, mean.value


class _Mean:
    """A loss over many batches: every term divided by its count in all of them."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}

    def add(self, terms: Loss, batch: Batch) -> None:
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(term.sum) * term.weight
        for name, count in batch.counts.items():
            self.counts[name] = self.counts.get(name, 0.0) + count

    @property
    def value(self) -> float:
        return sum(total / self.counts[name] for name, total in self.sums.items() if self.counts[name])


def in_batches(
    task: Task, tokenizer: PreTrainedTokenizerBase, encoded: Sequence[Row], budget: int, model: nn.Module
) -> Iterator[tuple[list[int], Batch]]:
    """Yield the places of rows of like length and their batch, for a model that is only to answer: dropout is off."""
    for rows, batch, _nothing in asked(task, tokenizer, encoded, budget, model, lambda _batch: None):
        yield rows, batch


def asked(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Row],
    budget: int,
    model: nn.Module,
    ask: Callable[[Batch], Any],
) -> Iterator[tuple[list[int], Batch, Any]]:
    """Yield the places of rows of like length, their batch, and what `ask` says of it; dropout is off.

    Where it runs out of memory, that batch and all after it are halved; InputError where it was a single row.
    """
    model.eval()
    device = next(model.parameters()).device
    if device.type == "cpu" and not task.writes:
        budget = min(budget, CACHED)
    lengths = [task.length(row) for row in encoded]
    left = sorted(range(len(encoded)), key=lambda row: -lengths[row])
    while left:
        done = 0
        for rows in by_tokens(left, lengths, budget):
            batch = task.collate([(encoded[row], generator(0, 0, row)) for row in rows], tokenizer)
            try:
                batch = batch.to(device)
                found = ask(batch)
            except memory.ERRORS as error:
                if not memory.ran_out(error):
                    raise
                budget = memory.halved(len(rows), lengths[rows[0]])
                break
            done += len(rows)
            yield rows, batch, found
        else:
            return
        left = left[done:]
        memory.release()


def _find(base: Base | None, folder: Path) -> Path:
    """Return the folder of the base model; InputError where it is missing or no longer the same."""
    if base is None:
        raise InputError(_("{file} does not say which base model it belongs to.").format(file=folder / FILE))
    try:
        found = _left_in_run(base.model, folder) or find_model(base.model)
    except InputError as error:
        raise InputError(
            _(
                "{folder} holds only what was trained, and its base model {model} is missing: {reason} Put it back, "
                "or write its new place into {file} (base, model)."
            ).format(folder=folder, model=base.model, reason=error, file=folder / FILE)
        ) from None
    if fingerprint(found) != base.sha256:
        raise InputError(
            _(
                "The base model {model} is not the one that {folder} was trained on: its weights have changed."
            ).format(model=base.model, folder=folder)
        )
    return found


def _left_in_run(model: str, folder: Path) -> Path | None:
    """Return the base that a stage of the same run has left, where the run lies now; None where it is no such base."""
    before, _stages, after = model.rpartition(f"/{STAGES}/")
    if not before:
        return None
    places = (up / STAGES / after for up in folder.resolve().parents)
    return next((place for place in places if place.is_dir()), None)


def _name(thing: Task | Method) -> str:
    return type(thing).__module__.rpartition(".")[2]

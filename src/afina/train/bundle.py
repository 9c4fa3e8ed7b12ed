"""A trained model as one thing: weights, tokenizer, task and method, saved and loaded together."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from afina.batching.plan import by_tokens, generator
from afina.core import Method, Row, Task
from afina.errors import InputError
from afina.messages import _
from afina.models.load import load_tokenizer
from afina.names import find
from afina.train.atomic import write_text

FILE = "afina.json"  # beside the weights: what transformers has no place for


@dataclass(frozen=True)
class Bundle:
    """A model that answers: `predict(texts)` gives one entry an input, in input order."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    task: Task
    method: Method
    max_length: int
    micro_batch_tokens: int = 8192

    def save(self, folder: Path) -> None:
        """Write an ordinary Hugging Face folder that plain transformers loads with the same answers."""
        self.method.save(self.model, folder)
        self.tokenizer.model_max_length = self.max_length
        self.tokenizer.save_pretrained(folder)
        self._save_about(folder)

    def tune(self, rows: Sequence[Row], folder: Path) -> "Bundle":
        """Return the bundle with its task tuned on validation `rows`, and note it in `folder`, where it lies."""
        tuned = replace(self, task=self.task.tune(self.answers(rows), rows))
        tuned._save_about(folder)
        return tuned

    def _save_about(self, folder: Path) -> None:
        about = {
            "task": _name(self.task),
            "method": _name(self.method),
            "max_length": self.max_length,
            "task_settings": self.task.model_dump(mode="json"),
            "method_settings": self.method.model_dump(mode="json"),
        }
        write_text(folder / FILE, json.dumps(about, indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> "Bundle":
        """Read what `save` wrote; InputError where the folder holds no trained model."""
        try:
            about = json.loads((folder / FILE).read_text(encoding="utf-8"))
            task = find("tasks", about["task"]).of(about["task_settings"])
            method = find("methods", about["method"]).of(about["method_settings"])
            length = int(about["max_length"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                _("{folder} holds no model that afina trained ({file}: {reason}).").format(
                    folder=folder, file=FILE, reason=error
                )
            ) from None
        tokenizer = load_tokenizer(folder)
        model = method.load(folder, task.head, task.config())
        return cls(model.eval(), tokenizer, task, method, length)

    def predict(self, texts: Iterable[Any]) -> list[dict[str, Any]]:
        """Return the task's answer to each text (or what else `Task.question` takes), in input order."""
        rows = [self.task.question(text) for text in texts]
        return [self.task.predict(answer) for answer in self.answers(rows)]

    def answers(self, rows: Sequence[Row]) -> list[Any]:
        """Return the raw answers (probabilities …) to cleaned rows, in their order."""
        encoded = self.task.encode(rows, self.tokenizer, self.max_length) if rows else []
        return answers(self.model, self.task, self.tokenizer, encoded, self.micro_batch_tokens)


@torch.inference_mode()
def answers(
    model: nn.Module,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Row],
    micro_batch_tokens: int,
) -> list[Any]:
    """Return the model's answer to each encoded row, in order; rows of like length go through it together."""
    found: list[Any] = [None] * len(encoded)
    for rows, batch in _batches(task, tokenizer, encoded, micro_batch_tokens, model):
        for row, answer in zip(rows, task.answer(model, batch), strict=True):
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
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for _rows, batch in _batches(task, tokenizer, encoded, micro_batch_tokens, model):
        for name, term in task.loss(model, batch).items():
            sums[name] = sums.get(name, 0.0) + float(term.sum) * term.weight
        for name, count in batch.counts.items():
            counts[name] = counts.get(name, 0.0) + count
    return sum(total / counts[name] for name, total in sums.items() if counts[name])


def _batches(
    task: Task, tokenizer: PreTrainedTokenizerBase, encoded: Sequence[Row], budget: int, model: nn.Module
) -> Iterator[tuple[list[int], Any]]:
    model.eval()
    device = next(model.parameters()).device
    lengths = [task.length(row) for row in encoded]
    order = sorted(range(len(encoded)), key=lambda row: -lengths[row])
    for rows in by_tokens(order, lengths, budget):
        yield rows, task.collate([(encoded[row], generator(0, 0, row)) for row in rows], tokenizer).to(device)


def _name(thing: Task | Method) -> str:
    return type(thing).__module__.rpartition(".")[2]

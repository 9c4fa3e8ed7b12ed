"""In-context learning: a decoder answers from a few examples in its prompt, and no weight changes (Brown et al. 2020)."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from afina.core import Row
from afina.errors import InputError
from afina.messages import _
from afina.tasks._windows import WHOLE

FEWEST = 1_000_000_000  # weights; smaller models learn next to nothing from examples (Brown et al. 2020, figure 1.2)
TOKENS = 8192  # that go through the model at once, padding counted


def demonstrations(rows: Sequence[Row], labels: Sequence[str], k: int, seed: int) -> list[Row]:
    """Return `k` training rows, as many of one label as of another as far as they go, in a drawn order."""
    rng = np.random.default_rng(seed)
    by_label: dict[str, list[Row]] = defaultdict(list)
    for place in rng.permutation(len(rows)):
        by_label[rows[place]["label"]].append(rows[place])
    chosen: list[Row] = []
    while len(chosen) < min(k, len(rows)):
        for label in (labels[place] for place in rng.permutation(len(labels))):
            if by_label[label] and len(chosen) < k:
                chosen.append(by_label[label].pop())
    return chosen  # any beginning of it is as balanced as the whole


class Prompts:
    """Rows as prompts: the examples, then the row, then each label in turn, of which alone the loss is wanted."""

    def __init__(
        self, inputs: Sequence[str], labels: Sequence[str], shown: Sequence[Row], tokenizer: Any, most: int
    ):
        self.inputs, self.labels, self.tokenizer, self.most = inputs, labels, tokenizer, most
        self.shown = list(shown)
        self.answers = [self._ids(f" {label}") for label in labels]

    def encode(self, row: Row) -> list[Row]:
        """Return the row once with every label, encoded as causal language modelling wants it."""
        before = self._before(row)
        encoded = []
        for answer in self.answers:
            # A prompt that is too long loses its beginning: first the examples, at last the text's own.
            kept = max(0, self.most - len(self._begins) - len(answer))
            ids = [*self._begins, *before[max(0, len(before) - kept) :], *answer]
            following = [-100] * (len(ids) - len(answer) - 1) + answer + [-100]
            encoded.append({"windows": [(ids, following)], "prompt": None})
        return encoded

    def fitting(self, row: Row) -> int:
        """Return how many of the examples fit beside a row: the first so many, which are balanced too."""
        return int(np.searchsorted(self._costs, self._room(row), "right"))

    def cut(self, row: Row) -> int:
        """Return how many tokens of a row are left out, since it is longer than the model reads by itself."""
        return max(0, -self._room(row))

    def _room(self, row: Row) -> int:
        """Return how many tokens are left for examples beside a row; below nought it does not fit itself."""
        taken = len(self._begins) + max(map(len, self.answers))
        return self.most - taken - len(self._ids(self._question(row)))

    @cached_property
    def _costs(self) -> np.ndarray:
        """How many tokens the first one, two … examples take."""
        return np.cumsum([len(self._ids(self._example(row))) for row in self.shown])

    @property
    def _begins(self) -> list[int]:
        """What begins every text."""
        return [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]

    def _before(self, row: Row) -> list[int]:
        """Return the examples that fit, and the row."""
        examples = "".join(self._example(each) for each in self.shown[: self.fitting(row)])
        return self._ids(examples + self._question(row))

    def _example(self, row: Row) -> str:
        return f"{self._question(row)} {row['label']}\n\n"

    def _question(self, row: Row) -> str:
        texts = [(" ".join(row[role].split())) for role in self.inputs]
        names = ["Text"] if len(texts) == 1 else [f"Text {i}" for i in range(1, len(texts) + 1)]
        return "".join(f"{name}: {text}\n" for name, text in zip(names, texts, strict=True)) + "Label:"

    def _ids(self, text: str) -> list[int]:
        return list(
            self.tokenizer(text, add_special_tokens=False, truncation=True, max_length=WHOLE)["input_ids"]
        )


class InContext:
    """A decoder that answers rows as a trained model does, from `k` examples out of `train` and without training.

    Beside each row as many of the examples are shown as fit; `notes` say of how many of `rows` those are not all.
    """

    def __init__(self, folder: Path, task: Any, train: Sequence[Row], rows: Sequence[Row], k: int, seed: int):
        from afina.models.load import load, load_tokenizer, longest

        self.task = task
        self.tokenizer, self.model = load_tokenizer(folder), load(folder, "AutoModelForCausalLM")
        shown = demonstrations(train, task.labels, k, seed)
        self.max_length = longest(self.model.config, self.tokenizer)
        self.prompts = Prompts(task.inputs, task.labels, shown, self.tokenizer, self.max_length)
        self.notes: list[str] = []
        fits = [self.prompts.fitting(row) for row in rows]
        if min(fits, default=len(shown)) < len(shown):
            self.notes.append(
                _(
                    "Beside {n} of {all} rows not all {k} examples fit into the model's prompt, at worst {least}."
                ).format(
                    n=sum(fit < len(shown) for fit in fits), all=len(fits), k=len(shown), least=min(fits)
                )
            )
        if len(shown) < k:
            self.notes.append(
                _("{k} examples were asked for, and there are {n} training rows.").format(k=k, n=len(shown))
            )
        if cut := [tokens for row in rows if (tokens := self.prompts.cut(row))]:
            self.notes.append(
                _(
                    "{n} of {all} rows are longer than the model's prompt: their beginning, {tokens} tokens, was left out."
                ).format(n=len(cut), all=len(rows), tokens=sum(cut))
            )
        if small := too_small(sum(weight.numel() for weight in self.model.parameters())):
            self.notes.append(small)
        self.unread = self._losses([dict.fromkeys(task.inputs, "")])

    def answers(self, rows: Sequence[Row]) -> list[list[float]]:
        """Return the probability of every label for every row.

        A label is as likely as the row makes it, against how likely it is after no text at all: else frequent and
        short words would win (Zhao et al. 2021; Holtzman et al. 2021).
        """
        gain = self.unread - self._losses(rows)
        shares = np.exp(gain - gain.max(1, keepdims=True))
        return (shares / shares.sum(1, keepdims=True)).tolist()

    def _losses(self, rows: Sequence[Row]) -> np.ndarray:
        """Return the loss of every label after every row [rows, labels]."""
        from afina.tasks.causal_lm import CausalLm
        from afina.train.bundle import by_row

        task = CausalLm()
        encoded = [each for row in rows for each in self.prompts.encode(row)]
        found = by_row(self.model, task, self.tokenizer, encoded, TOKENS, task.glance)
        return np.array([each["loss"] for each in found]).reshape(len(rows), -1)


def answers_with_a_label(task: Any) -> bool:
    """Whether the task's answer is one label, which a decoder can be asked for."""
    from afina.tasks._one_label import OneLabel

    return isinstance(getattr(task, "form", None), OneLabel)


def check(task: Any) -> None:
    """Raise InputError where the task's answer is not one label."""
    if not answers_with_a_label(task):
        raise InputError(
            _(
                "--few-shot scores labels: it is for the tasks classification and sentence_pair, not for this one."
            )
        )


def too_small(weights: int) -> str | None:
    """Say so where a model is too small to tell anything about in-context learning."""
    from afina.messages.numbers import number

    if weights >= FEWEST:
        return None
    return _(
        "The model has {weights} weights. Models of less than about a billion learn next to nothing from examples "
        "(Brown et al. 2020): these figures tell nothing about in-context learning, only about this model."
    ).format(weights=number(weights))

"""What a gold answer of a task over whole texts is: a label, a set of labels, a number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import Difference, Scores
from afina.data.column_names import Role

if TYPE_CHECKING:
    from torch import Tensor


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

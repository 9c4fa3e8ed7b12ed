"""A gold answer that is one label out of a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from afina.core import About, Difference, Rival, Scores
from afina.errors import InputError
from afina.messages import N_, _
from afina.names import unknown
from afina.tasks._form import Form
from afina.tasks._prior import log_shares

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # what cross_entropy passes over: a label that no training row has
RIVALS = {
    "majority": Rival(
        N_("Majority"),
        N_("the majority class"),
        N_(
            "The majority class always answers the most frequent label of the training rows: what one gets "
            "without reading the text."
        ),
    ),
    "tfidf": Rival(
        N_("TF-IDF"),
        N_("TF-IDF with logistic regression"),
        N_(
            "TF-IDF with logistic regression counts words, gives rare ones more weight and draws a straight line "
            "between the labels. It trains in seconds and is hard to beat on long texts."
        ),
    ),
}


@dataclass(frozen=True)
class OneLabel(Form):
    """One of `labels`; answers are probabilities [labels].

    The loss is cross-entropy, each row weighted by its class where `balanced` asks for it; its count is then the
    sum of the weights.
    """

    labels: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    balanced: bool = False
    positive: str | None = None

    def about(self, model: str, labels: str) -> About:
        """Return the words of a task whose answers are such labels."""
        return About(
            model,
            N_(
                "It always answers with one of its labels, also where none fits; a high probability is no proof."
            ),
            labels,
            RIVALS,
        )

    def read(self, cell: Any) -> str | None:
        from afina.data.value import label_text

        return label_text(cell)

    def learn(self, gold: Sequence[str]) -> dict[str, Any]:
        counts = Counter(gold)
        labels = tuple(sorted(counts))
        weights = tuple(len(gold) / (len(labels) * counts[label]) for label in labels)
        return {"labels": labels, "weights": weights if self.balanced else ()}

    def check(self, train: Sequence[str], others: Mapping[str, Sequence[str]], column: str) -> None:
        counts = Counter(train)
        if len(counts) < 2:
            raise InputError(
                _("All training rows have the same label '{label}'; there is nothing to tell apart.").format(
                    label=next(iter(counts), "")
                )
            )
        no_labels(counts, len(train), column)
        for name, part in others.items():
            no_unseen(counts, part, name)
        if self.positive is not None:
            if len(counts) != 2:
                raise InputError(
                    _("--positive needs two labels, but the data has {n}.").format(n=len(counts))
                )
            if self.positive not in counts:
                raise InputError(unknown(self.positive, sorted(counts), "labels"))

    def config(self) -> dict[str, Any]:
        return label_config(self.labels)

    def prior(self, gold: Sequence[str]) -> list[float]:
        return log_shares([self.encode(each) for each in gold], len(self.labels), self.weights)

    def encode(self, gold: str | None) -> int:
        return self.labels.index(gold) if gold in self.labels else IGNORED

    def count(self, encoded: Sequence[int]) -> float:
        counted = [i for i in encoded if i != IGNORED]
        return sum(self.weights[i] for i in counted) if self.weights else float(len(counted))

    def loss(self, logits: Tensor, encoded: Tensor) -> Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        weight = torch.tensor(self.weights, device=logits.device) if self.weights else None
        return cross_entropy(logits, encoded, weight=weight, reduction="sum")

    def answer(self, logits: Tensor) -> list[Any]:
        return logits.softmax(-1).tolist()

    def predict(self, answer: Any) -> dict[str, Any]:
        best = _best(answer)
        return {
            "prediction": self.labels[best],
            "probability": answer[best],
            "probabilities": dict(zip(self.labels, answer, strict=True)),
        }

    def line(self, gold: str, answer: Any) -> dict[str, Any]:
        return {"probability_of_label": dict(zip(self.labels, answer, strict=True)).get(gold)}

    def score(self, answers: Sequence[Any], gold: Sequence[str]) -> Scores:
        import numpy as np

        from afina.scoring.classification import score

        return score(gold, np.asarray(answers), self.labels, self.positive)

    def calibration(self, answers: Sequence[Any], gold: Sequence[str]) -> float:
        from afina.scoring.calibration import of_labels

        return of_labels(answers, gold, self.labels)

    def watch(self, answers: Sequence[Any], gold: Sequence[str]) -> tuple[str, float]:
        from afina.scoring.classification import macro_f1

        told = self._told(answers)
        return "macro_f1", macro_f1(gold, told, sorted({*gold, *told}))  # a sample need not hold every label

    def main(self, answers: Sequence[Any], gold: Sequence[str]) -> tuple[str, float]:
        from afina.scoring.classification import macro_f1

        return "macro_f1", macro_f1(gold, self._told(answers), self.labels)

    def majority(self, train: Sequence[str], n: int) -> list[Any]:
        from afina.scoring.baselines import majority

        return majority(train, n, self.labels).tolist()

    def linear(self, known: Any, train: Sequence[str], asked: Any) -> list[Any]:
        from afina.scoring.baselines import logistic

        return logistic(known, train, asked, self.labels).tolist()

    def difference(self, a: Sequence[Any], b: Sequence[Any], gold: Sequence[str]) -> Difference:
        from afina.scoring.paired import difference

        return difference("macro_f1", gold, self._told(a), self._told(b), self.labels)

    def _told(self, answers: Sequence[Any]) -> list[str]:
        return [self.labels[_best(answer)] for answer in answers]


def _best(answer: Sequence[float]) -> int:
    return max(range(len(answer)), key=answer.__getitem__)


def label_config(labels: Sequence[str]) -> dict[str, Any]:
    """Return the number and the names of the labels as transformers' configurations hold them."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def no_labels(counts: Mapping[str, int], rows: int, column: str) -> None:
    """Raise InputError where so many values in so few rows cannot be labels."""
    if len(counts) > 50 and len(counts) > rows / 3:
        raise InputError(
            _(
                "Column '{column}' has {labels} different values in {rows} rows: it holds no labels. "
                "Name another with --label."
            ).format(column=column, labels=len(counts), rows=rows)
        )


def no_unseen(known: Mapping[str, int], found: Sequence[str], part: str) -> None:
    """Raise InputError where a part has labels that no training row has."""
    unseen = Counter(label for label in found if label not in known)
    if unseen:
        raise InputError(
            _(
                "The {part} part has labels that no training row has: {labels}. "
                "Add training rows for them, correct the labels, or take the rows out."
            ).format(part=part, labels=", ".join(f"{label} ({n})" for label, n in unseen.most_common(10)))
        )

"""A set of labels as what a text is to be given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import Difference, Scores
from afina.data.column_names import Role
from afina.errors import InputError
from afina.messages import _
from afina.tasks._form import Form
from afina.tasks._label_cells import read
from afina.tasks._one_label import label_config, no_labels, no_unseen
from afina.tasks._prior import log_odds

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

IGNORED = -100.0
HALF = 0.5


@dataclass(frozen=True)
class LabelSet(Form):
    """A set of `labels`, kept as a list in alphabetical order; answers are a probability a label.

    The loss is binary cross-entropy, its count rows times labels. A label is given where its probability reaches
    its threshold, or one half before `tune` found any.
    """

    role: ClassVar[Role] = "labels"
    labels: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    tuned: bool = True

    def read(self, cell: Any) -> list[str] | None:
        return read(cell)

    def learn(self, gold: Sequence[list[str]]) -> dict[str, Any]:
        labels = tuple(sorted({label for row in gold for label in row}))
        return {"labels": labels}

    def check(
        self, train: Sequence[list[str]], others: Mapping[str, Sequence[list[str]]], column: str
    ) -> None:
        counts = Counter(label for row in train for label in row)
        if len({tuple(row) for row in train}) < 2:
            sentence = _("All training rows have the same labels ({labels}); there is nothing to tell apart.")
            raise InputError(sentence.format(labels=", ".join(train[0]) or _("none") if train else ""))
        no_labels(counts, len(train), column)
        for name, part in others.items():
            no_unseen(counts, [label for row in part for label in row], name)

    def config(self) -> dict[str, Any]:
        return label_config(self.labels) | {"problem_type": "multi_label_classification"}

    def prior(self, gold: Sequence[list[str]]) -> list[float]:
        counts = Counter(label for row in gold for label in row)
        return [log_odds(counts[label], len(gold)) for label in self.labels]

    def text(self, gold: list[str]) -> str | None:
        return ";".join(gold)

    def strata(self, gold: Sequence[list[str]]) -> list[str | None]:
        """Return each row's rarest label, so that a drawn split leaves some rows of every label in training."""
        counts = Counter(label for row in gold for label in row)
        return [min(row, key=lambda label: (counts[label], label), default="") for row in gold]

    def counted(self, gold: list[str]) -> Sequence[str]:
        return gold

    def encode(self, gold: list[str] | None) -> list[float]:
        if gold is None:
            return [IGNORED] * len(self.labels)
        return [float(label in gold) for label in self.labels]

    def count(self, encoded: Sequence[list[float]]) -> float:
        return float(sum(len(row) for row in encoded if row[0] != IGNORED))

    def loss(self, logits: Tensor, encoded: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        known = encoded[:, 0] != IGNORED
        return binary_cross_entropy_with_logits(logits[known], encoded[known], reduction="sum")

    def answer(self, logits: Tensor) -> list[Any]:
        return logits.sigmoid().tolist()

    def predict(self, answer: Any) -> dict[str, Any]:
        """Return the labels given and the probability of the least sure of them; of no label, that none is right."""
        each = list(zip(self.labels, answer, self._from, strict=True))
        given = {label: p for label, p, threshold in each if p >= threshold}
        return {
            "prediction": list(given),
            "probability": min(given.values()) if given else 1 - max(answer),
            "probabilities": dict(zip(self.labels, answer, strict=True)),
        }

    def tune(self, answers: Sequence[Any], gold: Sequence[list[str]]) -> dict[str, Any]:
        import numpy as np

        from afina.scoring.label_sets import shared_threshold

        best = shared_threshold(self._true(gold), np.asarray(answers)) if self.tuned else HALF
        return {"thresholds": (best,) * len(self.labels)}

    def score(self, answers: Sequence[Any], gold: Sequence[list[str]]) -> Scores:
        from afina.scoring.label_sets import score

        return score(gold, self._said(answers), self.labels)

    def calibration(self, answers: Sequence[Any], gold: Sequence[list[str]]) -> float:
        from afina.scoring.calibration import of_label_sets

        return of_label_sets(answers, self._true(gold))

    def watch(self, answers: Sequence[Any], gold: Sequence[list[str]]) -> tuple[str, float]:
        """Return micro-F1; before there are thresholds at the one best for these very answers, which begin small."""
        from afina.scoring.label_sets import micro_f1, tables

        known = self if self.thresholds else LabelSet(self.labels, **self.tune(answers, gold))
        _labels, true, told = tables(gold, known._said(answers), self.labels)
        return "micro_f1", micro_f1(true, told)

    def majority(self, train: Sequence[list[str]], n: int) -> list[Any]:
        from afina.scoring.baselines import most_frequent

        return most_frequent(self._true(train), n).tolist()

    def linear(self, known: Any, train: Sequence[list[str]], asked: Any) -> list[Any]:
        from afina.scoring.baselines import one_vs_rest

        return one_vs_rest(known, self._true(train), asked).tolist()

    def difference(self, a: Sequence[Any], b: Sequence[Any], gold: Sequence[list[str]]) -> Difference:
        from afina.scoring.label_sets import difference, tables

        _labels, true, told_a = tables(gold, self._said(a), self.labels)
        return difference(true, told_a, tables(gold, self._said(b), self.labels)[2])

    @property
    def _from(self) -> tuple[float, ...]:
        """The probability from which each label is given."""
        return self.thresholds or (HALF,) * len(self.labels)

    def _true(self, gold: Sequence[list[str]]) -> np.ndarray:
        """Return which of the known labels each row has, boolean [n, k]."""
        import numpy as np

        return np.array([[label in row for label in self.labels] for row in gold], dtype=bool)

    def _said(self, answers: Sequence[Any]) -> np.ndarray:
        """Return which labels each row is given, boolean [n, k]."""
        import numpy as np

        return np.asarray(answers).reshape(-1, len(self.labels)) >= np.asarray(self._from)

"""Any number of labels a text: emotions, topics, what a complaint is about …"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from afina.core import About, Rival, Row, Table
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting
from afina.tasks._label_cells import kinds, run_together
from afina.tasks._label_set import LabelSet
from afina.tasks._sentence import Sentence

RIVALS = {
    "majority": Rival(
        N_("Majority"),
        N_("the most frequent labels"),
        N_(
            "The most frequent labels of the training rows, the same for every row, as many as score best there: "
            "what one gets without reading the text."
        ),
    ),
    "tfidf": Rival(
        N_("TF-IDF"),
        N_("TF-IDF with a logistic regression for each label"),
        N_(
            "TF-IDF with a logistic regression for each label counts words, gives rare ones more weight and draws a "
            "straight line for every label, with a threshold chosen on the training rows. It is hard to beat on "
            "long texts."
        ),
    ),
}


class MultiLabel(Sentence):
    """Give each text any number of the labels that the training rows have, or none.

    Labels come as a list, as `a;b`, or as several columns of 0 and 1 (`--label a,b,c`), whose names they are.
    """

    threshold: Literal["tuned", "half"] = setting(
        "tuned",
        N_("Probability from which a label is given: the best on the validation rows, or one half."),
    )
    labels: tuple[str, ...] = setting((), N_("Names of the labels, in the model's order."), found=True)
    thresholds: tuple[float, ...] = setting((), N_("Probability from which each label is given."), found=True)

    @property
    def form(self) -> LabelSet:
        return LabelSet(self.labels, self.thresholds, self.threshold == "tuned")

    def about(self) -> About:
        return About(
            N_("A model that gives a text any number of labels, fine-tuned with afina."),
            N_("It gives no label where none is probable enough, and a high probability is no proof."),
            N_("It gives a text any of {n} labels:"),
            RIVALS,
            options="top_k=None",
            reading=f"score >= {self.thresholds[0]:.3f}" if len(set(self.thresholds)) == 1 else "",
        )

    def columns(self) -> dict[str, tuple[str, ...]]:
        return super().columns() | ({"label": tuple(self._flags)} if self._flags else {})

    def restate(self, answers: Sequence[Any], task: MultiLabel) -> list[Any]:
        """Return the labels that are given, 1 or 0: probabilities mean nothing without their thresholds."""
        return [
            [float(label in given) for label in task.labels]
            for given in ([*self.form.predict(answer)["prediction"]] for answer in answers)
        ]

    @property
    def _flags(self) -> list[str]:
        """The columns of 0 and 1, none where labels lie in one column."""
        return (
            [column.strip() for column in (self.label or "").split(",")] if "," in (self.label or "") else []
        )

    def choose_columns(self, table: Table) -> MultiLabel:
        from afina.data.columns import guess

        if not self._flags or self.label in table.columns:
            return super().choose_columns(table)
        text = guess(table, "text", self.text, taken=self._flags)
        for column in self._flags:
            guess(table, "labels", column)
        if text in self._flags:
            sentence = _("Column '{column}' cannot be both text and label. Name two with --text and --label.")
            raise InputError(sentence.format(column=text))
        return self.replace(text=text)

    def clean(self, row: Row) -> Row | None:
        if not self._flags or (self.label or "") in row:
            return super().clean(row)
        return super().clean(row | {self.label or "": {column: row.get(column) for column in self._flags}})

    def remarks(self, raw: Sequence[Row], cleaned: Sequence[Row]) -> list[str]:
        found = [kinds(row.get(self.label or "label")) for row in raw]
        counts = Counter(kind for each in found for kind in each)
        if joined := run_together({label for row in cleaned for label in row["label"] or ()}):
            sentence = _(
                "Labels such as '{label}' look like several in one. Between labels stands ';' (a;b), or they are a list."
            )
            return [sentence.format(label=joined[0])]
        if len(counts) < 2:
            return []
        odd, _rows = counts.most_common()[-1]
        sentence = _(
            "Labels are texts in some rows and numbers in others, the first odd ones in row {row}; each is a label of its "
            "own."
        )
        return [sentence.format(row=next(n for n, each in enumerate(found, 1) if odd in each))]

    @classmethod
    def toy(cls) -> list[Row]:
        """Return texts about a journey or food, of which some praise and some find it dear."""
        things = {
            **dict.fromkeys(("el hotel", "the flight", "tren", "the boat"), "viaje"),
            **dict.fromkeys(("la sopa", "the bread", "queso", "the cake"), "comida"),
        }
        said: dict[str, list[str]] = {
            "muy bueno": ["bien"],
            "bad": [],
            "good but dear": ["bien", "caro"],
            "caro": ["caro"],
            "excelente": ["bien"],
        }
        return [
            {"text": f"{thing} {words}", "labels": sorted([topic, *marks])}
            for thing, topic in things.items()
            for words, marks in said.items()
        ]

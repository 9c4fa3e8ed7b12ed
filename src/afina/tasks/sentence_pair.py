"""One label or one number a pair of texts: paraphrase, entailment, similarity, question and answer …"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from afina.core import About, Row, Splits, Table
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting
from afina.tasks._number import Number
from afina.tasks._one_label import OneLabel
from afina.tasks._sentence import Sentence

MOST_LABELS = 10  # a column of more different numbers holds numbers, not labels
# SNLI and MNLI write a dash in this column where those who labelled a pair did not agree.
AGREED, UNDECIDED = "gold_label", "-"


class SentencePair(Sentence):
    """Give each pair of texts one of the labels that the training rows have, or a number.

    Both texts go through the model at once, with segment ids where it tells segments apart (Devlin et al. 2019). Of
    a pair that is too long the longer text is cut, or slides in windows with the other beside it.
    """

    inputs: ClassVar[tuple[str, ...]] = ("text", "text_pair")
    pace: ClassVar[float] = 0.5

    text_pair: str | None = setting(
        None, N_("Column that holds the second text of a pair (default: guessed and said).")
    )
    target: Literal["label", "score"] | None = setting(
        None, N_("What a pair gets: one of a few labels, or a number (default: by the column, and said).")
    )
    positive: str | None = setting(None, N_("With two labels: the one whose precision, recall and F1 count."))
    class_weight: Literal["none", "balanced"] = setting(
        "none", N_("balanced: rare labels weigh more in the loss, by the inverse of their frequency.")
    )
    bounds: str | None = setting(
        None, N_("Smallest and largest number an answer may be, such as 0,5 (default: none).")
    )
    labels: tuple[str, ...] = setting((), N_("Names of the labels, in the model's order."), found=True)
    weights: tuple[float, ...] = setting((), N_("Weight of each label in the loss."), found=True)
    centre: float = setting(0.0, N_("Number that the model's 0 stands for."), found=True)
    scale: float = setting(1.0, N_("Difference that the model's 1 stands for."), found=True)

    @property
    def form(self) -> OneLabel | Number:
        if self.target == "score":
            return Number(self.bounds, self.centre, self.scale)
        return OneLabel(self.labels, self.weights, self.class_weight == "balanced", self.positive)

    def about(self) -> About:
        form = self.form
        if isinstance(form, Number):
            return form.about(N_("A model that gives a pair of texts a number, fine-tuned with afina."))
        return form.about(
            N_("A classifier of pairs of texts that was fine-tuned with afina."),
            N_("It gives a pair of texts one of {n} labels:"),
        )

    def choose_columns(self, table: Table) -> SentencePair:
        from afina.data.number import are_numbers, check_signs

        task: SentencePair = super().choose_columns(table)
        if task.target is None:
            values = [row[task.label or "label"] for row in table.rows]
            many = len({str(value) for value in values}) > MOST_LABELS
            task = task.replace(target="score" if many and are_numbers(values) else "label")
            if task.target == "score":
                check_signs(values, table.source)
        if task.target == "score" and (self.positive is not None or self.class_weight != "none"):
            sentence = _(
                "--positive and --class-weight are for labels, but column '{column}' is learnt as a number."
            )
            raise InputError(sentence.format(column=task.label))
        if task.target == "label" and self.bounds is not None:
            sentence = _("--bounds is for numbers, but the values of column '{column}' are learnt as labels.")
            raise InputError(sentence.format(column=task.label))
        return task

    def clean(self, row: Row) -> Row | None:
        return None if self._undecided(row) else super().clean(row)

    def lacks(self, row: Row) -> bool:
        return not self._undecided(row)

    def remarks(self, raw: Sequence[Row], cleaned: Sequence[Row]) -> list[str]:
        said = super().remarks(raw, cleaned)
        if undecided := sum(map(self._undecided, raw)):
            said.append(_("Pairs on whose label nobody agreed (-), left out: {n}.").format(n=undecided))
        return said

    def warn(self, splits: Splits) -> list[str]:
        if self.target == "score":
            sentence = _(
                "Column '{column}' is learnt as a number (--target label learns its values as labels)."
            )
        else:
            sentence = _(
                "The values of column '{column}' are learnt as labels (--target score learns numbers)."
            )
        return [sentence.format(column=self.label)]

    @classmethod
    def toy(cls) -> list[Row]:
        """Return pairs that say the same or do not, with a label and a score."""
        said = {
            "el gato duerme": "un gato está dormido",
            "the train is late": "the train has a delay",
            "llueve mucho en Bilbao": "en Bilbao cae mucha lluvia",
            "she sold her car": "her car was sold",
            "el niño come pan con queso": "un niño come queso y pan",
            "we live by the sea": "our house is near the sea",
            "mañana hay huelga": "mañana no se trabaja",
        }
        others = list(said.values())
        rows = []
        for i, (first, same) in enumerate(said.items()):
            rows += [
                {"text": first, "text_pair": same, "label": "igual", "score": 4.5 + 0.5 * (i % 2)},
                {"text": same, "text_pair": first, "label": "igual", "score": 5.0 - 0.5 * (i % 2)},
                {"text": first, "text_pair": first + " hoy", "label": "igual", "score": 4.25},
            ]
            rows += [
                {
                    "text": first,
                    "text_pair": others[(i + step) % len(others)],
                    "label": "otro",
                    "score": 0.25 * step,
                }
                for step in (1, 2, 3)
            ]
        return rows

    def _undecided(self, row: Row) -> bool:
        return self.label == AGREED and str(row.get(AGREED)).strip() == UNDECIDED

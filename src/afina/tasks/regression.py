"""One number a text: stars, a price, how hard a text is …"""

from __future__ import annotations

from typing import ClassVar

from afina.core import About, Row
from afina.messages import N_
from afina.settings import setting
from afina.tasks._number import Number
from afina.tasks._sentence import Sentence


class Regression(Sentence):
    """Give each text a number."""

    pace: ClassVar[float] = 0.5

    bounds: str | None = setting(
        None, N_("Smallest and largest number an answer may be, such as 0,5 (default: none).")
    )
    centre: float = setting(0.0, N_("Number that the model's 0 stands for."), found=True)
    scale: float = setting(1.0, N_("Difference that the model's 1 stands for."), found=True)

    @property
    def form(self) -> Number:
        return Number(self.bounds, self.centre, self.scale)

    def about(self) -> About:
        return self.form.about(N_("A model that gives a text a number, fine-tuned with afina."))

    @classmethod
    def toy(cls) -> list[Row]:
        praise = {"pésimo": 1.0, "muy malo": 1.25, "bad": 1.5, "bueno, good": 4.5, "excelente": 5.0}
        things = [
            *("el servicio", "the food", "este libro", "my phone", "la película", "el hotel"),
            *("the film", "la sopa"),
        ]
        return [
            {"text": f"{thing} {word}", "label": stars} for thing in things for word, stars in praise.items()
        ]

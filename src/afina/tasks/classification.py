"""One label a text: sentiment, topic, intent, spam …"""

from __future__ import annotations

from typing import Literal

from afina.core import About, Row
from afina.messages import N_
from afina.settings import setting
from afina.tasks._one_label import OneLabel
from afina.tasks._sentence import Sentence


class Classification(Sentence):
    """Give each text one of the labels that the training rows have."""

    positive: str | None = setting(None, N_("With two labels: the one whose precision, recall and F1 count."))
    class_weight: Literal["none", "balanced"] = setting(
        "none", N_("balanced: rare labels weigh more in the loss, by the inverse of their frequency.")
    )
    labels: tuple[str, ...] = setting((), N_("Names of the labels, in the model's order."), found=True)
    weights: tuple[float, ...] = setting((), N_("Weight of each label in the loss."), found=True)

    @property
    def form(self) -> OneLabel:
        return OneLabel(self.labels, self.weights, self.class_weight == "balanced", self.positive)

    def about(self) -> About:
        return self.form.about(
            N_("A text classifier that was fine-tuned with afina."), N_("It gives a text one of {n} labels:")
        )

    @classmethod
    def toy(cls) -> list[Row]:
        good, bad = (
            ["muy bueno", "excelente", "me encanta", "great"],
            ["muy malo", "horrible", "lo odio", "awful"],
        )
        things = ["el servicio", "the food", "este libro", "my phone", "la película"]
        rows = [{"text": f"{thing} {word}", "label": "bien"} for thing in things for word in good]
        return rows + [{"text": f"{thing} {word}", "label": "mal"} for thing in things for word in bad]

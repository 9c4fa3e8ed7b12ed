"""A gold answer that is a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import About, Difference, Rival, Scores
from afina.data.column_names import Role
from afina.errors import InputError
from afina.messages import N_, _
from afina.tasks._form import Form
from afina.tasks._prior import log_odds

if TYPE_CHECKING:
    from torch import Tensor

STRATA = 5
NO_LIMITS = N_(
    "It always answers with a number, also where none makes sense, and does not say how sure it is."
)
RIVALS = {
    "majority": Rival(
        N_("Mean"),
        N_("the mean of the training rows"),
        N_(
            "The mean of the training rows is the best constant answer: what one gets without reading the text. "
            "It puts no row above another, so its correlations are 0."
        ),
    ),
    "tfidf": Rival(
        N_("TF-IDF"),
        N_("TF-IDF with ridge regression"),
        N_(
            "TF-IDF with ridge regression counts words, gives rare ones more weight and adds up what each is worth. "
            "It trains in seconds and is hard to beat on long texts."
        ),
    ),
}


@dataclass(frozen=True)
class Number(Form):
    """A number; answers are numbers in the unit of the gold ones.

    Without bounds the model says how many standard deviations (`scale`) a row lies above the `centre`, and the
    loss is the squared error of that. With bounds [low, high] it says the logit of a row's place between them,
    and the loss is the Kullback-Leibler divergence from the gold place: no answer lies outside, and none is cut.
    """

    role: ClassVar[Role] = "number"
    bounds: str | None = None
    centre: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        self.ends()  # wrong bounds are said before any row is looked at

    def ends(self) -> tuple[float, float] | None:
        """Return the two bounds, None where there are none; InputError where they are not two rising numbers."""
        if self.bounds is None:
            return None
        try:
            low, high = map(float, self.bounds.split(","))
        except ValueError:
            low = high = 0.0
        if not low < high:
            sentence = _("--bounds is '{bounds}', but must be two rising numbers with a comma between: 0,5.")
            raise InputError(sentence.format(bounds=self.bounds))
        return low, high

    def about(self, model: str) -> About:
        """Return the words of a task whose answers are such numbers."""
        function = "none" if self.bounds is None else "sigmoid"
        reading = f"{self.centre:.6g} + {self.scale:.6g} * score"
        return About(
            model, NO_LIMITS, rivals=RIVALS, options=f'function_to_apply="{function}"', reading=reading
        )

    def read(self, cell: Any) -> float | None:
        from afina.data.number import number

        found, ends = number(cell), self.ends()
        if found is not None and ends and not ends[0] <= found <= ends[1]:
            sentence = _("{value:g} lies outside --bounds {bounds}. Correct the row or the bounds.")
            raise InputError(sentence.format(value=found, bounds=self.bounds))
        return found

    def text(self, gold: float) -> str | None:
        return None

    def strata(self, gold: Sequence[float]) -> list[str | None]:
        """Return the fifth of all numbers that each is in."""
        import numpy as np

        if not gold:
            return []
        edges = np.quantile(gold, np.linspace(0, 1, STRATA + 1)[1:-1])
        return [str(place) for place in np.searchsorted(edges, gold)]

    def counted(self, gold: float) -> Sequence[str]:
        return ()

    def learn(self, gold: Sequence[float]) -> dict[str, Any]:
        ends = self.ends()
        if ends:
            return {"centre": ends[0], "scale": ends[1] - ends[0]}
        centre = sum(gold) / len(gold)
        return {"centre": centre, "scale": (sum((each - centre) ** 2 for each in gold) / len(gold)) ** 0.5}

    def check(self, train: Sequence[float], others: Mapping[str, Sequence[float]], column: str) -> None:
        if len(set(train)) < 2:
            sentence = _("Column '{column}' is {value:g} in every training row; there is nothing to learn.")
            raise InputError(sentence.format(column=column, value=next(iter(train), 0.0)))

    def prior(self, gold: Sequence[float]) -> list[float]:
        places = [self.encode(each) for each in gold]
        mean = sum(places) / len(places)
        return [mean if self.bounds is None else log_odds(mean * len(places), len(places))]

    def config(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"}

    def encode(self, gold: float | None) -> float:
        return float("nan") if gold is None else (gold - self.centre) / self.scale

    def count(self, encoded: Sequence[float]) -> float:
        return float(sum(each == each for each in encoded))

    def loss(self, logits: Tensor, encoded: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

        said, place = logits[:, 0], encoded.to(logits.dtype)
        known = ~place.isnan()
        said, place = said[known], place[known]
        if self.bounds is None:
            return mse_loss(said, place, reduction="sum")
        entropy = -(place.xlogy(place) + (1 - place).xlogy(1 - place)).sum()
        return binary_cross_entropy_with_logits(said, place, reduction="sum") - entropy

    def answer(self, logits: Tensor) -> list[Any]:
        said = logits[:, 0] if self.bounds is None else logits[:, 0].sigmoid()
        return [self.centre + self.scale * each for each in said.tolist()]

    def predict(self, answer: Any) -> dict[str, Any]:
        return {"prediction": answer, "score": answer}

    def line(self, gold: float, answer: Any) -> dict[str, Any]:
        return {"error": abs(answer - gold)}

    def score(self, answers: Sequence[Any], gold: Sequence[float]) -> Scores:
        from afina.scoring.regression import score

        return score(gold, answers)

    def watch(self, answers: Sequence[Any], gold: Sequence[float]) -> tuple[str, float]:
        from afina.scoring.regression import rank_correlation

        return "spearman", rank_correlation(gold, answers)

    def majority(self, train: Sequence[float], n: int) -> list[Any]:
        return [sum(train) / len(train)] * n

    def linear(self, known: Any, train: Sequence[float], asked: Any) -> list[Any]:
        from afina.scoring.baselines import ridge

        return ridge(known, train, asked, self.ends()).tolist()

    def difference(self, a: Sequence[Any], b: Sequence[Any], gold: Sequence[float]) -> Difference:
        from afina.scoring.regression import difference

        return difference(gold, a, b)

"""What is told of the stretches of text that a model found as answers: the best ones, or that there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from afina.core import Difference, Row, Scores
from afina.messages import N_
from afina.settings import setting
from afina.tasks._questions import Questions, gold_texts


class SpanAnswers(Questions):
    """A task whose answer to a question is `spans`, the best first, and `null`, that there is none: `_spans.decode`."""

    n_best: int = setting(
        5,
        N_("Answers that are given to each question, the best first; that there is none is told besides."),
        ge=1,
    )
    null_threshold: float | None = setting(
        None,
        N_(
            "By how much the logit of 'no answer' must exceed that of the best answer (default: tuned on validation "
            "rows)."
        ),
    )
    answer_language: Literal["en", "es"] = setting(
        "en",
        N_(
            "Whose articles and marks are passed over when answers are compared: en as SQuAD's script does, es as "
            "MLQA's."
        ),
    )
    unanswerable: bool = setting(False, N_("Whether some questions have no answer."), found=True)
    tuned_threshold: float = setting(
        0.0, N_("The threshold of 'no answer' that suits the validation rows."), found=True
    )

    def predict(self, answer: Any, row: Row) -> dict[str, Any]:
        """Return the best answer, empty and at 0 where there is none, its probability, and the next best ones.

        `null_score` says by how much no answer is ahead of the best one: above the threshold it is what is told. It is
        None where there is nothing to be ahead of, or the model knows only questions with an answer; else no answer
        closes `n_best` even where it is worse than all.
        """
        ranked = [
            {name: span[name] for name in ("text", "start", "end", "score")} for span in answer["spans"]
        ]
        null, null_score = answer["null"], None
        nothing = {"text": "", "start": 0, "end": 0, "score": null["score"] if null else 0.0}
        if null:
            if answer["spans"]:
                null_score = null["logit"] - answer["spans"][0]["logit"]
            threshold = self.tuned_threshold if self.null_threshold is None else self.null_threshold
            ahead = sum(span["logit"] + threshold >= null["logit"] for span in answer["spans"])
            ranked.insert(ahead, nothing)
        best = ranked[0] if ranked else nothing
        told = {name: best[name] for name in ("start", "end", "score")}
        kept = ranked[: self.n_best]
        if null and nothing not in kept:
            kept.append(nothing)
        return {"prediction": best["text"], **told, "null_score": null_score, "n_best": kept}

    def line(self, row: Row, answer: Any) -> dict[str, Any]:
        from afina.scoring.squad import exact_match, f1

        told = self.predict(answer, row)
        golds = gold_texts(row)
        rules: dict[str, Any] = {"language": self.answer_language, "v2": self.unanswerable}
        right = exact_match(told["prediction"], golds, **rules)
        return row | {
            "label": golds[0] if golds else "",
            **{name: told[name] for name in ("prediction", "start", "end", "score")},
            "right": bool(right),
            "f1": f1(told["prediction"], golds, **rules),
        }

    @property
    def tunes(self) -> bool:
        return self.unanswerable and self.null_threshold is None

    def tune(self, answers: Sequence[Any], rows: Sequence[Row]) -> Self:
        """Return a copy with the threshold of 'no answer' that gives these answers the highest mean F1."""
        from afina.scoring.squad import f1
        from afina.tasks._spans import threshold

        if not self.tunes:
            return self
        rises, gains = [], []
        for answer, row in zip(answers, rows, strict=True):
            if answer["spans"]:
                golds = gold_texts(row)
                of_none = f1("", golds, self.answer_language, v2=True)
                rises.append(answer["null"]["logit"] - answer["spans"][0]["logit"])
                gains.append(f1(answer["spans"][0]["text"], golds, self.answer_language, v2=True) - of_none)
        return self.replace(tuned_threshold=threshold(rises, gains))

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> Scores:
        from afina.scoring.squad import score

        golds, contexts = [gold_texts(row) for row in rows], [self.cluster(row) for row in rows]
        return score(self._told(answers, rows), golds, contexts, self.answer_language)

    def watch(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[str, float]:
        found = self._f1s(answers, rows)
        return "f1", sum(found) / len(found)

    def difference(self, a: Sequence[Any], b: Sequence[Any], rows: Sequence[Row]) -> Difference:
        from afina.scoring.clusters import difference

        contexts = [self.cluster(row) for row in rows]
        return difference("f1", self._f1s(a, rows), self._f1s(b, rows), contexts)

    def _told(self, answers: Sequence[Any], rows: Sequence[Row]) -> list[str]:
        return [self.predict(answer, row)["prediction"] for answer, row in zip(answers, rows, strict=True)]

    def _f1s(self, answers: Sequence[Any], rows: Sequence[Row]) -> list[float]:
        from afina.scoring.squad import f1

        golds = [gold_texts(row) for row in rows]
        v2 = not all(golds)
        told = self._told(answers, rows)
        return [f1(each, gold, self.answer_language, v2=v2) for each, gold in zip(told, golds, strict=True)]

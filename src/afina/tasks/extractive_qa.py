"""The answer to a question as a stretch of a text, or that the text holds none (SQuAD 1.1 and 2.0)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeGuard

from afina.core import About, Batch, Difference, Loss, Rival, Row, Scores, Splits, Table, Task, Term
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting
from afina.tasks._windows import Long, shared, when_long

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

ARTICLES = 10  # titles; with fewer a draw by title would be too coarse, and paragraphs are kept together
YES = ("true", "1", "1.0", "yes", "sí", "si")


RIVALS = {
    "tfidf_span": Rival(
        N_("Sliding TF-IDF"),
        N_("the sliding window with TF-IDF"),
        N_(
            "The sliding window marks the words of the text around which most words of the question stand, rare words "
            "counting more. How far it looks and how much it marks is chosen on training questions."
        ),
    ),
    "no_answer": Rival(
        N_("No answer"),
        N_("never answering"),
        N_(
            "Never answering says of every question that the text holds no answer: right where it holds none."
        ),
    ),
}


class ExtractiveQa(Task):
    """Mark where in a context the answer to a question stands, as SQuAD asks (Rajpurkar et al. 2016, 2018).

    An encoded row holds `windows` (a long context is read to its end in overlapping ones, or only the first), its
    `context`, and how many tokens of an over-long question were `cut`. The loss is the mean of two cross-entropies,
    over start and end, summed over windows; [CLS] is the gold of a window without the answer. What the softmax is
    over are the context's tokens and [CLS] alone, so padding changes nothing. Windows that hold a part of the answer
    count in no loss. An answer is `spans` and `null`: see `_spans.decode`.
    """

    head: ClassVar[str] = "AutoModelForQuestionAnswering"
    pace: ClassVar[float] = 0.5
    inputs: ClassVar[tuple[str, ...]] = ("question", "context")
    gold: ClassVar[tuple[str, ...]] = ("answers", "answer_start")

    question: str | None = setting(None, N_("Column that holds the question (default: guessed and said)."))
    context: str | None = setting(
        None, N_("Column that holds the text with the answer (default: guessed and said).")
    )
    answers: str | None = setting(None, N_("Column that holds the answers (default: guessed and said)."))
    answer_start: str | None = setting(
        None,
        N_("Column that says at which character of the context the answer begins (default: by its name)."),
    )
    title: str | None = setting(
        None,
        N_(
            "Column of the article: its questions stay on one side of the split (default: by its name, where there "
            "are ten articles; else those of a paragraph stay together)."
        ),
    )
    long: Long = when_long("windows")
    doc_stride: int = shared()
    max_answer_length: int = setting(30, N_("Longest answer that is given, in tokens."), ge=1)
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

    def choose_columns(self, table: Table) -> ExtractiveQa:
        from afina.data.columns import guess, named_like

        task = self.choose_inputs(table)
        question, context = task.question or "", task.context or ""
        start = named_like(table, "answer_start", self.answer_start)
        answers = guess(table, "answers", self.answers, taken=[question, context, start or ""])
        if len({question, context, answers}) < 3:
            raise InputError(
                _("One column cannot serve two ends: question '{question}', context '{context}', answers '{answers}'.")
                .format(question=question, context=context, answers=answers)
            )  # fmt: skip
        title = named_like(table, "title", self.title)
        if title in (question, context, answers) or (
            self.title is None and len({row[title] for row in table.rows if title}) < ARTICLES
        ):
            title = None
        return task.replace(answers=answers, answer_start=start, title=title)

    def choose_inputs(self, table: Table) -> ExtractiveQa:
        from afina.data.columns import guess

        question = guess(table, "question", self.question)
        return self.replace(
            question=question, context=guess(table, "context", self.context, taken=[question])
        )

    def about(self) -> About:
        return About(
            N_("A model that marks the answer to a question in a text, fine-tuned with afina."),
            "" if self.unanswerable else About().limit,
            rivals=RIVALS,
            pipeline="question-answering",
        )

    def clean(self, row: Row) -> Row | None:
        from afina.tasks._gold_answers import read

        question, context = row.get(self.question or "question"), row.get(self.context or "context")
        if not _is_text(question) or not _is_text(context):
            return None
        identity = str(row.get("id") or "")
        try:
            answers = read(
                row.get(self.answers or "answers"), row.get(self.answer_start or "answer_start"), context
            )
        except InputError as error:
            named = _("Question {id}: {error}").format(id=identity, error=error) if identity else str(error)
            raise InputError(named) from None
        if str(row.get("is_impossible") or "").strip().lower() in YES:
            answers = []
        if answers is None:
            return None
        title = str(row.get(self.title or "title") or "")
        return {"id": identity, "title": title, "question": question, "context": context, "answers": answers}

    def learn(self, rows: Sequence[Row]) -> ExtractiveQa:
        return self.replace(unanswerable=not all(row["answers"] for row in rows))

    def check(self, splits: Splits) -> None:
        if not any(row["answers"] for row in splits.train):
            raise InputError(_("No training question has an answer; there is nothing to learn."))

    def config(self) -> dict[str, Any]:
        return {"num_labels": 2}

    def group(self, row: Row) -> str | None:
        return None

    def key(self, row: Row) -> Any:
        return row["question"], row["context"]

    def together(self, row: Row) -> Any:
        return row["title"] if self.title and row["title"] else row["context"]

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
        from afina.tasks._context_windows import Text, encode

        texts = [Text(row["question"], row["context"], _one_gold(row)) for row in rows]
        encoded = encode(texts, tokenizer, max_length, self.doc_stride, self.long)
        return [
            {"windows": windows, "context": row["context"], "cut": cut}
            for row, (windows, cut) in zip(rows, encoded, strict=True)
        ]

    def length(self, row: Row) -> int:
        return len(row["windows"]) * max(len(window.ids) for window in row["windows"])

    def unseen(self, row: Row, whole: int) -> int:
        return row["cut"] if len(row["windows"]) > 1 else super().unseen(row, whole)

    def pieces(self, row: Row) -> list[Row]:
        return [row | {"windows": [window]} for window in row["windows"]]

    def collate(
        self, items: Sequence[tuple[Row, np.random.Generator | None]], tokenizer: PreTrainedTokenizerBase
    ) -> Batch:
        import numpy as np
        import torch

        rows = [row for row, _rng in items]
        windows = [window for row in rows for window in row["windows"]]
        width = max(len(window.ids) for window in windows)
        ids = np.full((len(windows), width), tokenizer.pad_token_id, np.int64)
        types, attention = np.zeros_like(ids), np.zeros_like(ids)
        allowed = np.zeros(ids.shape, bool)
        for i, window in enumerate(windows):
            ids[i, : len(window.ids)], attention[i, : len(window.ids)] = window.ids, 1
            allowed[i, window.first : window.first + len(window.places)] = True
            allowed[i, window.null] = True
            types[i, : len(window.types)] = window.types
        gold = np.array([window.gold for window in windows])
        tensors = {"input_ids": ids, "attention_mask": attention, "token_type_ids": types}
        tensors |= {"allowed": allowed, "gold": gold}
        counts = {"loss": float((gold[:, 0] >= 0).sum())}
        ready = {name: torch.from_numpy(array) for name, array in tensors.items()}
        return Batch(ready, counts, int(attention.sum()), rows)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        from torch.nn.functional import cross_entropy

        starts, ends = _logits(model, batch)
        first, last = batch.tensors["gold"].unbind(1)
        both = cross_entropy(starts, first, reduction="sum") + cross_entropy(ends, last, reduction="sum")
        return {"loss": Term(both / 2)}

    def answer(self, model: nn.Module, batch: Batch) -> list[Any]:
        from afina.tasks._spans import decode

        both = [each.detach().cpu().numpy() for each in _logits(model, batch)]
        logits = zip(*both, strict=True)
        return [
            decode(
                row["context"],
                row["windows"],
                [next(logits) for _window in row["windows"]],
                longest=self.max_answer_length,
                n_best=self.n_best,
                with_null=self.unanswerable,
            )
            for row in batch.rows
        ]

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
        golds = _texts(row)
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

    def tune(self, answers: Sequence[Any], rows: Sequence[Row]) -> ExtractiveQa:
        """Return a copy with the threshold of 'no answer' that gives these answers the highest mean F1."""
        import numpy as np

        from afina.scoring.squad import f1

        if not self.tunes:
            return self
        known = [(answer, _texts(row)) for answer, row in zip(answers, rows, strict=True) if answer["spans"]]
        # How far the threshold must rise until a question is answered, and what its F1 gains by that.
        rises = np.array([answer["null"]["logit"] - answer["spans"][0]["logit"] for answer, _golds in known])
        gains = np.array(
            [
                f1(answer["spans"][0]["text"], golds, self.answer_language, v2=True)
                - f1("", golds, self.answer_language, v2=True)
                for answer, golds in known
            ]
        )
        order = np.argsort(rises, kind="stable")
        rises, total = rises[order], np.cumsum(gains[order])
        if not len(rises) or total.max() <= 0:  # nothing is gained by answering any of them
            return self.replace(tuned_threshold=float(rises.min() - 1) if len(rises) else 0.0)
        best = int(total.argmax())
        after = rises[best + 1] if best + 1 < len(rises) else rises[best] + 1
        return self.replace(tuned_threshold=float(rises[best] + after) / 2)

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> Scores:
        from afina.scoring.squad import score

        golds, contexts = [_texts(row) for row in rows], [row["context"] for row in rows]
        return score(self._told(answers, rows), golds, contexts, self.answer_language)

    def watch(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[str, float]:
        found = self._f1s(answers, rows)
        return "f1", sum(found) / len(found)

    def baselines(
        self, train: Sequence[Row], rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase
    ) -> dict[str, list[Any]]:
        """Return the answers of the sliding window and, where questions may have none, of never answering."""
        from functools import partial

        from afina.scoring.sliding import tfidf_span
        from afina.scoring.squad import f1

        spans = tfidf_span(train, rows, partial(f1, language=self.answer_language))
        found = {"tfidf_span": [_plain(row, *span) for row, span in zip(rows, spans, strict=True)]}
        if self.unanswerable:
            found["no_answer"] = [{"spans": [], "null": {"score": 1.0, "logit": 0.0}} for _row in rows]
        return found

    def difference(self, a: Sequence[Any], b: Sequence[Any], rows: Sequence[Row]) -> Difference:
        from afina.scoring.clusters import difference

        contexts = [row["context"] for row in rows]
        return difference("f1", self._f1s(a, rows), self._f1s(b, rows), contexts)

    def _told(self, answers: Sequence[Any], rows: Sequence[Row]) -> list[str]:
        return [self.predict(answer, row)["prediction"] for answer, row in zip(answers, rows, strict=True)]

    def _f1s(self, answers: Sequence[Any], rows: Sequence[Row]) -> list[float]:
        from afina.scoring.squad import f1

        golds = [_texts(row) for row in rows]
        v2 = not all(golds)
        told = self._told(answers, rows)
        return [f1(each, gold, self.answer_language, v2=v2) for each, gold in zip(told, golds, strict=True)]

    @classmethod
    def toy(cls) -> list[Row]:
        things = [
            ("la casa", "¿Dónde está la casa?", "en la plaza"),
            ("the train", "Where is the train?", "in the tunnel"),
            ("el gato", "¿Dónde está el gato?", "bajo la mesa"),
            ("the letter", "Where is the letter?", "under the door"),
            ("mi tía", "¿Dónde está mi tía?", "lejos, en Perú"),
        ]
        before = ["", "Hoy llueve mucho y nadie sale. ", "No one knows why, but it is so, and was so. "]
        before += ["Todo sigue igual que ayer en la ciudad y en el campo, como siempre. "]
        after = [".", ", they say, and we believe it without asking."]
        rows = []
        for thing, question, place in things:
            for start in before:
                for end in after:
                    context = f"{start}{thing.capitalize()} {place}{end}"
                    rows.append({
                        "question": question, "context": context,
                        "answers": place, "answer_start": context.index(place),
                    })  # fmt: skip
        return rows


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())


def _texts(row: Row) -> list[str]:
    return [answer["text"] for answer in row["answers"]]


def _one_gold(row: Row) -> tuple[int, int] | None:
    """Return where the answer to learn stands: of several the most frequent, (-1, -1) where none is known."""
    if row.get("answers") is None:
        return -1, -1
    if not row["answers"]:
        return None
    places = Counter((answer["answer_start"], len(answer["text"])) for answer in row["answers"])
    (start, length), _times = places.most_common(1)[0]
    return start, start + length


def _plain(row: Row, start: int, end: int) -> dict[str, Any]:
    span = {"text": row["context"][start:end], "start": start, "end": end, "score": 1.0, "logit": 0.0}
    return {"spans": [span], "null": None}


def _logits(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return start and end logits [windows, tokens], minus infinity where no answer can begin or end."""
    from afina.models.heads import outputs

    starts, ends = outputs(model, batch, "start_logits", "end_logits")
    barred = ~batch.tensors["allowed"]
    return starts.masked_fill(barred, float("-inf")), ends.masked_fill(barred, float("-inf"))

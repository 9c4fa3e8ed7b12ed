"""The answer to a question as a stretch of a text, or that the text holds none (SQuAD 1.1 and 2.0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import About, Batch, Loss, Rival, Row, Term
from afina.messages import N_
from afina.settings import setting
from afina.tasks._questions import one_gold
from afina.tasks._span_answers import SpanAnswers
from afina.tasks._windows import Long, shared, when_long

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


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


class ExtractiveQa(SpanAnswers):
    """Mark where in a context the answer to a question stands, as SQuAD asks (Rajpurkar et al. 2016, 2018).

    An encoded row holds `windows` (a long context is read to its end in overlapping ones, or only the first), its
    `context`, and how many tokens of an over-long question were `cut`. The loss is the mean of two cross-entropies,
    over start and end, summed over windows; [CLS] is the gold of a window without the answer. What the softmax is
    over are the context's tokens and [CLS] alone, so padding changes nothing. Windows that hold a part of the answer
    count in no loss.
    """

    head: ClassVar[str] = "AutoModelForQuestionAnswering"
    pace: ClassVar[float] = 0.5

    long: Long = when_long("windows")
    doc_stride: int = shared()
    max_answer_length: int = setting(30, N_("Longest answer that is given, in tokens."), ge=1)

    def about(self) -> About:
        return About(
            N_("A model that marks the answer to a question in a text, fine-tuned with afina."),
            "" if self.unanswerable else About().limit,
            rivals=RIVALS,
            pipeline="question-answering",
        )

    def learn(self, rows: Sequence[Row]) -> ExtractiveQa:
        return self.replace(unanswerable=not all(row["answers"] for row in rows))

    def config(self) -> dict[str, Any]:
        return {"num_labels": 2}

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
        from afina.tasks._context_windows import Text, encode

        texts = [Text(row["question"], row["context"], one_gold(row)) for row in rows]
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
        from afina.tasks._context_windows import stack

        rows = [row for row, _rng in items]
        tensors = stack([window for row in rows for window in row["windows"]], tokenizer.pad_token_id)
        known = (tensors["gold"][:, 0] >= 0).sum()
        return Batch(tensors, {"loss": float(known)}, int(tensors["attention_mask"].sum()), rows)

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

    def baselines(
        self, train: Sequence[Row], rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int
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


def _plain(row: Row, start: int, end: int) -> dict[str, Any]:
    span = {"text": row["context"][start:end], "start": start, "end": end, "score": 1.0, "logit": 0.0}
    return {"spans": [span], "null": None}


def _logits(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return start and end logits [windows, tokens], minus infinity where no answer can begin or end."""
    from afina.models.heads import outputs

    starts, ends = outputs(model, batch, "start_logits", "end_logits")
    barred = ~batch.tensors["allowed"]
    return starts.masked_fill(barred, float("-inf")), ends.masked_fill(barred, float("-inf"))

"""What the tasks share whose answer is a text, written token after token."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import Batch, Difference, Loss, Row, Scores, Splits, Task, Term
from afina.errors import InputError
from afina.messages import N_, _
from afina.sample import spread
from afina.settings import setting

if TYPE_CHECKING:
    from torch import Tensor, nn

IGNORED = -100
SEED = 0  # of drawn answers: the same question gets the same answer


class Written(Task):
    """Learn to write a text by guessing each of its tokens from those before it (teacher forcing).

    A batch holds `labels` [rows, tokens], the token to be guessed at each place or IGNORED, and `owner`, the row
    that a place belongs to. An answer is `loss`, summed over its `tokens`, and `text`, what the model wrote, where
    the encoded row asks for it by a `prompt`: with a gold answer only some rows do, since writing takes long.
    """

    direction: ClassVar[int] = -1
    writes: ClassVar[bool] = True

    max_new_tokens: int = setting(64, N_("How many tokens a written answer has at most."), ge=1)
    num_beams: int = setting(
        1, N_("How many answers are followed at once, of which the likeliest is given."), ge=1
    )
    temperature: float = setting(
        0.0,
        N_("How freely tokens are drawn: 0 takes the likeliest each time, 1 draws as the model thinks."),
        ge=0,
    )
    top_p: float = setting(
        1.0, N_("Draw only from the likeliest tokens that make up this share."), gt=0, le=1
    )
    samples: int = setting(
        100,
        N_("How many rows of a part are answered in words when it is scored; the report shows some."),
        ge=0,
    )

    @abstractmethod
    def reference(self, row: Row) -> str | None:
        """Return the text that a cleaned row has as its answer, None where an answer has nothing to be held against."""

    @abstractmethod
    def states(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the hidden states [rows, tokens, width] that `labels` are guessed from."""

    @abstractmethod
    def write(
        self, model: nn.Module, rows: Sequence[Row], tokenizer: Any, options: dict[str, Any]
    ) -> list[str]:
        """Return what the model writes for the `prompt` of each row; `options` are transformers' for generating."""

    def check(self, splits: Splits) -> None:
        if not splits.train:
            raise InputError(_("There is no text to learn from."))

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        return {"loss": Term(self._surprise(model, batch).sum())}

    def glance(self, model: nn.Module, batch: Batch) -> list[Any]:
        import torch

        labels = batch.tensors["labels"]
        owner = batch.tensors["owner"][labels != IGNORED]
        surprise = self._surprise(model, batch)
        sums = torch.zeros(2, len(batch.rows), device=surprise.device)
        sums[0].index_add_(0, owner, surprise)
        sums[1].index_add_(0, owner, torch.ones_like(surprise))
        return [
            {"loss": loss, "tokens": int(tokens), "text": None}
            for loss, tokens in zip(*sums.tolist(), strict=True)
        ]

    def answer(self, model: nn.Module, batch: Batch) -> list[Any]:
        import torch

        found = self.glance(model, batch)
        asked = [i for i, row in enumerate(batch.rows) if row["prompt"] is not None]
        if not asked:
            return found
        options: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "num_beams": self.num_beams}
        options["do_sample"] = self.temperature > 0
        if self.temperature > 0:
            options |= {"temperature": self.temperature, "top_p": self.top_p, "top_k": 0}
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            texts = self.write(model, [batch.rows[i] for i in asked], batch.tokenizer, options)
        for i, text in zip(asked, texts, strict=True):
            found[i]["text"] = text
        return found

    def predict(self, answer: Any, row: Row) -> dict[str, Any]:
        """Return the written text and, where there was a gold answer, the mean loss of its tokens as `score`."""
        return {
            "prediction": answer["text"],
            "score": answer["loss"] / answer["tokens"] if answer["tokens"] else None,
        }

    @abstractmethod
    def before(self, row: Row) -> dict[str, Any]:
        """Return what a cleaned row's text is written after, as columns of `predictions.csv`."""

    def line(self, row: Row, answer: Any) -> dict[str, Any]:
        """Return the row with its reference, the mean loss, and what was written where the model was `asked`."""
        from afina.scoring.written import normal

        told, reference = self.predict(answer, row), self.reference(row)
        text: str | None = told["prediction"]
        right = None if text is None or reference is None else normal(text) == normal(reference)
        return {
            **self.before(row),
            "label": reference,
            "prediction": text,
            "loss": told["score"],
            "right": right,
            "asked": text is not None,
        }

    def warn(self, splits: Splits) -> list[str]:
        from afina.scoring.written import missing

        return missing()

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> Scores:
        """Return the mean loss a token, perplexity, and how near the written texts come to their references.

        A baseline that only writes has no loss, and one that only guesses no texts.
        """
        import numpy as np

        from afina.scoring.language import perplexity, ratio
        from afina.scoring.written import figures

        texts = figures([each["text"] for each in answers], [self.reference(row) for row in rows])
        if not _guesses(answers):
            return Scores(texts)
        known = [
            each for each in answers if each["tokens"]
        ]  # a reply that was cut off leaves nothing to guess
        loss = ratio(*(np.array([each[name] for each in known], float) for name in ("loss", "tokens")))
        return Scores({"loss": loss, "perplexity": perplexity(loss), **texts})

    def like(self, ours: Sequence[Any], theirs: Sequence[Any]) -> Sequence[Any]:
        return [
            their if our["text"] is not None else their | {"text": None}
            for our, their in zip(ours, theirs, strict=True)
        ]

    def watch(self, answers: Sequence[Any], rows: Sequence[Row]) -> tuple[str, float]:
        return "loss", sum(each["loss"] for each in answers) / max(sum(each["tokens"] for each in answers), 1)

    def difference(self, a: Sequence[Any], b: Sequence[Any], rows: Sequence[Row]) -> Difference:
        """Return the paired difference of the loss or, where one side only writes, of the written texts."""
        import numpy as np

        from afina.scoring import written
        from afina.scoring.language import difference

        if not (_guesses(a) and _guesses(b)):
            mine, other = ([each["text"] for each in answers] for answers in (a, b))
            return written.difference(mine, other, [self.reference(row) for row in rows])
        ours, theirs = (np.array([each["loss"] for each in answers], float) for answers in (a, b))
        return difference(ours, theirs, np.array([each["tokens"] for each in a], float))

    def group(self, row: Row) -> str | None:
        return None

    def asks(self, number: int, rows: Sequence[Row]) -> bool:
        """Whether row `number` of `rows`, which have gold answers, is also answered in words: some, drawn from all over them."""
        return number in spread(len(rows), self.samples)

    def _surprise(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss in nats of every token that counts, in the order of `labels`."""
        from afina.models.heads import guessed

        labels = batch.tensors["labels"]
        learnt = labels != IGNORED
        return guessed(model, self.states(model, batch)[learnt], labels[learnt])


def _guesses(answers: Sequence[Any]) -> bool:
    """Whether the answers have a loss: those of a baseline that only writes have none."""
    return all(each["loss"] is not None for each in answers)

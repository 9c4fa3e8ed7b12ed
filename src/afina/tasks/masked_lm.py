"""Masked language modelling with next-sentence prediction, as BERT is pre-trained (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import Batch, Difference, Loss, Row, Scores, Splits, Table, Task, Term
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting
from afina.tasks._asked_masks import filled, parted, questions, told
from afina.tasks._bag_of_words import bag_loss, bags, drawn_bags
from afina.tasks._distilled import distilled_guesses
from afina.tasks._guesses import by_row, difference, judged, score
from afina.tasks._masked_batch import arrays
from afina.tasks._masks import IGNORED

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase


class MaskedLm(Task):
    """Guess the hidden tokens of a text and, where a row brings two segments, whether B really follows A.

    A row is `segments` (one or two lists of token ids) or, from a corpus, `draw` and `length`: `draw(rng, nsp)`
    gives the segments anew every epoch. Masks are drawn from the row's generator: of `mlm_probability` of the
    tokens, 80 % become [MASK], 10 % a random token, 10 % stay. Special tokens are never chosen. With `bow_weight`
    the pooled [CLS] also learns which words the row holds (Ma et al. 2024), so that it speaks for the whole row. With
    `whole_word_masking` words are drawn, and all tokens of one are chosen together; the shares are still of tokens.
    Half of the rows that leave positions `free` begin at a later one (decision 0019).

    Asked a text with masks, the model fills them; asked two texts, it says whether the second follows.
    """

    head: ClassVar[str] = "AutoModelForPreTraining"
    pace: ClassVar[float] = 0.5
    direction: ClassVar[int] = -1
    gold: ClassVar[tuple[str, ...]] = ()

    text: str | None = setting(None, N_("Column that holds the text."))
    nsp: bool = setting(True, N_("Also learn whether the second segment follows the first."))
    nsp_weight: float = setting(
        1.0, N_("Weight of the next-sentence loss beside the masked-word loss."), ge=0
    )
    bow_weight: float = setting(
        0.0, N_("Weight of guessing a row's bag of words from [CLS] (0: not learnt)."), ge=0
    )
    mlm_probability: float = setting(0.15, N_("Share of the tokens that are hidden and guessed."), gt=0, lt=1)
    whole_word_masking: bool = setting(
        False, N_("Choose all tokens of a word together, so that none gives the others away.")
    )
    top_k: int = setting(5, N_("How many words are told for each mask, with their probabilities."), ge=1)

    def choose_columns(self, table: Table) -> MaskedLm:
        from afina.data.columns import guess

        return self.replace(text=guess(table, "text", self.text))

    def choose_inputs(self, table: Table) -> MaskedLm:
        return self.choose_columns(table)

    def ask(self, given: Any) -> Row:
        """Return a text or, of a list of two, of two with a tab between or of a row with `text_pair`, a pair."""
        texts = parted(given, self.text)
        asked = super().ask(texts[0] if texts and texts[0] is not None else given)
        if len(texts) == 2 and texts[1] is not None:
            asked["text_pair"] = super().ask(texts[1])["text"]
        return asked | {"asked": True}

    def asked_columns(self) -> set[str]:
        return super().asked_columns() | {"text_pair"}

    def clean(self, row: Row) -> Row | None:
        from afina.data.value import text_of

        text = (text_of(row.get(self.text or "text")) or "").strip()
        return {"text": text} if text else None

    def check(self, splits: Splits) -> None:
        if not splits.train:
            raise InputError(_("There is no text to learn from."))

    def group(self, row: Row) -> str | None:
        return None

    def key(self, row: Row) -> Any:
        return row["text"]

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Row]:
        if rows and "asked" in rows[0]:
            return questions(rows, tokenizer, max_length, nsp=self.nsp)
        texts = [row["text"] for row in rows]
        ids = tokenizer(texts, add_special_tokens=False, truncation=False)["input_ids"]
        return [{"segments": [each[: max_length - 2]]} for each in ids]

    def length(self, row: Row) -> int:
        if "draw" in row:
            return row["length"]
        if "texts" in row:
            return len(row["input_ids"])
        return sum(map(len, row["segments"])) + len(row["segments"]) + 1

    def collate(
        self, items: Sequence[tuple[Row, np.random.Generator | None]], tokenizer: PreTrainedTokenizerBase
    ) -> Batch:
        import torch

        read = arrays(items, tokenizer, self.mlm_probability, self.whole_word_masking, self.nsp)
        counts = {"mlm": float((read["labels"] != IGNORED).sum())}
        if self.nsp:
            counts["nsp"] = float((read["next"] != IGNORED).sum())
        if self.bow_weight:
            read["bag"] = bags(read["input_ids"], read["labels"], tokenizer)
            counts["bow"] = float(len(items))
        tensors = {name: torch.from_numpy(array) for name, array in read.items()}
        given = [row for row, _rng in items]
        return Batch(tensors, counts, int(read["attention_mask"].sum()), given, tokenizer)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        from torch.nn.functional import cross_entropy

        from afina.models.heads import guessed

        hidden, chosen, gold, next_ = self.states(model, batch)
        terms = {"mlm": Term(guessed(model, chosen, gold).sum())}
        if next_ is not None:
            nsp = cross_entropy(next_.float(), batch.tensors["next"], reduction="sum", ignore_index=IGNORED)
            terms["nsp"] = Term(nsp, self.nsp_weight)
        if self.bow_weight:
            terms["bow"] = Term(bag_loss(model, hidden, batch.tensors["bag"]), self.bow_weight)
        return terms

    def distilled(self, model: nn.Module, teacher: nn.Module, batch: Batch) -> Loss:
        """Return by term how far what the model thinks of the batch is from what `teacher` does."""
        return distilled_guesses(self, model, teacher, batch)

    def drawn(self, model: nn.Module, batch: Batch) -> Batch:
        """Return the batch with hidden tokens, next sentences and bags of words drawn from what the model thinks."""
        import torch

        from afina.models.heads import drawn, guessed

        hidden, chosen, gold, next_ = self.states(model, batch)
        labels, follows = batch.tensors["labels"].clone(), batch.tensors["next"]
        labels[labels != IGNORED] = guessed(model, chosen, gold, drawn)
        tensors = {**batch.tensors, "labels": labels}
        if next_ is not None:
            tensors["next"] = torch.where(follows == IGNORED, follows, drawn(next_.float(), follows))
        if self.bow_weight:
            tensors["bag"] = drawn_bags(model, hidden, tensors["bag"])
        return replace(batch, tensors=tensors)

    def answer(self, model: nn.Module, batch: Batch) -> list[Any]:
        """Return, a row, what `by_row` says of its guesses; of an asked row, what `filled` says of its masks."""
        from afina.models.heads import guessed, vocabulary

        _hidden, chosen, gold, next_ = self.states(model, batch)
        if batch.rows and "texts" in batch.rows[0]:
            return filled(batch, vocabulary(model, chosen), next_, self.top_k)
        return by_row(batch, guessed(model, chosen, gold, judged), next_)

    def predict(self, answer: Any, row: Row) -> dict[str, Any]:
        """Return the text with its masks filled and how likely all of that is, or whether a second text follows.

        Where rows were scored and nothing was asked, only the mean loss a guess.
        """
        if not isinstance(answer, dict):
            return {"prediction": None, "score": answer[0] / max(answer[1], 1)}
        return told(answer)

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> Scores:
        return score(answers)

    def baselines(
        self, train: Sequence[Row], rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> dict[str, list[Any]]:
        return {}

    def difference(self, a: Sequence[Any], b: Sequence[Any], rows: Sequence[Row]) -> Difference:
        return difference(a, b)

    @classmethod
    def toy(cls) -> list[Row]:
        heads = ["el gato", "la casa", "un perro", "my friend", "the train", "nuestra mesa", "that letter"]
        heads.append("su voz")
        tails = ["duerme hoy", "está lejos", "came back", "suena bien", "is late again", "no llega nunca"]
        return [{"text": f"{head} {tail} {head}"} for head in heads for tail in tails]

    def states(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return the last layer's output, that at the hidden positions only, the hidden tokens, and NSP's logits."""
        from afina.models.heads import hidden_states, next_sentence

        hidden, labels = hidden_states(model, batch.tensors), batch.tensors["labels"]
        chosen = labels != IGNORED
        return hidden, hidden[chosen], labels[chosen], next_sentence(model, hidden) if self.nsp else None

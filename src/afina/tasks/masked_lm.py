"""Masked language modelling with next-sentence prediction, as BERT is pre-trained (Devlin et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import Batch, Difference, Loss, Row, Scores, Splits, Table, Task, Term
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting
from afina.tasks._asked_masks import fill, filled, question
from afina.tasks._masks import IGNORED, assemble, choose, hide

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

SHIFTED = 0.5  # of the rows that leave positions free begin at a later one, so that those are learnt too
FOLLOWS, NOT = "IsNext", "NotNext"  # the paper's words for a second sentence


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
        texts: list[Any] = [given]
        if isinstance(given, Mapping):
            texts = [given.get(self.text, given.get("text")), given.get("text_pair") or None]
        elif isinstance(given, str):
            texts = given.split("\t")
        elif isinstance(given, list | tuple):
            texts = list(given)
        if len(texts) == 2 and isinstance(texts[1], str) and not texts[1].strip():
            texts.pop()  # an empty second text is none
        if len(texts) > 2:
            sentence = _(
                "this model reads one text, or two with a tab between them, but here are {n}: {given}."
            )
            raise InputError(sentence.format(n=len(texts), given=str(given)[:80]))
        asked = super().ask(texts[0] if texts and texts[0] is not None else given)
        if len(texts) == 2 and texts[1] is not None:
            asked["text_pair"] = super().ask(texts[1])["text"]
        return asked | {"asked": True}

    def clean(self, row: Row) -> Row | None:
        from afina.data.columns import text_of

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
            return [
                question(number, row, tokenizer, max_length, self.nsp) for number, row in enumerate(rows, 1)
            ]
        ids = tokenizer([row["text"] for row in rows], add_special_tokens=False, truncation=False)[
            "input_ids"
        ]
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
        import numpy as np
        import torch

        from afina.models.pieces import pieces

        special: list[int] = [
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
            tokenizer.pad_token_id,
            tokenizer.mask_token_id,
        ]
        ordinary = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
        words = pieces(tokenizer) if self.whole_word_masking else None
        rows = [assemble(row, rng, self.nsp, special[0], special[1]) for row, rng in items]
        width = max(len(ids) for ids, _second, _follows in rows)
        ids = np.full((len(rows), width), special[2], dtype=np.int64)
        types, attention = np.zeros_like(ids), np.zeros_like(ids)
        labels = np.full_like(ids, IGNORED)
        positions = np.tile(np.arange(width), (len(rows), 1))
        for i, ((row, second, _follows), (asked, rng)) in enumerate(zip(rows, items, strict=True)):
            if "texts" in asked:  # what is hidden was hidden by the person, and no one knows the gold
                hidden, gold = row, np.where(row == special[3], special[3], IGNORED)
            else:
                places = np.flatnonzero(~np.isin(row, tokenizer.all_special_ids))
                chosen = choose(row, places, rng, self.mlm_probability, words)
                hidden, gold = hide(row, chosen, rng, special[3], ordinary)
            ids[i, : len(row)], labels[i, : len(row)] = hidden, gold
            types[i, second : len(row)], attention[i, : len(row)] = 1, 1
            if (free := asked.get("free")) and rng is not None:
                positions[i] += rng.integers(free + 1) * (rng.random() < SHIFTED)
        follows = np.array([follows for _ids, _second, follows in rows])
        tensors = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(attention),
            "token_type_ids": torch.from_numpy(types),
            "labels": torch.from_numpy(labels),
            "next": torch.from_numpy(follows),
        }
        if positions[:, 0].any():
            tensors["position_ids"] = torch.from_numpy(positions)
        counts = {"mlm": float((labels != IGNORED).sum())}
        if self.nsp:
            counts["nsp"] = float((follows != IGNORED).sum())
        if self.bow_weight:
            whole = np.where(labels == IGNORED, ids, labels)
            tensors["bag"] = torch.from_numpy(np.where(np.isin(whole, special), IGNORED, whole))
            counts["bow"] = float(len(rows))
        given = [row for row, _rng in items]
        return Batch(tensors, counts, int(attention.sum()), given, tokenizer)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        from torch.nn.functional import cross_entropy

        from afina.models.heads import guessed, next_sentence, pooled, vocabulary

        hidden, chosen, gold = self._hidden_words(model, batch)
        terms = {"mlm": Term(guessed(model, chosen, gold).sum())}
        next_ = next_sentence(model, hidden) if self.nsp else None
        if next_ is not None:
            nsp = cross_entropy(next_.float(), batch.tensors["next"], reduction="sum", ignore_index=IGNORED)
            terms["nsp"] = Term(nsp, self.nsp_weight)
        if self.bow_weight:
            guess = vocabulary(model, pooled(model, hidden)).float()
            terms["bow"] = Term(_bag_of_words(guess, batch.tensors["bag"]), self.bow_weight)
        return terms

    def drawn(self, model: nn.Module, batch: Batch) -> Batch:
        """Return the batch with hidden tokens, next sentences and bags of words drawn from what the model thinks."""
        import torch

        from afina.models.heads import drawn, guessed, next_sentence, pooled

        hidden, chosen, gold = self._hidden_words(model, batch)
        labels, next_ = batch.tensors["labels"].clone(), batch.tensors["next"]
        labels[labels != IGNORED] = guessed(model, chosen, gold, drawn)
        tensors = {**batch.tensors, "labels": labels}
        guess = next_sentence(model, hidden) if self.nsp else None
        if guess is not None:
            tensors["next"] = torch.where(next_ == IGNORED, next_, drawn(guess.float(), next_))
        if self.bow_weight:  # one word a row: its loss is the mean over the words of the bag
            bag = tensors["bag"]
            tensors["bag"] = guessed(model, pooled(model, hidden), bag, drawn)[:, None]
        return replace(batch, tensors=tensors)

    def answer(self, model: nn.Module, batch: Batch) -> list[Any]:
        """Return, a row, the summed loss, the number of guesses and of right ones, for words and for NSP.

        Of an asked row: its `texts`, by mask the likeliest words with their probabilities, and that of `next`.
        """
        import torch
        from torch.nn.functional import cross_entropy

        from afina.models.heads import guessed, next_sentence, surprise, vocabulary

        hidden, chosen, gold = self._hidden_words(model, batch)
        next_ = next_sentence(model, hidden) if self.nsp else None
        if batch.rows and "texts" in batch.rows[0]:
            return filled(batch, vocabulary(model, chosen), next_, self.top_k)

        def told(logits: Tensor, gold: Tensor) -> Tensor:
            return torch.stack([surprise(logits, gold), (logits.argmax(-1) == gold).float()], 1)

        losses, right = guessed(model, chosen, gold, told).T
        row_of = (batch.tensors["labels"] != IGNORED).nonzero()[:, 0]
        columns = [losses, torch.ones_like(losses), right]
        none = torch.zeros(len(batch.tensors["next"]), device=losses.device)
        sums = [none.index_add(0, row_of, column) for column in columns]
        if next_ is not None:
            known = batch.tensors["next"] != IGNORED
            target = batch.tensors["next"]
            sums.append(cross_entropy(next_.float(), target, reduction="none", ignore_index=IGNORED))
            sums += [known.float(), ((next_.argmax(-1) == target) & known).float()]
        return torch.stack(sums, 1).tolist()

    def predict(self, answer: Any, row: Row) -> dict[str, Any]:
        """Return the text with its masks filled and how likely all of that is, or whether a second text follows.

        Where rows were scored and nothing was asked, only the mean loss a guess.
        """
        if not isinstance(answer, dict):
            return {"prediction": None, "score": answer[0] / max(answer[1], 1)}
        masks, follows = answer["masks"], answer["next"]
        told: dict[str, Any] = {"prediction": None, "probability": None}
        if follows is not None:
            told = {
                "prediction": FOLLOWS if follows >= 0.5 else NOT,
                "probability": max(follows, 1 - follows),
            }
        if masks:
            told = {"prediction": fill(answer["texts"], masks)}
            told["probability"] = math.prod(words[0]["probability"] for words in masks)
            told["masks"] = masks
        if follows is not None:
            told["next"] = {FOLLOWS: follows, NOT: 1 - follows}
        return told

    def score(self, answers: Sequence[Any], rows: Sequence[Row]) -> Scores:
        """Return the mean loss a hidden token (lower is better), its accuracy, and the same for NSP."""
        import numpy as np

        from afina.scoring.language import ratio

        table = np.asarray(answers, dtype=float)
        values = {
            "loss": ratio(table[:, 0], table[:, 1]),
            "mlm": ratio(table[:, 0], table[:, 1]),
            "mlm_accuracy": ratio(table[:, 2], table[:, 1]),
        }
        if table.shape[1] > 3 and table[:, 4].sum():
            values["nsp"] = ratio(table[:, 3], table[:, 4])
            values["nsp_accuracy"] = ratio(table[:, 5], table[:, 4])
        return Scores(values)

    def baselines(
        self, train: Sequence[Row], rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> dict[str, list[Any]]:
        return {}

    def difference(self, a: Sequence[Any], b: Sequence[Any], rows: Sequence[Row]) -> Difference:
        import numpy as np

        from afina.scoring.language import difference

        ours, theirs = (np.asarray(answers, dtype=float) for answers in (a, b))
        return difference(ours[:, 0], theirs[:, 0], ours[:, 1])

    @classmethod
    def toy(cls) -> list[Row]:
        heads = [
            "el gato",
            "la casa",
            "un perro",
            "my friend",
            "the train",
            "nuestra mesa",
            "that letter",
            "su voz",
        ]
        tails = ["duerme hoy", "está lejos", "came back", "suena bien", "is late again", "no llega nunca"]
        return [{"text": f"{head} {tail} {head}"} for head in heads for tail in tails]

    def _hidden_words(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the last layer's output, that at the hidden positions only, and the hidden tokens."""
        from afina.models.heads import hidden_states

        hidden, labels = hidden_states(model, batch.tensors), batch.tensors["labels"]
        chosen = labels != IGNORED
        return hidden, hidden[chosen], labels[chosen]


def _bag_of_words(logits: Tensor, bag: Tensor) -> Tensor:
    """Return, summed over rows, how far the guess is from each different token of the row equally likely (KL)."""
    import torch
    from torch.nn.functional import kl_div

    # One column more takes what does not count (padding, special tokens) and is cut off.
    wanted = torch.zeros(len(bag), logits.shape[1] + 1, device=logits.device)
    wanted = wanted.scatter(1, bag.where(bag != IGNORED, logits.shape[1]), 1.0)[:, :-1]
    share = wanted / wanted.sum(1, keepdim=True).clamp_min(1)
    return kl_div(logits.log_softmax(1), share, reduction="sum")

"""Masked language modelling with next-sentence prediction, as BERT is pre-trained (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import Batch, Difference, Loss, Row, Scores, Splits, Table, Task, Term
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

IGNORED = -100


class MaskedLm(Task):
    """Guess the hidden tokens of a text and, where a row brings two segments, whether B really follows A.

    A row is `segments` (one or two lists of token ids) or, from a corpus, `draw` and `length`: `draw(rng, nsp)`
    gives the segments anew every epoch. Masks are drawn from the row's generator: of `mlm_probability` of the
    tokens, 80 % become [MASK], 10 % a random token, 10 % stay. Special tokens are never chosen. With `bow_weight`
    the pooled [CLS] also learns which words the row holds (Ma et al. 2024), so that it speaks for the whole row.
    """

    head: ClassVar[str] = "AutoModelForPreTraining"
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

    def choose_columns(self, table: Table) -> MaskedLm:
        from afina.data.columns import guess

        return self.replace(text=guess(table, "text", self.text))

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
        ids = tokenizer([row["text"] for row in rows], add_special_tokens=False, truncation=False)[
            "input_ids"
        ]
        return [{"segments": [each[: max_length - 2]]} for each in ids]

    def length(self, row: Row) -> int:
        if "draw" in row:
            return row["length"]
        return sum(map(len, row["segments"])) + len(row["segments"]) + 1

    def collate(
        self, items: Sequence[tuple[Row, np.random.Generator | None]], tokenizer: PreTrainedTokenizerBase
    ) -> Batch:
        import numpy as np
        import torch

        special = [
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
            tokenizer.pad_token_id,
            tokenizer.mask_token_id,
        ]
        ordinary = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
        rows = [_assemble(row, rng, self.nsp, special[0], special[1]) for row, rng in items]
        width = max(len(ids) for ids, _second, _follows in rows)
        ids = np.full((len(rows), width), special[2], dtype=np.int64)
        types, attention = np.zeros_like(ids), np.zeros_like(ids)
        labels = np.full_like(ids, IGNORED)
        for i, ((row, second, _follows), (_row, rng)) in enumerate(zip(rows, items, strict=True)):
            hidden, gold = _mask(
                row, rng, self.mlm_probability, tokenizer.mask_token_id, ordinary, tokenizer.all_special_ids
            )
            ids[i, : len(row)], labels[i, : len(row)] = hidden, gold
            types[i, second : len(row)], attention[i, : len(row)] = 1, 1
        follows = np.array([follows for _ids, _second, follows in rows])
        tensors = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(attention),
            "token_type_ids": torch.from_numpy(types),
            "labels": torch.from_numpy(labels),
            "next": torch.from_numpy(follows),
        }
        counts = {"mlm": float((labels != IGNORED).sum())}
        if self.nsp:
            counts["nsp"] = float((follows != IGNORED).sum())
        if self.bow_weight:
            whole = np.where(labels == IGNORED, ids, labels)
            tensors["bag"] = torch.from_numpy(np.where(np.isin(whole, special), IGNORED, whole))
            counts["bow"] = float(len(rows))
        return Batch(tensors, counts, int(attention.sum()))

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        from torch.nn.functional import cross_entropy

        from afina.models.heads import next_sentence, pooled, vocabulary

        hidden, words, gold = self._hidden_words(model, batch)
        terms = {"mlm": Term(cross_entropy(words.float(), gold, reduction="sum"))}
        next_ = next_sentence(model, hidden) if self.nsp else None
        if next_ is not None:
            nsp = cross_entropy(next_.float(), batch.tensors["next"], reduction="sum", ignore_index=IGNORED)
            terms["nsp"] = Term(nsp, self.nsp_weight)
        if self.bow_weight:
            guess = vocabulary(model, pooled(model, hidden)).float()
            terms["bow"] = Term(_bag_of_words(guess, batch.tensors["bag"]), self.bow_weight)
        return terms

    def answer(self, model: nn.Module, batch: Batch) -> list[Any]:
        """Return, a row, the summed loss, the number of guesses and of right ones, for words and for NSP."""
        import torch
        from torch.nn.functional import cross_entropy

        from afina.models.heads import next_sentence

        hidden, words, gold = self._hidden_words(model, batch)
        next_ = next_sentence(model, hidden) if self.nsp else None
        row_of = (batch.tensors["labels"] != IGNORED).nonzero()[:, 0]
        columns = [
            cross_entropy(words.float(), gold, reduction="none"),
            torch.ones_like(gold),
            words.argmax(-1) == gold,
        ]
        none = torch.zeros(len(batch.tensors["next"]), device=words.device)
        sums = [none.index_add(0, row_of, column.float()) for column in columns]
        if next_ is not None:
            known = batch.tensors["next"] != IGNORED
            target = batch.tensors["next"]
            sums.append(cross_entropy(next_.float(), target, reduction="none", ignore_index=IGNORED))
            sums += [known.float(), ((next_.argmax(-1) == target) & known).float()]
        return torch.stack(sums, 1).tolist()

    def predict(self, answer: Any, row: Row) -> dict[str, Any]:
        return {"prediction": None, "score": answer[0] / max(answer[1], 1)}

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
        self, train: Sequence[Row], rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase
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
        """Return the last layer's output, the word logits at the hidden positions only, and the hidden tokens."""
        from afina.models.heads import hidden_states, vocabulary

        hidden, labels = hidden_states(model, batch.tensors), batch.tensors["labels"]
        chosen = labels != IGNORED
        return hidden, vocabulary(model, hidden[chosen]), labels[chosen]


def _assemble(row: Row, rng: Any, nsp: bool, cls: int, sep: int) -> tuple[Any, int, int]:
    """Return [CLS] A [SEP] (B [SEP]) as an array, where the second segment begins, and whether it follows."""
    import numpy as np

    follows = IGNORED
    segments = row.get("segments")
    if segments is None:
        segments, follows = row["draw"](rng, nsp)
    parts = [[cls], segments[0], [sep]]
    second = len(segments[0]) + 2
    if len(segments) == 2:
        parts += [segments[1], [sep]]
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts]), second, follows


def _mask(ids: Any, rng: Any, share: float, mask: int, ordinary: Any, special: list[int]) -> tuple[Any, Any]:
    """Return the row with some tokens hidden, and the gold: the token where it is hidden, else IGNORED."""
    import numpy as np

    places = np.flatnonzero(~np.isin(ids, special))
    wanted = max(
        1, int(share * len(places) + rng.random())
    )  # random rounding keeps the share true on short rows
    chosen = rng.choice(places, size=min(wanted, len(places)), replace=False)
    hidden, gold = ids.copy(), np.full(len(ids), IGNORED)
    gold[chosen] = ids[chosen]
    fate = rng.random(len(chosen))
    hidden[chosen[fate < 0.8]] = mask
    other = chosen[fate >= 0.9]
    hidden[other] = rng.choice(ordinary, size=len(other))
    return hidden, gold


def _bag_of_words(logits: Tensor, bag: Tensor) -> Tensor:
    """Return, summed over rows, how far the guess is from each different token of the row equally likely (KL)."""
    import torch
    from torch.nn.functional import kl_div

    # One column more takes what does not count (padding, special tokens) and is cut off.
    wanted = torch.zeros(len(bag), logits.shape[1] + 1, device=logits.device)
    wanted = wanted.scatter(1, bag.where(bag != IGNORED, logits.shape[1]), 1.0)[:, :-1]
    share = wanted / wanted.sum(1, keepdim=True).clamp_min(1)
    return kl_div(logits.log_softmax(1), share, reduction="sum")

"""Causal language modelling: what comes next in a text, as GPT is trained (Radford et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import About, Row, Table
from afina.messages import N_
from afina.settings import setting
from afina.tasks._decoder import Decoder, Tokens
from afina.tasks._windows import WHOLE
from afina.tasks._written_rivals import TEXT_RIVALS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class CausalLm(Decoder):
    """Guess every token of a text from those before it, and write on where a text ends.

    Asked a text, the model continues it. When rows are scored, some are continued from their middle.
    """

    gold: ClassVar[tuple[str, ...]] = ()

    text: str | None = setting(None, N_("Column that holds the text (default: guessed and said)."))

    def choose_columns(self, table: Table) -> CausalLm:
        return self.choose_inputs(table)

    def choose_inputs(self, table: Table) -> CausalLm:
        from afina.data.columns import guess

        return self.replace(text=guess(table, "text", self.text))

    def about(self) -> About:
        return About(
            N_("A language model that was trained on with afina."),
            N_("What it writes is likely, not true."),
            rivals=TEXT_RIVALS,
            pipeline="text-generation",
        )

    def clean(self, row: Row) -> Row | None:
        from afina.data.value import text_of

        text = (text_of(row.get(self.text or "text")) or "").strip()
        return {"text": text} if text else None

    def ask(self, given: Any) -> Row:
        return super().ask(given) | {"asked": True}

    def key(self, row: Row) -> Any:
        return row["text"]

    def reference(self, row: Row) -> str | None:
        return None

    def tokens(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Tokens:
        ids = self._read(row["text"], tokenizer)
        if tokenizer.eos_token_id is not None and ids[-1:] != [tokenizer.eos_token_id]:
            ids.append(tokenizer.eos_token_id)
        return ids, [True] * len(ids)

    def _read(self, text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Control tokens in it are such: conversations are handed around as text that was rendered before."""
        found = tokenizer(text, truncation=True, max_length=WHOLE, split_special_tokens=False)
        return list(found["input_ids"])

    def prompt_ids(self, row: Row, tokenizer: PreTrainedTokenizerBase, most: int) -> list[int]:
        text = row["text"] if "asked" in row else _half(row["text"])
        ids = self._read(text, tokenizer)
        if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
            ids.pop()
        end: Any = tokenizer.pad_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
        return ids or [int(end)]

    def before(self, row: Row) -> dict[str, Any]:
        return {"text": row["text"], "begins": _half(row["text"])}

    def line(self, row: Row, answer: Any) -> dict[str, Any]:
        """Return the row with how its text really goes on: to be read beside what was written, not to be scored by."""
        rest = " ".join(row["text"].split()[len(_half(row["text"]).split()) :])
        return super().line(row, answer) | {"label": rest or None}

    @classmethod
    def toy(cls) -> list[Row]:
        heads = ["el gato", "la casa", "un perro", "my friend", "the train", "nuestra mesa", "that letter"]
        tails = ["duerme hoy", "está lejos", "came back", "suena bien", "is late again", "no llega nunca"]
        return [{"text": f"{head} {tail}" + f" {head}" * (len(head) % 2)} for head in heads for tail in tails]


def _half(text: str) -> str:
    """Return the first half of a text, by words."""
    words: Sequence[str] = text.split()
    return " ".join(words[: max(1, len(words) // 2)])

"""The tokens of a text that is to be written: which one ends it, and what is kept where they are too many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from afina.errors import InputError
from afina.messages import _
from afina.tasks._windows import WHOLE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that ends a written text; InputError where the tokenizer has none."""
    end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    if end is None:
        raise InputError(
            _("This model's tokenizer has no token for the end of a text. Choose another model.")
        )
    return int(end)


def ended(tokenizer: PreTrainedTokenizerBase, text: str, end: int) -> list[int]:
    """Return a target as tokens with `end` at their end, and there alone: a GPT's tokenizer begins with it."""
    ids = list(tokenizer(text_target=text, truncation=True, max_length=WHOLE)["input_ids"])
    if ids[:1] == [end]:
        ids = ids[1:]
    return ids if ids[-1:] == [end] else [*ids, end]


def cut(ids: Sequence[int], most: int, ends: Sequence[int]) -> list[int]:
    """Return at most so many tokens; where the last one is one of those that end a text, it stays."""
    if len(ids) > most and ids[-1] in ends:
        return [*ids[: most - 1], ids[-1]]
    return list(ids[:most])

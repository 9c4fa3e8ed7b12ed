"""A text with masks that a person asks about: as the model reads it, and with the words that it finds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afina.core import Batch, Row
from afina.errors import InputError, RowError
from afina.messages import _
from afina.tasks._masks import IGNORED
from afina.tasks._windows import WHOLE

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

MASK = "[MASK]"  # what a person may write for a hidden word, whatever the tokenizer's own token is
ON = "##"  # before a piece that goes on with a word, as WordPiece writes it
FOLLOWS, NOT = "IsNext", "NotNext"  # the paper's words for a second sentence


def parted(given: Any, column: str | None) -> list[Any]:
    """Return the one text or two that are given: a text, a list, a text with tabs, or a row; InputError if more."""
    texts: list[Any] = [given]
    if isinstance(given, Mapping):
        texts = [given.get(column, given.get("text")), given.get("text_pair") or None]
    elif isinstance(given, str):
        texts = given.split("\t")
    elif isinstance(given, list | tuple):
        texts = list(given)
    if len(texts) == 2 and isinstance(texts[1], str) and not texts[1].strip():
        texts.pop()  # an empty second text is none
    if len(texts) > 2:
        sentence = _("this model reads one text, or two with a tab between them, but here are {n}: {given}.")
        raise InputError(sentence.format(n=len(texts), given=str(given)[:80]))
    return texts


def questions(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int, *, nsp: bool
) -> list[Row]:
    """Return asked rows as the tokenizer writes them, with their `texts` parted at their masks.

    Raises RowError where there is nothing to answer, or more text than the model reads.
    """
    return [_question(row, tokenizer, max_length, nsp) for row in rows]


def _question(row: Row, tokenizer: PreTrainedTokenizerBase, max_length: int, nsp: bool) -> Row:
    mask = str(tokenizer.mask_token)
    texts = [row[name].replace(MASK, mask) for name in ("text", "text_pair") if name in row]
    # Here, and nowhere else, a mask that a person has written is one.
    encoded = tokenizer(*texts, truncation=True, max_length=WHOLE, split_special_tokens=False)
    ids = list(encoded["input_ids"])
    error = None
    if len(ids) > max_length:
        error = _("the text has {n} tokens, but the model reads at most {most}. Give a shorter one.").format(
            n=len(ids), most=max_length
        )
    elif tokenizer.mask_token_id not in ids and len(texts) == 1:
        error = _(
            "there is nothing to guess. Write {mask} for each word that is to be guessed, or give two sentences with "
            "a tab between them."
        ).format(mask=mask)
    elif tokenizer.mask_token_id not in ids and not nsp:
        error = _(
            "this model has not learnt which sentence follows another, and there is no {mask} to be filled."
        ).format(mask=mask)
    if error:
        raise RowError(error, row, error)
    types = encoded.get("token_type_ids") or []
    second = types.index(1) if 1 in types else len(ids)
    return {"input_ids": ids, "second": second, "texts": [text.split(mask) for text in texts]}


def word(token: int, tokenizer: Any) -> str:
    """Return a token as a person reads it; ## before it says that it goes on with the word before."""
    from afina.models.pieces import pieces

    text = tokenizer.decode([token], clean_up_tokenization_spaces=False).strip()
    return f"{ON}{text}" if pieces(tokenizer).on[token] and not text.startswith(ON) else text


def filled(batch: Batch, words: Tensor, next_: Tensor | None, top_k: int) -> list[dict[str, Any]]:
    """Return the answers to asked rows, of `words` [masks, vocabulary] and `next_` [rows, 2], logits both.

    An answer is the row's `texts`, by mask the likeliest words with their probabilities, and that of `next`.
    """
    tokenizer: Any = batch.tokenizer
    shares = words.float().softmax(-1)
    shares[:, tokenizer.all_special_ids] = 0  # an unknown word is no answer
    best = shares.topk(min(top_k, shares.shape[1]), dim=-1)
    told = [
        [{"word": word(token, tokenizer), "probability": share} for token, share in zip(*row, strict=True)]
        for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    follows = [None] * len(batch.rows) if next_ is None else next_.float().softmax(-1)[:, 0].tolist()
    owner = (batch.tensors["labels"] != IGNORED).nonzero()[:, 0].tolist()
    return [
        {
            "texts": row["texts"],
            "masks": [told[mask] for mask, its in enumerate(owner) if its == i],
            "next": follows[i] if len(row["texts"]) == 2 else None,
        }
        for i, row in enumerate(batch.rows)
    ]


def told(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person is told of an answer of `filled`: texts, how likely all masks are, which text follows."""
    masks, follows = answer["masks"], answer["next"]
    told: dict[str, Any] = {"prediction": None, "probability": None}
    if follows is not None:
        told = {
            "prediction": FOLLOWS if follows >= 0.5 else NOT,
            "probability": max(follows, 1 - follows),
        }
    if masks:
        told = {"prediction": _with_words(answer["texts"], masks)}
        told["probability"] = math.prod(words[0]["probability"] for words in masks)
        told["masks"] = masks
    if follows is not None:
        told["next"] = {FOLLOWS: follows, NOT: 1 - follows}
    return told


def _with_words(texts: Sequence[Sequence[str]], masks: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """Return the texts with the likeliest word at each mask, a tab between two texts."""
    words, filled = iter(masks), []
    for first, *rest in texts:
        text = first
        for part in rest:
            word = next(words)[0]["word"]
            text = text.rstrip() + word.removeprefix(ON) if word.startswith(ON) else text + word
            text += part
        filled.append(text)
    return "\t".join(filled)

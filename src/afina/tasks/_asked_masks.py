"""A text with masks that a person asks about: as the model reads it, and with the words that it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afina.core import Batch, Row
from afina.errors import InputError
from afina.messages import _
from afina.tasks._masks import IGNORED
from afina.tasks._windows import WHOLE

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

MASK = "[MASK]"  # what a person may write for a hidden word, whatever the tokenizer's own token is
ON = "##"  # before a piece that goes on with a word, as WordPiece writes it


def question(number: int, row: Row, tokenizer: PreTrainedTokenizerBase, max_length: int, nsp: bool) -> Row:
    """Return an asked row as the tokenizer writes it, with its `texts` parted at their masks.

    Raises InputError where there is nothing to answer, or more text than the model reads.
    """
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
        raise InputError(_("Row {number}: {error}").format(number=number, error=error))
    types = encoded.get("token_type_ids") or []
    second = types.index(1) if 1 in types else len(ids)
    return {"input_ids": ids, "second": second, "texts": [text.split(mask) for text in texts]}


def word(token: int, tokenizer: Any) -> str:
    """Return a token as a person reads it; ## before it says that it goes on with the word before."""
    from afina.models.pieces import pieces

    text = tokenizer.decode([token], clean_up_tokenization_spaces=False).strip()
    return f"{ON}{text}" if pieces(tokenizer).on[token] and not text.startswith(ON) else text


def filled(batch: Batch, words: Tensor, next_: Tensor | None, top_k: int) -> list[dict[str, Any]]:
    """Return the answers to asked rows, of `words` [masks, vocabulary] and `next_` [rows, 2], logits both."""
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


def fill(texts: Sequence[Sequence[str]], masks: Sequence[Sequence[Mapping[str, Any]]]) -> str:
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

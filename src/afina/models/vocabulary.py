"""Whole words that a tokenizer cuts to pieces, as tokens of their own, and the model's rows for them."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.errors import InputError
from afina.messages import _

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

PIECES = 3  # a word in fewer is known well enough
LEAST = 10  # times that a word must stand in the text: a row that is seldom asked for learns nothing


def broken_words(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, most: int) -> list[str]:
    """Return at most `most` words of letters, those first that would spare the text most tokens.

    A word is what the tokenizer cuts before it looks into its vocabulary, in that form (`Ġdolor` for a GPT's " dolor").
    Raises InputError where no word is frequent and in PIECES pieces or more.
    """
    backend = _extendable(tokenizer)
    counted: Counter[str] = Counter()
    for text in texts:
        plain = backend.normalizer.normalize_str(text) if backend.normalizer else text
        counted.update(word for word, _place in backend.pre_tokenizer.pre_tokenize_str(plain))
    known, spared = tokenizer.get_vocab(), {}
    for word, times in counted.items():
        if times < LEAST or word in known or not backend.decoder.decode([word]).strip().isalpha():
            continue
        pieces = len(backend.model.tokenize(word))
        if pieces >= PIECES:
            spared[word] = times * (pieces - 1)
    if not spared:
        raise InputError(
            _(
                "No word stands {least} times in the text and is cut into {pieces} pieces or more: leave out --add-tokens."
            ).format(least=LEAST, pieces=PIECES)
        )
    return sorted(spared, key=lambda word: (-spared[word], word))[:most]


def extended(tokenizer: PreTrainedTokenizerBase, words: list[str]) -> PreTrainedTokenizerBase:
    """Return a copy that has the `words` as tokens; a text without them is cut as before.

    A WordPiece model finds them only where they stand whole, or words that begin alike would change. Byte-level pairs
    get them as entries that count before the merges do.
    """
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    form = json.loads(_extendable(tokenizer).to_str())
    if form["model"]["type"] == "WordPiece":
        longer = copy.deepcopy(tokenizer)
        longer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
        return longer
    form["model"]["vocab"] |= {word: len(tokenizer) + i for i, word in enumerate(words)}
    form["model"]["ignore_merges"] = True
    # Of the general class: those of GPT-2, RoBERTa and others rebuild themselves when they are read, without the entries.
    signs = tokenizer.special_tokens_map | {"extra_special_tokens": tokenizer.extra_special_tokens}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(form)),
        model_input_names=tokenizer.model_input_names,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        chat_template=tokenizer.chat_template,
        clean_up_tokenization_spaces=False,
        **signs,
    )


def check(tokenizer: PreTrainedTokenizerBase, words: list[str], folder: Path) -> None:
    """Raise InputError where `tokenizer`, read back from `folder`, does not know the words: its class rebuilds itself."""
    known = tokenizer.get_vocab()
    backend: Any = tokenizer
    if not all(word in known and _whole(backend.backend_tokenizer, word) for word in words):
        raise InputError(
            _("The tokenizer in {folder} cannot take new words: leave out --add-tokens.").format(
                folder=folder
            )
        )


def grow(model: nn.Module, shorter: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase) -> nn.Module:
    """Return the model with a row for every token that `tokenizer` has and `shorter` lacks, changed in place.

    A new row is the mean of those of the word's pieces, in the embeddings and, where they are not tied to these, in
    the weights and the bias of the vocabulary head (Hewitt 2021; Gee et al. 2022).
    """
    import torch

    body: Any = model
    first, total = len(shorter), len(tokenizer)
    if total > body.get_input_embeddings().weight.shape[0]:
        body.resize_token_embeddings(total, mean_resizing=False)
    pieces_of: Any = shorter
    pieces_of = pieces_of.backend_tokenizer.model.tokenize
    head = body.get_output_embeddings()
    rows = {
        id(each): each
        for each in (body.get_input_embeddings().weight, head.weight, head.bias)
        if each is not None
    }
    with torch.no_grad():
        for token in range(first, total):
            pieces = [piece.id for piece in pieces_of(tokenizer.convert_ids_to_tokens(token))]
            for row in rows.values():
                row[token] = row[pieces].mean(0)
    return model


def _extendable(tokenizer: PreTrainedTokenizerBase) -> Any:
    """Return the backend of a tokenizer of a kind that can take whole words."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    form = json.loads(backend.to_str()) if backend else {"model": {"type": None}}
    kind, decoder = form["model"]["type"], (form.get("decoder") or {}).get("type")
    if kind == "WordPiece" or (kind == "BPE" and decoder == "ByteLevel"):
        return backend
    raise InputError(
        _(
            "--add-tokens extends tokenizers of the kinds WordPiece (BERT) and byte-level BPE (GPT), and this model's is "
            "another one. Leave it out."
        )
    )


def _whole(backend: Any, word: str) -> bool:
    text = backend.decoder.decode([word])
    return word in backend.encode(text, add_special_tokens=False).tokens

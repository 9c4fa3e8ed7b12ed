"""Which tokens go on with a word that the token before them began, as each family of tokenizers marks it."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

SPACES = ("Ġ", "▁")  # how byte-level pairs and SentencePiece write the space before a word


class Pieces(NamedTuple):
    """By token id: may it go `on` with a word, and may a word be `open` after it? Special tokens do neither."""

    on: np.ndarray
    open: np.ndarray

    def starts(self, ids: np.ndarray) -> np.ndarray:
        """Return which of the tokens of a row begin a word, or stand for themselves."""
        found = np.ones(len(ids), dtype=bool)
        found[1:] = ~(self.on[ids[1:]] & self.open[ids[:-1]])
        return found


@lru_cache(maxsize=4)
def pieces(tokenizer: Any) -> Pieces:
    """Return the pieces of a tokenizer's vocabulary: WordPiece marks those within a word, others the space before one.

    Where spaces are marked, a letter or digit without one goes on with a word after a letter or digit: so that a
    comma is no part of the word before it.
    """
    ids = list(range(len(tokenizer)))
    tokens = tokenizer.convert_ids_to_tokens(ids)
    prefix = getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None)
    if prefix:
        on = np.array([token.startswith(prefix) for token in tokens])
        open_ = np.ones(len(ids), dtype=bool)
    else:
        texts = tokenizer.batch_decode([[each] for each in ids], clean_up_tokenization_spaces=False)
        on = np.array(
            [
                not token.startswith(SPACES) and _of_a_word(text[:1])
                for token, text in zip(tokens, texts, strict=True)
            ]
        )
        open_ = np.array([_of_a_word(text[-1:]) for text in texts])
    on[tokenizer.all_special_ids] = open_[tokenizer.all_special_ids] = False
    return Pieces(on, open_)


def _of_a_word(sign: str) -> bool:
    """Whether it is a letter, a digit, or a part of a sign whose bytes were parted."""
    return sign.isalnum() or sign == "\N{REPLACEMENT CHARACTER}"

"""A row's tokens and their tags: checked, placed in one text, and without those that are blank."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from afina.core import Row, mended
from afina.data.spans import located
from afina.data.value import label_text
from afina.errors import InputError
from afina.messages import _
from afina.scoring import entities as spans_of
from afina.tasks._tag_columns import NO_TEXT, SHOWN


def placed(tokens: Sequence[Any], whole: Any) -> Row:
    """Return the text of the tokens, which is `whole` where that is one and holds them, and the places of its words.

    Tokens that are empty or blank are no words. InputError where a token is no text.
    """
    for n, token in enumerate(tokens, 1):
        if isinstance(token, NO_TEXT):
            raise InputError(_("token {n} is {value}, no text.").format(n=n, value=str(token)[:SHOWN]))
    words = [mended(str(token)) for token in tokens if not is_blank(token)]
    text, places = located(words, mended(whole) if isinstance(whole, str) else None)
    return {"text": text, "words": places}


def checked(value: Any, tokens: Sequence[Any], column: str | None) -> list[str]:
    """Return a row's tags as texts; InputError where they are not one a token."""
    if not isinstance(value, list):
        raise InputError(
            _("column '{column}' holds {value}, no list of tags.").format(
                column=column, value=str(value)[:SHOWN]
            )
        )
    if len(value) != len(tokens):
        raise InputError(
            _("there are {words} tokens but {tags} tags in column '{column}'; each token needs one.").format(
                words=len(tokens), tags=len(value), column=column
            )
        )
    found = [label_text(tag) for tag in value]
    if None in found:
        raise InputError(_("token {n} has no tag.").format(n=found.index(None) + 1))
    return [tag for tag in found if tag is not None]


def tags_of_words(tags: Sequence[str], tokens: Sequence[Any]) -> list[str]:
    """Return the tags of the tokens that are not blank."""
    return [tag for tag, token in zip(tags, tokens, strict=True) if not is_blank(token)]


def entities_of_words(tags: Sequence[str], tokens: Sequence[Any]) -> list[tuple[int, int, str]]:
    """Return the entities that tags mark, counted in words that are not blank; one of blanks alone is none."""
    place = [0, *accumulate(not is_blank(token) for token in tokens)]
    chunks = [(place[first], place[end], kind) for first, end, kind in spans_of.chunks(tags)]
    return [chunk for chunk in chunks if chunk[0] < chunk[1]]


def is_blank(token: Any) -> bool:
    """Return whether a token is missing, empty or of blanks alone."""
    return token is None or not str(token).strip()

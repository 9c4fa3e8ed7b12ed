"""The value of a cell as a text, or as a label of one spelling."""

import unicodedata
from typing import Any

from afina.data.number import MISSING
from afina.errors import InputError
from afina.messages import _


def label_text(value: Any) -> str | None:
    """Return a label's one spelling, None where there is no label (None, blank, NaN, however it is written).

    Strings keep their spelling but for blanks around them and the Unicode form (NFC); true and false are
    written as in JSON; whole floats as integers, since one missing value turns pandas' integers into floats.
    Raises InputError for a list.
    """
    if _is_none(value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (list, tuple, dict)):
        sentence = _("A row has the label {value}; here a row must have one label, not several.")
        raise InputError(sentence.format(value=value))
    label = unicodedata.normalize("NFC", str(value)).strip()
    return None if label.lower() in MISSING else label


def text_of(value: Any) -> str | None:
    """Return a text as a tokenizer takes it, None where there is none (None, NaN).

    Raises InputError for a list, an object or bytes.
    """
    if _is_none(value):
        return None
    if isinstance(value, (list, tuple, dict, bytes)):
        sentence = _("A row has {value} where a text should be; give the texts as strings.")
        shown = repr(value)
        raise InputError(sentence.format(value=shown[:60] + "…" if len(shown) > 60 else shown))
    # A shell may hand on bytes that are no UTF-8, Python half a character.
    return str(value).encode("utf-8", "replace").decode()


def _is_none(value: Any) -> bool:
    return value is None or value != value  # NaN alone differs from itself

"""A cell as a number, however its decimals and thousands are marked."""

import math
import re
from collections.abc import Collection, Sequence
from typing import Any

from afina.errors import InputError
from afina.messages import _

# How pandas and spreadsheets write that there is nothing.
MISSING = frozenset(("", "nan", "<na>", "#n/a"))
COMMA_OR_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
POINT_OR_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")
DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+")
# Two signs, or one sign twice, cannot be misread: 1.250,5 and 1,250.5 and 1.250.000.
THOUSANDS = re.compile(r"[+-]?\d{1,3}((\.\d{3})+,\d+|(,\d{3})+\.\d+|(\.\d{3}){2,}|(,\d{3}){2,})")


def number(value: Any) -> float | None:
    """Return a cell as a finite number, None where it is blank (None, NaN, no sign).

    A decimal comma is read where it can be nothing else. Raises InputError for whatever is no number.
    """
    if value is None or value != value:
        return None
    text = value
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in MISSING:
            return None
        if COMMA_OR_THOUSANDS.fullmatch(text):
            raise InputError(_two_numbers(text, ","))
        text = _plain(text)
    try:
        found = float("nan" if isinstance(text, bool) else text)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        sentence = _("{value!r} is no number. Correct it, or leave the cell empty to leave the row out.")
        raise InputError(sentence.format(value=value))
    return found


def are_numbers(values: Collection[Any]) -> bool:
    """Whether all values that are there are numbers and one is; what may be two numbers is one."""
    clear = [value for value in values if not (isinstance(value, str) and _is_unclear(value))]
    try:
        found = [number(value) for value in clear]
    except InputError:
        return False
    return len(clear) < len(values) or any(value is not None for value in found)


def check_signs(values: Sequence[Any], source: str) -> None:
    """Raise InputError where a column with decimal commas also has a point that may part thousands: 3,5 and 1.250."""
    texts = [value.strip() if isinstance(value, str) else "" for value in values]
    if not any(DECIMAL_COMMA.fullmatch(text) for text in texts):
        return
    for place, text in enumerate(texts, 1):
        if POINT_OR_THOUSANDS.fullmatch(text):
            error = _two_numbers(text, ".") + " " + _("Other numbers of the column have a decimal comma.")
            sentence = _("{source}, row {number}: {error}")
            raise InputError(sentence.format(source=source, number=place, error=error))


def _is_unclear(text: str) -> bool:
    return bool(COMMA_OR_THOUSANDS.fullmatch(text.strip()))


def _plain(text: str) -> str:
    """Return a number as Python writes it; what is none stays none."""
    if "_" in text:
        return "nan"  # Python's own 1_000, which nobody means
    if THOUSANDS.fullmatch(text):
        last = max(text.rfind(","), text.rfind("."))
        whole, decimals = (text[:last], text[last + 1 :]) if text.count(text[last]) == 1 else (text, "0")
        return f"{re.sub('[,.]', '', whole)}.{decimals}"
    return text.replace(",", ".") if DECIMAL_COMMA.fullmatch(text) else text


def _two_numbers(text: str, sign: str) -> str:
    sentence = _("{value!r} may be {point} or {plain}. Write it with a decimal point, or without the {sign}.")
    names = {",": _("comma"), ".": _("point")}
    return sentence.format(
        value=text, point=text.replace(",", "."), plain=text.replace(sign, ""), sign=names[sign]
    )

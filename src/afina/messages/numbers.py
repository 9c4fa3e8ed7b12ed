"""Numbers as the reader's language writes them: 12,345.678 in English, 12 345,678 in Spanish."""

from afina.messages import language

THIN = "\u202f"  # narrow no-break space: the thousands separator of the Spanish academies and of ISO 80000


def number(value: float | None, digits: int = 0, *, sign: bool = False) -> str:
    """Return `value` with `digits` decimals, a real minus and, where asked for, a plus; a dash for None."""
    if value is None:
        return "–"
    text = f"{abs(value):,.{digits}f}"
    if language() == "es":
        whole, point, decimals = text.partition(".")
        # Spanish does not group four digits.
        whole = whole.replace(",", "" if len(whole) == 5 else THIN)
        text = whole + ("," if point else "") + decimals
    shown = round(value, digits)
    return ("−" if shown < 0 else "+" if sign and shown > 0 else "") + text


def plain(value: float) -> str:
    """Return `value` with as many decimals as it has, ungrouped: 0.0005 in English, 0,0005 in Spanish."""
    text = f"{value:g}"
    return text.replace(".", ",") if language() == "es" else text

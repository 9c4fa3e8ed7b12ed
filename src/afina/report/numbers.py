"""Shares, intervals, times and p-values as a report writes them."""

from afina.messages import _
from afina.messages.numbers import THIN, number


def share(value: float | None, digits: int = 0) -> str:
    """Return a share between 0 and 1 as a percentage."""
    return "–" if value is None else f"{number(100 * value, digits)}{THIN}%"


def interval(low: float | None, high: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Return the two ends of an interval, or that there is none."""
    if low is None or high is None:
        return _("too few rows for an interval")
    return _("{low} to {high}").format(
        low=number(low, digits, sign=sign), high=number(high, digits, sign=sign)
    )


def duration(seconds: float | None) -> str:
    """Return a time in the two largest units that it fills."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{number(seconds, 1)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{number(minutes // 60)} h {minutes % 60} min"


def p_value(p: float | None) -> str:
    """Return a p-value as statistics texts write it, never as zero."""
    if p is None:
        return "–"
    return f"p\u00a0<\u00a0{number(0.001, 3)}" if p < 0.001 else f"p\u00a0=\u00a0{number(p, 3)}"

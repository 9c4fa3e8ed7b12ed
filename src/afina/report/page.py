"""The templates' surroundings, and the only way in which a page reaches the disk."""

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.messages import _, language
from afina.messages.numbers import number
from afina.report import numbers, terms, words

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~])")


def environment(*, html: bool) -> "Environment":
    """Return the templates with the functions they call; in HTML whatever is put in is escaped.

    In Markdown nothing is escaped by itself: texts from outside go through the filter `md`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {"_": _, "language": language, "words": words, "terms": terms} | {
        function.__name__: function
        for function in (
            number,
            numbers.share,
            numbers.interval,
            numbers.duration,
            numbers.p_value,
            terms.name,
            terms.capital,
            literal,
        )
    }
    made.filters |= {"md": markdown}
    return made


def literal(value: Any) -> str:
    """Return a text or a dictionary of texts as Python writes it."""
    return json.dumps(value, ensure_ascii=False)


def markdown(text: Any) -> str:
    """Return a text from outside as one line that Markdown shows as it is."""
    return MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def save(file: Path, text: str) -> None:
    """Write the file whole or not at all."""
    half = file.with_name(file.name + ".tmp")
    # A label or text may hold half of a surrogate pair, which UTF-8 does not have.
    half.write_bytes(text.encode("utf-8", errors="replace"))
    os.replace(half, file)

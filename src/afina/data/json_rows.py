"""JSON and JSON Lines to a table; values keep their types."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from afina.core import Row, Table
from afina.data import records, split, squad
from afina.data.stream import Lines, Stream
from afina.errors import InputError
from afina.messages import _

SURROGATE = re.compile("[\ud800-\udfff]")


def parse_json(text: str, source: str, notes: list[str]) -> Table:
    """Read a list of objects, an object with one list of objects, an object of parts, or one of columns.

    Parts (`{"train": [...], "test": [...]}`) give a column `split`; SQuAD's articles one row a question. A file
    with one object a line is read as JSON Lines. Raises InputError with line and column where the JSON is broken.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            return parse_jsonl(text, source, notes)
        raise InputError(_broken(source, error.lineno, error)) from error
    except RecursionError as error:
        raise InputError(_("{source} is nested too deeply to be a table.").format(source=source)) from error
    except ValueError as error:
        sentence = _("{source} holds a number of too many digits. Shorten it, or write it as a string.")
        raise InputError(sentence.format(source=source)) from error
    return _table(_rows(value, source), text, source, notes)


def parse_jsonl(text: str, source: str, notes: list[str]) -> Table:
    """Read one object a line, blank lines left out; a JSON list over many lines is read as JSON.

    Raises InputError with the line where one is broken or no object.
    """
    if text.lstrip().startswith("["):
        return parse_json(text, source, notes)
    return _table(list(by_line(text.split("\n"), source)), text, source, notes)


def stream(lines: Lines, source: str, notes: Sequence[str]) -> Stream | None:
    """Read one object a line as `parse_jsonl` does, without keeping them; None for what is read whole."""
    if first_sign(lines) == "[":
        return None
    found = records.stream(lambda: by_line(lines("\n"), source), source, notes)
    if "paragraphs" in found.columns and any(squad.is_squad([row]) for row in found.rows()):
        return None
    return found


def first_sign(lines: Lines) -> str:
    """Return the first character that is no blank."""
    return next((line.lstrip()[0] for line in lines("\n") if line.strip()), "")


def by_line(lines: Iterable[str], source: str) -> Iterator[Row]:
    """Yield the object of each line that is not blank; the lines must not be those of splitlines, which also cuts at
    U+2028 and others that JSON strings may hold."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = value_of(line.rstrip("\n"), number, source)
        if not isinstance(row, dict):
            sentence = _('Line {line} of {source} is no JSON object ({{"column": value, ...}}).')
            raise InputError(sentence.format(line=number, source=source))
        yield _whole_characters([row], line)[0]


def value_of(line: str, number: int, source: str) -> Any:
    """Return what a line of JSON Lines holds; InputError with its number where it cannot be read."""
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(_broken(source, number, error)) from error
    except RecursionError as error:
        sentence = _("Line {line} of {source} is nested too deeply to be a row.")
        raise InputError(sentence.format(line=number, source=source)) from error
    except ValueError as error:  # Python's own limit, against numbers that take minutes to read
        sentence = _(
            "Line {line} of {source} holds a number of too many digits. Shorten it, or write it as a string."
        )
        raise InputError(sentence.format(line=number, source=source)) from error


def _table(rows: list[Row], text: str, source: str, notes: list[str]) -> Table:
    if squad.is_squad(rows):
        rows = squad.flat(rows, source)
    return records.table(_whole_characters(rows, text), source, notes)


def _rows(value: Any, source: str) -> list[Row]:
    if isinstance(value, list):
        return _objects(value, source)
    if not isinstance(value, dict) or not value:
        raise InputError(_no_table(source))
    lists = {name: inner for name, inner in value.items() if isinstance(inner, list)}
    of_objects = {name: inner for name, inner in lists.items() if inner and isinstance(inner[0], dict)}
    if len(of_objects) == len(value) and all(name.lower() in split.PARTS for name in of_objects):
        return [
            {**row, "split": name} for name, inner in of_objects.items() for row in _objects(inner, source)
        ]
    if len(of_objects) == 1:
        return _objects(next(iter(of_objects.values())), source)
    if all(
        isinstance(inner, dict) for inner in value.values()
    ):  # as pandas writes it: column → index → value
        value = {name: list(inner.values()) for name, inner in value.items()}
        lists = value
    if len(lists) != len(value):
        raise InputError(_no_table(source))
    if len({len(inner) for inner in lists.values()}) > 1:
        lengths = ", ".join(f"{name}: {len(inner)}" for name, inner in lists.items())
        sentence = _("The columns of {source} are not of one length ({lengths}).")
        raise InputError(sentence.format(source=source, lengths=lengths))
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def _objects(values: list[Any], source: str) -> list[Row]:
    if values and all(isinstance(value, str) for value in values):
        return [{"text": value} for value in values]
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            sentence = _('Entry {number} of the list in {source} is no object ({{"column": value, ...}}).')
            raise InputError(sentence.format(number=number, source=source))
    return values


def _whole_characters(rows: list[Row], text: str) -> list[Row]:
    # JSON can spell half a character (an emoji cut in two), which no tokenizer and no file accepts.
    return _mend(rows) if "\\ud" in text or "\\uD" in text else rows


def _mend(value: Any) -> Any:
    if isinstance(value, str):
        return SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mend(inner) for inner in value]
    if isinstance(value, dict):
        return {_mend(name): _mend(inner) for name, inner in value.items()}
    return value


def _broken(source: str, line: int, error: json.JSONDecodeError) -> str:
    sentence = _("{source} is not valid JSON at line {line}, column {column}: {reason}.")
    return sentence.format(source=source, line=line, column=error.colno, reason=error.msg)


def _no_table(source: str) -> str:
    return _(
        '{source} is JSON but no table. Give a list of objects: [{{"text": "...", "label": "..."}}, ...].'
    ).format(source=source)

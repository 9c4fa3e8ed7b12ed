"""From a list of objects to a table."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from afina.core import Row, Table
from afina.data.stream import Stream
from afina.errors import InputError
from afina.messages import _


def table(records: Sequence[Row], source: str, notes: Iterable[str] = ()) -> Table:
    """Return a table whose columns are all keys, as they first appear; what a row lacks is None.

    Raises InputError where there is no row or no column.
    """
    return stream(lambda: iter(records), source, notes).whole()


def stream(records: Callable[[], Iterator[Row]], source: str, notes: Iterable[str] = ()) -> Stream:
    """Return the same of records that are not kept: `records` gives them from the beginning each time."""
    columns: dict[str, Any] = {}
    empty = True
    for record in map(_by_language, records()):
        empty = False
        if record.keys() != columns.keys():
            columns.update(dict.fromkeys(record))
    if empty:
        raise InputError(_("{source} holds no rows.").format(source=source))
    if not columns:
        raise InputError(_("The rows of {source} are empty.").format(source=source))

    def rows() -> Iterator[Row]:
        for record in map(_by_language, records()):
            yield {column: record.get(column) for column in columns}

    return Stream(rows, tuple(columns), source, tuple(notes))


def _by_language(record: Row) -> Row:
    """Return the record with a column a language where one `translation` holds them all, as in WMT's sets."""
    texts = record.get("translation")
    if not isinstance(texts, dict) or texts.keys() & record.keys():
        return record
    return {name: value for name, value in record.items() if name != "translation"} | texts

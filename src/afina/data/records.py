"""From a list of objects to a table."""

from collections.abc import Iterable, Sequence
from typing import Any

from afina.core import Row, Table
from afina.errors import InputError
from afina.messages import _


def table(records: Sequence[Row], source: str, notes: Iterable[str] = ()) -> Table:
    """Return a table whose columns are all keys, as they first appear; what a row lacks is None.

    Raises InputError where there is no row or no column.
    """
    if not records:
        raise InputError(_("{source} holds no rows.").format(source=source))
    records = [_by_language(record) for record in records]
    columns: dict[str, Any] = {}
    for record in records:
        if record.keys() != columns.keys():
            columns.update(dict.fromkeys(record))
    if not columns:
        raise InputError(_("The rows of {source} are empty.").format(source=source))
    rows = [{column: record.get(column) for column in columns} for record in records]
    return Table(rows, tuple(columns), source, tuple(notes))


def _by_language(record: Row) -> Row:
    """Return the record with a column a language where one `translation` holds them all, as in WMT's sets."""
    texts = record.get("translation")
    if not isinstance(texts, dict) or texts.keys() & record.keys():
        return record
    return {name: value for name, value in record.items() if name != "translation"} | texts

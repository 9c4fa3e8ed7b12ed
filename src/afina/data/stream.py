"""Rows that are read as they are asked for, so that a file may be larger than memory."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from afina.core import Row, Table

Lines = Callable[[str | None], Iterator[str]]
"""The lines of a text from its beginning, their ends known as `open` does it with `newline`."""

LOOKED_AT = 1000  # rows, to guess columns by
ROWS = 1024  # of a block
CHARACTERS = 2**22  # of its rows together; one row alone may have more


@dataclass(frozen=True)
class Stream:
    """A table whose rows are read from the file anew each time; the rest was found by reading all of it before."""

    rows: Callable[[], Iterator[Row]]
    columns: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()

    @classmethod
    def out_of(cls, table: Table) -> "Stream":
        """Return the rows of a table."""
        return cls(lambda: iter(table.rows), table.columns, table.source, table.notes)

    def blocks(self, columns: Collection[str] | None = None) -> Iterator[list[Row]]:
        """Yield the rows, some at a time, of each only `columns` where these are named."""
        return blocks(self.rows(), columns)

    def whole(self) -> Table:
        """Return the table with all its rows."""
        return Table(list(self.rows()), self.columns, self.source, self.notes)

    def beginning(self) -> Table:
        """Return the table with its first rows only: what columns are guessed by."""
        return Table(next(blocks(self.rows(), most=LOOKED_AT), []), self.columns, self.source, self.notes)


def blocks(
    rows: Iterator[Row], columns: Collection[str] | None = None, most: int | None = None
) -> Iterator[list[Row]]:
    """Yield the rows in lists of `most` (by default ROWS) and CHARACTERS at most, of each only `columns` where these are named."""
    block: list[Row] = []
    size = 0
    for row in rows:
        if columns is not None:
            row = {column: value for column, value in row.items() if column in columns}
        length = sum(len(str(value)) for value in row.values())
        if block and (len(block) == (most or ROWS) or size + length > CHARACTERS):
            yield block
            block, size = [], 0
        block.append(row)
        size += length
    if block:
        yield block


def after(lines: Lines, first: str) -> Lines:
    """Return the lines with another one in the place of the first."""
    return lambda newline: chain([first], islice(lines(newline), 1, None))

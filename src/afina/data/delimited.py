"""CSV and its relatives to a table; every value is a string, a missing cell is empty."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice, takewhile
from typing import Any

from afina.core import Row
from afina.data.column_names import is_known
from afina.data.stream import CHARACTERS, Lines, Stream, after
from afina.errors import InputError
from afina.messages import N_, _

# In the order in which they win where two would do: a comma is the likeliest to be part of the text.
DELIMITERS = {"\t": N_("a tab"), ";": N_("a semicolon"), "|": N_("a vertical bar"), ",": N_("a comma")}
ONE_COLUMN = "\x1f"
END = "\x1e"
EXCEL = re.compile(r'"?sep=(.)"?\r?\n')
LARGEST = 2**25  # characters of a cell
SENTENCE_OR_NUMBER = re.compile(r"[;:!?¿¡…]|[.,](\s|$)|^[-+.,\d]+$")

Record = tuple[int, list[str]]
"""The line where it begins, counted from 1, and its cells."""


def stream(lines: Lines, source: str, notes: Sequence[str]) -> Stream:
    """Read delimited text, with or without a header; the delimiter is the one that fits most lines.

    Quoting as in RFC 4180, mended where every row still has the header's width. Raises InputError for no
    rows, a row with too many cells, a quotation mark that never closes, and columns of one name. All of it is
    read once to know that; the rows are not kept.
    """
    notes = list(notes)
    directive = EXCEL.fullmatch(next(lines(""), ""))
    if directive:
        lines = after(lines, "\n")  # the empty line keeps the count
    delimiter = directive[1] if directive else find_delimiter(lines) or ONE_COLUMN
    if delimiter not in (",", ONE_COLUMN):
        name = _(DELIMITERS.get(delimiter, delimiter))
        notes.append(_("The columns of {source} are separated by {name}.").format(source=source, name=name))
    records, found, mended = _read(lines, delimiter, source)
    if mended:
        sentence = _("Quotation marks at line {line} of {source} do not follow CSV's rules; check that row.")
        notes.append(sentence.format(line=mended, source=source))
    if not found.filled:
        raise InputError(_("{source} holds no rows.").format(source=source))
    if found.filled < found.records:
        sentence = _("Empty rows of {source} that were left out: {count}.")
        notes.append(sentence.format(count=found.records - found.filled, source=source))
    has_header = _is_header(found)
    header = found.first
    if not has_header:
        header = ["text"] if len(header) == 1 else [f"column_{n}" for n, _cell in enumerate(header, 1)]
        sentence = _("{source} seems to have no column names; its columns are called {names}.")
        notes.append(sentence.format(source=source, names=", ".join(header)))
    elif found.filled == 1:
        raise InputError(_("{source} holds column names but no rows.").format(source=source))
    names = [name.strip() or f"column_{number}" for number, name in enumerate(header, 1)]
    for name in names:
        if names.count(name) > 1:
            sentence = _("{source} has more than one column '{name}'. Give each a name of its own.")
            raise InputError(sentence.format(source=source, name=name))
    if found.too_wide:
        raise InputError(_too_many(*found.too_wide, len(names), delimiter, source))
    if found.short:
        sentence = _(
            "Rows of {source} with too few cells, whose last ones were taken as empty: {count} (first at "
            "line {line}). A text of several lines must be in quotes."
        )
        notes.append(sentence.format(source=source, count=found.short, line=found.short_at))
    # Spreadsheets leave columns without a name and without content behind.
    kept = [
        (place, name)
        for place, (name, given, holds) in enumerate(zip(names, header, found.holds, strict=True))
        if given.strip() or holds
    ]

    def rows() -> Iterator[Row]:
        filled = (cells for _line, cells in records() if any(map(str.strip, cells)))
        for cells in islice(filled, int(has_header), None):
            yield {name: cells[place] if place < len(cells) else "" for place, name in kept}

    return Stream(rows, tuple(name for _place, name in kept), source, tuple(notes))


def find_delimiter(lines: Lines) -> str | None:
    """Return what separates the columns, by the first thousand rows, fewer where they are wide; None where there is only one column."""
    found: list[tuple[int, float, int, str]] = []
    for order, delimiter in enumerate(DELIMITERS):
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            records = _beginning(_records(lines, delimiter=delimiter, quoting=quoting))
            try:
                _line, first = next(records, (0, []))
                widths = [len(first), *(len(cells) for _line, cells in records)]
            except _FaultError:  # a mark that is left open swallows more than any cell holds
                continue
            if len(first) < 2:
                continue
            agree = widths.count(len(first)) / len(widths)
            known = sum(is_known(cell) for cell in first)
            if agree >= 0.8 or (known and _are_names(first)):
                found.append((known, agree, -order, delimiter))
    return max(found)[-1] if found else None


def _beginning(records: Iterator[Record]) -> Iterator[Record]:
    size = 0
    for record in islice(records, 1000):
        yield record
        size += sum(map(len, record[1]))
        if size > CHARACTERS:
            return


class _FaultError(Exception):
    """A record that cannot be read; `line` is where it begins."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def _records(lines: Lines, **dialect: Any) -> Iterator[Record]:
    """Yield the records; _FaultError where `strict` finds one, or a cell is larger than any text."""
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST))
    reader = csv.reader(lines(""), **dialect)
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _FaultError(line) from error
        if cells is None:
            return
        if cells:
            yield line, cells
        line = reader.line_num + 1


@dataclass
class _Survey:
    """What all records together tell, the first being names or not."""

    records: int = 0
    filled: int = 0
    first: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    widths: set[int] = field(default_factory=set)
    repeated: list[bool] = field(default_factory=list)  # by column: is its first cell there again?
    holds: list[bool] = field(default_factory=list)  # by column: is there anything below its first cell?
    short: int = 0
    short_at: int = 0
    too_wide: tuple[int, int] | None = None

    @classmethod
    def of(cls, records: Iterable[Record]) -> "_Survey":
        found = cls()
        for line, cells in records:
            found.records += 1
            found.widths.add(len(cells))
            found.last = cells
            if any(map(str.strip, cells)):
                found._add(line, cells)
        return found

    def _add(self, line: int, cells: list[str]) -> None:
        self.filled += 1
        if self.filled == 1:
            self.first = cells
            self.repeated, self.holds = [False] * len(cells), [False] * len(cells)
            return
        width = len(self.first)
        if len(cells) < width:
            self.short += 1
            self.short_at = self.short_at or line
        elif len(cells) > width and not self.too_wide and any(map(str.strip, cells[width:])):
            self.too_wide = line, len(cells)
        for place, (first, cell) in enumerate(zip(self.first, cells, strict=False)):
            if not self.holds[place] and cell.strip():
                self.holds[place] = True
            if not self.repeated[place] and cell.strip() == first.strip():
                self.repeated[place] = bool(first.strip())

    @property
    def even(self) -> bool:
        return len(self.widths) == 1


def _read(lines: Lines, delimiter: str, source: str) -> tuple[Callable[[], Iterator[Record]], _Survey, int]:
    """Return what reads the records, what they tell, and the line of the first fault that was mended, 0 for none."""
    by_line = partial(_quoted_by_line, lines, delimiter)
    if delimiter == "\t" and _marks_are_odd(lines, delimiter):
        return by_line, _Survey.of(by_line()), 0
    strict = partial(_records, lines, delimiter=delimiter, strict=True)
    try:
        return strict, _Survey.of(strict()), 0
    except _FaultError as error:
        fault = error.line
    # Marks may be escaped by a backslash, or be plain characters where no row goes over its line.
    escaped = partial(_records, lines, delimiter=delimiter, escapechar="\\", strict=True)
    with suppress(_FaultError):
        if (found := _Survey.of(escaped())).even:
            return escaped, found, fault
    if _marks_are_odd(lines, delimiter) is not None:
        return by_line, _Survey.of(by_line()), fault
    # Or text follows a closing mark. The added last line stays a row of its own unless a mark is left open.
    loose = partial(_records, lines, delimiter=delimiter)
    ended = _records(lambda newline: chain(lines(newline), ["\n", END]), delimiter=delimiter)
    with suppress(_FaultError):
        found = _Survey.of(takewhile(lambda record: record[1] != [END], ended))
        cells = next(cells for line, cells in loose() if line == fault)
        if found.even and END not in found.last[-1] and not any("\n" in cell for cell in cells):
            return loose, found, fault
    sentence = _(
        "The quotation marks of the row at line {line} of {source} do not fit: one is left open, or text "
        'follows a closed one. Inside quotes, write a quotation mark twice ("").'
    )
    raise InputError(sentence.format(line=fault, source=source))


def _quoted_by_line(lines: Lines, delimiter: str) -> Iterator[Record]:
    """Yield every line as one row whose marks quote nothing; a pair of marks around a whole cell is taken off."""
    for line, cells in _records(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE):
        yield line, [cell[1:-1].replace('""', '"') if _quoted(cell) else cell for cell in cells]


def _marks_are_odd(lines: Lines, delimiter: str) -> bool | None:
    """Whether, read by line, a cell begins with a quotation mark and does not end with one; None for uneven rows."""
    odd, widths = False, set()
    with suppress(_FaultError):
        for _line, cells in _records(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE):
            odd = odd or any(cell[:1] == '"' and not _quoted(cell) for cell in cells)
            widths.add(len(cells))
            if len(widths) > 1:
                return None
        return odd if widths else None
    return None


def _quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def _is_header(found: _Survey) -> bool:
    """Names are known ones, or short, different, no numbers, no sentences and no values of their column."""
    first = [cell.strip() for cell in found.first]
    if any(is_known(cell) and not again for cell, again in zip(first, found.repeated, strict=True)):
        return True
    names = [cell for cell in first if cell]
    if any(found.repeated) or not names or (len(first) == 1 and " " in names[0]):
        return False
    return _are_names(names)


def _are_names(cells: Sequence[str]) -> bool:
    """Whether the cells look like a header's, going by themselves."""
    return not any(len(cell) > 40 or cell[:1] == " " or SENTENCE_OR_NUMBER.search(cell) for cell in cells)


def _too_many(line: int, found: int, expected: int, delimiter: str, source: str) -> str:
    sentence = _(
        "Line {line} of {source} has {found} cells, but there are {expected} columns. "
        "Put a text that contains {delimiter} in quotes."
    )
    name = _(DELIMITERS.get(delimiter, delimiter))
    return sentence.format(line=line, source=source, found=found, expected=expected, delimiter=name)

"""CSV and its relatives to a table; every value is a string, a missing cell is empty."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from afina.core import Table
from afina.data.column_names import is_known
from afina.errors import InputError
from afina.messages import N_, _

# In the order in which they win where two would do: a comma is the likeliest to be part of the text.
DELIMITERS = {"\t": N_("a tab"), ";": N_("a semicolon"), "|": N_("a vertical bar"), ",": N_("a comma")}
ONE_COLUMN = "\x1f"
END = "\x1e"
SENTENCE_OR_NUMBER = re.compile(r"[;:!?¿¡…]|[.,](\s|$)|^[-+.,\d]+$")

Record = tuple[int, list[str]]
"""The line where it begins, counted from 1, and its cells."""


def parse(text: str, source: str, notes: list[str]) -> Table:
    """Read delimited text, with or without a header; the delimiter is the one that fits most lines.

    Quoting as in RFC 4180, mended where every row still has the header's width. Raises InputError for no
    rows, a row with too many cells, a quotation mark that never closes, and columns of one name.
    """
    notes = list(notes)
    text, directive = _excel_directive(text)
    delimiter = directive or find_delimiter(text) or ONE_COLUMN
    if delimiter not in (",", ONE_COLUMN):
        name = _(DELIMITERS.get(delimiter, delimiter))
        notes.append(_("The columns of {source} are separated by {name}.").format(source=source, name=name))
    records, mended = _records(text, delimiter, source)
    if mended:
        sentence = _("Quotation marks at line {line} of {source} do not follow CSV's rules; check that row.")
        notes.append(sentence.format(line=mended, source=source))
    filled = [record for record in records if any(cell.strip() for cell in record[1])]
    if not filled:
        raise InputError(_("{source} holds no rows.").format(source=source))
    if len(filled) < len(records):
        sentence = _("Empty rows of {source} that were left out: {count}.")
        notes.append(sentence.format(count=len(records) - len(filled), source=source))
    if _is_header(filled):
        header, body = filled[0][1], filled[1:]
        if not body:
            raise InputError(_("{source} holds column names but no rows.").format(source=source))
    else:
        header, body = [f"column_{number}" for number, _cell in enumerate(filled[0][1], 1)], filled
        if len(header) == 1:
            header = ["text"]
        sentence = _("{source} seems to have no column names; its columns are called {names}.")
        notes.append(sentence.format(source=source, names=", ".join(header)))
    return _table(header, body, delimiter, source, notes)


def find_delimiter(text: str) -> str | None:
    """Return what separates the columns, by the first thousand rows; None where there is only one column."""
    found: list[tuple[int, float, int, str]] = []
    for order, delimiter in enumerate(DELIMITERS):
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            lines = _lines(text, delimiter=delimiter, quoting=quoting)
            rows = [cells for _line, cells in islice(lines, 1000)]
            if not rows or len(rows[0]) < 2:
                continue
            agree = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
            known = sum(is_known(cell) for cell in rows[0])
            if agree >= 0.8 or (known and _are_names(rows[0])):
                found.append((known, agree, -order, delimiter))
    return max(found)[-1] if found else None


def _excel_directive(text: str) -> tuple[str, str | None]:
    match = re.match(r'"?sep=(.)"?\r?\n', text)
    return (text[match.end() - 1 :], match[1]) if match else (text, None)  # the empty line keeps the count


def _lines(text: str, **dialect: Any) -> Iterator[Record]:
    """Yield the records; csv.Error where `strict` finds a fault."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), **dialect)
    line = 1
    for cells in reader:
        if cells:
            yield line, cells
        line = reader.line_num + 1


def _records(text: str, delimiter: str, source: str) -> tuple[list[Record], int]:
    """Return the records and the line of the first fault in the quoting that was mended, 0 where none was."""
    if delimiter == "\t" and (plain := _quoted_by_line(text, delimiter)) and plain.odd:
        return plain.records, 0
    records: list[Record] = []
    try:
        for record in _lines(text, delimiter=delimiter, strict=True):
            records.append(record)
        return records, 0
    except csv.Error:
        good = len(records)
    fault, cells = next(islice(_lines(text, delimiter=delimiter), good, None))
    # Marks may be escaped by a backslash, or be plain characters where no row goes over its line.
    try:
        records = list(_lines(text, delimiter=delimiter, escapechar="\\", strict=True))
        if _widths(records) == 1:
            return records, fault
    except csv.Error:
        pass
    if plain := _quoted_by_line(text, delimiter):
        return plain.records, fault
    # Or text follows a closing mark. The added last line stays a row of its own unless a mark is left open.
    records = list(_lines(f"{text}\n{END}", delimiter=delimiter))
    if records.pop()[1] == [END] and _widths(records) == 1 and not any("\n" in cell for cell in cells):
        return records, fault
    sentence = _(
        "The quotation marks of the row at line {line} of {source} do not fit: one is left open, or text "
        'follows a closed one. Inside quotes, write a quotation mark twice ("").'
    )
    raise InputError(sentence.format(line=fault, source=source))


class _Plain(NamedTuple):
    records: list[Record]
    odd: bool  # a cell begins with a quotation mark and does not end with one


def _quoted_by_line(text: str, delimiter: str) -> _Plain | None:
    """Read every line as one row whose marks quote nothing; None where the rows then differ in width.

    A pair of marks around a whole cell is taken off.
    """
    records = list(_lines(text, delimiter=delimiter, quoting=csv.QUOTE_NONE))
    if _widths(records) != 1:
        return None
    odd = any(cell[:1] == '"' and not _quoted(cell) for _line, cells in records for cell in cells)
    return _Plain(
        [
            (line, [cell[1:-1].replace('""', '"') if _quoted(cell) else cell for cell in cells])
            for line, cells in records
        ],
        odd,
    )


def _quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def _widths(records: Sequence[Record]) -> int:
    return len({len(cells) for _line, cells in records})


def _is_header(records: Sequence[Record]) -> bool:
    """Names are known ones, or short, different, no numbers, no sentences and no values of their column."""
    first = [cell.strip() for cell in records[0][1]]
    values: list[set[str]] = [set() for _cell in first]
    for _line, cells in records[1:]:
        for seen, cell in zip(values, cells, strict=False):
            seen.add(cell.strip())
    repeated = [bool(cell) and cell in seen for cell, seen in zip(first, values, strict=True)]
    if any(is_known(cell) and not again for cell, again in zip(first, repeated, strict=True)):
        return True
    names = [cell for cell in first if cell]
    if any(repeated) or not names or (len(first) == 1 and " " in names[0]):
        return False
    return _are_names(names)


def _are_names(cells: Sequence[str]) -> bool:
    """Whether the cells look like a header's, going by themselves."""
    return not any(len(cell) > 40 or cell[:1] == " " or SENTENCE_OR_NUMBER.search(cell) for cell in cells)


def _table(
    header: Sequence[str], body: Sequence[Record], delimiter: str, source: str, notes: Sequence[str]
) -> Table:
    names = [name.strip() or f"column_{number}" for number, name in enumerate(header, 1)]
    for name in names:
        if names.count(name) > 1:
            sentence = _("{source} has more than one column '{name}'. Give each a name of its own.")
            raise InputError(sentence.format(source=source, name=name))
    rows, short = [], []
    for line, cells in body:
        if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
            raise InputError(_too_many(line, len(cells), len(names), delimiter, source))
        if len(cells) < len(names):
            short.append(line)
            cells = cells + [""] * (len(names) - len(cells))
        rows.append(dict(zip(names, cells, strict=False)))
    # Spreadsheets leave columns without a name and without content behind.
    empty = [
        name
        for name, given in zip(names, header, strict=True)
        if not given.strip() and not any(row[name].strip() for row in rows)
    ]
    for row in rows:
        for name in empty:
            del row[name]
    if short:
        sentence = _(
            "Rows of {source} with too few cells, whose last ones were taken as empty: {count} (first at "
            "line {line}). A text of several lines must be in quotes."
        )
        notes = [*notes, sentence.format(source=source, count=len(short), line=short[0])]
    return Table(rows, tuple(name for name in names if name not in empty), source, tuple(notes))


def _too_many(line: int, found: int, expected: int, delimiter: str, source: str) -> str:
    sentence = _(
        "Line {line} of {source} has {found} cells, but there are {expected} columns. "
        "Put a text that contains {delimiter} in quotes."
    )
    name = _(DELIMITERS.get(delimiter, delimiter))
    return sentence.format(line=line, source=source, found=found, expected=expected, delimiter=name)

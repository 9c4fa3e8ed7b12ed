"""A file, a folder or a data set's name to a table."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path

from afina.core import Row, Table
from afina.data import conll, delimited, encoding, folder, hub, json_rows, records
from afina.data.column_names import is_known
from afina.data.file import File
from afina.data.stream import CHARACTERS, Lines, Stream
from afina.errors import InputError
from afina.messages import N_, _

PACKED_ENDINGS = (".gz", ".bz2", ".xz")
PARQUET = b"PAR1"
ZSTD = b"(\xb5/\xfd"
DELIMITED = (".csv", ".tsv", ".tab")
JSON_LINES = (".jsonl", ".ndjson")
CONLL = (".conll", ".conllu", ".iob", ".iob2", ".bio", ".bioes")
TABLES = (*DELIMITED, ".json", *JSON_LINES, *CONLL, ".txt", ".parquet")
ENDINGS = tuple(ending + packed for ending in TABLES for packed in ("", *PACKED_ENDINGS))
# How a file begins that is no table, and what to do about it.
OTHERS = {
    b"PK\x03\x04": N_("{source} is an Excel workbook or a zip archive. Save the sheet as CSV, or unpack it."),
    b"\xd0\xcf\x11\xe0": N_("{source} is an old Excel workbook. Save the sheet as CSV (UTF-8)."),
    ZSTD: N_("{source} is compressed with zstd. Unpack it, or compress it as .gz, .bz2 or .xz."),
    b"7z\xbc\xaf": N_("{source} is a 7z archive. Unpack it and give the table in it."),
    b"%PDF": N_("{source} is a PDF. Give a table: CSV, JSON, JSONL or Parquet."),
    b"\x80\x02": N_(
        "{source} is a Python pickle, which can run code and is not opened. Save it as CSV or Parquet."
    ),
    b"ARROW1": N_(
        "{source} is an Arrow file. Save it as Parquet, or give the folder that save_to_disk wrote."
    ),
}
OTHERS |= dict.fromkeys((b"\x80\x03", b"\x80\x04", b"\x80\x05"), OTHERS[b"\x80\x02"])


def read(source: str | Path, *, offline: bool = False) -> Table:
    """Return the table in a file or folder, or in the Hugging Face data set of that name.

    CSV, TSV, JSON, JSONL, Parquet, CoNLL, CoNLL-U, plain text (one text a line, column `text`), each also as .gz,
    .bz2 or .xz; a folder of text files by label; what `save_to_disk` wrote. Values of delimited text are strings,
    others keep their types. `notes` say what a person should check. With `offline` no name is looked up.
    Raises InputError for whatever is no table.
    """
    found = stream(source, offline=offline)
    return found.whole() if isinstance(found, Stream) else found


def stream(source: str | Path, *, offline: bool = False) -> Stream | Table:
    """Return the same as rows that are read one after another, where the file's form allows it.

    All that can be wrong with a row, and what `notes` say, is known before the first one is given.
    """
    path, name = Path(source).expanduser(), str(source)
    try:
        if path.is_dir():
            return hub.saved(path, name) if hub.is_saved(path) else folder.read(path, name, ENDINGS)
        if path.exists():
            return _file(path, name)
        close = _close(path)
    except OSError as error:
        sentence = _("{source} cannot be read: {reason}.")
        raise InputError(sentence.format(source=name, reason=error.strerror or error)) from error
    hint = "" if close is None else " " + _("Did you mean '{close}'?").format(close=close)
    is_name = hub.NAME.fullmatch(name) and not name.lower().endswith(ENDINGS)
    missing = _("There is no file or folder '{name}'.").format(name=name) + hint
    if not is_name or (close is not None and close.stem == path.name):
        raise InputError(missing)
    if offline:
        sentence = _("With --offline no data set of that name is looked up on the Hugging Face Hub.")
        raise InputError(f"{missing} {sentence}")
    try:
        return hub.fetch(name)
    except InputError as error:
        raise InputError(f"{error}{hint}") from error


def _close(path: Path) -> Path | None:
    """Return the likeliest other name for a file that does not exist."""
    if not path.parent.is_dir():
        return None
    names = {other.name.casefold(): other for other in path.parent.iterdir()}
    close = get_close_matches(path.name.casefold(), names, 1, 0.7)
    return names[close[0]] if close else None


def lines(path: Path) -> Stream:
    """Return each line of a plain text, a blank one too, as a row with the column `text`."""
    file = File.of(path, str(path))
    found = encoding.find(file.chunks, file.source)
    read_lines = file.lines(found)
    return Stream(
        lambda: ({"text": line.rstrip("\n")} for line in read_lines(None)),
        ("text",),
        file.source,
        found.notes,
    )


def _file(path: Path, source: str) -> Stream | Table:
    file = File.of(path, source)
    start = file.start()
    if start.startswith(PARQUET):
        return _parquet(file.all(), source)
    for beginning, sentence in OTHERS.items():
        if start.startswith(beginning):
            raise InputError(_(sentence).format(source=source))
    if start[257:262] == b"ustar":
        raise InputError(
            _("{source} is a tar archive. Unpack it and give the table in it.").format(source=source)
        )

    found = encoding.find(file.chunks, source)
    lines, notes = file.lines(found), list(found.notes)
    if not json_rows.first_sign(lines):
        raise InputError(_("{source} is empty.").format(source=source))
    name = path.name.lower()
    for packed in PACKED_ENDINGS:
        name = name.removesuffix(packed)
    ending = Path(name).suffix
    if ending == ".parquet":
        raise InputError(_("{source} is no Parquet file, whatever its name says.").format(source=source))
    if ending not in (".csv", ".json", *JSON_LINES) and conll.is_conll(_beginning(lines)):
        return conll.parse("".join(lines("")), source, notes)
    if ending in DELIMITED:
        return delimited.stream(lines, source, notes)
    if ending in JSON_LINES and (by_line := json_rows.stream(lines, source, notes)):
        return by_line
    if ending in (".json", *JSON_LINES):
        parse = json_rows.parse_json if ending == ".json" else json_rows.parse_jsonl
        return parse("".join(lines("")), source, notes)
    if ending in CONLL:
        return conll.parse("".join(lines("")), source, notes)
    return _unknown(lines, source, notes, plain=ending == ".txt")


def _beginning(lines: Lines) -> str:
    """Return as many lines as tell whether a file is CoNLL."""
    start, size = [], 0
    for line in islice(lines(""), conll.LOOKED_AT + 1):
        start.append(line)
        size += len(line)
        if size > CHARACTERS:
            break
    return "".join(start)


def _unknown(lines: Lines, source: str, notes: list[str], *, plain: bool) -> Stream | Table:
    """Read what the ending does not tell: JSON, a table, or with `plain` one text a line."""
    sign = json_rows.first_sign(lines)
    if not plain and sign in ("{", "["):
        parse = json_rows.parse_json if sign == "[" else json_rows.parse_jsonl
        return parse("".join(lines("")), source, notes)
    delimiter = delimited.find_delimiter(lines)
    header = next(line.strip("\n\r") for line in lines("\n") if line.strip("\n\r")).split(delimiter)
    # A line of text may hold a comma and such a word; a header holds usual names only.
    if delimiter and (not plain or all(map(is_known, header))):
        return delimited.stream(lines, source, notes)
    if delimiter == "\t" and _are_tabbed(_filled(lines)):
        table = delimited.stream(lines, source, notes)
        if any(map(is_known, header)) or "column_1" in table.columns:
            return table
        sentence = _("The first line of {source} is taken as the names of its columns: {names}.")
        return replace(
            table, notes=(*table.notes, sentence.format(source=source, names=", ".join(table.columns)))
        )
    if plain:
        return records.stream(lambda: _texts(lines), source, notes)
    sentence = _("It is not clear what {source} holds. Give it the ending of its form: {endings}.")
    raise InputError(sentence.format(source=source, endings=", ".join(TABLES)))


def _filled(lines: Lines) -> Iterator[str]:
    """Yield the lines that are not blank; not by splitlines, which also cuts within a line (U+2028, form feed, 0x85)."""
    return (line.rstrip("\n") for line in lines(None) if line.strip())


def _texts(lines: Lines) -> Iterator[Row]:
    return ({"text": line} for line in _filled(lines))


def _are_tabbed(lines: Iterator[str]) -> bool:
    """Whether all lines, two at least, have as many tabs. One a line may part two texts for a model that reads pairs."""
    whole = next(lines)
    first, second = whole.strip(), next(lines, None)  # lines of prose may be indented
    parted = first.count("\t") > 1 or ("\t" in first and any(map(is_known, first.split("\t"))))
    tabs = whole.count("\t")
    return parted and second is not None and all(line.count("\t") == tabs for line in chain([second], lines))


def _parquet(data: bytes, source: str) -> Table:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(pyarrow.BufferReader(data)).read()
    except (pyarrow.ArrowException, OSError) as error:
        sentence = _("{source} is a broken Parquet file ({reason}). Write it again.")
        raise InputError(sentence.format(source=source, reason=str(error).split("\n")[0])) from error
    # pandas keeps its own row numbers as a column.
    table = table.select(
        [index for index, name in enumerate(table.column_names) if not name.startswith("__index_level_")]
    )
    for place, name in enumerate(table.column_names):
        if table.column_names.count(name) > 1:
            sentence = _("{source} has more than one column '{name}'. Give each a name of its own.")
            raise InputError(sentence.format(source=source, name=name))
        # Some writers do not say that their bytes are text.
        if pyarrow.types.is_binary(table.field(place).type):
            with suppress(pyarrow.ArrowInvalid):
                table = table.set_column(place, name, table.column(place).cast(pyarrow.string()))
    rows = table.to_pylist()
    if b"huggingface" in (table.schema.metadata or {}):
        from datasets import Features

        rows = hub.with_label_names(rows, Features.from_arrow_schema(table.schema))
    return records.table(rows, source, notes=[])

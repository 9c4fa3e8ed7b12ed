"""Plain text of any size, read document by document out of files of several forms."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from afina.core import Row, Table, mended
from afina.data import encoding, hub, json_rows
from afina.data.stream import Stream
from afina.errors import InputError
from afina.messages import _

OPENERS = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
LINES = {".jsonl", ".ndjson"}
START = 65536  # bytes of a file that are looked at before all else
TABLES = {".csv", ".tsv", ".json", ".conll", ".conllu"}  # rows of a task, read at once
# Final punctuation, closing signs, blank, then a sign that opens a sentence, a capital or a digit.
# The classes are those of Spanish and English; abbreviations ("Sr. Pérez") are cut like sentence ends,
# which costs a pre-training model nothing but a shorter line.
SENTENCE_END = re.compile(r"(?<=[.!?…])([»”’\"')\]]*)\s+(?=[¿¡«“‘\"'(\[—–-]*[A-ZÁÉÍÓÚÜÑ0-9])")


def split_sentences(paragraph: str) -> list[str]:
    """Cut a paragraph after . ! ? … (and closing quotes) before a blank and a capital, digit or opening."""
    sentences, start = [], 0
    for end in SENTENCE_END.finditer(paragraph):
        sentences.append(paragraph[start : end.end(1)])
        start = end.end()
    sentences.append(paragraph[start:])
    return [sentence for sentence in map(str.strip, sentences) if sentence]


def check(file: Path, column: str | None = None) -> None:
    """Raise InputError where the beginning of a file, or of a data set, tells that it is no text to learn from."""
    from afina.data.read import OTHERS, ZSTD

    if hub.is_dataset(file):
        if next(hub.texts(file, column), None) is None:
            raise InputError(_("The text file {file} is empty.").format(file=file))
        return
    if file.is_dir():
        raise InputError(_("{file} is a folder. Name the text files in it.").format(file=file))
    if not file.is_file():
        raise InputError(_("The text file {file} does not exist.").format(file=file))
    if file.stat().st_size == 0:
        raise InputError(_("The text file {file} is empty.").format(file=file))
    if _kind(file) == ".parquet":
        if next(_parquet_texts(file, column), None) is None:
            raise InputError(_("The text file {file} is empty.").format(file=file))
        return
    with reading(file), _binary(file) as stream:
        start = stream.read(START)
    if start.startswith(ZSTD):
        raise InputError(_(OTHERS[ZSTD]).format(source=file))
    if b"\0" in start:
        if name := encoding.wide(start):
            raise InputError(
                _("The text file {file} is written in {encoding}. Save it as UTF-8.").format(
                    file=file, encoding=name
                )
            )
        raise InputError(
            _("The file {file} is not text: it holds zero bytes. Give plain text, JSONL or Parquet.").format(
                file=file
            )
        )
    if not start.strip():
        raise InputError(_("The text file {file} holds nothing but blanks.").format(file=file))
    if _kind(file) not in TABLES:
        lines = start.split(b"\n")
        for number, line in enumerate(lines if len(start) < START else lines[:-1], 1):
            _decoded(line, number, file)


def _kind(file: Path) -> str:
    """The ending that tells the format, below that of a packer."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in OPENERS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Say in one sentence that a file cannot be read or, where it is packed, not unpacked: a download that broke off."""
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if file.suffix.lower() in OPENERS:
            raise InputError(
                _("The file {file} cannot be unpacked: {reason}.").format(file=file, reason=error)
            ) from error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(
            _("{source} cannot be read: {reason}.").format(source=file, reason=reason)
        ) from error


def _binary(file: Path) -> IO[bytes]:
    return OPENERS.get(file.suffix.lower(), open)(file, "rb")  # type: ignore[operator]


def _lines(file: Path) -> Iterator[str]:
    """The lines as text; a line that is not UTF-8 is an InputError that names it."""
    with reading(file), _binary(file) as stream:
        for number, line in enumerate(stream, 1):
            text = _decoded(line, number, file).strip()
            if "\r" in text:  # the line end of old Macs
                yield from map(str.strip, text.split("\r"))
            else:
                yield text


def _decoded(line: bytes, number: int, file: Path) -> str:
    if b"\0" in line:
        raise InputError(
            _(
                "{file}, line {line}: the file is not text, it holds zero bytes. Give plain text, JSONL or Parquet."
            ).format(file=file, line=number)
        )
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            _("{file}, line {line}: the text is not UTF-8. Save the file as UTF-8.").format(
                file=file, line=number
            )
        ) from error


def documents(file: Path, column: str | None = None) -> Iterator[list[str]]:
    """The documents of a file or data set, each a list of paragraphs; `column` holds them where rows have several."""
    from afina.data.read import read

    kind = _kind(file)
    if hub.is_dataset(file):
        texts = hub.texts(file, column)
    elif kind == ".parquet":
        texts = _parquet_texts(file, column)
    elif kind in LINES:
        texts = _jsonl_texts(file, column)
    elif kind in TABLES:
        texts = _table_texts(read(file, offline=True), file, column)
    else:
        paragraphs: list[str] = []
        for line in _lines(file):
            if line:
                paragraphs.append(line)
            elif paragraphs:
                yield paragraphs
                paragraphs = []
        if paragraphs:
            yield paragraphs
        return
    yield from _parted(texts)


def rows(file: Path, column: str | None = None) -> Iterator[list[str]]:
    """The texts of a task's rows as documents: of `column` where it is one of theirs, else of the one that is guessed."""
    if not (file.exists() and has_columns(file)):
        yield from documents(file, column)
        return
    found = streamed(file)
    of = _column(found.beginning(), file, column if column in found.columns else None)
    yield from _parted(_texts_of(found.rows(), *of))


def streamed(file: Path) -> Stream:
    """The rows of a task, one after another where the file's form allows it."""
    from afina.data.read import stream

    found = stream(file, offline=True)
    return Stream.out_of(found) if isinstance(found, Table) else found


def _parted(texts: Iterator[str]) -> Iterator[list[str]]:
    """The paragraphs of each text that has any."""
    for text in texts:
        if paragraphs := [line.strip() for line in text.splitlines() if line.strip()]:
            yield paragraphs


def _jsonl_texts(file: Path, column: str | None) -> Iterator[str]:
    """The strings of the field `column` (`text`) of each line; a line without one is an InputError that names it."""
    name = column or "text"
    for number, line in enumerate(_lines(file), 1):
        if not line:
            continue
        row = json_rows.value_of(line, number, str(file))
        if isinstance(row, dict) and row and name not in row:
            raise InputError(
                _('{file}, line {line}: there is no field "{name}"; its fields are {names}.').format(
                    file=file, line=number, name=name, names=", ".join(map(mended, row))
                )
            )
        if not isinstance(row, dict) or not isinstance(row.get(name), str):
            raise InputError(
                _('{file}, line {line}: expected an object with a string field "{name}".').format(
                    file=file, line=number, name=name
                )
            )
        yield mended(row[name])


def _parquet_texts(file: Path, column: str | None) -> Iterator[str]:
    """The strings of `column` (`text`); what is no Parquet file, broken or of other values is an InputError."""
    import pyarrow
    from pyarrow import parquet

    try:
        source = parquet.ParquetFile(file)
    except pyarrow.ArrowInvalid as error:
        raise InputError(_("{file} is not a Parquet file.").format(file=file)) from error
    with source:
        name = hub.text_column(source.schema_arrow.names, column, str(file))
        try:
            for batch in source.iter_batches(batch_size=1000, columns=[name]):
                yield from hub.strings(batch.column(0).to_pylist(), name, str(file))
        except (pyarrow.ArrowException, OSError) as error:
            sentence = _("{source} is a broken Parquet file ({reason}). Write it again.")
            raise InputError(sentence.format(source=file, reason=str(error).split("\n")[0])) from error


def has_columns(file: Path) -> bool:
    """Whether the texts of a file or data set stand in a column or a field, and not as they are."""
    return hub.is_dataset(file) or _kind(file) in {".parquet", *LINES, *TABLES}


def column_in_words(file: Path, named: str | None, *, of_task: bool = False) -> str | None:
    """Say which column of a table was guessed to hold the texts, None where there is nothing to guess.

    In the rows `of_task` it is guessed in every form, and where the one that is `named` is another file's.
    """
    from afina.data.columns import why

    guessed = has_columns(file) if of_task else not named and _kind(file) in TABLES
    if hub.is_dataset(file) or not guessed:
        return None
    found = streamed(file)
    if named in found.columns:
        return None
    column, role = _column(found.beginning(), file, None)
    return _("Of {file} the column '{column}' is read: {why}.").format(
        file=file, column=column, why=why(column, "context" if role == "context" else "text")
    )


def _column(table: Table, file: Path, named: str | None) -> tuple[str, str]:
    """The column of a task's rows that is read, and what it holds: texts, words, or what questions are about."""
    from afina.data import conll
    from afina.data.columns import guess, named_like

    if named:
        column = guess(table, "text", named)
        return column, "tokens" if isinstance(table.rows[0][column], list) else "text"
    if _kind(file) in {".json", *LINES}:
        if named_like(table, "question") and (context := named_like(table, "context")):
            return context, "context"
        if not named_like(table, "text") and (words := named_like(table, "tokens")):
            return words, "tokens"
    elif all(isinstance(value, list) for value in table.rows[0].values()) and (
        words := conll.words(table, table.columns)
    ):
        return words, "tokens"
    return guess(table, "text"), "text"


def _table_texts(table: Table, file: Path, named: str | None) -> Iterator[str]:
    """The texts of a task's rows."""
    return _texts_of(iter(table.rows), *_column(table, file, named))


def _texts_of(rows: Iterator[Row], column: str, role: str) -> Iterator[str]:
    """What stands in the column: words, as CoNLL's, with blanks between; of questions about a text that text, once."""
    from afina.data.value import text_of

    before = None
    for row in rows:
        value = row.get(column)
        if role == "context" and value == before:
            continue
        before = value
        if role == "tokens" and isinstance(value, list):
            yield " ".join(str(word) for word in value if word is not None)
        else:
            yield text_of(value) or ""

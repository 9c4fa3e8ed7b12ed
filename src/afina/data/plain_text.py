"""Plain text of any size, read document by document out of files of several forms."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from afina.data import hub
from afina.errors import InputError
from afina.messages import _

OPENERS = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
TABLES = {".csv", ".tsv", ".conll", ".conllu"}  # rows of a task, read at once
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


def check(file: Path) -> None:
    """Raise InputError where the beginning of a file, or of a data set, tells that it is no text to learn from."""
    if hub.is_dataset(file):
        if next(hub.texts(file), None) is None:
            raise InputError(_("The text file {file} is empty.").format(file=file))
        return
    if file.is_dir():
        raise InputError(_("{file} is a folder. Name the text files in it.").format(file=file))
    if not file.is_file():
        raise InputError(_("The text file {file} does not exist.").format(file=file))
    if file.stat().st_size == 0:
        raise InputError(_("The text file {file} is empty.").format(file=file))
    if _kind(file) == ".parquet":
        return
    try:
        with _binary(file) as stream:
            start = stream.read(65536)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(
            _("The file {file} cannot be unpacked: {reason}.").format(file=file, reason=error)
        ) from error
    if b"\0" in start:
        raise InputError(
            _("The file {file} is not text: it holds zero bytes. Give plain text, JSONL or Parquet.").format(
                file=file
            )
        )
    if not start.strip():
        raise InputError(_("The text file {file} holds nothing but blanks.").format(file=file))


def _kind(file: Path) -> str:
    """The ending that tells the format, below that of a packer."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in OPENERS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _binary(file: Path) -> IO[bytes]:
    return OPENERS.get(file.suffix.lower(), open)(file, "rb")  # type: ignore[operator]


def _lines(file: Path) -> Iterator[str]:
    """The lines as text; a line that is not UTF-8 is an InputError that names it."""
    with _binary(file) as stream:
        for number, line in enumerate(stream, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    _("{file}, line {line}: the text is not UTF-8. Save the file as UTF-8.").format(
                        file=file, line=number
                    )
                ) from error
            yield text.strip()


def documents(file: Path) -> Iterator[list[str]]:
    """The documents of a file or data set, each a list of paragraphs."""
    kind = _kind(file)
    if hub.is_dataset(file):
        texts = hub.texts(file)
    elif kind == ".parquet":
        texts = _parquet_texts(file)
    elif kind in (".jsonl", ".ndjson"):
        texts = _jsonl_texts(file)
    elif kind in TABLES:
        texts = _table_texts(file)
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
    for text in texts:
        if paragraphs := [line.strip() for line in text.splitlines() if line.strip()]:
            yield paragraphs


def _jsonl_texts(file: Path) -> Iterator[str]:
    for number, line in enumerate(_lines(file), 1):
        if not line:
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(
                _("{file}, line {line}: not valid JSON ({reason}).").format(
                    file=file, line=number, reason=error.msg
                )
            ) from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise InputError(
                _('{file}, line {line}: expected an object with a string field "text".').format(
                    file=file, line=number
                )
            )
        yield row["text"]


def _parquet_texts(file: Path) -> Iterator[str]:
    import pyarrow
    from pyarrow import parquet

    try:
        source = parquet.ParquetFile(file)
    except pyarrow.ArrowInvalid as error:
        raise InputError(_("{file} is not a Parquet file.").format(file=file)) from error
    with source:
        names = source.schema_arrow.names
        if "text" not in names:
            raise InputError(
                _('{file} has no column "text"; its columns are {names}.').format(
                    file=file, names=", ".join(names)
                )
            )
        for batch in source.iter_batches(batch_size=1000, columns=["text"]):
            yield from (text for text in batch.column(0).to_pylist() if text)


def _table_texts(file: Path) -> Iterator[str]:
    """The texts of a task's rows; a row of CoNLL, which holds words, as its words with blanks between."""
    from afina.data.columns import guess, text_of
    from afina.data.read import read

    table = read(file, offline=True)
    words = bool(table.rows) and all(isinstance(value, list) for value in table.rows[0].values())
    column = table.columns[0] if words else guess(table, "text")
    for row in table.rows:
        yield " ".join(row[column]) if words else text_of(row.get(column)) or ""

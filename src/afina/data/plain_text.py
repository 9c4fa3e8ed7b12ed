"""Plain text of any size, read document by document out of files of several forms."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from afina.data import encoding, hub
from afina.errors import InputError
from afina.messages import _

OPENERS = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
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
        if next(_parquet_texts(file), None) is None:
            raise InputError(_("The text file {file} is empty.").format(file=file))
        return
    with reading(file), _binary(file) as stream:
        start = stream.read(65536)
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
    """The strings of the column `text`; what is no Parquet file, broken or of other values is an InputError."""
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
        try:
            for batch in source.iter_batches(batch_size=1000, columns=["text"]):
                yield from hub.strings(batch.column(0).to_pylist(), str(file))
        except (pyarrow.ArrowException, OSError) as error:
            sentence = _("{source} is a broken Parquet file ({reason}). Write it again.")
            raise InputError(sentence.format(source=file, reason=str(error).split("\n")[0])) from error


def _table_texts(file: Path) -> Iterator[str]:
    """The texts of a task's rows: words, as CoNLL's, with blanks between; of questions about a text that text, once."""
    from afina.data import conll
    from afina.data.columns import guess, named_like
    from afina.data.read import read
    from afina.data.value import text_of

    table = read(file, offline=True)
    words, context = None, None
    if _kind(file) == ".json":
        context = named_like(table, "context") if named_like(table, "question") else None
        words = None if context or named_like(table, "text") else named_like(table, "tokens")
    elif table.rows and all(isinstance(value, list) for value in table.rows[0].values()):
        words = conll.words(table, table.columns)
    column = context or words or guess(table, "text")
    before = None
    for row in table.rows:
        value = row.get(column)
        if context and value == before:
            continue
        before = value
        if words and isinstance(value, list):
            yield " ".join(str(word) for word in value if word is not None)
        else:
            yield text_of(value) or ""

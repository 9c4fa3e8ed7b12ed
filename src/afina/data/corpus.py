"""Plain text of any size as encoded, memory-mapped arrays for pre-training."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from afina.data.unseen import Unseen
from afina.errors import InputError
from afina.messages import _

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

VERSION = 1
OPENERS = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
TABLES = {".csv", ".tsv", ".conll", ".conllu"}  # rows of a task, read at once
# A batch is this many documents' sentences at most, and this many characters.
BATCH_CHARACTERS = 500_000
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


class Corpus:
    """Encoded text on disk: token ids end to end, cut into sentences, these into documents.

    ``tokens`` holds ids without special tokens (uint16 or uint32). Sentence i is
    ``tokens[sentences[i] : sentences[i + 1]]``; document j has the sentences
    ``documents[j]`` to ``documents[j + 1] - 1``. All three are read-only memory maps.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder = folder
        self.facts = facts
        self.tokens: np.ndarray = np.memmap(folder / "tokens.bin", facts["dtype"], mode="r")
        self.sentences: np.ndarray = np.memmap(folder / "sentences.bin", np.int64, mode="r")
        self.documents: np.ndarray = np.memmap(folder / "documents.bin", np.int64, mode="r")

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.documents) - 1

    def document(self, index: int) -> list[np.ndarray]:
        """The token ids of each sentence of one document."""
        first, last = self.documents[index], self.documents[index + 1]
        bounds = self.sentences[first : last + 1]
        return [self.tokens[a:b] for a, b in pairwise(bounds)]

    @classmethod
    def open(cls, folder: Path | str) -> Corpus:
        """Open what ``build`` wrote; InputError where the folder holds no whole corpus."""
        folder = Path(folder)
        facts = _facts(folder)
        if facts is None:
            raise InputError(
                _("{folder} holds no encoded text, or only part of one. Encode the text again.").format(
                    folder=folder
                )
            )
        return cls(folder, facts)

    @classmethod
    def build(
        cls,
        paths: Sequence[Path | str],
        tokenizer: PreTrainedTokenizerFast,
        folder: Path | str,
        *,
        begun: bool = False,
        unseen: Unseen | None = None,
    ) -> Corpus:
        """Encode text files into ``folder``, or open it where the same files and tokenizer made it.

        Where a training has `begun` with what the folder holds, other files are an InputError. Documents,
        paragraphs and sentences that are rows of `unseen` are left out; `facts["unseen"]` says how many those were.

        Plain text holds a paragraph a line and a blank line between documents; JSONL has a document in
        the field ``text`` of each line, Parquet in the column ``text`` of each row; ``.xz``, ``.gz`` and
        ``.bz2`` are read as they are. The text is streamed and may be larger than memory. Of a table (CSV,
        TSV, CoNLL), which is not, each row is a document. Raises InputError for a file that is missing,
        empty or not text.
        """
        folder = Path(folder)
        files = [Path(path) for path in paths]
        if not files:
            raise InputError(_("No text file was given to encode."))
        for file in files:
            check(file)
        backend = plain(tokenizer)
        made_of = {
            "version": VERSION,
            "files": [_fingerprint(file) for file in files],
            "tokenizer": hashlib.sha256(backend.to_str().encode()).hexdigest(),
        } | ({"unseen": unseen.fingerprint} if unseen else {})
        facts = _facts(folder)
        if facts is not None and facts["made_of"] == made_of:
            return cls(folder, facts)

        if facts is not None and begun:
            raise _changed(files)
        if folder.exists() and (name := _foreign(folder)):
            raise InputError(
                _("{folder} holds other files ({name}). Choose an empty or new folder.").format(
                    folder=folder, name=name
                )
            )
        # Written beside and renamed at the end, so that a folder of this name is always whole.
        partial = folder.with_name(folder.name + ".tmp")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        facts = {"made_of": made_of, **_encode(files, backend, partial, unseen)}
        (partial / "corpus.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False), "utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
        return cls(folder, facts)


OWN_FILES = {"tokens.bin", "sentences.bin", "documents.bin", "corpus.json"}


def unchanged(paths: Sequence[Path | str], folder: Path) -> None:
    """Raise InputError where `folder` holds encoded text that these files made when they held another."""
    files, facts = [Path(path) for path in paths], _facts(folder)
    if facts is not None and facts["made_of"]["files"] != [_fingerprint(file) for file in files]:
        raise _changed(files)


def _changed(files: Sequence[Path]) -> InputError:
    return InputError(
        _(
            "The text has changed since the run began: {files}. Put it back to resume, or start anew with --overwrite."
        ).format(files=", ".join(str(file) for file in files))
    )


def _foreign(folder: Path) -> str | None:
    """The name of a file in the folder that no corpus has."""
    return next((entry.name for entry in sorted(folder.iterdir()) if entry.name not in OWN_FILES), None)


def _facts(folder: Path) -> dict[str, Any] | None:
    """What ``corpus.json`` says, or None where it is absent or the arrays have another size than it says."""
    path = folder / "corpus.json"
    if not path.is_file():
        return None
    facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
    sizes = {
        "tokens.bin": facts["tokens"] * np.dtype(facts["dtype"]).itemsize,
        "sentences.bin": (facts["sentences"] + 1) * 8,
        "documents.bin": (facts["documents"] + 1) * 8,
    }
    whole = all((folder / n).is_file() and (folder / n).stat().st_size == s for n, s in sizes.items())
    return facts if whole else None


def check(file: Path) -> None:
    """Raise InputError where the beginning of a file tells that it is no text to learn from."""
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


def _fingerprint(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"name": file.name, "size": file.stat().st_size, "sha256": digest}


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
    """The documents of a file, each a list of paragraphs."""
    kind = _kind(file)
    if kind == ".parquet":
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


class _Read:
    """The documents of files without what must stay `unseen`, and how many paragraphs and sentences that were."""

    def __init__(self, files: Iterable[Path], unseen: Unseen | None) -> None:
        self.files, self.unseen, self.left_out = files, unseen, 0

    def __iter__(self) -> Iterator[list[str]]:
        for file in self.files:
            for paragraphs in documents(file):
                kept = self.unseen.kept(paragraphs) if self.unseen else paragraphs
                self.left_out += len(paragraphs) - len(kept)
                yield kept


def _sentences(read: _Read) -> Iterator[tuple[str, bool]]:
    """Each sentence of each document, with whether it is the document's first."""
    for paragraphs in read:
        first = True
        for paragraph in paragraphs:
            for sentence in split_sentences(paragraph):
                if read.unseen and sentence in read.unseen:
                    read.left_out += 1
                    continue
                yield sentence, first
                first = False


def _batches(sentences: Iterator[tuple[str, bool]]) -> Iterator[list[tuple[str, bool]]]:
    """Runs of sentences of about BATCH_CHARACTERS."""
    while first := next(sentences, None):
        batch, size = [first], len(first[0])
        while size < BATCH_CHARACTERS and (more := list(islice(sentences, 1000))):
            batch += more
            size += sum(len(sentence) for sentence, _first in more)
        yield batch


def plain(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """A copy of the backend without the truncation and padding that earlier calls may have left on.

    Text that names a control token, as web pages about models do, is text to it.
    """
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _encode(files: list[Path], backend: Tokenizer, folder: Path, unseen: Unseen | None) -> dict[str, Any]:
    """Write the three arrays and return their type and counts."""
    read = _Read(files, unseen)
    dtype = np.dtype(np.uint16 if backend.get_vocab_size() <= 1 << 16 else np.uint32)
    tokens = sentences = documents = 0
    with (
        (folder / "tokens.bin").open("wb") as token_file,
        (folder / "sentences.bin").open("wb") as sentence_file,
        (folder / "documents.bin").open("wb") as document_file,
    ):
        sentence_file.write(np.int64(0).tobytes())
        document_file.write(np.int64(0).tobytes())
        begun = 0  # first sentence of the document being read
        for batch in _batches(_sentences(read)):
            encodings = backend.encode_batch_fast([text for text, _first in batch], add_special_tokens=False)
            ids, sentence_ends, document_ends = array("I"), array("q"), array("q")
            for encoding, (_text, first) in zip(encodings, batch, strict=True):
                if first and sentences > begun:
                    document_ends.append(sentences)
                    documents += 1
                    begun = sentences
                if encoding.ids:
                    ids.extend(encoding.ids)
                    tokens += len(encoding.ids)
                    sentences += 1
                    sentence_ends.append(tokens)
            del encodings, encoding  # a hundred bytes a token: not two batches of them at once
            token_file.write(np.frombuffer(ids, np.uintc).astype(dtype).tobytes())
            sentence_file.write(sentence_ends.tobytes())
            document_file.write(document_ends.tobytes())
        if sentences > begun:
            document_file.write(np.int64(sentences).tobytes())
            documents += 1
    if not tokens:
        raise InputError(
            _("No words were found in {files}.").format(files=", ".join(str(file) for file in files))
        )
    counts = {"tokens": tokens, "sentences": sentences, "documents": documents}
    return {"dtype": dtype.name, **counts, **({"unseen": read.left_out} if unseen else {})}

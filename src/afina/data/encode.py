"""Text files as arrays of token ids, written batch by batch; what a kill has cut short goes on from its last batch."""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afina.data.apart import Apart
from afina.data.plain_text import documents, split_sentences
from afina.data.unseen import Unseen
from afina.errors import InputError
from afina.messages import _

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

# Sentences of a batch: about so many characters of them.
BATCH_CHARACTERS = 500_000
PROGRESS = "progress.json"


class _Read:
    """The documents of files without what must stay `unseen`, and how many paragraphs and sentences that were."""

    def __init__(self, files: Iterable[Path], unseen: Unseen | None, column: str | None) -> None:
        self.files, self.unseen, self.column, self.left_out = files, unseen, column, 0

    def __iter__(self) -> Iterator[list[str]]:
        for file in self.files:
            for paragraphs in documents(file, self.column):
                kept = self.unseen.kept(paragraphs) if self.unseen else paragraphs
                self.left_out += len(paragraphs) - len(kept)
                yield kept


def _sentences(read: _Read, how: Apart) -> Iterator[tuple[str, bool]]:
    """Each sentence of each document, with whether it is the document's first.

    Where the signs between sentences are kept, one has the blank before it, and the line end behind it.
    """
    blank, line_end = (" ", "\n") if how.signs else ("", "")
    for paragraphs in read:
        waiting, first = "", True  # whether a line follows a sentence is known when the next one is there
        for paragraph in paragraphs:
            begins = True
            for sentence in split_sentences(paragraph):
                if read.unseen and sentence in read.unseen:
                    read.left_out += 1
                    continue
                if waiting:
                    yield waiting + (line_end if begins else ""), first
                    first = False
                waiting = ("" if begins else blank) + sentence if waiting else how.lead + sentence
                begins = False
        if waiting:
            yield waiting, first


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


def encode(
    files: list[Path],
    how: Apart,
    folder: Path,
    unseen: Unseen | None,
    made_of: dict[str, Any],
    column: str | None = None,
) -> dict[str, Any]:
    """Write `tokens.bin`, `sentences.bin` and `documents.bin` into `folder` and return their type and counts.

    Where the folder holds a part of what is `made_of` the same files by the same tokenizer, the rest is added to it.
    The texts are read from the start again, which takes a small part of the time. Raises InputError for a file that is
    not text, and OSError where the disk is full: what is there then can be gone on with too.
    """
    read = _Read(files, unseen, column)
    dtype = np.dtype(np.uint16 if how.backend.get_vocab_size() <= 1 << 16 else np.uint32)
    done = _begun(folder, made_of, dtype) or _new(folder, made_of, dtype)
    sizes = _sizes(done, dtype)
    sentences = _sentences(read, how)
    for _written in zip(range(done["read"]), sentences, strict=False):
        pass
    with (
        (folder / "tokens.bin").open("r+b") as token_file,
        (folder / "sentences.bin").open("r+b") as sentence_file,
        (folder / "documents.bin").open("r+b") as document_file,
    ):
        for stream, size in zip((token_file, sentence_file, document_file), sizes.values(), strict=True):
            stream.truncate(size)  # what a kill has left of a batch
            stream.seek(size)
        for batch in _batches(sentences):
            encodings = how.backend.encode_batch_fast(
                [text for text, _first in batch], add_special_tokens=False
            )
            ids, sentence_ends, document_ends = array("I"), array("q"), array("q")
            for encoding, (_text, first) in zip(encodings, batch, strict=True):
                if first and done["sentences"] > done["begun"]:
                    document_ends.append(done["sentences"])
                    done["documents"] += 1
                    done["begun"] = done["sentences"]
                if encoding.ids:
                    ids.extend(encoding.ids)
                    done["tokens"] += len(encoding.ids)
                    done["sentences"] += 1
                    sentence_ends.append(done["tokens"])
            del encodings, encoding  # a hundred bytes a token: not two batches of them at once
            token_file.write(np.frombuffer(ids, np.uintc).astype(dtype).tobytes())
            sentence_file.write(sentence_ends.tobytes())
            document_file.write(document_ends.tobytes())
            for stream in (token_file, sentence_file, document_file):
                stream.flush()
            done["read"] += len(batch)
            _keep(folder, done)
        if done["sentences"] > done["begun"]:
            document_file.write(np.int64(done["sentences"]).tobytes())
            done["documents"] += 1
    if not done["tokens"]:
        raise InputError(
            _("No words were found in {files}.").format(files=", ".join(str(file) for file in files))
        )
    counts = {name: done[name] for name in ("tokens", "sentences", "documents")}
    return {"dtype": dtype.name, **counts, **({"unseen": read.left_out} if unseen else {})}


def _sizes(done: dict[str, Any], dtype: np.dtype) -> dict[str, int]:
    """Return how many bytes of each array hold what is done; both lists of ends begin with nought."""
    return {
        "tokens.bin": done["tokens"] * dtype.itemsize,
        "sentences.bin": 8 * (1 + done["sentences"]),
        "documents.bin": 8 * (1 + done["documents"]),
    }


def _begun(folder: Path, made_of: dict[str, Any], dtype: np.dtype) -> dict[str, Any] | None:
    """Return how far the folder is with what is `made_of` this: sentences `read`, and what is written whole of them.

    `begun` is the first sentence of the document that is being read. None where the folder holds nothing of it, or less
    than it says, as after a power failure.
    """
    try:
        done: dict[str, Any] = json.loads((folder / PROGRESS).read_text("utf-8"))
        whole = done["made_of"] == made_of and all(
            (folder / name).stat().st_size >= size for name, size in _sizes(done, dtype).items()
        )
    except (OSError, ValueError, KeyError):
        return None
    return done if whole else None


def _new(folder: Path, made_of: dict[str, Any], dtype: np.dtype) -> dict[str, Any]:
    """Return that nothing is done, with the folder so."""
    done = {"made_of": made_of, "read": 0, "tokens": 0, "sentences": 0, "documents": 0, "begun": 0}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, size in _sizes(done, dtype).items():
        (folder / name).write_bytes(bytes(size))
    return done


def _keep(folder: Path, done: dict[str, Any]) -> None:
    new = folder / f"{PROGRESS}.new"
    new.write_text(json.dumps(done), "utf-8")
    os.replace(new, folder / PROGRESS)

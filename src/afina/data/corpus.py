"""Plain text of any size as encoded, memory-mapped arrays for pre-training."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afina.data import hub
from afina.data.apart import apart
from afina.data.encode import PROGRESS, encode, plain
from afina.data.plain_text import check, reading
from afina.data.unseen import Unseen
from afina.errors import InputError
from afina.messages import _

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VERSION = 2  # 1 where the signs between sentences are no tokens: such arrays are what they were
AT_ONCE = 1 << 24  # tokens that are looked at in one piece


class Corpus:
    """Encoded text on disk: token ids end to end, cut into sentences, these into documents.

    ``tokens`` holds ids without special tokens (uint16 or uint32): those that the tokenizer gives for a whole document
    with a blank between sentences and a line end between paragraphs. Sentence i is
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

    def fingerprints(self) -> np.ndarray:
        """A number of 64 bits for each document, the same for those whose tokens are the same."""
        data = np.asarray(self.tokens).view(np.uint8).data
        ends = self.sentences[self.documents] * self.tokens.itemsize
        digests = (hashlib.blake2b(data[a:b], digest_size=8).digest() for a, b in pairwise(ends))
        return np.fromiter((int.from_bytes(each, "little") for each in digests), np.uint64, len(self))

    def count(self, token: int) -> int:
        """How often a token id stands in it."""
        parts = range(0, len(self.tokens), AT_ONCE)
        return sum(int(np.count_nonzero(self.tokens[part : part + AT_ONCE] == token)) for part in parts)

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
        column: str | None = None,
    ) -> Corpus:
        """Encode text files into ``folder``, or open it where the same files and tokenizer made it.

        Where a training has `begun` with what the folder holds, other files are an InputError. Documents,
        paragraphs and sentences that are rows of `unseen` are left out; `facts["unseen"]` says how many those were.

        Plain text holds a paragraph a line and a blank line between documents; JSONL has a document in
        the field ``text`` of each line, Parquet in the column ``text`` of each row; ``.xz``, ``.gz`` and
        ``.bz2`` are read as they are. A data set is a folder that ``save_to_disk`` wrote, or a name on the Hub,
        which is not asked again for what is encoded. The text is streamed and may be larger than memory. Of a
        table (CSV, TSV, JSON, CoNLL), which is not, each row is a document. `column` names the column or field that
        is read instead, where there are any. Raises InputError for a file that is
        missing, empty or not text.
        """
        folder = Path(folder)
        files = [Path(path) for path in paths]
        if not files:
            raise InputError(_("No text file was given to encode."))
        facts = _facts(folder)
        known = facts if begun else None
        for file in files:
            if known is None or file.exists():
                check(file, column)
        backend = plain(tokenizer)
        how = apart(backend)
        made_of = {
            # What a training has begun with an earlier version goes on with that.
            "version": known["made_of"]["version"] if known else VERSION if how.signs else 1,
            "files": [_fingerprint(file, known) for file in files],
            "tokenizer": hashlib.sha256(backend.to_str().encode()).hexdigest(),
        } | {
            name: value
            for name, value in (("unseen", unseen and unseen.fingerprint), ("column", column))
            if value
        }
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
        facts = {"made_of": made_of, **encode(files, how, partial, unseen, made_of, column)}
        (partial / "corpus.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False), "utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
        (folder / PROGRESS).unlink()
        return cls(folder, facts)


OWN_FILES = {PROGRESS, "tokens.bin", "sentences.bin", "documents.bin", "corpus.json"}


def unchanged(paths: Sequence[Path | str], folder: Path) -> None:
    """Raise InputError where `folder` holds encoded text that these files made when they held another."""
    files, facts = [Path(path) for path in paths], _facts(folder)
    if facts is not None and facts["made_of"]["files"] != [_fingerprint(file, facts) for file in files]:
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


def _fingerprint(file: Path, known: dict[str, Any] | None) -> dict[str, Any]:
    """Return what names a text; of one on the Hub what is `known` of it, for there it may be another by now."""
    if hub.is_dataset(file):
        name = file.name if file.exists() else file.as_posix()
        old = [each for each in (known["made_of"]["files"] if known else ()) if each["name"] == name]
        return old[0] if old and not file.exists() else {"name": name, "version": hub.version(file)}
    with reading(file), file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"name": file.name, "size": file.stat().st_size, "sha256": digest}

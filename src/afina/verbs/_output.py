"""The answers of `predict` as a file that grows while they are found, and is there under its name when all are."""

import csv
import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from afina.core import Row
from afina.errors import InputError, Interrupted
from afina.messages import _


class Output:
    """A table with the answers' columns added, named `prediction_1` … where such a column was there, as CSV.

    It is written as `FILE.part` and takes the name FILE at the end. Where the work breaks off, what is answered stays
    there and the person is told; an old `FILE.part` is never written over.
    """

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        self.file, self.columns = file, list(columns)
        self.part = part(file)
        self.rows = 0
        self.added: dict[str, str] = {}  # of an answer's entries, their columns

    def __enter__(self) -> Self:
        try:
            # Half a character is no text that a file could hold.
            self.stream: IO[str] = self.part.open("x", encoding="utf-8", errors="replace", newline="")
        except OSError as error:
            raise self._failed(error) from None
        return self

    def add(self, rows: Sequence[Row], answers: Sequence[dict[str, Any]]) -> None:
        """Write some rows with their answers; InputError where the disk is full."""
        from afina.verbs._measure import cell

        if not self.rows:
            self._head(answers[0] if answers else {})
        try:
            writer = csv.writer(self.stream)
            for row, answer in zip(rows, answers, strict=True):
                given = [row[column] for column in self.columns]
                writer.writerow([*given, *(cell(answer[name]) for name in self.added)])
            self.stream.flush()
        except OSError as error:
            raise self._failed(error) from None
        self.rows += len(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
            return
        with suppress(OSError):  # that of a full disk, which has been told
            self.stream.close()
        if not self.rows:
            self.part.unlink()
            return
        sentence = _("The answers to the first {n} rows are kept in {file}.").format(
            n=self.rows, file=self.part
        )
        if isinstance(error, InputError):
            raise InputError(f"{error} {sentence}") from None
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(_("Interrupted.") + " " + sentence) from None
        from afina.train.track import say

        say(sentence)

    def _finish(self) -> None:
        if not self.rows:
            self._head({})
        try:
            self.stream.flush()
            os.fsync(self.stream.fileno())
            self.stream.close()
            self.part.replace(self.file)
        except OSError as error:
            raise self._failed(error) from None

    def _head(self, first: dict[str, Any]) -> None:
        names = [name for name in first if name == "prediction" or not isinstance(first[name], dict | list)]
        self.added = {name: _free(name, self.columns) for name in names}
        csv.writer(self.stream).writerow([*self.columns, *self.added.values()])

    def _failed(self, error: OSError) -> InputError:
        from afina.train.atomic import cannot_write

        return cannot_write(self.file, error)


def part(file: Path) -> Path:
    """Return where the answers are written until all of them are there."""
    return file.with_name(file.name + ".part")


def check(file: Path) -> None:
    """Raise InputError where answers cannot go to `file`, or would go over those that were kept."""
    if file.is_dir() or not file.parent.is_dir():
        raise InputError(
            _("{file} cannot be written: it is a folder, or its folder is missing.").format(file=file)
        )
    if part(file).exists():
        raise InputError(
            _(
                "{part} holds the answers of a predict that broke off, or that is still at work. Move or delete it, or "
                "choose another --output."
            ).format(part=part(file))
        )


def _free(name: str, taken: Sequence[str]) -> str:
    return next(free for i in count() if (free := f"{name}_{i}" if i else name) not in taken)

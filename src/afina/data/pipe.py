"""Texts from a pipe or a terminal, a line each, as soon as they are there."""

import io
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import chain

from afina.core import Row, Table
from afina.data import encoding
from afina.data.file import CHUNK
from afina.data.stream import Stream, blocks

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Pipe(Stream):
    """Lines that come as somebody writes them: a block is what is at hand, and nothing is waited for but a first line.

    `stream` is read once; `tell` is given what the person should know of it, when that is found.
    """

    stream: io.BufferedReader | None = None
    tell: Tell = print

    @classmethod
    def of(cls, stream: io.BufferedReader, tell: Tell) -> "Pipe":
        """Return the lines of `stream`, a text each."""
        return cls(lambda: iter(()), ("text",), "-", (), stream, tell)

    def beginning(self) -> Table:
        return Table([], self.columns, self.source)

    def blocks(self, columns: Collection[str] | None = None) -> Iterator[list[Row]]:
        for lines in self._lines():
            yield from blocks(({"text": line} for line in lines), columns)

    def _lines(self) -> Iterator[list[str]]:
        """Yield the whole lines that are at hand, however they end."""
        ends = io.IncrementalNewlineDecoder(None, translate=True)
        rest = ""
        for text in self._decoded():
            *whole, rest = (rest + ends.decode(text)).split("\n")
            if whole:
                yield whole
        *whole, rest = (rest + ends.decode("", final=True)).split("\n")
        yield [*whole, *([rest] if rest else [])]

    def _decoded(self) -> Iterator[str]:
        """Yield the text; its encoding is told by how it begins, else by the first lines that are no UTF-8."""
        pieces = self._pieces()
        first = next(pieces, b"")
        if name := encoding.by_start(first):
            for note in encoding.note(name, self.source):
                self.tell(note)
            yield from encoding.decoded(chain([first], pieces), name, self.source)
            return
        known, held = encoding.Encoding("utf-8"), b""
        for piece in chain([first], pieces, [b""]):
            data = held + piece
            end = 1 + max(data.rfind(b"\n"), data.rfind(b"\r")) if piece else len(data)
            data, held = data[:end], data[end:]
            if known == encoding.Encoding("utf-8"):
                known = encoding.find(lambda data=data: iter([data]), self.source)  # type: ignore[misc]
                for note in known.notes:
                    self.tell(note)
            yield data.decode(known.name, known.errors)

    def _pieces(self) -> Iterator[bytes]:
        while self.stream and (piece := self.stream.read1(CHUNK)):
            yield piece

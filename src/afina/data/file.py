"""A file's bytes and lines, unpacked, from the beginning as often as they are asked for."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from afina.data.encoding import Encoding
from afina.data.stream import Lines
from afina.errors import InputError
from afina.messages import _

PACKED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
START = 2**16
CHUNK = 2**20  # bytes


@dataclass(frozen=True)
class File:
    """What can be read again: a file on disk, or what came through a pipe, which is kept."""

    source: str
    place: Path | bytes
    packed: tuple[Callable[..., Any], ...] = ()

    @classmethod
    def of(cls, path: Path, source: str) -> "File":
        """Return the file at `path`, unpacked by what it begins with."""
        file = cls(source, path if path.is_file() else path.read_bytes())
        for start, unpack in PACKED.items():
            if file.start().startswith(start):
                file = replace(file, packed=(*file.packed, unpack))
        return file

    def start(self) -> bytes:
        """Return its first bytes."""
        with self._open() as stream:
            return stream.read(START)

    def all(self) -> bytes:
        """Return all its bytes."""
        with self._open() as stream:
            return stream.read()

    def chunks(self) -> Iterator[bytes]:
        """Yield its bytes, some at a time."""
        with self._open() as stream:
            while chunk := stream.read(CHUNK):
                yield chunk

    def lines(self, encoding: Encoding) -> Lines:
        """Return what reads its lines."""

        def read(newline: str | None) -> Iterator[str]:
            with (
                self._open() as stream,
                io.TextIOWrapper(stream, encoding.name, encoding.errors, newline) as text,
            ):
                yield from text

        return read

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """Open it; InputError where it cannot be read, or is a packed file that broke off."""
        try:
            with ExitStack() as stack:
                plain = io.BytesIO(self.place) if isinstance(self.place, bytes) else self.place.open("rb")
                stream: IO[bytes] = stack.enter_context(plain)
                for unpack in self.packed:
                    stream = stack.enter_context(unpack(stream, "rb"))
                yield stream
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            sentence = _("{source} cannot be read: {reason}.")
            reason = getattr(error, "strerror", None) or error
            if self.packed:
                sentence = _("{source} is a broken archive ({reason}). Fetch or compress it again.")
                reason = error
            raise InputError(sentence.format(source=self.source, reason=reason)) from error

"""From bytes of any common encoding to text."""

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from afina.errors import InputError
from afina.messages import _

BYTE_ORDER_MARKS = [
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]
# What Western European text holds besides ASCII: letters with marks, and what word processors write.
WESTERN = frozenset("áéíóúüñçàèìòùâêîôûäëïöãõåæøÿœßÁÉÍÓÚÜÑÇÀÈÌÒÙÂÊÎÔÛÄËÏÖÃÕÅÆØŒ¿¡ªº°·«»“”‘’„…–—€´£©®™•\u00a0")
SPANISH = frozenset("áéíóúüñ¿¡")
LEGACY = ["cp1252", "mac_roman", "cp850"]
NAMES = {"cp1252": "Windows-1252", "mac_roman": "Mac Roman", "cp850": "CP850 (DOS)", "latin_1": "Latin-1"}
MULTI_BYTE = re.compile(rb"[\xc3-\xf4][\x80-\xbf]")  # how a sign of several begins
ASCII = bytes(range(128))
ESCAPED = re.compile("[\udc80-\udcff]")
STRAY = 3
CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1a\x1b"))


class Encoding(NamedTuple):
    """How bytes become text, as `open` takes it, and what the person should know of it."""

    name: str
    errors: str = "strict"
    notes: tuple[str, ...] = ()


def decode(data: bytes, source: str) -> tuple[str, list[str]]:
    """Return the text and, where it is not plain UTF-8, a sentence that says how it was read."""
    found = find(lambda: iter([data]), source)
    return data.decode(found.name, found.errors), list(found.notes)


def find(chunks: Callable[[], Iterator[bytes]], source: str) -> Encoding:
    """Return how the bytes that `chunks` gives, from the beginning each time, are read.

    A byte-order mark decides; then UTF-8, in which a few foreign bytes are mended; then the Western encoding
    that gives the most Spanish-looking text; then charset-normalizer. Raises InputError for what is no text.
    """
    start = _start(chunks(), 65536)
    if name := by_start(start):
        for _text in decoded(chunks(), name, source):
            pass
        return Encoding(name, "strict", note(name, source))
    if b"\0" in start[:4096]:
        raise InputError(_not_text(source))
    # A few are in many a text that people paste: a bell, a sign that some other program has left.
    if len(start) - len(start.translate(None, CONTROL)) > STRAY + len(start) / 100:
        raise InputError(_not_text(source))
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in chunks():
            if b"\0" in chunk:
                raise InputError(_not_text(source))
            decoder.decode(chunk)
        decoder.decode(b"", True)
        return Encoding("utf-8")
    except UnicodeDecodeError:
        return _not_utf_8(chunks, source)


def _start(chunks: Iterator[bytes], size: int) -> bytes:
    start = b""
    while len(start) < size and (chunk := next(chunks, b"")):
        start += chunk[:size]
    return start[:size]


def _not_utf_8(chunks: Callable[[], Iterator[bytes]], source: str) -> Encoding:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    mended = pairs = size = 0
    last = b""
    foreign: Counter[int] = Counter()
    for chunk in chunks():
        if b"\0" in chunk:
            raise InputError(_not_text(source))
        mended += len(ESCAPED.findall(decoder.decode(chunk)))
        pairs += len(MULTI_BYTE.findall(last + chunk))
        foreign.update(chunk.translate(None, ASCII))
        size, last = size + len(chunk), chunk[-1:]
    mended += len(ESCAPED.findall(decoder.decode(b"", True)))
    if mended < pairs:
        note = _("{source} is UTF-8 but for {count} bytes, which were read as Windows-1252.")
        return Encoding("utf-8", "windows-1252", (note.format(source=source, count=mended),))
    encoding = _guess(foreign, size, chunks)
    note = _("{source} is not UTF-8; it was read as {encoding}. If accents look wrong, save it as UTF-8.")
    return Encoding(
        encoding, "replace", (note.format(source=source, encoding=NAMES.get(encoding, encoding)),)
    )


def by_start(start: bytes) -> str | None:
    """Return the encoding that the beginning of a text tells: by its mark, or UTF-16 by its zeros."""
    marked = next((name for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)), None)
    return marked or (_without_mark(start) if b"\0" in start[:4096] else None)


def note(encoding: str, source: str) -> tuple[str, ...]:
    """Return what the person should know of an encoding that the beginning of a text has told."""
    if encoding == "utf-8-sig":
        return ()
    return (_("{source} was read as {encoding}.").format(source=source, encoding=encoding.upper()),)


def decoded(chunks: Iterator[bytes], encoding: str, source: str) -> Iterator[str]:
    """Yield the text of the bytes; InputError where they are not of that encoding, or no text."""
    decoder = codecs.getincrementaldecoder(encoding)()
    begin = 0  # of what is decoded next, in the file
    try:
        for chunk in chunks:
            held = len(decoder.getstate()[0])
            text = decoder.decode(chunk)
            begin += len(chunk)
            if "\0" in text:
                raise InputError(_not_text(source))
            yield text
        held = len(decoder.getstate()[0])
        decoder.decode(b"", True)
    except UnicodeDecodeError as error:
        sentence = _("{source} begins as {encoding} text but breaks at byte {byte}. Save it again as UTF-8.")
        name = encoding.upper().removesuffix("-SIG")
        place = begin - held + error.start
        raise InputError(sentence.format(source=source, encoding=name, byte=place)) from error


def wide(data: bytes) -> str | None:
    """Return the name of the encoding of more than a byte a sign that the beginning of a text tells, if one does."""
    marked = next((name for mark, name in BYTE_ORDER_MARKS[1:] if data.startswith(mark)), None)
    return (marked or ("utf-16" if _without_mark(data) else "")).upper() or None


def _without_mark(data: bytes) -> str | None:
    # In UTF-16 the zeros, half of each ASCII sign, are at odd or at even places; in binary files anywhere.
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = data[first:4096:2].count(0), data[1 - first : 4096 : 2].count(0)
        sample = data[:4096].decode(encoding, "replace")
        written = sum(character.isprintable() or character.isspace() for character in sample)
        if others < zeros / 20 and written > 0.98 * len(sample):
            return encoding
    return None


def _guess(foreign: Counter[int], size: int, chunks: Callable[[], Iterator[bytes]]) -> str:
    """Return the likeliest encoding of so many bytes, of which those beyond ASCII are `foreign`."""
    from charset_normalizer import from_bytes

    likely = [name for name in LEGACY if _share(foreign, name, WESTERN) >= 0.9]
    # In Western languages signs beyond ASCII are few; in a Cyrillic or Chinese file they are most.
    if likely and foreign.total() < size / 3:
        # Read as Mac Roman, an English apostrophe of Windows is a Spanish í: the usual encoding comes first.
        if "cp1252" in likely:
            return "cp1252"
        return max(likely, key=lambda name: _share(foreign, name, SPANISH))
    match = from_bytes(_start(chunks(), 1_000_000)).best()
    return match.encoding if match is not None else "cp1252"


def _share(foreign: Counter[int], encoding: str, wanted: frozenset[str]) -> float:
    found = sum(n for byte, n in foreign.items() if bytes([byte]).decode(encoding, "replace") in wanted)
    return found / foreign.total()


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


def _not_text(source: str) -> str:
    return _("{source} is a binary file, not text. Save the table as CSV and give that file.").format(
        source=source
    )


codecs.register_error("windows-1252", _as_windows_1252)

"""From bytes of any common encoding to text."""

import codecs
import re

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
MULTI_BYTE = re.compile(rb"[\xc3-\xf4][\x80-\xbf]+")
ESCAPED = re.compile("[\udc80-\udcff]")
STRAY = 3
CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1a\x1b"))


def decode(data: bytes, source: str) -> tuple[str, list[str]]:
    """Return the text and, where it is not plain UTF-8, a sentence that says how it was read.

    A byte-order mark decides; then UTF-8, in which a few foreign bytes are mended; then the Western encoding
    that gives the most Spanish-looking text; then charset-normalizer. Raises InputError for what is no text.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _by_mark(data, encoding, source)
    if b"\0" in data[:4096]:
        return _utf_16_without_mark(data, source)
    sample = data[:65536]
    # A few are in many a text that people paste: a bell, a sign that some other program has left.
    if b"\0" in data or len(sample) - len(sample.translate(None, CONTROL)) > STRAY + len(sample) / 100:
        raise InputError(_not_text(source))
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError:
        pass
    text = data.decode("utf-8", "windows-1252")
    mended = len(ESCAPED.findall(data.decode("utf-8", "surrogateescape")))
    if mended < len(MULTI_BYTE.findall(data)):
        note = _("{source} is UTF-8 but for {count} bytes, which were read as Windows-1252.")
        return text, [note.format(source=source, count=mended)]
    encoding = _guess(data)
    note = _("{source} is not UTF-8; it was read as {encoding}. If accents look wrong, save it as UTF-8.")
    return data.decode(encoding, "replace"), [
        note.format(source=source, encoding=NAMES.get(encoding, encoding))
    ]


def _by_mark(data: bytes, encoding: str, source: str) -> tuple[str, list[str]]:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        sentence = _("{source} begins as {encoding} text but breaks at byte {byte}. Save it again as UTF-8.")
        name = encoding.upper().removesuffix("-SIG")
        raise InputError(sentence.format(source=source, encoding=name, byte=error.start)) from error
    if "\0" in text:
        raise InputError(_not_text(source))
    if encoding == "utf-8-sig":
        return text, []
    return text, [_("{source} was read as {encoding}.").format(source=source, encoding=encoding.upper())]


def wide(data: bytes) -> str | None:
    """Return the name of the encoding of more than a byte a sign that the beginning of a text tells, if one does."""
    marked = next((name for mark, name in BYTE_ORDER_MARKS[1:] if data.startswith(mark)), None)
    return (marked or ("utf-16" if _without_mark(data) else "")).upper() or None


def _utf_16_without_mark(data: bytes, source: str) -> tuple[str, list[str]]:
    encoding = _without_mark(data)
    if encoding is None:
        raise InputError(_not_text(source))
    return _by_mark(data, encoding, source)


def _without_mark(data: bytes) -> str | None:
    # In UTF-16 the zeros, half of each ASCII sign, are at odd or at even places; in binary files anywhere.
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = data[first:4096:2].count(0), data[1 - first : 4096 : 2].count(0)
        sample = data[:4096].decode(encoding, "replace")
        written = sum(character.isprintable() or character.isspace() for character in sample)
        if others < zeros / 20 and written > 0.98 * len(sample):
            return encoding
    return None


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes

    foreign = data.translate(None, bytes(range(128)))
    likely = [name for name in LEGACY if _share(foreign, name, WESTERN) >= 0.9]
    # In Western languages signs beyond ASCII are few; in a Cyrillic or Chinese file they are most.
    if likely and len(foreign) < len(data) / 3:
        # Read as Mac Roman, an English apostrophe of Windows is a Spanish í: the usual encoding comes first.
        if "cp1252" in likely:
            return "cp1252"
        return max(likely, key=lambda name: _share(foreign, name, SPANISH))
    match = from_bytes(data[:1_000_000]).best()
    return match.encoding if match is not None else "cp1252"


def _share(foreign: bytes, encoding: str, wanted: frozenset[str]) -> float:
    characters = foreign.decode(encoding, "replace")
    return sum(character in wanted for character in characters) / len(characters)


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "replace"), error.end


def _not_text(source: str) -> str:
    return _("{source} is a binary file, not text. Save the table as CSV and give that file.").format(
        source=source
    )


codecs.register_error("windows-1252", _as_windows_1252)

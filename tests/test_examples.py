"""The sample files are what examples/README.md says they are, in both of its languages."""

import csv
import io
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
ENGLISH, SPANISH = (EXAMPLES / "README.md").read_text(encoding="utf-8").split("\n---\n")
LABELS = ("devolucion", "envio", "factura", "cuenta", "producto", "queja", "agradecimiento")

Row = tuple[str, str, str]


def read_rows(name: str, encoding: str, delimiter: str) -> list[Row]:
    text = (EXAMPLES / name).read_bytes().decode(encoding)
    header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    assert header == ["texto", "etiqueta", "idioma"]
    assert all(len(row) == 3 for row in rows)
    return [(text, label, language) for text, label, language in rows]


MAIN = read_rows("mensajes.csv", "utf-8", ",")
LATIN = read_rows("mensajes_latin1.csv", "cp1252", ";")
NEW = (EXAMPLES / "nuevos.txt").read_text(encoding="utf-8").splitlines()
TEXTS = [text for text, _, _ in MAIN]


def plain(text: str) -> str:
    """The words of a text without case, accents and punctuation."""
    decomposed = unicodedata.normalize("NFD", text.casefold())
    return " ".join(re.findall(r"\w+", re.sub(r"[\u0300-\u036f]", "", decomposed)))


def has_emoji(text: str) -> bool:
    return any(unicodedata.category(character) == "So" for character in text)


def counts(rows: list[Row], label: str | None) -> list[int]:
    """Rows of a label (None: of all) in Spanish, in English and together."""
    found = Counter(language for _, row_label, language in rows if label in (None, row_label))
    return [found["es"], found["en"], found.total()]


def stated(readme: str, what: str) -> int:
    """The first number in the second column of the README's row that begins with `what`."""
    match = re.search(rf"^\| {re.escape(what)}[^\n]*\| (\d+)[^|\n]*\|$", readme, flags=re.MULTILINE)
    assert match, what
    return int(match[1])


@pytest.mark.parametrize("readme", [ENGLISH, SPANISH], ids=["en", "es"])
@pytest.mark.parametrize("label", [*LABELS, None])
def test_counts_are_those_of_the_readme(readme: str, label: str | None) -> None:
    name = f"`{label}`" if label else r"\*\*total\*\*"
    row = re.search(rf"^\| {name} \|[^|]*\|([ \d|]+)\|$", readme, flags=re.MULTILINE)
    assert row, label
    numbers = [int(number) for number in row[1].split("|")]
    assert numbers == counts(MAIN, label) + counts(LATIN, label)


@pytest.mark.parametrize("readme", [ENGLISH, SPANISH], ids=["en", "es"])
def test_file_sizes_are_those_of_the_readme(readme: str) -> None:
    sizes = {"mensajes.csv": len(MAIN), "mensajes_latin1.csv": len(LATIN), "nuevos.txt": len(NEW)}
    for name, size in sizes.items():
        assert re.search(rf"^\| `{re.escape(name)}` \| {size} \|", readme, flags=re.MULTILINE), name


@pytest.mark.parametrize("rows", [MAIN, LATIN], ids=["mensajes", "latin1"])
def test_labels_and_languages_are_clean(rows: list[Row]) -> None:
    assert {label for _, label, _ in rows} == set(LABELS)
    assert {language for _, _, language in rows} == {"es", "en"}
    assert all(text.strip() for text, _, _ in rows)


def test_planted_mess_is_as_stated() -> None:
    groups: dict[str, set[str]] = {}
    for text in TEXTS:
        groups.setdefault(plain(text), set()).add(text)
    found = {
        ("exact copies", "copias exactas"): len(MAIN) - len(set(MAIN)),
        ("pairs that differ only", "parejas que sólo difieren"): sum(len(g) == 2 for g in groups.values()),
        ("blanks at the start", "espacios al principio"): sum(t != t.strip() for t in TEXTS),
        ("line breaks inside", "saltos de línea"): sum("\n" in t for t in TEXTS),
        ("semicolons and quotation", "punto y coma y comillas"): sum(";" in t and '"' in t for t in TEXTS),
        ("messages in capitals", "mensajes sólo en mayúsculas"): sum(t.isupper() for t in TEXTS),
        ("emoji", "emojis"): sum(has_emoji(t) for t in TEXTS),
    }
    for (english, spanish), count in found.items():
        assert (stated(ENGLISH, english), stated(SPANISH, spanish)) == (count, count), english
    assert max(len(g) for g in groups.values()) == 2


def test_one_text_has_two_labels() -> None:
    labels: dict[str, set[str]] = {}
    for text, label, _ in MAIN:
        labels.setdefault(text, set()).add(label)
    several = {text: found for text, found in labels.items() if len(found) > 1}
    assert several == {"Y mi dinero??": {"devolucion", "queja"}}


def test_near_copies_and_special_messages_are_there() -> None:
    assert {"No puedo entrar a mi cuenta.", "no puedo entrar en mi cuenta!!", "Entrega"} <= set(TEXTS)
    assert sum("TL-60112" in text or "TL-60121" in text for text in TEXTS) == 2
    assert ("Gracias por nada 🙃", "queja", "es") in MAIN
    assert ("Thanks for nothing.", "queja", "en") in MAIN


def test_main_file_is_utf8_and_quoted_throughout() -> None:
    raw = (EXAMPLES / "mensajes.csv").read_bytes()
    assert not raw.startswith(b"\xef\xbb\xbf")
    assert b"\r" not in raw
    written = io.StringIO(newline="")
    writer = csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("texto", "etiqueta", "idioma"), *MAIN])
    assert written.getvalue().encode() == raw


def test_latin_file_is_windows_1252_and_nothing_else() -> None:
    raw = (EXAMPLES / "mensajes_latin1.csv").read_bytes()
    with pytest.raises(UnicodeDecodeError):
        raw.decode("utf-8")
    lines = raw.removesuffix(b"\r\n").split(b"\r\n")
    assert len(lines) == len(LATIN) + 1 and b"\n" not in b"".join(lines)
    # 0x80-0x9F: printable in Windows-1252, control characters in ISO-8859-1
    assert sum(any(0x80 <= byte <= 0x9F for byte in line) for line in lines) == 9
    assert any(";" in text for text, _, _ in LATIN)


def test_held_out_messages_are_new() -> None:
    known = {plain(text) for text in TEXTS}
    held_out = [plain(text) for text, _, _ in LATIN] + [plain(text) for text in NEW]
    assert not known.intersection(held_out)
    assert len(set(held_out)) == len(held_out)

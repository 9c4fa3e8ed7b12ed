"""Rows read one after another are those of the whole file; lines of a pipe come when they are written."""

import gzip
import io
import lzma
import os
from pathlib import Path

import pytest

from afina.data import stream
from afina.data.pipe import Pipe
from afina.data.read import lines, read
from afina.data.read import stream as stream_of
from afina.data.stream import Stream
from afina.errors import InputError

FILES = {
    "quoted.csv": 'text,label\n"uno,\n dos",a\ntres,b\n"cua ""tro""",a\ncinco,b\n',
    "bare.csv": "Esto es un texto.;1\nEsto es otro.;2\nY otro más, claro.;1\n",
    "excel.csv": 'sep=;\r\ntext;label\r\n"a;b";x\r\nc;y\r\nd;x\r\n',
    "short.csv": "text,label,\nuno,a,\ndos\n,,\ntres,b,\n",
    "slashes.csv": 'text,label\n"dijo \\"no\\", y ya",a\nuno,b\ndos,a\n',
    "marks.tsv": 'text\tlabel\n"uno\ta\n"dos"\tb\ntres\ta\n',
    "keys.jsonl": '{"text": "uno"}\n\n{"text": "dos", "label": 1}\n{"label": [2, 3], "id": null}\n',
    "halves.jsonl": '{"text": "a\\ud83d"}\n{"text": "\\ud83d\\ude00\u2028b"}\n{"text": "c"}\n',
    "translated.jsonl": '{"translation": {"es": "uno", "en": "one"}}\n{"translation": {"es": "dos", "en": "two"}}\n',
    "tabs.txt": "text\tlabel\nuno\ta\ndos\tb\n",
    "plain.txt": "una línea\n\n  otra, con coma\rla tercera\r\n",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
def test_blocks_of_two_rows_are_the_whole_file(
    name: str, encoding: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[ending]
    file = tmp_path / (name + ending)
    file.write_bytes(pack(FILES[name].replace("\u2028", "").encode(encoding)))
    whole, found = read(file), stream_of(file)
    assert isinstance(found, Stream)
    monkeypatch.setattr(stream, "ROWS", 2)
    monkeypatch.setattr("afina.data.file.CHUNK", 3)  # and what a character is made of is cut anywhere
    found = stream_of(file)
    assert isinstance(found, Stream)
    blocks = list(found.blocks())
    assert [len(block) for block in blocks[:-1]] == [2] * (len(blocks) - 1)
    assert [row for block in blocks for row in block] == whole.rows
    assert (found.columns, found.notes) == (whole.columns, whole.notes)
    only = whole.columns[:1]
    assert [row for block in found.blocks(only) for row in block] == [
        {only[0]: row[only[0]]} for row in whole.rows
    ]


def test_blocks_are_bounded_by_their_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHARACTERS", 10)
    rows = [{"text": "a" * n, "other": "b" * 8} for n in (1, 1, 3, 12, 1, 1)]
    assert [len(block) for block in stream.blocks(iter(rows), ["text"])] == [3, 1, 2]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("wide.csv", "text,label\n" + "a,b\n" * 3000 + "a,b,c\n", "Line 3002 of .* has 3 cells"),
        ("open.csv", "text,label\n" + "a,b\n" * 3000 + '"a,b\na,b,c\n', "row at line 3002 of .* do not fit"),
        ("broken.jsonl", '{"text": "a"}\n' * 3000 + "{\n", "not valid JSON at line 3001"),
        ("number.jsonl", '{"text": "a"}\n' * 3000 + "3\n", "Line 3001 of .* is no JSON object"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_before_the_first_is_given(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        stream_of(tmp_path / name)


def test_an_archive_that_broke_off_is_named_before_the_first_row(tmp_path: Path) -> None:
    data = gzip.compress(b"text,label\n" + os.urandom(300_000).hex().encode() + b",a\n")
    (tmp_path / "table.csv.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="is a broken archive"):
        stream_of(tmp_path / "table.csv.gz")


class Slow(io.BytesIO):
    """Gives three bytes at a time, as a pipe may."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(3)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "end"])
def test_lines_of_a_pipe_are_those_of_a_file(encoding: str, end: str, last: str, tmp_path: Path) -> None:
    data = end.join(["plain", "año", "", "¿qué tal?", "ñu", last]).encode(encoding)
    (tmp_path / "lines.txt").write_bytes(data)
    wide = encoding == "utf-16-le"  # without a mark, which more than its first letter tells
    pipe = Pipe.of(io.BytesIO(data) if wide else Slow(data), lambda note: None)  # type: ignore[arg-type]
    assert [row for block in pipe.blocks() for row in block] == list(lines(tmp_path / "lines.txt").rows())


def test_an_encoding_that_later_lines_tell_is_said_once() -> None:
    said: list[str] = []
    pipe = Pipe.of(Slow("plain\naño\nniño\n".encode("latin-1")), said.append)  # type: ignore[arg-type]
    assert [row["text"] for block in pipe.blocks() for row in block] == ["plain", "año", "niño"]
    assert len(said) == 1 and "Windows-1252" in said[0]

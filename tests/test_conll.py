"""CoNLL and CoNLL-U: words in columns to rows, and what is wrong in them by line."""

from pathlib import Path

import pytest

from afina.core import Table
from afina.data.conll import words
from afina.data.plain_text import documents
from afina.data.read import read
from afina.errors import InputError
from afina.tasks.token_labels import TokenLabels


def rows(folder: Path, text: str, name: str = "data.conll") -> list[dict]:
    (folder / name).write_bytes(text.encode())
    return read(folder / name).rows


PLAIN = [
    {"1": ["Ana", "vive"], "2": ["NP", "V"], "3": ["B-PER", "O"]},
    {"1": ["#", "Lima"], "2": ["X", "NP"], "3": ["O", "B-LOC"]},
]


@pytest.mark.parametrize(
    "text",
    [
        "Ana NP B-PER\nvive V O\n\n# X O\nLima NP B-LOC\n",
        "Ana\tNP\tB-PER\r\nvive\tV\tO\r\n\r\n#\tX\tO\r\nLima\tNP\tB-LOC",
        "-DOCSTART- -X- O\n\nAna  NP B-PER \nvive V O\n \t\n\n\n# id = 7 of 9\n# X O\nLima NP B-LOC\n\n",
        "\ufeffAna NP B-PER\nvive V O\n-DOCSTART- -X- O\n# X O\nLima NP B-LOC\n",
    ],
)
@pytest.mark.parametrize("name", ["data.conll", "esp.train", "data.txt", "data.tsv"])
def test_a_word_a_line(text: str, name: str, tmp_path: Path) -> None:
    assert rows(tmp_path, text, name) == PLAIN


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# id 00000001-aa\tdomain=en\nmadrid _ _ B-LOC\n\n# id 2\tdomain=en\nen _ _ O\n", [["madrid"], ["en"]]),
        ("# sent_id = 3\nMadrid NP I-NP B-LOC\n# NN I-NP O\n", [["Madrid", "#"]]),
        ("# sent_id = 3\nMadrid NP Madrid 7\n", [["Madrid"]]),
        ("# id\tdomain=en\n#\tO\nLima\tB-LOC\n\n#Lima\tB-GPE\n", [["#", "Lima"], ["#Lima"]]),
        ("#lima NP #lima\n# SYM #\nvive V vivir\n", [["#lima", "#", "vive"]]),
        ("# O\n\n# B-LOC\n", [["#"], ["#"]]),
    ],
)  # fmt: skip
def test_a_comment_as_wide_as_a_word_is_a_comment(text: str, words: list[list[str]], tmp_path: Path) -> None:
    assert [row["1"] for row in rows(tmp_path, text)] == words


@pytest.mark.parametrize("mark", ["-DOCSTART-", "-DOCSTART- -X- O", "-DOCSTART-\tO"])
def test_words_say_what_parts_them_and_not_the_mark_above(mark: str, tmp_path: Path) -> None:
    found = rows(tmp_path, f"{mark}\n\nNew York\tB-LOC\nduerme\tO\n\n{mark}\n\nLima\tB-LOC\n")
    assert [row["1"] for row in found] == [["New York", "duerme"], ["Lima"]]


@pytest.mark.parametrize("name", ["data.conll", "data.txt"])
def test_lines_may_end_as_old_macs_end_them(name: str, tmp_path: Path) -> None:
    assert rows(tmp_path, "Ana NP B-PER\rvive V O\r\r# X O\rLima NP B-LOC\r", name) == PLAIN
    assert rows(tmp_path, "Ana NP B-PER\r\r\nvive V O\r\r\n\n# X O\nLima NP B-LOC\n", name) == PLAIN


def test_a_table_with_tags_of_other_words_stays_a_table(tmp_path: Path) -> None:
    assert rows(tmp_path, "text\tlabel\nhola O\tA\nadiós B\tO\n", "data.tsv")[0] == {
        "text": "hola O",
        "label": "A",
    }
    assert rows(tmp_path, "una frase O\notra frase B\n", "data.txt") == [
        {"text": "una frase O"},
        {"text": "otra frase B"},
    ]


def test_blanks_within_a_word_stay_where_tabs_part(tmp_path: Path) -> None:
    assert rows(tmp_path, "20 000\tB-N\n\u00a0\tO\nkm\tO\n")[0]["1"] == ["20 000", "\u00a0", "km"]


def test_a_column_that_counts_is_not_that_of_the_words(tmp_path: Path) -> None:
    for first in (0, 1):
        text = "".join(f"{first}\t{name}\tB-PER\n{first + 1}\tvive\tO\n\n" for name in ("Ana", "Luis"))
        (tmp_path / "data.tsv").write_text(text)
        table = read(tmp_path / "data.tsv")
        assert words(table, table.columns) == "2"
        assert TokenLabels().choose_columns(table).text == "2"
        assert TokenLabels().choose_inputs(table).text == "2"
    (tmp_path / "data.conll").write_text(text)
    assert [*documents(tmp_path / "data.conll")] == [["Ana vive"], ["Luis vive"]]
    table = Table([{"1": ["0", "1"], "2": ["O", "O"]}, {"1": ["7"], "2": ["O"]}], ("1", "2"), "numbers")
    assert words(table, table.columns) == "1"
    assert words(Table([{"0": 7}, {"0": None}], ("0",), "numbers"), ("0",)) == "0"
    rows = [{"1": [str(i % 2), str(i % 2 + 1)], "2": ["Ana", "canta"]} for i in range(12)]
    rows.append({"1": ["7", "8"], "2": ["y", "baila"]})  # the rest of a sentence that was cut in two
    assert words(Table(rows, ("1", "2"), "mixed"), ("1", "2")) == "2"


def line(*cells: str, misc: str = "_") -> str:
    found = [*cells, *["_"] * (9 - len(cells)), misc]
    return "\t".join(found)


UNIVERSAL = "\n".join(
    [
        "# sent_id = 1",
        "# text = Sale del bar, dámelo.",
        line("1", "Sale", "salir", "VERB", "v"),
        line("2-3", "del"),
        line("2", "de", "de", "ADP", "s"),
        line("3", "el", "el", "DET", "d"),
        line("4", "bar", "bar", "NOUN", "n", misc="SpaceAfter=No"),
        line("5", ",", ",", "PUNCT", "f"),
        line("6-8", "dámelo", misc="SpaceAfter=No"),
        line("6", "da", "dar", "VERB", "v"),
        line("7", "me", "yo", "PRON", "p"),
        line("8", "lo", "él", "PRON", "p"),
        line("8.1", "elided", "x", "VERB", "v"),
        line("9", ".", ".", "PUNCT", "f"),
        "",
    ]
)


@pytest.mark.parametrize("name", ["data.conllu", "data.conll", "data.txt"])
def test_universal_dependencies_by_surface_word(name: str, tmp_path: Path) -> None:
    for text in (UNIVERSAL, UNIVERSAL.replace("# text", "# other"), UNIVERSAL.replace("\n", "\r\n"), UNIVERSAL.replace("\n", "\r")):  # fmt: skip
        (row,) = rows(tmp_path, text, name)
        assert row["text"] == "Sale del bar, dámelo."
        assert row["form"] == ["Sale", "del", "bar", ",", "dámelo", "."]
        assert row["upos"] == ["VERB", "ADP+DET", "NOUN", "PUNCT", "VERB+PRON+PRON", "PUNCT"]
        assert row["xpos"][4] == "v+p+p" and row["feats"] == ["_"] * 6


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.conll", "Ana B-PER\nvive O\n\nen O\nLima\n", "Line 5 of .* has 1 columns, the others have 2"),
        ("a.conll", "Ana\tB-PER\nen O\tx\tO\nes\tO\n", "Line 2 of .* has 3 columns, the others have 2"),
        ("a.conll", "Ana\tB-PER\n\tO\nes\tO\n", "Line 2 of .* has an empty column"),
        ("a.conll", "\n\n", "is empty"),
        ("a.conll", "-DOCSTART- O\n\n", "holds no rows"),
        ("a.conllu", UNIVERSAL.replace("4\tbar", "bar\tbar"), "Line 7 of .* is no line of CoNLL-U"),
        ("a.conllu", UNIVERSAL.replace("9\t.", "10\t."), "Line 14 of .* order"),
        (
            "a.conllu",
            UNIVERSAL.replace("6-8\t", "6-9\t").replace(line("9", ".", ".", "PUNCT", "f"), ""),
            "Line 13 of .* order",
        ),
        ("a.conllu", UNIVERSAL.replace("4\tbar", "4\t"), "Line 7 of .* number of a word and the word"),
        ("a.conllu", "Ana B-PER\n", "Line 1 of .* is no line of CoNLL-U: it has 1 cells"),
        (
            "a.conllu",
            line("1-2", "del") + "\n" + line("5", "x") + "\n" + line("1", "y"),
            "Line 2 of .* order",
        ),
    ],
)
def test_what_is_wrong_is_said_by_its_line(name: str, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        rows(tmp_path, text, name)

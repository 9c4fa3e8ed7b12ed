"""Tables of every form are read as they were written; what is no table is refused in one sentence."""

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
from pathlib import Path

import pytest

from afina.data import hub
from afina.data.read import read
from afina.errors import InputError

ROWS = [
    ["¿Dónde está mi pedido?", "envio"],
    ['Dijo "ahora mismo"; y nada, nada', "queja"],
    ["Primera línea\nsegunda línea", "queja"],
    ["  El niño | pingüino\t café  ", "otro"],
    ["Muy bien, gracias, de verdad", ""],
]
COLUMNS = ("texto", "etiqueta")
DATA = Path(__file__).parents[2] / "shared" / "data"


def csv_text(rows=ROWS, columns=COLUMNS, **dialect):
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, **dialect)
    writer.writerows([columns, *rows])
    return buffer.getvalue()


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def cells(table):
    return [[row[column] for column in table.columns] for row in table.rows]


def refusal(path, **options):
    with pytest.raises(InputError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_delimiter_and_quoting_gives_the_rows_back(tmp_path, delimiter, quoting, end):
    text = csv_text(delimiter=delimiter, quoting=quoting, lineterminator=end)
    table = read(write(tmp_path / "t.csv", text))
    assert table.columns == COLUMNS
    assert cells(table) == ROWS
    assert bool(table.notes) == (delimiter != ",")


@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16-LE"),
        ("utf-16-be", "UTF-16-BE"),
        ("utf-32", "UTF-32"),
        ("cp1252", "Windows-1252"),
        ("latin-1", "Windows-1252"),
        ("mac_roman", "Mac Roman"),
        ("cp850", "CP850"),
    ],
)
def test_every_encoding_gives_the_rows_back_and_an_odd_one_is_named(tmp_path, encoding, named):
    table = read(write(tmp_path / "t.csv", csv_text().encode(encoding)))
    assert cells(table) == ROWS
    assert named in " ".join(table.notes)
    assert bool(table.notes) == bool(named)


def test_windows_quotes_and_other_scripts(tmp_path):
    english = "text,label\nIt’s “nice” – isn’t it…,good\n"
    assert (
        read(write(tmp_path / "a.csv", english.encode("cp1252"))).rows[0]["text"] == "It’s “nice” – isn’t it…"
    )
    russian = (
        "text,label\n" + "Привет, как дела сегодня? Всё хорошо;good\n".replace(",", "").replace(";", ",") * 5
    )
    assert read(write(tmp_path / "b.csv", russian.encode("cp1251"))).rows[0]["text"].startswith("Привет как")


def test_a_few_foreign_bytes_do_not_spoil_utf_8(tmp_path):
    content = csv_text().encode() + "otra canción,queja\r\n".encode("cp1252")
    table = read(write(tmp_path / "t.csv", content))
    assert cells(table) == [*ROWS, ["otra canción", "queja"]]
    assert "1 bytes" in table.notes[0]


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip), (".bz2", bz2), (".xz", lzma)])
def test_compressed_files_and_their_damage(tmp_path, ending, pack):
    packed = pack.compress(csv_text().encode())
    assert cells(read(write(tmp_path / f"t.csv{ending}", packed))) == ROWS
    assert cells(read(write(tmp_path / "t.csv", packed))) == ROWS
    assert "broken archive" in refusal(write(tmp_path / f"bad.csv{ending}", packed[:-20]))


def test_one_column_full_of_delimiters(tmp_path):
    table = read(write(tmp_path / "t.csv", "texto\nhola, qué tal\nbien; gracias, y tú\nyo\n"))
    assert cells(table) == [["hola, qué tal"], ["bien; gracias, y tú"], ["yo"]]
    table = read(write(tmp_path / "u.csv", "Hola, qué tal\nBien, gracias, y tú\nYo también\n"))
    assert cells(table)[0] == ["Hola, qué tal"] and table.columns == ("text",)
    assert "no column names" in table.notes[0]


def test_commas_in_text_do_not_hide_a_semicolon(tmp_path):
    rows = [[f"uno, dos, tres {i}", "sí, no"[i % 2 * 4 :]] for i in range(9)]
    text = "frase cliente;grupo\n" + "".join(";".join(row) + "\n" for row in rows)
    table = read(write(tmp_path / "t.csv", text))
    assert table.columns == ("frase cliente", "grupo") and cells(table) == rows


def test_no_header(tmp_path):
    text = "Great film, pos\nI slept, neg\nLovely music, pos\n"
    table = read(write(tmp_path / "t.csv", text.replace(", ", ",")))
    assert table.columns == ("column_1", "column_2") and len(table.rows) == 3
    assert "no column names" in table.notes[0]
    # A usual name makes a header even where nothing else does.
    table = read(write(tmp_path / "u.csv", "¿texto?,2024\nhola,1\nadios,2\n"))
    assert table.columns == ("¿texto?", "2024")


def test_traces_of_spreadsheets(tmp_path):
    text = "sep=;\r\n;texto;etiqueta;\r\n0;hola, a;x;\r\n1;b;y;\r\n;;;\r\n"
    table = read(write(tmp_path / "t.csv", text))
    assert table.columns == ("column_1", "texto", "etiqueta")
    assert cells(table) == [["0", "hola, a", "x"], ["1", "b", "y"]]
    assert "left out: 1" in " ".join(table.notes)


def test_quotes_that_quote_nothing(tmp_path):
    # Read as quotes these two would swallow the lines between them.
    table = read(write(tmp_path / "t.tsv", 'text\tlabel\n"hola\ta\nbueno\tb\n"adios\tb\n'))
    assert cells(table) == [['"hola', "a"], ["bueno", "b"], ['"adios', "b"]]
    table = read(write(tmp_path / "t.csv", 'text,label\n"a b",x\n"dijo "ya" y fue",y\n'))
    assert cells(table) == [["a b", "x"], ['dijo "ya" y fue', "y"]]
    assert "line 3" in table.notes[0]
    table = read(write(tmp_path / "u.csv", 'text,label\n"dijo \\"ya\\", y fue",x\nfin,y\n'))
    assert cells(table) == [['dijo "ya", y fue', "x"], ["fin", "y"]]


def test_ragged_rows(tmp_path):
    assert "Line 3 of" in refusal(write(tmp_path / "d.csv", "sep=,\ntext,grupo\nhola, mundo,b\n"))
    assert "Line 4 of" in refusal(write(tmp_path / "a.csv", 'text,label\n"x\ny",a\nhola, mundo,b\n'))
    table = read(write(tmp_path / "b.csv", "text,label\nuno,a\ndos\ntres,b\n"))
    assert cells(table)[1] == ["dos", ""]
    assert "line 3" in table.notes[0]
    fault = refusal(write(tmp_path / "c.csv", 'text,label\nuno,a\n"dos, y,b\ntres,c\n"cu"a"tro, x",d\n'))
    assert "quotation marks" in fault and "line 3" in fault


def test_json_forms(tmp_path):
    rows = [{"text": "a b", "label": 1, "tags": ["x"]}, {"text": "c\u2028d", "label": True, "tags": None}]
    by_column = {name: [row[name] for row in rows] for name in rows[0]}
    forms = {
        "list.json": json.dumps(rows, ensure_ascii=False),
        "data.json": json.dumps({"version": 1, "data": rows}),
        "columns.json": json.dumps(by_column),
        "pandas.json": json.dumps({name: dict(enumerate(v)) for name, v in by_column.items()}),
        "lines.jsonl": "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n",
        "lines.json": "\n".join(map(json.dumps, rows)),
        "list.jsonl": json.dumps(rows, indent=2),
        "unknown": json.dumps(rows),
    }
    for name, text in forms.items():
        table = read(write(tmp_path / name, text))
        assert table.rows == rows, name
        assert type(table.rows[1]["label"]) is bool
    parts = read(write(tmp_path / "parts.json", json.dumps({"train": rows[:1], "test": rows[1:]})))
    assert [row["split"] for row in parts.rows] == ["train", "test"]
    uneven = read(write(tmp_path / "uneven.jsonl", '{"a": 1}\n{"b": "\\ud83d!"}\n'))
    assert uneven.rows == [{"a": 1, "b": None}, {"a": None, "b": "\ufffd!"}]


def test_broken_json_is_located(tmp_path):
    assert "line 2, column 11" in refusal(write(tmp_path / "a.json", '[{"text": "a",\n "label": }]'))
    assert "line 3, column 6" in refusal(write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a":\n'))
    assert "Line 2" in refusal(write(tmp_path / "b.jsonl", '{"a": 1}\n[2]\n'))
    assert "Entry 2" in refusal(write(tmp_path / "b.json", '[{"a": 1}, 2]'))
    assert "one length" in refusal(write(tmp_path / "c.json", '{"a": [1, 2], "b": [1]}'))
    assert "no table" in refusal(write(tmp_path / "d.json", '"hola"'))
    assert "no rows" in refusal(write(tmp_path / "e.json", "[]"))
    assert "deeply" in refusal(write(tmp_path / "f.json", "[" * 200_000))


def test_parquet(tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [{"texto": "hola", "etiqueta": 1, "ok": True}, {"texto": None, "etiqueta": 2, "ok": None}]
    table = pyarrow.Table.from_pylist(rows).append_column("__index_level_0__", [[7, 8]])
    parquet.write_table(table, tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").rows == rows
    packed = gzip.compress((tmp_path / "t.parquet").read_bytes())
    assert read(write(tmp_path / "t.parquet.gz", packed)).rows == rows
    damaged = (tmp_path / "t.parquet").read_bytes()[:-30]
    assert "broken Parquet" in refusal(write(tmp_path / "u.parquet", damaged))
    assert "no Parquet" in refusal(write(tmp_path / "v.parquet", csv_text()))
    parquet.write_table(table.rename_columns(["a", "a", "b", "c"]), tmp_path / "w.parquet")
    assert "more than one column 'a'" in refusal(tmp_path / "w.parquet")
    table = pyarrow.table({"texto": ["señal".encode(), None], "datos": [b"\xff\xfe", b"x"]})
    parquet.write_table(table, tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet").rows[0] == {"texto": "señal", "datos": b"\xff\xfe"}


def test_text_files(tmp_path):
    table = read(write(tmp_path / "t.txt", "Hola, qué tal\r\n\r\nbien; tú\u0085y yo\r\n"))
    assert cells(table) == [["Hola, qué tal"], ["bien; tú\u0085y yo"]]
    assert read(write(tmp_path / "u.txt", csv_text(delimiter="\t"))).columns == COLUMNS
    assert read(write(tmp_path / "data", csv_text())).columns == COLUMNS
    assert read(
        write(tmp_path / "s.txt", 'Quality\t#1 ID\t#1 String\n1\t70\tHe "said\n0\t71\tno\n')
    ).columns == (
        "Quality",
        "#1 ID",
        "#1 String",
    )
    assert cells(read(write(tmp_path / "p.txt", "Go.\tVe.\tCC-BY, 1\n\nRun!\t¡Corre!\tCC-BY, 2\n"))) == [
        ["Go.", "Ve.", "CC-BY, 1"],
        ["Run!", "¡Corre!", "CC-BY, 2"],
    ]
    assert read(write(tmp_path / "q.txt", "sentence\tmark\nuno\tA\ndos\tB\n")).columns == ("sentence", "mark")
    named = read(write(tmp_path / "w.txt", "Hello\tHola\tx1\nBye\tAdiós\tx2\n"))
    assert "names of its columns: Hello, Hola, x1" in " ".join(named.notes)  # short cells could be names
    assert read(write(tmp_path / "c.txt", "text, label\ta\tb\nuno, dos\tc\td\n")).columns == ("text",)
    for prose in (
        "\tÉrase una vez\n\tun rey\n",
        "uno\tdos\ntres\n",
        "uno\tdos\n",
        "uno\tdos\ntres\tcuatro\n",
    ):
        assert read(write(tmp_path / "r.txt", prose)).columns == ("text",)
    assert len(read(write(tmp_path / "v.txt", "Time, he said\nflies, so\nthey say, on\n")).rows) == 3
    assert "not clear what" in refusal(write(tmp_path / "data.xyz", "hola\nadiós\n"))


def test_folder_by_label(tmp_path):
    for name, content in [
        ("pos/b.txt", "qué bien"),
        ("pos/a.txt", "hola"),
        ("neg/c.txt", "mal"),
        ("neg/d.txt", " "),
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, content)
    write(tmp_path / "neg/e.txt", "está mal".encode("cp1252"))
    table = read(tmp_path)
    assert table.columns == ("text", "label", "file")
    assert cells(table) == [
        ["mal", "neg", "neg/c.txt"],
        ["está mal", "neg", "neg/e.txt"],
        ["hola", "pos", "pos/a.txt"],
        ["qué bien", "pos", "pos/b.txt"],
    ]
    assert len(table.notes) == 2


def test_folder_with_parts_and_without_use(tmp_path):
    for name in ("train/pos/1.txt", "test/neg/2.txt"):
        (tmp_path / "a" / name).parent.mkdir(parents=True)
        write(tmp_path / "a" / name, "hola")
    assert {(row["split"], row["label"]) for row in read(tmp_path / "a").rows} == {
        ("train", "pos"),
        ("test", "neg"),
    }
    (tmp_path / "b").mkdir()
    assert "holds no data" in refusal(tmp_path / "b")
    write(tmp_path / "b" / "x.csv", csv_text())
    assert "x.csv" in refusal(tmp_path / "b")
    write(tmp_path / "b" / "x.txt", "Ana vive en Lugo.")
    write(tmp_path / "b" / "x.ann", "T1\tPER 0 3\tAna")
    assert "BRAT's standoff files (.ann)" in refusal(tmp_path / "b")
    (tmp_path / "nested" / "news").mkdir(parents=True)
    write(tmp_path / "nested" / "news" / "x.txt", "Ana")
    write(tmp_path / "nested" / "news" / "x.ann", "T1\tPER 0 3\tAna")
    assert "BRAT's standoff files (.ann)" in refusal(tmp_path / "nested")


def test_a_number_of_thousands_of_digits(tmp_path):
    row = '{"text": "a", "n": ' + "9" * 5000 + "}"
    assert "a.json holds a number of too many digits" in refusal(write(tmp_path / "a.json", f"[{row}]"))
    assert "Line 2 of " in refusal(write(tmp_path / "a.jsonl", f'{{"text": "b"}}\n{row}\n'))


def test_saved_data_set_with_label_names(tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

    labels = ClassLabel(names=["neg", "pos"])
    features = Features({"text": Value("string"), "label": labels, "all": List(labels)})
    data = Dataset.from_dict({"text": ["a", "b"], "label": [1, -1], "all": [[0, 1], []]}, features)
    rows = [{"text": "a", "label": "pos", "all": ["neg", "pos"]}, {"text": "b", "label": None, "all": []}]
    data.save_to_disk(tmp_path / "one")
    assert read(tmp_path / "one").rows == rows
    data.to_parquet(tmp_path / "one.parquet")
    assert read(tmp_path / "one.parquet").rows == rows
    DatasetDict({"train": data, "test": data, "unsupervised": data}).save_to_disk(tmp_path / "three")
    table = read(tmp_path / "three")
    assert [row["split"] for row in table.rows] == ["train", "train", "test", "test"]
    assert "unsupervised" in table.notes[0]
    (tmp_path / "one" / "state.json").write_text("{")
    assert "broken" in refusal(tmp_path / "one")


def test_names_are_looked_up_only_online(tmp_path, monkeypatch):
    import datasets

    asked = []

    def load_dataset(path, configuration):
        asked.append((path, configuration))
        if path == "nosuch":
            raise datasets.exceptions.DatasetNotFoundError("nosuch")
        return datasets.Dataset.from_dict({"text": ["a"]})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_reachable", lambda: True)
    assert read("nyu-mll/glue:sst2").rows == [{"text": "a"}]
    assert asked == [("nyu-mll/glue", "sst2")]
    assert "no data set of that name" in refusal("nosuch")
    asked.clear()
    assert "--offline" in refusal("nyu-mll/glue", offline=True)
    assert "no file" in refusal("glue.csv")
    assert "no file" in refusal("./glue")
    monkeypatch.setattr(hub, "_reachable", lambda: False)
    assert "cannot be reached" in refusal("glue")
    assert asked == []


def test_missing_file_offers_the_nearest(tmp_path, monkeypatch):
    write(tmp_path / "opiniones.csv", csv_text())
    assert "Did you mean" in refusal(tmp_path / "opinones.CSV")
    assert "Did you mean" not in refusal(tmp_path / "x.csv")
    assert "no file" in refusal(tmp_path / "nowhere" / "x.csv")
    monkeypatch.chdir(tmp_path)
    assert "'opiniones.csv'" in refusal("opiniones")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b" \r\n\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"text,label\n", "no rows"),
        (b"text,text\na,b\n", "more than one column 'text'"),
        (b"text,label\na\0b,c\n", "binary"),
        (bytes(range(256)) * 20, "binary"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF" * 50, "binary"),
        (b"PK\x03\x04\x14\x00", "Save the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1", "Save the sheet as CSV"),
        (pickle.dumps({"text": "a"}), "pickle"),
        (b"%PDF-1.7\n", "PDF"),
        (b"a" * 257 + b"ustar\x00", "tar"),
        ("text,label\n".encode("utf-16") + b"\x00", "breaks at byte"),
    ],
)
def test_what_is_no_table_is_said(tmp_path, content, said):
    assert said in refusal(write(tmp_path / "t.csv", content))


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(path, mode="r"):
        raise PermissionError(13, "Permission denied")

    write(tmp_path / "t.csv", csv_text())
    monkeypatch.setattr(Path, "open", refuse)
    assert refusal(tmp_path / "t.csv").endswith("t.csv cannot be read: Permission denied.")


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("banking77/train.csv", 10_003, ("text", "label")),
        ("ag_news_part/test.csv.xz", 7_600, ("text", "label")),
        ("trec/train.csv", 5_452, ("text", "label", "fine_label")),
        ("goemotions/dev.jsonl", 5_426, ("id", "text", "labels")),
        ("tweet_sentiment_es/train.csv", 1_839, ("text", "label")),
    ],
)
def test_real_files(name, rows, columns):
    if not (DATA / name).exists():
        pytest.skip("the shared data sets are not on this machine")
    table = read(DATA / name)
    assert (len(table.rows), table.columns, table.notes) == (rows, columns, ())
    assert all(row["text"] and row[columns[-1]] for row in table.rows)

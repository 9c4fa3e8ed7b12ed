"""`predict`: texts, a file or a pipe in, one answer an input out, in their order."""

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import afina
import toy
import toys
from afina.data import stream
from afina.errors import InputError, Interrupted, RowError
from afina.train.bundle import Bundle
from afina.verbs.predict import stream as answers_of

Command = Callable[..., toy.Said]
TEXTS = ["el servicio muy bueno", "the food awful", "¿ni fu ni fa?", "ñandú 🙂"]
one_thread = pytest.fixture(scope="module")(toy.one_thread)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    place = tmp_path_factory.mktemp("predict")
    done = afina.finetune(
        toy.table(place / "toy.csv"),
        model=toy.model(place / "tiny"),
        output_dir=place / "run",
        max_steps=4,
        quiet=True,
    )
    assert done is not None
    return done.path


@pytest.fixture
def predict(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """`afina predict` with that run, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    command = toy.command(capfd)
    return lambda *words: command("predict", run, *words)


@pytest.fixture
def expected(run: Path) -> list[dict[str, Any]]:
    return afina.Run(run).bundle.predict(TEXTS)


def same(answers: Any, expected: list[dict[str, Any]]) -> bool:
    """Whether the answers are the expected ones, in their order; how a batch is padded moves the last bits."""
    assert [answer["prediction"] for answer in answers] == [answer["prediction"] for answer in expected]
    probabilities = [[float(each["probability"]) for each in these] for these in (answers, expected)]
    return probabilities[0] == pytest.approx(probabilities[1], abs=1e-5)


def test_one_text_is_a_list_of_one(predict: Command, expected: list[dict[str, Any]]) -> None:
    said = predict(TEXTS[0], "--json")
    assert (said.code, said.err) == (0, "")
    assert same(said.json, expected[:1])
    assert set(said.json[0]["probabilities"]) == {"bien", "mal"}
    assert sum(said.json[0]["probabilities"].values()) == pytest.approx(1)


def test_several_texts_keep_their_order(predict: Command, expected: list[dict[str, Any]]) -> None:
    assert same(predict(*TEXTS, "--json").json, expected)
    assert same(predict(*TEXTS[::-1], "--json").json, expected[::-1])


def test_a_line_an_input_for_a_person(predict: Command, expected: list[dict[str, Any]]) -> None:
    lines = predict(*TEXTS).out.splitlines()
    assert lines == [f"{answer['prediction']}\t{answer['probability']:.3f}" for answer in expected]


def test_python_takes_the_same(run: Path, expected: list[dict[str, Any]]) -> None:
    assert same(afina.predict(run, *TEXTS), expected)


def test_python_takes_a_list(run: Path, expected: list[dict[str, Any]]) -> None:
    assert same(afina.predict(run, TEXTS), expected)
    assert same(afina.predict(run, [{"text": text} for text in TEXTS]), expected)
    with pytest.raises(InputError, match=r"Row 2: 3 is no text"):
        afina.predict(run, ["a", 3])


def test_a_folder_by_its_path(predict: Command, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    for number, text in enumerate(TEXTS[:2]):
        (tmp_path / "bien" / "texts").mkdir(parents=True, exist_ok=True)
        (tmp_path / "bien" / "texts" / f"{number}.txt").write_text(text, encoding="utf-8")
    assert same(predict("bien/", "--json").json, expected[:2])
    assert len(predict("bien", "--json").json) == 1


def test_a_file(predict: Command, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    toy.table(tmp_path / "other.csv", [(str(i), text) for i, text in enumerate(TEXTS)], ("id", "opinion"))
    assert same(predict("other.csv", "--json").json, expected)
    assert same(predict("other.csv", "--text", "opinion", "--json").json, expected)
    (tmp_path / "plain.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    assert same(predict("plain.txt", "--json").json, expected)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_standard_input(
    encoding: str, predict: Command, expected: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = TEXTS if encoding.startswith("utf") else TEXTS[:3]  # there is no emoji in Windows-1252
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\r\n".join(some).encode(encoding))))
    assert same(predict("-", "--json").json, expected[: len(some)])


def test_a_blank_line_of_standard_input_has_its_answer(
    predict: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"uno\n\ndos\n")))
    assert len(predict("-", "--json").json) == 3
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert predict("-", "--json").json == []


def test_a_blank_line_of_a_text_file_has_its_answer(predict: Command, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("uno\n\ndos\n", encoding="utf-8")
    assert len(predict(tmp_path / "lines.txt", "--json").json) == 3


def test_what_is_asked_is_not_written_over(predict: Command, tmp_path: Path) -> None:
    file = toy.table(tmp_path / "asked.csv")
    before = file.read_bytes()
    said = predict(file, "--output", file)
    assert said.code == 2 and "choose another --output" in said.err
    assert file.read_bytes() == before


def test_output_adds_columns(predict: Command, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    toy.table(tmp_path / "in.csv", [(str(i), text) for i, text in enumerate(TEXTS)], ("prediction", "text"))
    for source, target in (("in.csv", "once.csv"), ("once.csv", "twice.csv")):
        assert predict(source, "--output", target).code == 0
    with (tmp_path / "twice.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    columns = ["prediction", "text", "prediction_1", "probability", "prediction_2", "probability_1"]
    assert list(rows[0]) == columns
    assert [row["prediction"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["text"] for row in rows] == TEXTS
    for row, answer in zip(rows, expected, strict=True):
        assert row["prediction_1"] == row["prediction_2"] == answer["prediction"]
        assert float(row["probability_1"]) == pytest.approx(answer["probability"], abs=1e-5)


def test_odd_texts(predict: Command) -> None:
    long = "muy " * 5000
    assert len(predict("", "   ", long, "a\nb", "\ud83d", "--json").json) == 5
    assert len(predict("--json", "--", "-mal", "--peor").json) == 2


def test_a_text_that_speaks_of_a_file(predict: Command) -> None:
    assert len(predict("no abre datos.csv", "--json").json) == 1


def test_json_is_one_line_whatever_the_labels_hold(predict: Command) -> None:
    said = predict("uno\u2028dos", "--json")
    assert json.loads(said.out) == said.json


def test_python_takes_texts_of_every_kind_and_nothing_else(run: Path) -> None:
    bundle = afina.Run(run).bundle
    assert len(bundle.predict("solo un texto")) == 1
    assert [each["prediction"] for each in bundle.predict(["\ud83d", "a\0b", "", {"text": "x"}])]
    for wrong in (None, 3, b"x"):
        with pytest.raises(InputError, match="is no text"):
            bundle.predict([wrong])  # type: ignore[list-item]


def test_a_guessed_column_and_an_odd_encoding_are_said(predict: Command, tmp_path: Path) -> None:
    table = toy.table(tmp_path / "other.csv", [(text, "x") for text in TEXTS[:3]], ("opinion", "id"))
    table.write_bytes(table.read_bytes().decode().encode("latin-1"))
    said = predict(table, "--json")
    assert (said.code, len(said.json)) == (0, 3)
    assert "'opinion' is taken as the text" in said.err and "Windows-1252" in said.err
    assert predict(table, "--quiet").err == ""


FORMS = {
    "rows.csv": "id,opinion,note\n"
    + "".join(f'{i},"{text},\n sí",{i % 2}\n' for i, text in enumerate(TEXTS)),
    "rows.tsv": "id\topinion\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate(TEXTS)),
    "rows.jsonl": "".join(json.dumps({"id": i, "opinion": text}) + "\n" for i, text in enumerate(TEXTS))
    + "\n{}\n",
    "rows.txt": "\n\n".join(TEXTS),
}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("name", FORMS)
def test_blocks_of_two_rows_answer_as_one_does(
    name: str, ending: str, predict: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / (name + ending)
    file.write_bytes(gzip.compress(FORMS[name].encode()) if ending else FORMS[name].encode())
    said = []
    for rows in (1024, 2):
        monkeypatch.setattr(stream, "ROWS", rows)
        said.append([predict(file, "--json"), predict(file, "--output", f"{rows}.csv")])
        assert [each.code for each in said[-1]] == [0, 0]
    assert same(said[1][0].json, said[0][0].json)
    assert [each.err for each in said[0]] == [each.err for each in said[1]]
    tables = []
    for rows in (1024, 2):
        with (tmp_path / f"{rows}.csv").open(newline="", encoding="utf-8") as opened:
            tables.append(list(csv.DictReader(opened)))
        assert not (tmp_path / f"{rows}.csv.part").exists()
    for whole, cut in zip(*tables, strict=True):
        assert float(cut.pop("probability")) == pytest.approx(float(whole.pop("probability")), abs=1e-5)
        assert cut == whole


def test_long_rows_of_all_blocks_are_counted(
    predict: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "ROWS", 2)
    (tmp_path / "long.txt").write_text("muy " * 2000 + "\nuno\ndos\ntres\n" + "muy " * 2000)
    assert "Of 5 rows, longer than 512 tokens: 2." in predict("long.txt").err


def test_a_pipe_is_answered_while_it_is_open(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb", buffering=0) as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(source))
        answers = answers_of(run, "-")
        pipe.write(b"hola\nbueno\n")
        assert [next(answers)["prediction"], next(answers)["prediction"]]
        pipe.write("adiós".encode("latin-1"))
        pipe.close()
        assert len(list(answers)) == 1


def test_blocks_of_two_rows_are_scored_as_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = toy.table(tmp_path / "asked.csv")
    whole = afina.evaluate(run, file, quiet=True)
    monkeypatch.setattr(stream, "ROWS", 2)
    read: list[int] = []
    own = Bundle.answers_to

    def answers_to(self: Bundle, encoded: Any) -> Any:
        read.append(len(encoded))
        return own(self, encoded)

    monkeypatch.setattr(Bundle, "answers_to", answers_to)
    blocks = afina.evaluate(run, file, quiet=True)
    assert len(read) > 2 and set(read) <= {1, 2}
    for part in ("scores", "details"):
        assert toys.alike(whole[part], blocks[part], 1e-5)


class Breaks:
    """A model whose third block is never answered."""

    def __init__(self, error: BaseException, monkeypatch: pytest.MonkeyPatch, *, at: int = 3) -> None:
        self.blocks, self.told = 0, Bundle.told

        def told(bundle: Bundle, rows: Any, encoded: Any) -> Any:
            self.blocks += 1
            if self.blocks == at:
                raise error
            return self.told(bundle, rows, encoded)

        monkeypatch.setattr(stream, "ROWS", 2)
        monkeypatch.setattr(Bundle, "told", told)


def sixty(place: Path) -> Path:
    return toy.table(place / "sixty.csv", [(str(i), f"texto {i}") for i in range(60)], ("id", "text"))


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (InputError("Too long."), 2)])
def test_what_was_answered_before_it_broke_off_is_kept(
    error: BaseException, code: int, predict: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, kept = sixty(tmp_path), tmp_path / "out.csv.part"
    with monkeypatch.context() as patch:
        Breaks(error, patch)
        said = predict(file, "--output", "out.csv", "--json")
    assert said.code == code
    assert "The answers to the first 4 rows are kept in out.csv.part." in said.err
    assert "Too long." in said.err or code == 130
    assert len(said.json) == 4  # a whole document
    assert not (tmp_path / "out.csv").exists()
    before = kept.read_text(encoding="utf-8")
    assert [row["id"] for row in csv.DictReader(io.StringIO(before))] == ["0", "1", "2", "3"]
    said = predict(file, "--output", "out.csv")
    assert said.code == 2 and "out.csv.part holds the answers of a predict that broke off" in said.err
    assert kept.read_text(encoding="utf-8") == before
    kept.unlink()
    assert predict(file, "--output", "out.csv").code == 0
    assert len((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()) == 61


def test_nothing_is_kept_of_no_answer(
    run: Path, predict: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out.csv").write_text("old", encoding="utf-8")
    Breaks(InputError("Too long."), monkeypatch, at=1)
    assert predict(sixty(tmp_path), "--output", "out.csv", "--json")[:2] == (2, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "sixty.csv"]
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "old"
    Breaks(KeyboardInterrupt(), monkeypatch, at=2)
    with pytest.raises(Interrupted, match="first 2 rows"):
        afina.predict(run, tmp_path / "sixty.csv", output=str(tmp_path / "other.csv"))


def test_the_file_is_written_whatever_becomes_of_the_reader(
    predict: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(answers: Any) -> None:
        next(answers)
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr("afina.report.console.predict", gone)
    monkeypatch.setattr(stream, "ROWS", 2)
    predict(sixty(tmp_path), "--output", "out.csv")
    assert len((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()) == 61


MEMORY = """
import sys
import afina


def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


run, small, large = sys.argv[1:]
afina.predict(run, small, output="one.csv")
before = peak()
afina.predict(run, large)
print(peak() - before)
afina.predict(run, large, output="all.csv")
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_is_that_of_a_block_and_not_of_the_file(run: Path, tmp_path: Path) -> None:
    wide = [(f"texto {i}", f"{i}" * 500_000) for i in range(10, 70)]  # 60 MB
    large = toy.table(tmp_path / "large.csv", wide, ("text", "unused"))
    small = toy.table(tmp_path / "small.csv", wide[:1], ("text", "unused"))
    command = [sys.executable, "-c", MEMORY, str(run), str(small), str(large)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    without, beside = map(float, done.stdout.split())
    assert without < 30 and beside < 50, "MB more than for one row; all rows at once take 240 and more"
    assert (tmp_path / "large.csv").stat().st_size > 60e6


def test_a_row_that_cannot_be_encoded_is_told_by_its_number_in_the_file() -> None:
    rows = [{"text": word} for word in ("a", "b", "b")]

    def encode(*_asked: Any) -> Any:
        raise RowError("It begins with b: nothing to guess.", rows[2], "nothing to guess.")

    bundle: Any = SimpleNamespace(task=SimpleNamespace(encode=encode), tokenizer=None, max_length=8)
    with pytest.raises(InputError, match=r"^Row 1027: nothing to guess\.$"):
        Bundle.encode(bundle, rows, 1025)

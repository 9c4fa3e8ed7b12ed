"""Texts, tokenizer and encoded corpus: what goes in comes out, whole and in its place."""

import bz2
import csv
import errno
import gzip
import io
import itertools
import json
import lzma
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import normalizers

import families
from afina.data import encode, hub, plain_text
from afina.data.corpus import OWN_FILES, Corpus, unchanged
from afina.data.plain_text import documents, split_sentences
from afina.data.unseen import Unseen
from afina.errors import InputError
from afina.models.byte_bpe import train_byte_bpe
from afina.models.wordpiece import train_wordpiece

TEXT = """El niño comió pan en la montaña. ¿Quién vino ayer? ¡Qué alegría!
La pingüina camina despacio, sin prisa.

The child ate bread. "Who came?" she asked. It was 5.30 in the morning.

Última línea: fin.
"""


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(iter(TEXT.splitlines() * 50), 2200)


@pytest.fixture(scope="module", params=["pieces", "bytes"])
def either(request, tokenizer):
    """A tokenizer without blanks and line ends among its tokens, and one with them."""
    return tokenizer if request.param == "pieces" else train_byte_bpe(iter([TEXT] * 9), 400)


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "texto.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def words(tokenizer, corpus):
    return [[tokenizer.decode(ids) for ids in corpus.document(i)] for i in range(len(corpus))]


def test_sentences_end_before_a_capital_or_an_opening_sign():
    assert split_sentences("Fue así. ¿Quién? «¡Yo!» Ella rió... y calló. 3 días después, fin") == [
        "Fue así.",
        "¿Quién?",
        "«¡Yo!»",
        "Ella rió... y calló.",
        "3 días después, fin",
    ]
    assert split_sentences("It cost 5.30 euros, i.e. little") == ["It cost 5.30 euros, i.e. little"]


def test_tokenizer_keeps_case_and_accents_and_knows_pairs(tokenizer):
    assert [tokenizer.convert_tokens_to_ids(t) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert tokenizer.decode(tokenizer("El niño comió")["input_ids"]) == "[CLS] El niño comió [SEP]"
    assert tokenizer("nin\u0303o") == tokenizer("niño")
    assert tokenizer.tokenize("pan😂😂❤\ufe0f") == ["pan", "😂", "😂", "❤"]
    pair = tokenizer("El niño", "vino")
    first = pair["input_ids"].index(3) + 1
    assert pair["token_type_ids"] == [0] * first + [1] * (len(pair["input_ids"]) - first)
    assert pair["input_ids"][0] == 2
    assert pair["input_ids"][-1] == 3


def test_text_that_names_a_piece_is_not_that_piece(tokenizer):
    assert tokenizer.tokenize("##ó") == ["[UNK]", "[UNK]", "ó"]


def test_text_that_names_a_control_token_is_text(tokenizer, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("El [MASK] oculta [SEP] una palabra.\n\nOtra [CLS] cosa.", encoding="utf-8")
    corpus = Corpus.build([file], tokenizer, tmp_path / "corpus")
    assert not {2, 3, 4} & set(corpus.tokens.tolist())
    assert "oculta" in tokenizer.decode(corpus.tokens)


def test_two_trainings_give_the_same_vocabulary(tokenizer):
    again = train_wordpiece(iter(TEXT.splitlines() * 50), 2200)
    assert again.get_vocab() == tokenizer.get_vocab()


def test_saved_tokenizer_gives_the_same_ids_beside_a_bert_configuration(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}), encoding="utf-8")
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = ["El nin\u0303o comió 😂.", "¿Quién es? [MASK] café"]
    assert dict(loaded(texts)) == dict(tokenizer(texts))
    assert dict(loaded(*texts)) == dict(tokenizer(*texts))


def test_vocabulary_needs_words_and_room():
    with pytest.raises(InputError, match="empty"):
        train_wordpiece(iter(["", "  "]), 5000)
    with pytest.raises(InputError, match="too small"):
        train_wordpiece(iter(["hola"]), 100)


def test_a_full_disk_for_the_copy_is_said_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *_given, **_named: open("/dev/full", "w+"))  # noqa: SIM115
    with pytest.raises(InputError, match=f"written to {tempfile.gettempdir()}.*TMPDIR"):
        train_wordpiece(iter(["El gato duerme."] * 9), 2200)


def test_corpus_holds_documents_sentences_and_tokens(tokenizer, text_file, tmp_path):
    corpus = Corpus.build([text_file], tokenizer, tmp_path / "corpus")
    assert words(tokenizer, corpus) == [
        [
            "El niño comió pan en la montaña.",
            "¿ Quién vino ayer?",
            "¡ Qué alegría!",
            "La pingüina camina despacio, sin prisa.",
        ],
        ["The child ate bread.", '" Who came? " she asked.', "It was 5. 30 in the morning."],
        ["Última línea : fin."],
    ]
    assert corpus.tokens.dtype == np.uint16
    assert corpus.documents.tolist() == [0, 4, 7, 8]
    assert corpus.sentences[0] == 0
    assert corpus.sentences[-1] == len(corpus.tokens)
    reopened = Corpus.open(tmp_path / "corpus")
    assert words(tokenizer, reopened) == words(tokenizer, corpus)


GIVEN = "La casa  es azul. \tEl gato duerme. ¿Vienes?\n  Otra línea.\nFin."
LINES = "La casa  es azul. El gato duerme. ¿Vienes?\nOtra línea.\nFin."
AS_THEY_WERE = {"BERT", "DistilBERT", "ELECTRA", "DeBERTa-v3", "XLM-R", "T5"}


def llama_as_of_old():
    """Llama's tokenizer in the form in which many files hold it: the blank before a text is put there first of all."""
    made = families.tokenizer(families.FAMILIES["Llama"])
    made.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.backend_tokenizer.pre_tokenizer = None
    return made


@pytest.mark.parametrize("family", ["afina", "old Llama", *families.FAMILIES])
def test_a_document_has_the_tokens_of_its_whole_text(family, tmp_path):
    """Encoded sentence by sentence, and yet with the blanks and line ends between them, where these are tokens."""
    if family == "afina":
        made = train_byte_bpe(iter([LINES] * 9), 400)
    else:
        made = llama_as_of_old() if family == "old Llama" else families.tokenizer(families.FAMILIES[family])
    file = tmp_path / "text.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in (GIVEN, "Uno.", GIVEN)), "utf-8")
    corpus = Corpus.build([file], made, tmp_path / "corpus")
    backend = encode.plain(made)
    for place, text in enumerate((LINES, "Uno.", LINES)):
        ids = np.concatenate(corpus.document(place)).tolist()
        assert ids == backend.encode(text, add_special_tokens=False).ids
        if family not in AS_THEY_WERE:
            assert made.decode(ids, clean_up_tokenization_spaces=False) == text
    assert len(corpus.document(0)) == 5
    assert corpus.facts["made_of"]["version"] == 2 - (family in AS_THEY_WERE)


def test_a_training_goes_on_with_the_corpus_that_it_has_begun_with(text_file, tmp_path):
    made, folder = train_byte_bpe(iter([TEXT] * 9), 400), tmp_path / "corpus"
    facts = Corpus.build([text_file], made, folder).facts
    facts["made_of"]["version"] = 1
    (folder / "corpus.json").write_text(json.dumps(facts), "utf-8")
    assert Corpus.build([text_file], made, folder, begun=True).facts == facts
    assert Corpus.build([text_file], made, folder).facts["made_of"]["version"] == 2


def test_batch_borders_change_nothing(either, text_file, tmp_path, monkeypatch):
    whole = Corpus.build([text_file], either, tmp_path / "whole")
    monkeypatch.setattr("afina.data.encode.BATCH_CHARACTERS", 1)
    monkeypatch.setattr("afina.data.encode.islice", lambda rest, n: itertools.islice(rest, 1))
    parts = Corpus.build([text_file], either, tmp_path / "parts")
    for name in ("tokens", "sentences", "documents"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


@pytest.mark.parametrize("cut", range(1, 5))
@pytest.mark.parametrize("written", [True, False])
def test_encoding_that_was_killed_goes_on(cut, written, either, text_file, tmp_path, monkeypatch):
    """After the state of a batch is kept, and when the batch is written but its state is not; a row stays unseen."""
    unseen = Unseen(["La pingüina camina despacio, sin prisa."])
    whole = Corpus.build([text_file], either, tmp_path / "whole", unseen=unseen)
    monkeypatch.setattr("afina.data.encode.BATCH_CHARACTERS", 1)
    monkeypatch.setattr("afina.data.encode.islice", lambda rest, n: itertools.islice(rest, 1))
    keep, calls = encode._keep, itertools.count(1)

    def killed(folder, done):
        if (last := next(calls) == cut) and written:
            keep(folder, done)
        if last:
            raise KeyboardInterrupt
        keep(folder, done)

    monkeypatch.setattr(encode, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        Corpus.build([text_file], either, tmp_path / "cut", unseen=unseen)
    first = cut if written else cut - 1
    found = Corpus.build([text_file], either, tmp_path / "cut", unseen=unseen)
    # A batch for each sentence: of those that were kept, none is encoded again.
    assert next(calls) - 1 - cut == len(whole.sentences) - 1 - first
    assert found.facts == whole.facts and whole.facts["unseen"] == 1
    for name in ("tokens", "sentences", "documents"):
        assert np.array_equal(getattr(whole, name), getattr(found, name))
    assert {file.name for file in (tmp_path / "cut").iterdir()} == OWN_FILES - {encode.PROGRESS}


@pytest.mark.parametrize("lost", ["tokens.bin", "sentences.bin", "progress.json"])
def test_encoding_that_lost_what_it_had_begins_anew(lost, tokenizer, text_file, tmp_path, monkeypatch):
    """After a power failure the state may be there and the numbers not."""

    def killed(folder, done):
        keep(folder, done)
        (folder / lost).write_bytes(b"")
        raise KeyboardInterrupt

    keep = encode._keep
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encode, "_keep", killed)
        Corpus.build([text_file], tokenizer, tmp_path / "cut")
    found, whole = (Corpus.build([text_file], tokenizer, tmp_path / name) for name in ("cut", "whole"))
    assert words(tokenizer, found) == words(tokenizer, whole)


def test_encoding_goes_on_with_the_same_text_only(tokenizer, text_file, tmp_path, monkeypatch):
    def killed(folder, done):
        keep(folder, done)
        raise KeyboardInterrupt

    keep = encode._keep
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encode, "_keep", killed)
        Corpus.build([text_file], tokenizer, tmp_path / "corpus")
    (tmp_path / "corpus.tmp" / "of another").touch()
    text_file.write_text("El niño comió pan.", encoding="utf-8")
    assert words(tokenizer, Corpus.build([text_file], tokenizer, tmp_path / "corpus")) == [
        ["El niño comió pan."]
    ]
    assert not (tmp_path / "corpus" / "of another").exists()


def test_every_format_gives_the_same_corpus(tokenizer, text_file, tmp_path):
    import pyarrow
    from pyarrow import parquet

    texts = TEXT.strip().split("\n\n")
    packed = tmp_path / "texto.txt.xz"
    packed.write_bytes(lzma.compress(TEXT.encode()))
    zipped = tmp_path / "texto.txt.gz"
    zipped.write_bytes(gzip.compress(TEXT.encode()))
    lines = tmp_path / "texto.jsonl"
    lines.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    table = tmp_path / "texto.parquet"
    parquet.write_table(pyarrow.table({"text": texts}), table)
    rows = tmp_path / "texto.csv"
    with rows.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *((text, "x") for text in texts)])
    expected = words(tokenizer, Corpus.build([text_file], tokenizer, tmp_path / "plain"))
    listed = tmp_path / "texto.json"
    listed.write_text(json.dumps([{"title": "x", "text": text} for text in texts], indent=1), "utf-8")
    few = tmp_path / "dictionary.parquet"
    missing = pyarrow.array([*texts, None, ""]).dictionary_encode()
    parquet.write_table(pyarrow.table({"text": missing}), few)
    for path in (packed, zipped, lines, table, rows, listed, few):
        corpus = Corpus.build([path], tokenizer, tmp_path / f"of {path.name}")
        assert words(tokenizer, corpus) == expected, path.name


def test_a_data_set_is_text_too(tokenizer, text_file, tmp_path, monkeypatch):
    """Saved in a folder, or streamed from the Hub, of which another commit is another text."""
    import datasets

    rows = datasets.Dataset.from_dict({"title": ["a", "b", "c"], "text": TEXT.strip().split("\n\n")})
    other = datasets.Dataset.from_dict({"title": ["d"], "text": ["El pan."]})
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"validation": other, "train": rows}).save_to_disk(tmp_path / "parts")
    asked, commit = [], iter(["a1", "b2"])

    def load_dataset(path, configuration, streaming):
        asked.append((path, configuration, streaming))
        if path == "no/such":
            raise datasets.exceptions.DatasetNotFoundError("no/such")
        return datasets.IterableDatasetDict({"train": rows.to_iterable_dataset()})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(
        datasets, "load_dataset_builder", lambda path, configuration: SimpleNamespace(hash=next(commit))
    )
    monkeypatch.setattr(hub, "_reachable", lambda: True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    expected = words(tokenizer, Corpus.build([text_file], tokenizer, tmp_path / "plain"))
    for place, source in enumerate((tmp_path / "one", tmp_path / "parts", Path("wiki/wikipedia:2023.es"))):
        corpus = Corpus.build([source], tokenizer, tmp_path / f"of {place}")
        assert words(tokenizer, corpus) == expected, source
    assert asked == [("wiki/wikipedia", "2023.es", True)] * 2
    for path in ("novels/one", "texts/one.pdf", "texts/one.TXT", "nothing"):
        (tmp_path / "novels").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path)
        assert not hub.is_dataset(Path(path)), "a file that is not there, of which nobody is asked"
    for name, told in (("no/such", "no data set of that name"), ("no/such.txt", "does not exist")):
        with pytest.raises(InputError, match=told):
            Corpus.build([Path(name)], tokenizer, tmp_path / "not")
    source = Path("wiki/wikipedia:2023.es")
    assert (
        Corpus.build([source], tokenizer, tmp_path / "of 2").facts["made_of"]["files"][0]["version"] == "b2"
    )
    monkeypatch.setattr(hub, "_reachable", lambda: False)
    unchanged([source], tmp_path / "of 2")  # what is encoded is not asked for again
    Corpus.build([source], tokenizer, tmp_path / "of 2", begun=True)
    with pytest.raises(InputError, match="cannot be reached"):
        Corpus.build([Path("wiki/wikipedia:2023.es")], tokenizer, tmp_path / "not")
    for values, told in (([1, 2], "holds 1 where a text should be"), ([None], "is empty")):
        datasets.Dataset.from_dict({"text": values}).save_to_disk(tmp_path / "numbers")
        with pytest.raises(InputError, match=told):
            Corpus.build([tmp_path / "numbers"], tokenizer, tmp_path / "not")
    rows.remove_columns("text").save_to_disk(tmp_path / "without")
    with pytest.raises(InputError, match='no column "text"; its columns are title'):
        Corpus.build([tmp_path / "without"], tokenizer, tmp_path / "not")
    next((tmp_path / "one").glob("*.arrow")).unlink()
    with pytest.raises(InputError, match="is broken"):
        Corpus.build([tmp_path / "one"], tokenizer, tmp_path / "not")


def test_a_row_of_words_is_a_document(tokenizer, tmp_path):
    file = tmp_path / "filas.conll"
    file.write_text("El O\nniño O\ncomió O\n\nAna B-PER\nduerme O\n", encoding="utf-8")
    assert list(documents(file)) == [["El niño comió"], ["Ana duerme"]]


def test_a_row_of_words_in_json_is_a_document_too(tmp_path):
    file = tmp_path / "filas.json"
    file.write_text('[{"tags": ["O", "O"], "tokens": ["Ana", "duerme"]}]', encoding="utf-8")
    assert list(documents(file)) == [["Ana duerme"]]


def test_corpus_is_used_again_until_text_or_tokenizer_changes(tokenizer, text_file, tmp_path):
    folder = tmp_path / "corpus"
    Corpus.build([text_file], tokenizer, folder)
    made = (folder / "tokens.bin").stat().st_ino
    Corpus.build([text_file], tokenizer, folder)
    assert (folder / "tokens.bin").stat().st_ino == made
    text_file.write_text(TEXT + "\nUna línea más.\n", encoding="utf-8")
    assert len(Corpus.build([text_file], tokenizer, folder)) == 4
    other = train_wordpiece(iter(["Una línea más", "fin"] * 9), 2200)
    before = Corpus.open(folder).facts["made_of"]
    assert Corpus.build([text_file], other, folder).facts["made_of"] != before


def test_truncation_left_on_by_an_earlier_call_cuts_nothing(tokenizer, text_file, tmp_path):
    expected = words(tokenizer, Corpus.build([text_file], tokenizer, tmp_path / "a"))
    tokenizer("El niño comió pan", truncation=True, max_length=4, padding="max_length")
    assert words(tokenizer, Corpus.build([text_file], tokenizer, tmp_path / "b")) == expected


def test_half_written_corpus_is_made_anew(tokenizer, text_file, tmp_path):
    folder = tmp_path / "corpus"
    expected = words(tokenizer, Corpus.build([text_file], tokenizer, folder))
    (folder / "tokens.bin").write_bytes((folder / "tokens.bin").read_bytes()[:-2])
    with pytest.raises(InputError, match="only part"):
        Corpus.open(folder)
    assert words(tokenizer, Corpus.build([text_file], tokenizer, folder)) == expected


NOISE = " ".join(f"{i * 7919 % 100_003:x}" for i in range(60_000)).encode()


def damaged(data):
    """Return the bytes with other ones in their middle."""
    middle = len(data) // 2
    return data[:middle] + bytes(99) + data[middle + 99 :]


def table(values):
    """Return a Parquet file with a column `text`."""
    import pyarrow
    from pyarrow import parquet

    stream = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": values}), stream, use_dictionary=False)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nada.txt", None, "does not exist"),
        ("vacío.txt", b"", "is empty"),
        ("blanco.txt", b" \n \n", "nothing but blanks"),
        ("foto.txt", b"\x89PNG\r\n\0\0\0", "not text"),
        ("latin.txt", "Línea buena\nniño".encode("latin-1"), "line 1: the text is not UTF-8"),
        ("roto.txt.xz", b"no es xz", "cannot be unpacked"),
        ("cortado.txt.gz", gzip.compress(NOISE)[:-9], "cannot be unpacked"),
        ("cortado.txt.xz", lzma.compress(NOISE)[:-9], "cannot be unpacked"),
        ("cortado.txt.bz2", bz2.compress(NOISE)[:-9], "cannot be unpacked"),
        ("dañado.txt.gz", damaged(gzip.compress(NOISE)), "cannot be unpacked"),
        ("ancho.txt", "Ana duerme. ".encode("utf-16"), "is written in UTF-16. Save it as UTF-8"),
        ("ancho sin marca.txt", ("Ana duerme. " * 9).encode("utf-16-le"), "is written in UTF-16. Save it"),
        ("mal.json", b'[{"text": "a"', "not valid JSON at line 1"),
        ("números.parquet", table([1, 2]), "holds 1 where a text should be"),
        ("listas.parquet", table([["a"], ["b"]]), "where a text should be"),
        ("bytes.parquet", table([b"a", b"b"]), "holds b'a' where a text should be"),
        ("vacía.parquet", table([None, None]), "is empty"),
        ("dañada.parquet", damaged(table([NOISE.decode()])), "is a broken Parquet file"),
        (
            "mal.jsonl",
            b'{"text": "a"}\n{"texto": "b", "id": 1}\n',
            'line 2: there is no field "text"; its fields are texto, id',
        ),
        ("número.jsonl", b'{"text": 3}', "line 1: expected an object with a string field"),
        pytest.param(
            "largo.jsonl",
            b'{"text": "a"}\n{"text": "b", "n": ' + b"9" * 5000 + b"}",
            r"Line 2 of .*largo\.jsonl holds a number of too many digits",
            id="digits",
        ),
        pytest.param(
            "hondo.jsonl",
            b'{"text": "b", "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            r"Line 1 of .*hondo\.jsonl is nested too deeply",
            id="nested",
        ),
        ("texto.txt.zst", b"(\xb5/\xfd\x04\x00a", r"texto\.txt\.zst is compressed with zstd"),
        ("mal.parquet", b"PAR?", "not a Parquet file"),
        ("ceros.txt", b"Ana duerme.\n" * 9000 + b"\0\0\n", "line 9001: the file is not text, it holds zero"),
    ],
)
def test_wrong_files_are_told_and_leave_no_corpus(tokenizer, tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        Corpus.build([path], tokenizer, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_line_ends_of_old_macs_and_of_windows(tmp_path):
    path = tmp_path / "mac.txt"
    for end in (b"\r", b"\r\n", b"\n"):
        path.write_bytes(b"Ana duerme.\nLuis no.\n\nOtro texto.\n".replace(b"\n", end))
        assert list(documents(path)) == [["Ana duerme.", "Luis no."], ["Otro texto."]]


def test_half_a_character_is_a_question_mark(tokenizer, tmp_path):
    path = tmp_path / "medio.jsonl"
    path.write_text('{"text": "Ana \\ud83d duerme."}\n{"text": "Ana \\ud83d\\ude00."}\n', "utf-8")
    assert list(documents(path)) == [["Ana ? duerme."], ["Ana 😀."]]
    assert len(Corpus.build([path], tokenizer, tmp_path / "corpus")) == 2


def test_the_column_that_is_named_is_read(tokenizer, tmp_path):
    from datasets import Dataset

    rows = [{"text": f"El gato {i}.", "resumen": f"La casa {i}."} for i in range(3)]
    data = Dataset.from_list(rows)
    data.to_csv(tmp_path / "a.csv", index=False)
    data.to_json(tmp_path / "a.jsonl")
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(tmp_path / "saved")
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    for name in ("a.csv", "a.jsonl", "a.parquet", "a.json", "saved"):
        file, folder = tmp_path / name, tmp_path / f"of {name}"
        assert list(documents(file)) == [[f"El gato {i}."] for i in range(3)]
        assert list(documents(file, "resumen")) == [[f"La casa {i}."] for i in range(3)]
        read = [
            words(tokenizer, Corpus.build([file], tokenizer, folder, column=column))
            for column in (None, "resumen")
        ]
        assert read[0] != read[1], "what was encoded of another column is not taken for it"
        with pytest.raises(InputError, match="resumen"):
            Corpus.build([file], tokenizer, folder, column="resumenes")
    words_ = tmp_path / "a.conll"
    words_.write_text("El X\ngato Y\n\nLa X\n", encoding="utf-8")
    assert list(documents(words_, "2")) == [["X Y"], ["X"]]


def test_a_text_that_cannot_be_read_is_told(tokenizer, text_file, tmp_path, monkeypatch):
    """A disk that fails while the text is read is not one that is full."""

    class Failing(io.BytesIO):
        def __next__(self):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(plain_text, "_binary", lambda file: Failing(file.read_bytes()))
    with pytest.raises(InputError, match=r"texto\.txt cannot be read: Input/output error"):
        Corpus.build([text_file], tokenizer, tmp_path / "corpus")


def test_folder_with_other_files_is_left_alone(tokenizer, text_file, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "tesis.doc").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match=r"tesis\.doc"):
        Corpus.build([text_file], tokenizer, folder)
    assert (folder / "tesis.doc").exists()

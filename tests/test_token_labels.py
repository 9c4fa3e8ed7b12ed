"""Words and their labels: from any form of data to spans of the person's own text."""

import json
import random
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import toy
from afina.core import Splits, Table
from afina.data.read import read
from afina.data.spans import located, words
from afina.errors import InputError
from afina.models.find import EMBEDDED
from afina.models.load import load, load_tokenizer
from afina.names import ENCODER
from afina.tasks._word_places import find
from afina.tasks.token_labels import TokenLabels
from afina.train.bundle import Bundle
from afina.verbs._describe import check_learnable, mask_in_words
from afina.verbs._prepare import clean

run = pytest.fixture(toy.command)
one_thread = pytest.fixture(scope="module")(toy.one_thread)
pytestmark = pytest.mark.usefixtures("one_thread")
TOKENIZER = load_tokenizer(EMBEDDED / ENCODER.removeprefix("afina/"))

ANA = {"tokens": ["Ana", "Gil", "vive", "en", "Lima"], "tags": ["B-PER", "I-PER", "O", "O", "B-LOC"]}
CLEAN = {
    "text": "Ana Gil vive en Lima",
    "words": [[0, 3], [4, 7], [8, 12], [13, 15], [16, 20]],
    "entities": [[0, 7, "PER"], [16, 20, "LOC"]],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.model(tmp_path_factory.mktemp("tokens") / "tiny")


def table(*rows: dict[str, Any]) -> Table:
    return Table(list(rows), tuple(rows[0]), "data.jsonl")


def cleaned(*rows: dict[str, Any], **knobs: Any) -> list[dict[str, Any]]:
    return clean(TokenLabels(**knobs).choose_columns(table(*rows)), rows, table(*rows), [])


@pytest.mark.parametrize(
    "row",
    [
        ANA,
        {"words": ANA["tokens"], "ner_tags": ANA["tags"]},
        ANA | {"tags": ["B-PER", "E-PER", "O", "O", "S-LOC"]},
        ANA | {"tags": ["B-PER", "L-PER", "O", "O", "U-LOC"]},
        ANA | {"tags": ["I-PER", "I-PER", "O", "O", "I-LOC"]},
        ANA | {"text": "Ana Gil vive en Lima"},
        {"text": CLEAN["text"], "entities": [{"start": 0, "end": 7, "label": "PER"}, {"start": 15, "end": 20, "label": "LOC"}]},
        {"text": CLEAN["text"], "entities": [[16, 20, "LOC"], [0, 7, "PER"], [0, 7, "PER"]]},
        {"text": CLEAN["text"], "spans": [{"start": 16.0, "end": 20.0, "type": "LOC", "text": "Lima"}, {"start": 0, "end": 7, "type": "PER"}]},
        {"text": CLEAN["text"], "entities": [{"id": 1, "label": "PER", "start_offset": 0, "end_offset": 7}, {"id": 2, "label": "LOC", "start_offset": 16, "end_offset": 20}]},
        {"text": CLEAN["text"], "id": 1, "label": [{"start": 0, "end": 7, "text": "Ana Gil", "labels": ["PER"]}, {"start": 16, "end": 20, "text": "Lima", "labels": ["LOC"]}]},
        {"tokens": ANA["tokens"], "ner_tags": ANA["tags"], "langs": ["es"] * 5, "spans": ["PER: Ana Gil", "LOC: Lima"]},
        {"tokens": ANA["tokens"], "ner_tags": ANA["tags"], "spans": []},
        {"tokens": ANA["tokens"], "entities": ANA["tags"]},
        {"text": CLEAN["text"], "tokens": [{"text": "Ana", "start": 0, "end": 3, "id": 0}], "spans": [{"start": 0, "end": 7, "label": "PER"}, {"start": 16, "end": 20, "label": "LOC"}]},
        {"tokens": ["", "Ana", " ", "Gil", "vive", "en", None, "Lima", "\u00a0"], "text": CLEAN["text"], "tags": ["B-ORG", "B-PER", "I-PER", "I-PER", "O", "O", "B-LOC", "I-LOC", "I-LOC"]},
    ],
)  # fmt: skip
def test_all_forms_are_one(row: dict[str, Any]) -> None:
    assert cleaned(row) == [CLEAN]


def test_the_original_text_is_kept_where_it_is_there() -> None:
    (row,) = cleaned({"text": "Ana  Gil\tvive en\n(Lima)", "tokens": ["Ana", "Gil", "vive", "en", "(", "Lima", ")"], "tags": ["B-PER", "I-PER", "O", "O", "O", "B-LOC", "O"]})  # fmt: skip
    assert [row["text"][s:e] for s, e, _label in row["entities"]] == ["Ana  Gil", "Lima"]
    assert located(["a", "b"], "a x b") == ("a b", [[0, 1], [2, 3]])  # not its text: joined


def test_tags_without_prefixes_are_words_unless_said_otherwise() -> None:
    row = {"tokens": ["Ana", "Gil", "duerme"], "tags": ["PER", "PER", "O"]}
    assert cleaned(row)[0]["tags"] == ["PER", "PER", "O"]
    assert cleaned(row, tags="entities")[0]["entities"] == [[0, 7, "PER"]]
    assert cleaned(ANA, tags="words")[0]["tags"] == ANA["tags"]


SPAN = {"start": 0, "end": 3, "label": "PER"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "row 2: there are 2 tokens but 1 tags in column 'tags'"),
        ({"tokens": ["a", "b"], "tags": ["O", None]}, "row 2: token 2 has no tag"),
        ({"tokens": ["a"], "tags": "O"}, "row 2: column 'tags' holds O, no list of tags"),
        ({"text": "Ana vive", "entities": [SPAN, SPAN | {"start": 2, "end": 5}]},
         r"row 2: the entities 'Ana' \[PER\] \(0–3\) and 'a v' \[PER\] \(2–5\) overlap.*--overlaps longest"),
        ({"text": "Ana vive", "entities": [SPAN, SPAN | {"label": "LOC"}]}, "row 2: .* overlap"),
        ({"text": "Ana vive", "entities": [SPAN | {"end": 9}]}, "row 2: entity 1 goes from 0 to 9, .* 8 characters"),
        ({"text": "Ana vive", "entities": [SPAN | {"start": -1}]}, "row 2: entity 1 goes from -1 to 3"),
        ({"text": "Ana vive", "entities": [SPAN | {"start": 3}]}, "row 2: entity 1 goes from 3 to 3"),
        ({"text": "Ana vive", "entities": [SPAN | {"start": 3, "end": 4}]}, "row 2: .*blanks only"),
        ({"text": "Ana vive", "entities": [{"start": 0, "end": 3}]}, "row 2: entity 1 is .*, not"),
        ({"text": "Ana vive", "entities": [SPAN | {"text": "vive"}]}, "row 2: entity 1 is said to be 'vive'.*'Ana'"),
        ({"text": "Ana vive", "entities": ["Ana"]}, "row 2: column 'entities' holds no entities"),
        ({"text": "Ana vive", "entities": [SPAN | {"label": ["PER", "LOC"]}]}, r"row 2: entity 1 has several labels \(PER, LOC\)"),
        ({"tokens": ["a", {"text": "b"}], "tags": ["O", "O"]}, "row 2: token 2 is {'text': 'b'}, no text"),
    ],
)  # fmt: skip
def test_bad_rows_are_named(row: dict[str, Any], said: str) -> None:
    first = {"text": "Ana vive", "entities": [SPAN]} if "text" in row else {"tokens": ["a"], "tags": ["B-A"]}
    with pytest.raises(InputError, match=said):
        cleaned(first, row)


@pytest.mark.parametrize(
    ("rows", "knobs", "said"),
    [
        ([{"text": "hola", "label": "bien"}], {}, "and none of them holds lists.*CoNLL.*blank line"),
        ([{"tokens": ["hola"], "tags": "O"}], {}, "'tags' holds no lists.*CoNLL"),
        ([{"text": "hola", "entities": [{"id": 1, "from": 0}]}], {}, "'entities' holds lists of {'id': 1, 'from': 0}"),
        ([{"tokens": [{"text": "a"}], "tags": ["O"]}], {}, "'tokens' holds lists of {'text': 'a'}"),
        ([{"tokens": ["Ana"], "text": "Ana", "entities": [SPAN]}], {"tags": "words"}, "'entities' of data.jsonl holds entities"),
        ([{"text": "Ana", "entities": [SPAN]}], {"kind": "words", "label": "entities"}, "words one by one"),
        ([{"text": "Ana", "entities": []}], {"kind": "words"}, "words one by one"),
        ([{"text": "hola"}], {}, "has the columns text, and none of them holds lists. This task needs CoNLL"),
        ([ANA], {"label": "tag"}, "no column 'tag'. Did you mean 'tags'"),
        ([ANA], {"label": "tokens"}, "cannot be both text and label"),
        ([{"1": ["a"], "2": ["O"]}], {"label": 3}, "no column '3'. There are: 1, 2"),
    ],
)  # fmt: skip
def test_wrong_columns(rows: list[dict[str, Any]], knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        cleaned(*rows, **knobs)


def test_a_trained_task_finds_its_columns_in_a_file_of_another_form() -> None:
    spacy = {"text": "la casa 0", "tokens": [{"text": "la", "start": 0, "end": 2, "id": 0}], "spans": []}
    task = TokenLabels(kind="entities", text="tokens")
    for chosen in (task.choose_inputs(table(spacy)), task.choose_columns(table(spacy))):
        assert chosen.ask(spacy) == {"text": "la casa 0"}
    with pytest.raises(InputError, match=r"token 1 is \{'text': 'la'"):
        task.ask(spacy)
    assert TokenLabels(kind="words").choose_inputs(table(spacy | {"words": ["la"]})).text == "words"
    assert cleaned(ANA | {"text": CLEAN["text"]}, kind="entities", text="text") == [CLEAN]
    both = ANA | {"text": CLEAN["text"], "entities": CLEAN["entities"]}
    assert cleaned(both)[0]["entities"] == CLEAN["entities"]
    assert cleaned(both, kind="words")[0]["tags"] == ANA["tags"]


def test_a_file_without_any_entity_is_scored() -> None:
    rows = cleaned({"text": "Ana", "entities": []}, {"text": "Luis", "entities": []}, kind="entities")
    task = TokenLabels(kind="entities", labels=("O", "B-PER", "I-PER"))
    told = [{"tags": [tag], "probabilities": [1.0]} for tag in (0, 1)]
    assert [row["entities"] for row in rows] == [[], []]
    assert task.score(told, rows).values["entity_f1"].value == 0


def test_the_column_of_conll() -> None:
    row = {"1": ["Ana", "ve"], "2": ["NP", "V"], "3": ["B-PER", "O"]}
    assert cleaned(row)[0]["entities"] == [[0, 3, "PER"]]
    assert cleaned(row, label=2)[0]["tags"] == ["NP", "V"]
    assert cleaned(row, text="2", label="3")[0]["text"] == "NP V"


def test_overlaps_may_be_resolved_and_are_counted() -> None:
    row = {"text": "Universidad de Lima", "entities": [[0, 19, "ORG"], [15, 19, "LOC"], [0, 19, "ORG"]]}
    task = TokenLabels(overlaps="longest").choose_columns(table(row))
    notes: list[str] = []
    assert clean(task, [row], table(row), notes)[0]["entities"] == [[0, 19, "ORG"]]
    assert notes == ["Entities that repeat or overlap a longer one and were left out: 2."]


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (["I-PER", "I-PER", "O", "O", "I-LOC"], ["The tags are IOB1"]),
        (["B-PER", "I-PER", "O", "O", "I-LOC"], ["mended: 1"]),
        (ANA["tags"], []),
    ],
)
def test_what_was_done_to_the_tags_is_said(tags: list[str], said: list[str]) -> None:
    notes: list[str] = []
    row = ANA | {"tags": tags}
    clean(TokenLabels().choose_columns(table(row)), [row], table(row), notes)
    assert len(notes) == len(said) and all(part in note for part, note in zip(said, notes, strict=True))


def test_an_entity_within_a_word_is_kept_as_gold_and_counted() -> None:
    row = {"text": "antiviral", "entities": [[4, 9, "X"]]}
    task, notes = TokenLabels().choose_columns(table(row)), list[str]()
    (found,) = clean(task, [row], table(row), notes)
    assert found["entities"] == [[4, 9, "X"]] and "within a word" in notes[0]
    task = task.learn([found])
    told = {"tags": [task.labels.index("B-X")], "probabilities": [0.9]}
    assert task.predict(told, found)["prediction"][0]["text"] == "antiviral"
    assert task.score([told], [found]).values["entity_f1"].value == 0


def test_a_missing_word_is_no_word_called_none() -> None:
    (row,) = cleaned(ANA | {"tokens": ["Ana", "Ruiz", None, "por", "Lima"]})
    assert row["text"] == "Ana Ruiz por Lima"
    assert [(row["text"][start:end], name) for start, end, name in row["entities"]] == [
        ("Ana Ruiz", "PER"),
        ("Lima", "LOC"),
    ]


@pytest.mark.parametrize("kind", ["entities", "words"])
def test_blank_tokens_are_no_words_and_counted(kind: str) -> None:
    row = {"tokens": ["Ana", " ", "Luis", "", "vive"], "tags": ["I-PER", "O", "I-PER", "B-LOC", "O"]}
    task, notes = TokenLabels(tags=kind).choose_columns(table(row)), list[str]()
    (found,) = clean(task, [row], table(row), notes)
    assert [found["text"][start:end] for start, end in found["words"]] == ["Ana", "Luis", "vive"]
    assert found.get("tags", ["I-PER", "I-PER", "O"]) == ["I-PER", "I-PER", "O"]
    assert found.get("entities", [[0, 3, "PER"], [4, 8, "PER"]]) == [[0, 3, "PER"], [4, 8, "PER"]]
    assert notes[0] == "Tokens that are empty or blank, left out with their tags: 2."


def test_tags_that_are_numbers_are_said_to_name_no_entity() -> None:
    rows = cleaned(ANA | {"tags": ["1", "2", "0", "0", "3"]})
    (note,) = TokenLabels(kind="words").warn(Splits(rows, [], [], ""))
    assert "B-PER" in note
    named = cleaned(ANA | {"tags": ["B-7", "I-7", "O", "O", "B-8"]})
    assert TokenLabels(kind="entities").warn(Splits(named, [], [], "")) == []


def test_a_tag_that_only_the_test_has_is_named_and_stops_nothing() -> None:
    rows = cleaned(ANA, ANA | {"tags": ["B-PER", "I-PER", "O", "O", "B-GPE"]})
    task = TokenLabels(kind="entities")
    splits = Splits([rows[0]] * 9, [], [rows[1]], "")
    task.check(splits)
    assert task.warn(splits) == [
        "The test part has labels that no training row has; each counts as an error: GPE (1)."
    ]
    task = task.learn(splits.train)
    assert task.labels == ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
    (encoded,) = task.encode(splits.test, TOKENIZER, 64)
    assert encoded["tags"] == [2, 4, 0, 0, -100]
    found = task.score([{"tags": [2, 4, 0, 0, 1], "probabilities": [1.0] * 5}], splits.test)
    assert found.values["entity_recall"].value == 0.5 and found.details["unseen"] == ["GPE"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([ANA | {"tags": ["O"] * 5}], "same tag 'O'"),
        (
            [{"text": "hola", "entities": []}] * 2,
            "No training row has an entity",
        ),
        (
            [{"tokens": [f"w{i}" for i in range(100)], "tags": [f"w{i}" for i in range(100)]}],
            "it holds no tags",
        ),
    ],
)
def test_nothing_to_learn(rows: list[dict[str, Any]], said: str) -> None:
    task = TokenLabels()
    with pytest.raises(InputError, match=said):
        task = task.choose_columns(table(*rows))
        task.check(Splits(clean(task, rows, table(*rows), []), [], [], ""))


def test_words_of_a_text() -> None:
    text = "El «niño» pagó 3.500,75 € (¡ya!) el 12/05; T3N0 cafe\u0301 👩‍👧 مرحبا"
    found = [text[start:end] for start, end in words(text)]
    assert found[:9] == ["El", "«", "niño", "»", "pagó", "3.500,75", "€", "(", "¡"]
    assert {"12/05", ";", "T3N0", "cafe\u0301", "مرحبا"} <= set(found)
    text = "\ufeffextra\u00adfino\u200f \x00 ❤\ufe0f a\x01b"
    assert [text[start:end] for start, end in words(text)] == ["extra\u00adfino", "❤\ufe0f", "a\x01b"]


ALPHABET = (
    "abñÁ e\u0301\u0327😀👩‍👧🇪🇸אבمرح\u200f\u200e\ufeff\x00\x01\x1b\x7f\u2028\u00a0\t\n.,;¿?()-#[]SEP漢字ﬁß"
)


@pytest.mark.parametrize("seed", range(25))
def test_places_are_those_of_the_text(seed: int) -> None:
    rng = random.Random(seed)
    task = TokenLabels(kind="entities", labels=("O", "B-A", "I-A", "B-B", "I-B"))
    rows = [{"text": "".join(rng.choices(ALPHABET, k=rng.randrange(60)))} for _row in range(20)]
    for row, encoded in zip(rows, task.encode(rows, TOKENIZER, 24), strict=True):
        found = words(row["text"])
        assert len(encoded["places"]) == len(found)
        answer = {
            "tags": [rng.randrange(5) for _word in found],
            "probabilities": [rng.random() for _word in found],
        }
        for span in task.predict(answer, row)["prediction"]:
            assert span["text"] == row["text"][span["start"] : span["end"]] != ""
    offsets = TOKENIZER([row["text"] for row in rows], return_offsets_mapping=True)["offset_mapping"]
    for row, encoded, at in zip(rows, task.encode(rows, TOKENIZER, 512), offsets, strict=True):
        for (start, end), place in zip(words(row["text"]), encoded["places"], strict=True):
            if place is not None:
                assert place[0] == 0 and at[place[1]][0] < end and start < at[place[1]][1]


@pytest.mark.parametrize("kind", ["entities", "words"])
def test_spans_of_a_thousand_texts_of_any_signs_stand_at_their_places(kind: str, model: Path) -> None:
    """Each is the text there, and they come in order; where each word is told, only what is not seen is left out."""
    draw = random.Random(5)
    texts = [toy.text(draw, 80) for _text in range(1000)]
    labels = ("O", "B-A", "I-A", "B-B", "I-B") if kind == "entities" else ("A", "B", "C")
    task = TokenLabels(kind=kind, labels=labels, doc_stride=4)
    torch.manual_seed(0)
    head = load(model, task.head, task.config())
    for name in ("bert.embeddings.word_embeddings", "bert.embeddings.position_embeddings", "classifier"):
        torch.nn.init.normal_(head.get_submodule(name).weight)  # so large that tags change from word to word
    bundle = Bundle(head.eval(), TOKENIZER, task, None, 24)  # type: ignore[arg-type]
    told, several = Counter[str](), 0
    for text, row in zip(texts, bundle.predict(texts), strict=True):
        before, left = 0, ""
        for span in row["prediction"]:
            start, end = span["start"], span["end"]
            assert before <= start < end <= len(text)
            assert span["text"] == text[start:end] == span["text"].strip() != ""
            left += text[before:start]
            before = end
            told[span["label"]] += 1
            several += len(words(span["text"])) > 1
        left += text[before:]
        if kind == "words":
            assert all(sign.isspace() or unicodedata.category(sign) in ("Cc", "Cf") for sign in left)
    assert told.total() > 4000 and min(told.values()) > 500 and (several > 1000 or kind == "words")
    assert told.keys() == ({"A", "B"} if kind == "entities" else set(labels))
    encoded = task.encode([{"text": text} for text in texts], TOKENIZER, 24)
    assert sum(len(row["windows"]) > 1 for row in encoded) > 300


def test_each_word_is_read_at_its_first_piece() -> None:
    text = "Extraordinariamente, Ana desoxirribonucleico"
    (((ids,), places, _read),) = find([(text, words(text))], TOKENIZER, 64, 16)
    pieces = TOKENIZER.convert_ids_to_tokens(ids)
    read_at = [pieces[place[1]] for place in places if place]
    assert len(read_at) == 4 and not any(piece.startswith("##") for piece in read_at)
    assert len(pieces) > 6


@pytest.mark.parametrize(("length", "stride"), [(8, 2), (8, 0), (13, 3), (32, 8), (32, 128)])
def test_a_long_text_loses_no_word(length: int, stride: int) -> None:
    tokens = [random.Random(i).choice(["casa", "perro", "tren", "desoxirribonucleico"]) for i in range(100)]
    text, places = located(tokens, None)
    ((ids, found, read),), ((whole, alone, _read),) = (
        find([(text, places)], TOKENIZER, most, stride) for most in (length, 10**6)
    )
    assert read == 100
    assert max(map(len, ids)) <= length and len(ids) > 100 / length and len(whole) == 1
    for place, expected in zip(found, alone, strict=True):
        assert place is not None and expected is not None
        assert ids[place[0]][place[1]] == whole[0][expected[1]]
        # Far from the ends of the text a word has other tokens on both sides.
        if 20 < expected[1] < 80 and length > 8 and stride > 0:
            assert 1 + (length - 2) // 16 < place[1] < len(ids[place[0]]) - 1 - (length - 2) // 16


def test_the_loss_counts_every_word_of_a_long_row_once() -> None:
    row = {"text": "Ana vive en Lima . " * 30, "entities": []}
    row["words"] = words(row["text"])
    task = TokenLabels(kind="entities", labels=("O", "B-PER", "I-PER"))
    batch = task.collate([(item, None) for item in task.encode([row, CLEAN], TOKENIZER, 16)], TOKENIZER)
    assert batch.counts["loss"] == 150 + 4  # LOC is a label that the model does not have
    assert len(batch.tensors["input_ids"]) > 10
    assert batch.tokens == int(batch.tensors["attention_mask"].sum())


def test_the_first_piece_of_each_word_is_shown_as_learnt() -> None:
    rows = cleaned({"tokens": ["Ana", "desoxirribonucleico", "Oslo"], "tags": ["B-PER", "O", "B-LOC"]})
    task = TokenLabels(kind="entities", labels=("O", "B-PER", "I-PER"))  # LOC was never learnt
    encoded = task.encode(rows, TOKENIZER, 64)
    (shown,) = mask_in_words(task, TOKENIZER, encoded)
    pieces = shown.split("\n")[1].split(" ")
    first, second = (piece.strip("⟦⟧") for piece in pieces if "⟦" in piece)
    assert "Ana".startswith(first) and "desoxirribonucleico".startswith(second)
    assert pieces[0] == "[CLS]" and pieces[-1] == "[SEP]" and sum("##" in piece for piece in pieces) > 2
    # A row of words that all have unknown tags is scored, and no error: nothing of it is lost unseen.
    task = TokenLabels(kind="entities", labels=("B-MISC",))
    assert check_learnable(task, {"test": task.encode(rows, TOKENIZER, 64)}) == []


def test_baselines_know_the_training_words() -> None:
    rows = cleaned(ANA, {"tokens": ["Lima", "Ana", "Paz"], "tags": ["B-LOC", "O", "B-LOC"]}, ANA)
    task = TokenLabels(kind="entities").learn(rows[:1])
    found = task.baselines(rows[:1], rows[1:2], tokenizer=None, max_length=64)
    assert found["majority"] == [{"tags": [0, 0, 0], "probabilities": [1.0] * 3}]
    assert [task.labels[i] for i in found["most_frequent_tag"][0]["tags"]] == ["B-LOC", "B-PER", "O"]


# The commands ------------------------------------------------------------------------------------------------


def conll(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("\n\n".join("\n".join(f"{w} x {t}" for w, t in zip(row["tokens"], row["tags"], strict=True)) for row in rows), "utf-8")  # fmt: skip
    return file


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import afina

    folder = tmp_path_factory.mktemp("tokens")
    rows = TokenLabels.toy()
    afina.finetune(
        conll(folder / "data.conll", rows[:30]), test=conll(folder / "test.conll", rows[30:]), task="token_labels",
        model=toy.model(folder / "model", 32), output_dir=folder / "run", max_steps=60, learning_rate=1e-2, train_batch_size=8,
        eval_steps=20, quiet=True, offline=True, lang="en",
    )  # fmt: skip
    return folder


@pytest.mark.slow
def test_the_run_tells_all(trained: Path) -> None:
    result = json.loads((trained / "run" / "scores.json").read_text("utf-8"))
    assert list(result["scores"]["test"]) == ["entity_f1", "entity_precision", "entity_recall"]
    assert result["scores"]["test"]["entity_f1"]["value"] > 0.5
    assert result["baselines"]["tfidf"] == {"validation": None, "test": None}
    assert {"majority", "most_frequent_tag"} < result["baselines"].keys()
    assert set(result["details"]["test"]["per_class"]) == {"LOC", "PER"}
    assert result["details"]["data"]["labels"]["train"].keys() == {"LOC", "PER"}
    assert result["details"]["data"]["columns"] == {"text": "1", "label": "3"}
    (first, *_rest) = read(trained / "run" / "predictions.csv").rows
    for side in ("label_spans", "prediction_spans"):
        for span in json.loads(first[side]):
            assert first["text"][span["start"] : span["end"]] == span["text"]
    page = (trained / "run" / "report.html").read_text("utf-8")
    for part in (
        "Entity F1",
        "Tag per word",
        "Entities of each label",
        "token-classification",
        "Kind of mistake",
    ):
        assert part in page, part
    card = (trained / "run" / "best" / "README.md").read_text("utf-8")
    assert "It marks entities of 2 kinds: LOC, PER" in card and "token-classification" in card


@pytest.mark.slow
def test_predict_gives_places_and_evaluate_reads_any_form(
    trained: Path, run: Callable[..., toy.Said], tmp_path: Path
) -> None:
    text = "😀  Ana\u00a0vive en (Lima)…"
    (told,) = run("predict", trained / "run", text, "--json").json
    assert 0 <= told["probability"] <= 1
    for span in told["prediction"]:
        assert span["text"] == text[span["start"] : span["end"]] and span["label"] in ("PER", "LOC")
        assert 0 < span["score"] <= 1
    assert run("predict", trained / "run", "", "--json").json[0]["prediction"] == []
    said = run("predict", trained / "run", "Ana vive en Lima .", "--lang", "en").out
    assert "[" in said and "\t" in said
    of_file = run("predict", trained / "run", trained / "test.conll", "--json").json
    assert len(of_file) == 10

    spans = tmp_path / "spans.jsonl"
    spans.write_text(json.dumps({"text": CLEAN["text"], "entities": CLEAN["entities"]}), "utf-8")
    same = tmp_path / "tokens.jsonl"
    same.write_text(json.dumps(ANA), "utf-8")
    found = [run("evaluate", trained / "run", file, "--json").json for file in (spans, same)]
    assert found[0]["scores"] == found[1]["scores"] and found[0]["scores"]["test"]["entity_f1"]["low"] is None
    spacy = {"text": "Ana ve", "tokens": [{"text": "Ana", "start": 0, "end": 3}], "spans": []}
    spans.write_text(json.dumps(spacy), "utf-8")
    assert run("evaluate", trained / "run", spans, "--json").json["scores"]["test"]["entity_f1"]["value"] == 0
    (told,) = run("predict", trained / "run", spans, "--json").json
    assert told == run("predict", trained / "run", "Ana ve", "--json").json[0]
    out = tmp_path / "out.csv"
    assert run("predict", trained / "run", spans, "--output", out, "--json").code == 0
    assert (
        json.loads(read(out).rows[0]["prediction"])
        == run("predict", trained / "run", spans, "--json").json[0]["prediction"]
    )


@pytest.mark.slow
def test_plain_transformers_marks_the_same(trained: Path) -> None:
    from transformers import pipeline

    import afina

    text = "hoy Luis Vega vive en Nueva York ."
    ours = afina.Run(trained / "run").bundle.predict([text])[0]["prediction"]
    plain: Any = pipeline(
        "token-classification", model=str(trained / "run" / "best"), aggregation_strategy="first"
    )
    assert [(one["start"], one["end"], one["entity_group"]) for one in plain(text)] == [
        (one["start"], one["end"], one["label"]) for one in ours
    ]
    assert ours


@pytest.mark.slow
def test_parts_of_speech(run: Callable[..., toy.Said], trained: Path, tmp_path: Path) -> None:
    lines = []
    for i in range(24):
        for number, (word, tag) in enumerate(
            [("Ana", "PROPN"), ("duerme", "VERB"), (f"bien{i}", "ADV"), (".", "PUNCT")], 1
        ):
            lines.append(f"{number}\t{word}\t{word}\t{tag}\t_\t_\t0\troot\t_\t_")
        lines.append("")
    file = tmp_path / "pos.conllu"
    file.write_text("\n".join(lines), "utf-8")
    out = run(
        "finetune", file, "--task", "token_labels", "--label", "upos", "--model", trained / "model", "--max-steps", 20,
        "--learning-rate", "1e-2", "--train-batch-size", 8, "--eval-steps", 10, "--offline", "--json", "--output-dir", tmp_path / "run",
    ).json  # fmt: skip
    assert list(out["scores"]["test"]) == ["accuracy", "macro_f1"]
    assert out["details"]["test"]["confusion"]["labels"] == ["ADV", "PROPN", "PUNCT", "VERB"]
    (told,) = run("predict", tmp_path / "run", "Ana duerme.", "--json").json
    assert [span["text"] for span in told["prediction"]] == ["Ana", "duerme", "."]
    assert "words of such rows" in (tmp_path / "run" / "report.html").read_text("utf-8")
    # A repeat from run.toml is the same run.
    again = run("finetune", tmp_path / "run" / "run.toml", "--output-dir", tmp_path / "again", "--json").json
    assert again["scores"] == out["scores"]


@pytest.mark.parametrize("odd", ["B-", "PER", "b-per", "B_PER", 0])
def test_a_mistyped_tag_is_named_and_not_made_a_label_of_its_own(odd: Any) -> None:
    rows = [{"tokens": ["Ana", "vive", "aquí"], "tags": ["B-PER", "O", "O"]} for _row in range(4)]
    rows.append({"tokens": ["Ana", "vive", "aquí"], "tags": ["B-PER", odd, "O"]})
    with pytest.raises(InputError, match=f"{str(odd)!r}; the first in row 5"):
        TokenLabels().choose_columns(table(*rows))
    assert TokenLabels(tags="words").choose_columns(table(*rows)).kind == "words"


@pytest.mark.parametrize("end", ["\n", "", "\n\n\n"])
def test_a_mistyped_tag_of_a_conll_file_is_named_by_its_line(end: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.conll"
    file.write_text(
        "-DOCSTART- O\n\n# sent_id = 1\nAna B-PER\nvive O\n\n\nLuis B-PER\nBaroja I_PER\nvive O" + end,
        "utf-8",
    )
    with pytest.raises(InputError, match=r"'I_PER'; the first in line 9\."):
        TokenLabels().choose_columns(read(file))


def test_half_a_character_is_mended_however_it_is_given() -> None:
    """Python can hold half of an emoji, which no tokenizer takes; places stay those of what was given."""
    task = TokenLabels(kind="words", text="text")
    for given in ("a \ud83d b", {"text": "a \ud83d b"}, {"text": ["a", "\ud83d", "b"]}):
        asked = task.ask(given)
        assert asked["text"] == "a ? b"
        assert TOKENIZER(asked["text"])

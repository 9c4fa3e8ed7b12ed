"""Questions answered from a text: files, windows, spans, bad input, and the command from file to report."""

import csv
import json
import random
import unicodedata
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import afina
import toy
from afina.core import Row, Splits, Table
from afina.data.read import read
from afina.errors import InputError
from afina.models.heads import AT_ONCE
from afina.models.load import load, load_tokenizer
from afina.tasks._context_windows import Text, Window, encode
from afina.tasks._gold_answers import read as read_answers
from afina.tasks._spans import decode
from afina.tasks.extractive_qa import ExtractiveQa
from afina.train.bundle import Bundle, by_row
from afina.verbs._prepare import prepare

Command = Callable[..., toy.Said]
one_thread = pytest.fixture(scope="module")(toy.one_thread)

SIGNS = [
    *"abc ñáü¿? \n\t\ufeff\u200b\u200d\x00\x07\x85\u2028",
    *("e\u0301", "👨‍👩‍👧", "🇪🇸", "שלום", "مرحبا", "\u202e", "ﬁ", "İ", "ß", "漢字", "\U0001d54f", "\ud83d", "12,5", "«sí»"),
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    return toy.model(tmp_path_factory.mktemp("qa") / "tiny")


@pytest.fixture(scope="module")
def bundle(model: Path) -> Bundle:
    task = ExtractiveQa(unanswerable=True, doc_stride=8)
    torch.manual_seed(0)
    head = load(model, task.head, task.config()).eval()
    return Bundle(head, load_tokenizer(model), task, None, 48)  # type: ignore[arg-type]


def squad(rows: list[Row], version: str = "1.1") -> dict[str, Any]:
    """Return the toy rows in SQuAD's form: an article a question's thing, a paragraph a row."""
    articles: dict[str, list[Any]] = {}
    for number, row in enumerate(rows):
        asked = {
            "id": f"q{number}",
            "question": row["question"],
            "answers": [{"text": row["answers"], "answer_start": row["answer_start"]}],
        }
        articles.setdefault(row["question"], []).append({"context": row["context"], "qas": [asked]})
    data = [{"title": title, "paragraphs": paragraphs} for title, paragraphs in articles.items()]
    return {"version": version, "data": data}


def written(file: Path, value: Any) -> Path:
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


# Files ------------------------------------------------------------------------------------------------------


def cleaned(table: Table) -> list[Row]:
    task = ExtractiveQa().choose_columns(table)
    return [row for row in map(task.clean, table.rows) if row]


def test_all_forms_of_a_file_say_the_same(tmp_path: Path) -> None:
    rows = ExtractiveQa.toy()
    nested = read(written(tmp_path / "squad.json", squad(rows)))
    assert nested.columns == ("id", "title", "context", "question", "answers", "is_impossible")
    hub = [
        row | {"answers": {"text": [row["answers"]], "answer_start": [row["answer_start"]]}} for row in rows
    ]
    lines = "\n".join(json.dumps(article) for article in squad(rows)["data"])
    (tmp_path / "articles.jsonl").write_text(lines, encoding="utf-8")
    with (tmp_path / "flat.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["pregunta", "contexto", "respuesta", "inicio"])
        writer.writerows(list(row.values()) for row in rows)
    tables = [nested, read(written(tmp_path / "hub.json", hub)), read(tmp_path / "flat.csv"), read(tmp_path / "articles.jsonl")]  # fmt: skip
    told = [
        sorted((row["question"], row["context"], *row["answers"][0].values()) for row in cleaned(table))
        for table in tables
    ]
    assert told[0] == told[1] == told[2] == told[3]
    assert told[0] == sorted(tuple(row.values()) for row in rows)


def test_offsets_are_those_of_the_file(tmp_path: Path) -> None:
    context = "\ufeffLa Ñ\r\nvive 👩‍🚀 en  Perú\u2028 hoy."
    row = {
        "question": "¿Dónde?",
        "context": context,
        "answers": "Perú",
        "answer_start": context.index("Perú"),
    }
    (read_back,) = cleaned(read(written(tmp_path / "bom.json", [row])))
    assert read_back["context"] == context
    assert read_back["answers"] == [{"text": "Perú", "answer_start": 20}]
    with (tmp_path / "bom.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream).writerows([list(row), list(row.values())])
    (read_back,) = cleaned(read(tmp_path / "bom.csv"))
    assert read_back["context"] == context


def test_no_answer_is_said_and_not_guessed() -> None:
    task = ExtractiveQa()
    row = {"question": "¿Qué?", "context": "Nada."}
    assert task.clean(row | {"answers": [], "is_impossible": True})["answers"] == []  # type: ignore[index]
    assert task.clean(row | {"answers": {"text": [], "answer_start": []}})["answers"] == []  # type: ignore[index]
    assert task.clean(row | {"answers": "", "is_impossible": "True"})["answers"] == []  # type: ignore[index]
    for missing in (None, "", float("nan"), [{"text": "", "answer_start": -1}]):
        assert task.clean(row | {"answers": missing}) is None
    some = task.clean(
        row | {"answers": [{"text": "", "answer_start": -1}, {"text": "Nada", "answer_start": 0}]}
    )
    assert some and len(some["answers"]) == 1


WRONG = {
    "is at 3": ({"answers": "mesa", "answer_start": 4}, ["'mesa' does not stand at 4", "'a me'", "at 6, 19"]),
    "nowhere": ({"answers": "silla", "answer_start": 2}, ["'silla'", "nowhere"]),
    "other capitals": (
        {"answers": "en  LA", "answer_start": 9},
        ["At 0 stands 'En la', which differs"],
    ),
    "no start": ({"answers": "mesa"}, ["'mesa' stands at 6, 19"]),
    "no start, nowhere": ({"answers": "silla"}, ["'silla' does not stand in the context"]),
    "no number": ({"answers": "mesa", "answer_start": "seis"}, ["'seis'", "whole number"]),
    "negative": ({"answers": "mesa", "answer_start": -3}, ["answer_start is -3", "at 6, 19"]),
    "lists": ({"answers": {"text": ["mesa"], "answer_start": [6, 19]}}, ["1 answers", "2 places"]),
    "no text": ({"answers": [{"answer_start": 3}]}, ["no text"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_answer_that_does_not_stand_there(case: str, tmp_path: Path) -> None:
    row, parts = WRONG[case]
    good = {
        "id": "a1",
        "question": "¿Qué?",
        "context": "Hay ¡mesa! y otra mesa.",
        "answers": "otra",
        "answer_start": 13,
    }
    rows = [good, good | {"id": "b2", "answer_start": None, **row, "context": "En la mesa y otra, mesa"}]
    file = written(tmp_path / "wrong.json", rows)
    with pytest.raises(InputError) as raised:
        prepare(ExtractiveQa(), str(file), None, None, seed=0)
    for part in ("row 2: Question b2: ", *parts):
        assert part in str(raised.value)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_answer_with_accents_encoded_in_another_way_is_proposed_as_it_stands(
    forms: tuple[str, str],
) -> None:
    context, answer = (
        unicodedata.normalize(form, text)
        for form, text in zip(forms, ("Vive en Ávila.", "Ávila"), strict=True)
    )
    with pytest.raises(InputError) as raised:
        read_answers(answer, 3, context)
    stands = unicodedata.normalize(forms[0], "Ávila")
    assert f"At 8 stands '{stands}', which differs" in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "context", "start", "said"),
    [
        ("Ana", "Por la mañana vino.", 3, "nowhere"),  # a part of a word
        ("hablo", "Ella habló ayer.", 3, "nowhere"),  # another word
        (
            "CAFÉ",
            unicodedata.normalize("NFD", "un café"),
            0,
            unicodedata.normalize("NFD", "At 3 stands 'café'"),
        ),
        ("ANA", "Ana y luego Ana.", 9, "At 12 stands 'Ana'"),
    ],
)
def test_only_the_same_words_are_proposed_the_nearest_ones(
    answer: str, context: str, start: int, said: str
) -> None:
    with pytest.raises(InputError) as raised:
        read_answers(answer, start, context)
    assert said in str(raised.value)


BROKEN = {
    "context": (["article 2", "'B'", "paragraph 1", "'context'", "missing"], lambda data: data[1]["paragraphs"][0].pop("context")),
    "qas": (["paragraph 1 of article 1", "'qas'"], lambda data: data[0]["paragraphs"][0].pop("qas")),
    "paragraphs": (["article 2", "'paragraphs'"], lambda data: data[1].pop("paragraphs")),
    "question": (["question 1", "(x1)", "'question'"], lambda data: data[0]["paragraphs"][0]["qas"][0].pop("question")),
    "answers": (["(x1)", "'answers'", "a list"], lambda data: data[0]["paragraphs"][0]["qas"][0].update(answers="sí")),
    "null": (["(x1)", "'answers'", "a list"], lambda data: data[0]["paragraphs"][0]["qas"][0].update(answers=None)),
    "start": (["(x1)", "'answer_start'", "missing"], lambda data: data[0]["paragraphs"][0]["qas"][0]["answers"][0].pop("answer_start")),
    "kind": (["'answer_start'", "whole number"], lambda data: data[0]["paragraphs"][0]["qas"][0]["answers"][0].update(answer_start="3")),
    "list": (["'qas'", "a list"], lambda data: data[0]["paragraphs"][0].update(qas={})),
    "empty": (["no question"], lambda data: [article.update(paragraphs=[]) for article in data]),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_squad_file_is_said_with_the_place(case: str, tmp_path: Path) -> None:
    parts, spoil = BROKEN[case]
    asked = {"question": "¿Qué?", "answers": [{"text": "sí", "answer_start": 3}]}
    data = [
        {"title": name, "paragraphs": [{"context": "Es sí.", "qas": [{"id": f"x{number}", **json.loads(json.dumps(asked))}]}]}
        for number, name in enumerate("AB", 1)
    ]  # fmt: skip
    for article in data:
        assert article["paragraphs"]
    spoil(data)
    with pytest.raises(InputError) as raised:
        read(written(tmp_path / "broken.json", {"version": "1.1", "data": data}))
    for part in (*parts, "broken.json"):
        assert part in str(raised.value)


def test_questions_of_squad_without_answers_are_asked_but_not_learnt(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = squad(ExtractiveQa.toy())
    asked = [
        question for article in data["data"] for each in article["paragraphs"] for question in each["qas"]
    ]
    asked[0].pop("answers")
    prepared = prepare(ExtractiveQa(), str(written(tmp_path / "some.json", data)), None, None, seed=0)
    assert any("answers, left out: 1." in note for note in prepared.notes)
    for question in asked[1:]:
        question.pop("answers")
    file = written(tmp_path / "asked.json", data)
    assert read(file).rows[0]["answers"] is None
    told = toy.command(capfd)("predict", run, file, "--output", tmp_path / "told.csv", "--json").json
    assert len(told) == len(read(tmp_path / "told.csv").rows) == len(asked)
    with pytest.raises(InputError, match=f"left out: {len(asked)}"):
        prepare(ExtractiveQa(), str(file), None, None, seed=0)


def test_a_missing_column_is_said(tmp_path: Path) -> None:
    rows = [{"question": "¿Qué?", "answers": "a", "n": i} for i in range(20)]
    with pytest.raises(
        InputError, match=r"which column of .* holds the context.*--context.*question, answers, n"
    ):
        prepare(ExtractiveQa(), str(written(tmp_path / "no.json", rows)), None, None, seed=0)
    rows = [{"context": "Hay dos cosas.", "answers": "dos"} for _i in range(20)]
    with pytest.raises(InputError, match=r"holds the question.*--question"):
        prepare(ExtractiveQa(), str(written(tmp_path / "no.json", rows)), None, None, seed=0)
    with pytest.raises(InputError, match="no column 'texto'"):
        prepare(ExtractiveQa(question="texto"), str(tmp_path / "no.json"), None, None, seed=0)


# Splits -----------------------------------------------------------------------------------------------------


def parts(splits: Splits, field: str) -> list[set[str]]:
    return [{row[field] for row in part} for part in (splits.train, splits.validation, splits.test)]


def many(articles: int) -> dict[str, Any]:
    asked = [{"question": f"¿{n}?", "answers": [{"text": "sí", "answer_start": 0}]} for n in range(3)]
    return {
        "data": [
            {
                "title": f"T{a}",
                "paragraphs": [
                    {
                        "context": f"sí {a} {p}",
                        "qas": [q | {"id": f"{a}-{p}-{n}"} for n, q in enumerate(asked)],
                    }
                    for p in range(4)
                ],
            }
            for a in range(articles)
        ]
    }


def test_articles_or_at_least_paragraphs_stay_on_one_side(tmp_path: Path) -> None:
    for articles, field in ((20, "title"), (5, "context")):
        file = written(tmp_path / f"{articles}.json", many(articles))
        prepared = prepare(ExtractiveQa(), str(file), None, None, seed=0)
        sides = parts(prepared.splits, field)
        assert all(sides) and not (sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2])
        groups = {20: 20, 5: 20}[articles]
        assert f"{groups} groups" in " ".join(prepared.notes)
        assert "repeat another" not in " ".join(prepared.notes)
        assert len(prepared.splits.train) == pytest.approx(0.7 * 12 * articles, abs=12)


def test_given_parts_lose_only_repeated_questions(tmp_path: Path) -> None:
    data = many(12)
    test = {"data": [{"title": "T0", "paragraphs": [data["data"][0]["paragraphs"][0]]}]}
    prepared = prepare(
        ExtractiveQa(), str(written(tmp_path / "a.json", data)), None, str(written(tmp_path / "b.json", test)), seed=0
    )  # fmt: skip
    rows = [*prepared.splits.train, *prepared.splits.validation]
    assert len(rows) == 12 * 12 - 3 and len(prepared.splits.test) == 3


# Windows ----------------------------------------------------------------------------------------------------


def tokens(window: Window) -> slice:
    return slice(window.first, window.first + len(window.places))


def test_windows_cover_the_context_and_hold_the_answer(bundle: Bundle) -> None:
    context = " ".join(f"la cosa {n} está en el sitio {n}." for n in range(40))
    start = context.index("el sitio 25")
    text = Text("¿Dónde está la cosa 25?", context, (start, start + 11))
    ((windows, cut),) = encode([text], bundle.tokenizer, 48, 8)
    assert cut == 0 and len(windows) > 10 and max(len(window.ids) for window in windows) == 48
    whole = bundle.tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    first_seen = [tuple(place) for window in windows for place, mine in zip(window.places.tolist(), window.starts, strict=True) if mine]  # fmt: skip
    assert first_seen == [tuple(place) for place in whole], "every token begins spans in one window"
    for before, after in pairwise(windows):
        assert before.places[-8:].tolist() == after.places[:8].tolist()
    golds = [window.gold for window in windows]
    held = [window for window in windows if window.gold[0] > 0]
    assert held and (0, 0) in golds
    for window in held:
        first, last = (position - window.first for position in window.gold)
        assert context[window.places[first, 0] : window.places[last, 1]] == "el sitio 25"
    for window in windows:
        seen = context[window.places[0, 0] : window.places[-1, 1]]
        touches = window.places[0, 0] < start + 11 and window.places[-1, 1] > start
        assert ("el sitio 25" in seen) == (window.gold[0] > 0)
        assert touches == (window.gold != (0, 0))


def test_pieces_add_up_to_the_row(bundle: Bundle) -> None:
    context = " ".join(f"la cosa {n} está en el sitio {n}." for n in range(30))
    row = {
        "question": "¿?",
        "context": context,
        "answers": [{"text": "sitio 9", "answer_start": context.index("sitio 9")}],
    }
    (encoded,) = bundle.task.encode([row], bundle.tokenizer, 48)
    pieces = bundle.task.pieces(encoded)
    assert len(pieces) == len(encoded["windows"]) > 5
    with torch.no_grad():
        batches = [bundle.task.collate([(each, None)], bundle.tokenizer) for each in (encoded, *pieces)]
        whole, *parts = (float(bundle.task.loss(bundle.model, batch)["loss"].sum) for batch in batches)
    assert whole == pytest.approx(sum(parts), rel=1e-5)
    assert batches[0].counts["loss"] == sum(batch.counts["loss"] for batch in batches[1:])
    assert bundle.task.length(encoded) == len(pieces) * 48


def test_a_book_is_read_to_its_end_piece_by_piece(bundle: Bundle) -> None:
    context = " ".join(["palabra"] * 20_000 + ["mandarina"])
    shapes: list[torch.Size] = []
    hook = bundle.model.register_forward_pre_hook(
        lambda _model, _args, given: shapes.append(given["input_ids"].shape), with_kwargs=True
    )
    row = {"question": "¿Qué fruta?", "context": context}
    (encoded,) = bundle.task.encode([row], bundle.tokenizer, 48)
    (told,) = bundle.answers([row])
    hook.remove()
    assert encoded["windows"][-1].places[-1].tolist()[1] == len(context)
    assert sum(rows for rows, _width in shapes) == len(encoded["windows"])
    assert len(shapes) > 1 and max(rows * width for rows, width in shapes) <= AT_ONCE
    assert told["spans"]


def test_a_long_question_is_cut_and_said(bundle: Bundle) -> None:
    row = {"question": "qué " * 100 + "¿?", "context": "Está en la mesa. " * 20, "answers": []}
    (encoded,) = bundle.task.encode([row], bundle.tokenizer, 48)
    whole = len(bundle.tokenizer(row["question"], add_special_tokens=False)["input_ids"])
    assert encoded["cut"] == bundle.task.unseen(encoded, 1000) == whole - 22
    assert max(len(window.ids) for window in encoded["windows"]) <= 48
    (answer,) = by_row(bundle.model, bundle.task, bundle.tokenizer, [encoded], 1000, bundle.task.answer)
    assert answer["spans"]


@pytest.mark.parametrize("context", ["", "\u200b", "\u200b\u200b casa"])
def test_a_context_of_few_signs_or_none_is_answered_beside_a_long_question(
    bundle: Bundle, context: str
) -> None:
    asked = {"question": "¿dónde? " * 300, "context": context}
    first, second = bundle.predict([asked, {"question": "¿Dónde?", "context": "En casa."}])
    assert first["prediction"] in ("", *context.split()) and second["n_best"]
    assert first["prediction"] == "" or "casa" in context


def test_every_span_is_the_text_at_its_place(bundle: Bundle) -> None:
    draw = random.Random(3)
    rows = [
        {
            "question": "".join(draw.choices(SIGNS, k=draw.randrange(12))),
            "context": "".join(draw.choices(SIGNS, k=draw.randrange(1, 150))),
        }
        for _row in range(60)
    ]
    rows += [
        {"question": "", "context": ""},
        {"question": "¿?", "context": " \n"},
        {"question": "\ufeff", "context": "\ufeff\ufeff"},
    ]
    spans = 0
    for row, told in zip(rows, bundle.predict(rows), strict=True):
        assert row["context"][told["start"] : told["end"]] == told["prediction"]
        for each in told["n_best"]:
            assert row["context"][each["start"] : each["end"]] == each["text"]
            assert each["text"].strip() == each["text"]
            spans += bool(each["text"])
        assert 0 <= told["score"] <= 1
        assert told["score"] <= 1 and sum(each["score"] for each in told["n_best"]) <= 1 + 1e-9
    assert spans > 100


def test_spans_of_a_thousand_texts_of_any_signs_stand_at_their_places(bundle: Bundle) -> None:
    """Each is the text there, lies within the context, and begins and ends where tokens do."""
    draw = random.Random(4)
    rows = [{"question": toy.text(draw, 10), "context": toy.text(draw, 150)} for _row in range(1000)]
    contexts = [row["context"] for row in rows]
    offsets = bundle.tokenizer(contexts, return_offsets_mapping=True)["offset_mapping"]
    spans = words = 0
    for context, told, places in zip(contexts, bundle.predict(rows), offsets, strict=True):
        for one in (told | {"text": told["prediction"]}, *told["n_best"]):
            assert 0 <= one["start"] <= one["end"] <= len(context)
            assert one["text"] == context[one["start"] : one["end"]] == one["text"].strip()
        starts, ends = ({place[i] for place in places[1:-1]} for i in (0, 1))
        for one in filter(lambda one: one["text"], told["n_best"]):
            assert one["start"] in starts and one["end"] in ends
            spans += 1
            words += len(one["text"].split()) > 1
    assert spans > 4000 and words > 500
    assert sum(len(row["windows"]) > 1 for row in bundle.task.encode(rows, bundle.tokenizer, 48)) > 300


def test_the_best_span_is_that_of_an_exhaustive_search(bundle: Bundle) -> None:
    context = " ".join(f"la cosa {n} está en el sitio {n}." for n in range(12))
    ((windows, _cut),) = encode([Text("¿Dónde?", context, None)], bundle.tokenizer, 48, 8)
    rng = np.random.default_rng(0)
    logits = [tuple(rng.normal(size=(2, len(window.ids)))) for window in windows]
    found = decode(context, windows, logits, longest=4, n_best=10**4, with_null=True)  # type: ignore[arg-type]
    every: dict[tuple[int, int], float] = {}
    for window, (starts, ends) in zip(windows, logits, strict=True):
        for i in np.flatnonzero(window.starts):
            for j in range(i, min(i + 4, len(window.places))):
                place = int(window.places[i, 0]), int(window.places[j, 1])
                assert place not in every
                every[place] = float(starts[window.first + i] + ends[window.first + j])
    null = min(float(s[window.null] + e[window.null]) for window, (s, e) in zip(windows, logits, strict=True))
    whole = np.logaddexp.reduce([*every.values(), null])
    assert [(span["start"], span["end"]) for span in found["spans"]] == sorted(
        every, key=lambda place: -every[place]
    )
    for span in found["spans"]:
        assert span["score"] == pytest.approx(np.exp(every[span["start"], span["end"]] - whole))
    assert found["null"]["score"] == pytest.approx(np.exp(null - whole))


def test_blanks_that_tokens_count_as_their_own_are_in_no_answer() -> None:
    """So some byte-level and sentence-piece vocabularies do; a token of blanks alone is no answer either."""
    context = "en  la casa"
    places = np.array([[0, 2], [2, 3], [2, 6], [6, 11]])
    window = Window(np.arange(6), np.zeros(6), 1, places, 0, np.full(4, True), (0, 0))
    logits = np.array([0.0, 1, 5, 4, 3, 0]), np.array([0.0, 1, 5, 4, 3, 0])
    told = decode(context, [window], [logits], longest=4, n_best=20, with_null=False)
    texts = ["la", "la casa", "en", "casa", "en  la", "en  la casa"]
    assert [span["text"] for span in told["spans"]] == texts
    assert all(context[span["start"] : span["end"]] == span["text"] for span in told["spans"])


def test_no_answer_wins_where_its_logit_does_by_the_threshold() -> None:
    spans = [{"text": "sí", "start": 0, "end": 2, "score": 0.4, "logit": 2.0}]
    answer = {"spans": spans, "null": {"score": 0.6, "logit": 2.5}}
    none = ExtractiveQa(unanswerable=True).predict(answer, {})
    assert (none["prediction"], none["start"], none["end"], none["score"]) == ("", 0, 0, 0.6)
    assert [each["text"] for each in none["n_best"]] == ["", "sí"]
    assert ExtractiveQa(null_threshold=1.0).predict(answer, {})["prediction"] == "sí"
    assert ExtractiveQa(tuned_threshold=1.0).predict(answer, {})["prediction"] == "sí"
    assert ExtractiveQa(tuned_threshold=1.0, null_threshold=0.0).predict(answer, {})["prediction"] == ""

    assert none["null_score"] == pytest.approx(0.5)
    at_most = ExtractiveQa(null_threshold=0.51, n_best=1).predict(answer, {})
    assert [each["text"] for each in at_most["n_best"]] == [
        "sí",
        "",
    ]  # how likely no answer is, is always told

    only = ExtractiveQa().predict({"spans": spans, "null": None}, {})
    assert only["n_best"] == [{"text": "sí", "start": 0, "end": 2, "score": 0.4}]
    assert only["null_score"] is None


# From the file to the report --------------------------------------------------------------------------------


def test_when_to_give_no_answer_is_learnt_from_validation_rows() -> None:
    """Whatever the threshold found, no other gives a higher F1; one that a person sets stays."""
    drawn = np.random.default_rng(0)
    rows, answers = [], []
    for i in range(60):
        gold = [{"text": "sí", "start": 0}] if i % 3 else []
        text = "sí" if drawn.random() < 0.7 else "no"
        logit = float(drawn.normal(1.0 if gold else -1.0))
        span = {"text": text, "start": 0, "end": 2, "score": 0.5, "logit": logit}
        rows.append({"context": f"sí {i // 2}", "answers": gold})
        answers.append({"spans": [span], "null": {"score": 0.5, "logit": 0.3}})
    task = ExtractiveQa(unanswerable=True)
    tuned = task.tune(answers, rows)
    best = tuned.watch(answers, rows)[1]
    others = [task.replace(null_threshold=float(t)).watch(answers, rows)[1] for t in np.linspace(-4, 4, 161)]
    assert best >= max(others) - 1e-9 and best > task.watch(answers, rows)[1]
    assert ExtractiveQa(unanswerable=True, null_threshold=0.5).tune(answers, rows).tuned_threshold == 0.0
    never = [answer | {"spans": []} for answer in answers]
    assert task.tune(never, rows).tuned_threshold == 0.0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    place = tmp_path_factory.mktemp("run")
    rows = [
        row | {"id": str(n)} | ({"answers": [], "answer_start": None} if n % 4 == 3 else {})
        for n, row in enumerate(ExtractiveQa.toy())
    ]
    done = afina.finetune(
        written(place / "toy.json", rows), task="extractive_qa", model=model, output_dir=place / "run",
        max_steps=4, max_length=32, doc_stride=4, quiet=True,
    )  # fmt: skip
    assert done is not None
    return done.path


def test_a_run_has_scores_baselines_and_parts(run: Path) -> None:
    result = afina.Run(run).result
    assert [*result["scores"]["test"]] == [
        "f1", "exact_match", "has_answer_f1", "has_answer_exact_match", "no_answer_accuracy",
    ]  # fmt: skip
    assert {"tfidf_span", "no_answer"} <= result["baselines"].keys()
    assert result["baselines"]["no_answer"]["test"]["no_answer_accuracy"]["value"] == 1
    length = result["details"]["data"]["length"]
    assert length["tokens_in_windows"] >= length["rows_in_windows"] > 0
    assert any("read to their end" in note for note in result["details"]["data"]["notes"])
    assert sum(result["details"]["test"]["outcomes"].values()) == result["scores"]["test"]["f1"]["n"]


def test_the_report_and_the_card_speak_of_questions(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    for words in (
        "How the answers fell out",
        "Sliding TF-IDF",
        "overlapping windows",
        "AutoModelForQuestionAnswering",
    ):
        assert words in page
    assert "text-classification" not in page and "labels" not in page.split("<main>")[0]
    card = (run / "best" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: question-answering" in card and "classifier" not in card
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")


def test_predictions_stand_in_their_contexts(run: Path) -> None:
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        assert row["context"][int(row["start"]) : int(row["end"])] == row["prediction"]
        assert isinstance(json.loads(row["answers"]), list)


def test_predict_takes_a_file_of_questions(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = toy.command(capfd)
    rows = [{"id": i, "pregunta": "¿Dónde está?", "contexto": f"Está en {i}."} for i in range(3)]
    written(tmp_path / "asked.json", rows)
    told = command("predict", run, "asked.json", "--output", "told.csv", "--json").json
    plain = [{"question": row["pregunta"], "context": row["contexto"]} for row in rows]
    again = afina.Run(run).bundle.predict(plain)
    assert [each["prediction"] for each in told] == [each["prediction"] for each in again]
    assert told[0].keys() == {"prediction", "start", "end", "score", "null_score", "n_best"}
    with (tmp_path / "told.csv").open(encoding="utf-8", newline="") as stream:
        assert next(csv.reader(stream)) == [
            "id",
            "pregunta",
            "contexto",
            "prediction",
            "start",
            "end",
            "score",
            "null_score",
        ]
    said = command("predict", run, "¿Dónde está?")
    assert said.code == 2 and "question and context" in said.err
    with pytest.raises(InputError, match="Row 2: there is no text under 'context'"):
        afina.Run(run).bundle.predict([plain[0], {"question": "¿?"}])


def test_evaluate_takes_another_file(run: Path, tmp_path: Path) -> None:
    found = afina.evaluate(run, written(tmp_path / "other.json", squad(ExtractiveQa.toy())))
    assert [*found["scores"]["test"]] == ["f1", "exact_match"]
    assert found["details"]["test"]["rules"] == "SQuAD 1.1"
    assert found["baselines"]["tfidf_span"]["test"]["f1"]["value"] >= 0


@pytest.mark.parametrize(("text", "start"), [("[12]", 4), ("[]", 4.0), ("{}", "4")])
def test_an_answer_in_brackets_that_stands_at_its_place_is_a_text(text: str, start: Any) -> None:
    assert read_answers(text, start, f"see {text} here") == [{"text": text, "answer_start": 4}]


def test_a_place_before_the_beginning_is_no_place() -> None:
    with pytest.raises(InputError, match="answer_start is -5"):
        read_answers("a", -5, "a b a")


BOTH = [{"text": "O'Neill", "answer_start": 0}, {"text": 'a "b" \'c', "answer_start": 11}]
BESIDE = "O'Neill de a \"b\" 'c y array(['x'])."


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("""{'text': ["O'Neill"], 'answer_start': [0]}""", BOTH[:1]),
        ("""{'text': array(["O'Neill"], dtype=object), 'answer_start': array([0])}""", BOTH[:1]),
        ("""{'text': array(["O'Neill", 'a "b" \\'c'],\n      dtype=object), 'answer_start': array([ 0, 11], dtype=int32)}""", BOTH),
        ("""{'text': array(["O'Neill", 'a "b" \\'c'], dtype='<U90'), 'answer_start': array([ 0, 11])}""", BOTH),
        ("{'text': array([], dtype=object), 'answer_start': array([], dtype=int32)}", []),
        ("{'text': [], 'answer_start': []}", []),
        ("""[{'text': "O'Neill", 'answer_start': np.int64(0)}\n {'text': 'a "b" \\'c', 'answer_start': 11}]""", BOTH),
        ("""["O'Neill" 'a "b" \\'c']""", BOTH),
        ("""{'text': ["array(['x'])"], 'answer_start': [22]}""", [{"text": "array(['x'])", "answer_start": 22}]),
    ],
)  # fmt: skip
def test_answers_are_read_as_pandas_and_numpy_write_them(cell: str, expected: list[Row]) -> None:
    assert read_answers(cell, None, BESIDE) == expected


@pytest.mark.parametrize(
    "text", ["{'text': [f(1)]}", "[-" + "[" * 300 + "]", "{x}", "['a']", "{'text': array(['a'])}", "[...]"]
)
def test_a_text_that_looks_like_a_list_stays_the_text_at_its_place(text: str) -> None:
    assert read_answers(text, 4, f"see {text} here") == [{"text": text, "answer_start": 4}]


@pytest.mark.parametrize("text", ["{'text': [f(1)]}", "[-" + "[" * 300 + "]", "{x}", "[" * 9000 + "]"])
def test_a_text_that_no_program_wrote_as_a_list_needs_no_place(text: str) -> None:
    assert read_answers(text, None, f"see {text} here") == [{"text": text, "answer_start": 4}]

"""Texts longer than the model: cut and said, or read to their end in windows, within bounded memory."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import afina
import toy
import toys
from afina.batching.plan import Plan
from afina.core import Task
from afina.data.spans import words as places
from afina.errors import InputError
from afina.models import heads
from afina.models.find import EMBEDDED
from afina.models.load import load, load_tokenizer
from afina.names import ENCODER, find, known
from afina.settings import knobs
from afina.tasks import _text_windows
from afina.tasks._windows import read
from afina.train.bundle import Bundle
from afina.verbs._prepare import lengths

run = pytest.fixture(toy.command)
one_thread = pytest.fixture(scope="module")(toy.one_thread)
pytestmark = pytest.mark.usefixtures("one_thread")
TOKENIZER = load_tokenizer(EMBEDDED / ENCODER.removeprefix("afina/"))
TASKS = [
    name
    for name in known("tasks")
    if "long" in knobs(find("tasks", name)) and find("tasks", name).head not in toys.FOLDERS
]
SENTENCES = ["classification", "multi_label", "regression", "sentence_pair"]
LEARNT: dict[str, dict[str, Any]] = {
    "classification": {"labels": ("a", "b")},
    "multi_label": {"labels": ("a", "b")},
    "sentence_pair": {"labels": ("a", "b"), "target": "label"},
    "token_labels": {"labels": ("O", "B-A", "I-A"), "kind": "entities"},
}
LABELS = {"classification": "a", "multi_label": ["a"], "regression": 2.0, "sentence_pair": "b"}


def words(count: int, seed: int = 0) -> str:
    return " ".join(random.Random(seed).choices(["casa", "perro", "tren", "libro", "día"], k=count))


def task_of(name: str, **knobs: Any) -> Task:
    return find("tasks", name).of(LEARNT.get(name, {}) | {"doc_stride": 4} | knobs)


def row_of(name: str, length: int, second: int = 3) -> dict[str, Any]:
    """Return a row with a text of so many words, which is one token each, and a gold answer where a loss needs it."""
    text = words(length)
    if name == "extractive_qa":
        return {"question": words(second, 1), "context": text, "answers": []}
    if name == "token_labels":
        return {"text": text, "words": places(text), "entities": [[0, 4, "A"]]}
    pair = {"text_pair": words(second, 1)} if name == "sentence_pair" else {}
    return {"text": text, "label": LABELS[name]} | pair


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.model(tmp_path_factory.mktemp("long") / "tiny")


def bundle_of(name: str, folder: Path, length: int = 32, **knobs: Any) -> Bundle:
    task = task_of(name, **knobs)
    torch.manual_seed(0)
    model = load(folder, task.head, task.config(), dropout=0.0).eval()
    return Bundle(model, TOKENIZER, task, None, length)  # type: ignore[arg-type]


def test_who_offers_it() -> None:
    assert {*TASKS} >= {*SENTENCES, "token_labels", "extractive_qa"}
    defaults = {name: task_of(name).long for name in TASKS}  # type: ignore[attr-defined]
    assert {name for name in TASKS if defaults[name] == "windows"} == {"token_labels", "extractive_qa"}


# Windows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [0, 1, 5, 128])
@pytest.mark.parametrize("length", [8, 13, 64])
def test_windows_cover_every_token_and_no_more(length: int, stride: int) -> None:
    rows = [(words(n),) for n in (0, 1, length - 3, length - 2, length - 1, 3 * length, 100)]
    for (text,), found in zip(rows, read(rows, TOKENIZER, length, stride), strict=True):
        whole = TOKENIZER(text, add_special_tokens=False)["input_ids"]
        room = length - 2
        step = room - min(stride, room // 2)
        assert found.cut == 0 and len(found.places) == len(whole)
        assert len(found.windows) == max(1, -(-(len(whole) - room) // step) + 1)
        covered: list[int] = []
        for window in found.windows:
            mine = window.ids[window.texts == 0].tolist()
            assert len(window.ids) <= length and window.begin <= len(covered)
            assert (window.ids[0], window.ids[-1]) == (TOKENIZER.cls_token_id, TOKENIZER.sep_token_id)
            assert covered[window.begin :] == mine[: len(covered) - window.begin]
            covered[window.begin :] = mine
        assert covered == whole


@pytest.mark.parametrize(("first", "second"), [(3, 60), (60, 3), (40, 60), (60, 40), (15, 14), (30, 30)])
def test_of_a_pair_the_longer_text_slides(first: int, second: int) -> None:
    """The other stays whole, or loses what goes beyond half of the window."""
    pair = (words(first, 1), words(second, 2))
    (found,) = read([pair], TOKENIZER, 32, 4)
    if first + second + 3 <= 32:
        assert len(found.windows) == 1 and found.cut == 0
        return
    slides = int(second > first)
    kept = min((first, second)[1 - slides], (32 - 3) // 2)
    assert found.cut == (first, second)[1 - slides] - kept
    beside = TOKENIZER(pair[1 - slides], add_special_tokens=False)["input_ids"][:kept]
    for window in found.windows:
        assert len(window.ids) <= 32
        assert window.ids[window.texts == 1 - slides].tolist() == beside
        assert set(window.types[window.texts == 1]) == {1}
    last = found.windows[-1]
    assert last.begin + int((last.texts == slides).sum()) == max(first, second)


def test_windows_are_those_of_the_tokenizer() -> None:
    """What is cut here by index is what the tokenizer's own overflow gives."""
    question, context = words(5, 1), words(200, 2)
    told = TOKENIZER(
        question, context, truncation="only_second", max_length=32, stride=6, return_overflowing_tokens=True
    )
    (found,) = read([(question, context)], TOKENIZER, 32, 6, 1)
    assert [window.ids.tolist() for window in found.windows] == told["input_ids"]
    assert [window.types.tolist() for window in found.windows] == told["token_type_ids"]


@pytest.mark.parametrize("name", TASKS)
def test_a_row_that_fits_is_read_alike(name: str, folder: Path) -> None:
    rows = [row_of(name, n) for n in (2, 9, 20)]
    told = [bundle_of(name, folder, long=long).answers(rows) for long in ("truncate", "windows")]
    assert told[0] == told[1]
    other = [
        bundle_of(name, folder, long=long).answers([row_of(name, 90)]) for long in ("truncate", "windows")
    ]
    assert other[0] != other[1]


@pytest.mark.parametrize("name", TASKS)
def test_what_is_not_seen_is_counted(name: str) -> None:
    pair = 3 + 1 if name in ("sentence_pair", "extractive_qa") else 0  # a second text, and one more [SEP]
    rows = [row_of(name, 90)]
    for long, unseen in (("truncate", 90 + 2 + pair - 32), ("windows", 0)):
        task = task_of(name, long=long)
        (whole,), (encoded,) = (task.encode(rows, TOKENIZER, most) for most in (10**6, 32))
        assert task.length(whole) == 92 + pair
        assert task.unseen(encoded, task.length(whole)) == unseen
        tokens = task.collate([(encoded, None)], TOKENIZER).tensors["input_ids"].numel()
        assert task.length(encoded) == tokens, "what the budget counts is what goes through the model"


@pytest.mark.parametrize("name", SENTENCES)
def test_the_logits_of_a_row_are_the_mean_of_its_windows(name: str, folder: Path) -> None:
    bundle = bundle_of(name, folder, long="windows")
    task: Any = bundle.task
    rows = task.encode([row_of(name, n) for n in (90, 2, 50)], TOKENIZER, 32)
    means = []
    with torch.no_grad():
        for row in rows:
            alone = [
                bundle.model(**{key: torch.tensor([ids]) for key, ids in window.items()}).logits
                for window in row["windows"]
            ]
            means.append(torch.stack(alone).mean(0))
        batch = task.collate([(row, None) for row in rows], TOKENIZER)
        assert torch.tensor(task.answer(bundle.model, batch)) == pytest.approx(
            torch.tensor(task.form.answer(torch.cat(means))), abs=1e-6
        )
        loss = float(task.loss(bundle.model, batch)["loss"].sum)
    assert loss == pytest.approx(float(task.form.loss(torch.cat(means), batch.tensors["labels"])), rel=1e-5)
    assert [len(row["windows"]) > 1 for row in rows] == [True, False, True]


@pytest.mark.parametrize("name", ["token_labels", "extractive_qa"])
def test_training_draws_windows_that_add_up(name: str, folder: Path) -> None:
    bundle = bundle_of(name, folder)
    (row,) = bundle.task.encode([row_of(name, 200)], TOKENIZER, 32)
    pieces = bundle.task.pieces(row)
    assert len(pieces) > 5 and max(map(bundle.task.length, pieces)) <= 32
    batches = [bundle.task.collate([(each, None)], TOKENIZER) for each in (row, *pieces)]
    with torch.no_grad():
        whole, *parts = (float(bundle.task.loss(bundle.model, batch)["loss"].sum) for batch in batches)
    assert whole == pytest.approx(sum(parts), rel=1e-5)
    assert batches[0].counts["loss"] == sum(batch.counts["loss"] for batch in batches[1:]) > 0


@pytest.mark.parametrize("name", TASKS)
def test_a_long_row_goes_through_the_model_in_parts(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer and, for whole texts, the gradient are those of one piece."""
    bundle = bundle_of(name, folder, long="windows")
    (row,) = bundle.task.encode([row_of(name, 300)], TOKENIZER, 32)
    batch = bundle.task.collate([(row, None)], TOKENIZER)
    shapes: list[int] = []
    bundle.model.register_forward_pre_hook(
        lambda _model, _args, given: shapes.append(given["input_ids"].numel()), with_kwargs=True
    )

    def told() -> tuple[Any, list[torch.Tensor]]:
        with torch.no_grad():
            answer = bundle.task.answer(bundle.model, batch)
        bundle.model.zero_grad()
        bundle.task.loss(bundle.model, batch)["loss"].sum.backward()
        return answer, [w.grad.clone() for w in bundle.model.parameters() if w.grad is not None]

    whole, gradient = told()
    assert max(shapes) == bundle.task.length(row) > 300
    monkeypatch.setattr(heads, "AT_ONCE", 100)
    shapes.clear()
    parts, again = told()
    assert max(shapes) <= 100
    assert toys.alike(whole, parts, 1e-5)
    for one, other in zip(gradient, again, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_budget_of_tokens_holds() -> None:
    task = task_of("classification", long="windows")
    rows = task.encode([row_of("classification", n) for n in (200, 150, 60, 20, 20, 5, 5, 3)], TOKENIZER, 32)
    plan = Plan([task.length(row) for row in rows], 8, 256)
    for micro in plan.micro_batches(0):
        tokens = task.collate([(rows[row], None) for _epoch, row in micro], TOKENIZER).tensors["input_ids"]
        assert tokens.numel() <= 256 or len(micro) == 1


# Cut --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["entities", "words"])
def test_words_that_are_cut_off_get_no_tag_and_are_errors(kind: str, folder: Path) -> None:
    names = ("O", "B-A", "I-A") if kind == "entities" else ("N", "V")
    task: Any = task_of("token_labels", long="truncate", kind=kind, labels=names)
    row = row_of("token_labels", 100)
    if kind == "entities":
        row["entities"] = [[*place, "A"] for place in row["words"]]
    else:
        row["tags"] = ["N"] * 100
        del row["entities"]
    torch.manual_seed(0)
    model = load(folder, task.head, task.config()).eval()
    (answer,) = Bundle(model, TOKENIZER, task, None, 32).answers([row])  # type: ignore[arg-type]
    assert answer["tags"][30:] == [-2] * 70 and -2 not in answer["tags"][:30]
    gold = {"tags": [0] * 30 + [-2] * 70, "probabilities": [1.0] * 30 + [0.0] * 70}
    if kind == "entities":
        gold["tags"] = [1] * 30 + [-2] * 70
    told = task.predict(gold, row)
    assert len(told["prediction"]) == 30 and told["probability"] == 1.0
    scores = task.score([gold] * 2, [row] * 2)
    assert scores.details["unread"] == 140 and scores.details["unseen"] == []
    name = "entity_recall" if kind == "entities" else "accuracy"
    assert scores.values[name].value == pytest.approx(0.3)
    if kind == "entities":
        assert scores.values["entity_precision"].value == 1.0


def test_an_answer_that_is_cut_off_is_not_learnt() -> None:
    context = words(90)
    golds = {}
    for place in (5, 26, 80):
        start = len(" ".join(context.split()[:place])) + 1
        answer = " ".join(context.split()[place : place + 4])
        row = {
            "question": words(3, 1),
            "context": context,
            "answers": [{"text": answer, "answer_start": start}],
        }
        for long in ("truncate", "windows"):
            (encoded,) = task_of("extractive_qa", long=long).encode([row], TOKENIZER, 32)
            golds[place, long] = [window.gold for window in encoded["windows"]]
    # [CLS], three words and [SEP] stand before the 26 of the context that are read.
    assert golds[5, "truncate"] == [(10, 13)]
    assert golds[26, "truncate"] == golds[80, "truncate"] == [(-100, -100)]
    assert golds[80, "windows"][0] == (0, 0) and any(gold[0] > 0 for gold in golds[80, "windows"])


def test_a_tokenizer_without_places_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(InputError, match="cannot say where in a text"):
        task_of("classification", long="windows").encode([row_of("classification", 3)], Slow(), 32)  # type: ignore[arg-type]


# The commands -----------------------------------------------------------------------------------------------


def written(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.slow
def test_every_verb_says_what_is_cut(folder: Path, tmp_path: Path, run: Callable[..., toy.Said]) -> None:
    rows = [{"text": f"{words(5, i)} {i}", "label": "ab"[i % 2]} for i in range(40)]
    rows += [{"text": f"{words(50, i)} x{i}", "label": "ab"[i % 2]} for i in range(20)]
    file = written(tmp_path / "rows.jsonl", rows)
    base = ("finetune", file, "--model", folder, "--max-length", 16, "--max-steps", 2)
    said = run(*base, "--output-dir", tmp_path / "cut")
    assert said.code == 0, said.err
    assert said.err.count("Of 60 rows, longer than 16 tokens: 20.") == 1 and "are not seen" in said.err
    said = run(*base, "--output-dir", tmp_path / "win", "--long", "windows", "--doc-stride", 4)
    assert "Of 60 rows, longer than 16 tokens and read to their end in overlapping windows: 20." in said.err
    some = written(tmp_path / "some.jsonl", rows[38:42])
    for words_, name in (("are not seen", "cut"), ("read to their end", "win")):
        for verb in (("evaluate", tmp_path / name, some), ("predict", tmp_path / name, some)):
            said = run(*verb)
            assert said.code == 0, said.err
            assert said.err.count("Of 4 rows, longer than 16 tokens") == 1 and words_ in said.err
        assert "longer than" not in run("predict", tmp_path / name, "hola").err
    task: Any = afina.Run(tmp_path / "win").bundle.task
    assert (task.long, task.doc_stride) == ("windows", 4)
    card = (tmp_path / "win" / "best" / "README.md").read_text(encoding="utf-8")
    assert "longer texts in overlapping windows" in card
    said = run(*base, "--output-dir", tmp_path / "bad", "--long", "window")
    assert said.code == 2 and "long" in said.err and "windows" in said.err


@pytest.mark.slow
def test_words_without_a_tag_are_said(folder: Path, tmp_path: Path, run: Callable[..., toy.Said]) -> None:
    rows = [{"tokens": words(4, i).split(), "tags": ["B-A", "O", "O", "O"]} for i in range(30)]
    rows += [{"tokens": words(30, i).split(), "tags": ["B-A"] * 30} for i in range(10)]
    file = written(tmp_path / "rows.jsonl", rows)
    said = run(
        "finetune", file, "--task", "token_labels", "--model", folder, "--max-length", 16, "--max-steps", 2,
        "--long", "truncate", "--output-dir", tmp_path / "run",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "Words beyond what the model reads, which got no label and count as errors" in said.err
    said = run("evaluate", tmp_path / "run", written(tmp_path / "test.jsonl", rows[-1:]))
    assert "count as errors: 16." in said.err


BOOK = """
import json, resource, sys
import torch
from afina.models.find import EMBEDDED
from afina.names import ENCODER
from afina.models.load import load, load_tokenizer
from afina.names import find
from afina.train.bundle import Bundle
from afina.verbs._prepare import lengths
import test_long

name, learns = sys.argv[1], sys.argv[2] == "learns"
torch.set_num_threads(1)
folder = EMBEDDED / ENCODER.removeprefix("afina/")
task = test_long.task_of(name, long="windows", doc_stride=128)
model = load(folder, task.head, task.config())
bundle = Bundle(model.eval(), load_tokenizer(folder), task, None, 512)
row = test_long.row_of(name, 8_000 if learns else 20_000)
if learns:
    model.train()
    encoded = task.encode([row], bundle.tokenizer, 512)
    for piece in [piece for each in encoded for piece in task.pieces(each)][-3:]:
        task.loss(model, task.collate([(piece, None)], bundle.tokenizer))["loss"].sum.backward()
    told = {}
else:
    (answer,) = bundle.answers([row])
    told = task.predict(answer, row)
    (encoded,) = task.encode([row], bundle.tokenizer, 512)
    told = {"words": len(answer["tags"]) if name == "token_labels" else 0, "windows": len(encoded["windows"])}
print(json.dumps(told | {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "does"),
    [("token_labels", "answers"), ("extractive_qa", "answers"), ("classification", "answers"),
     ("token_labels", "learns"), ("classification", "learns")],
)  # fmt: skip
def test_a_book_takes_less_than_two_gigabytes(name: str, does: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOOK, name, does],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["mb"] < 2048
    if does == "answers":
        assert told["windows"] > 50
        assert told["words"] == (20_000 if name == "token_labels" else 0)


# How long rows are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("long", ["truncate", "windows"])
@pytest.mark.parametrize("name", TASKS)
def test_only_rows_that_fill_the_model_are_cut_into_tokens_again(
    name: str, long: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told of the lengths is what a second reading of all rows says."""
    task = task_of(name, long=long)
    rows = [row_of(name, n, second) for n in (1, 5, 24, 27, 28, 29, 30, 31, 33, 80) for second in (3, 20)]
    encoded = task.encode(rows, TOKENIZER, 32)
    whole = [task.length(row) for row in task.encode(rows, TOKENIZER, 10**6)]
    cut = [task.unseen(row, tokens) for row, tokens in zip(encoded, whole, strict=True)]
    again: list[int] = []
    own = type(task).encode

    def counted(self: Any, given: Any, *more: Any) -> Any:
        again.append(len(given))
        return own(self, given, *more)

    monkeypatch.setattr(type(task), "encode", counted)
    told = lengths(task, rows, encoded, TOKENIZER, 32)
    assert told["max"] == max(whole) and told["mean"] == pytest.approx(sum(whole) / len(whole))
    assert told["rows_cut"] == sum(n > 0 for n in cut) and told["tokens_cut"] == sum(cut)
    assert task.writes or again[0] < len(rows)


def test_rows_are_cut_into_tokens_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer holds on to what it cuts off: of all rows at once that is many times their text."""
    rows = [row_of("sentence_pair", n) for n in range(40, 50)]
    task = task_of("sentence_pair")
    expected = task.encode(rows, TOKENIZER, 32)
    calls: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(TOKENIZER, name)

        def __call__(self, *texts: Any, **asked: Any) -> Any:
            calls.append(len(texts[0]))
            return TOKENIZER(*texts, **asked)

    monkeypatch.setattr(_text_windows, "AT_ONCE", 4)
    assert task.encode(rows, Counting(), 32) == expected  # type: ignore[arg-type]
    assert calls == [4, 4, 2]

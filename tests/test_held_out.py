"""Which documents of a text are held out: few of its tokens, and none that is learnt from too."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import toy
from afina.data.corpus import Corpus
from afina.errors import InputError
from afina.tasks.masked_lm import MaskedLm
from afina.verbs import _corpus, _domain

Command = Callable[..., toy.Said]
LETTER = "Querida amiga: hoy te escribo desde casa. Un abrazo."


def corpus(folder: Path, documents: Sequence[Sequence[int]]) -> Corpus:
    """Write a corpus of these tokens, each document one sentence."""
    folder.mkdir()
    np.concatenate(documents).astype(np.uint16).tofile(folder / "tokens.bin")
    np.cumsum([0, *map(len, documents)]).astype(np.int64).tofile(folder / "sentences.bin")
    np.arange(len(documents) + 1).astype(np.int64).tofile(folder / "documents.bin")
    return Corpus(folder, {"dtype": "uint16", "tokens": sum(map(len, documents))})


def drawn(lengths: Sequence[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 9000, length) for length in lengths]


@pytest.mark.parametrize(
    ("lengths", "documents"),
    [
        ([100_000, *[20] * 6], 3),  # a novel and six letters
        ([20] * 12, 1),
        ([20] * 200, 10),
        ([20] * 3000, 30),
        ([round(200_000 / rank) for rank in range(1, 2000)], 20),
        ([5000] * 9 + [4000] * 3, 1),
    ],
)
def test_little_of_the_text_is_held_out(lengths: list[int], documents: int, tmp_path: Path) -> None:
    text = corpus(tmp_path / "text", drawn(lengths))
    learnt, held = _corpus.divided(text)
    assert held.sum() == documents
    assert np.array_equal(learnt, ~held)
    tokens = np.array(lengths)
    assert tokens[held].sum() <= tokens.sum() / 10
    assert np.array_equal(held, _corpus.divided(text)[1])


@pytest.mark.parametrize("lengths", [[20] * 4, [20] * 9, [100, 100, 100, 90]])
def test_of_few_documents_of_one_length_one_is_held_out(lengths: list[int], tmp_path: Path) -> None:
    learnt, held = _corpus.divided(corpus(tmp_path / "text", drawn(lengths)))
    assert held.sum() == 1 and np.array_equal(learnt, ~held)
    assert np.array(lengths)[held] == min(lengths)


def test_a_text_of_too_few_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"documents in the text .*: 3.*--validation"):
        _corpus.divided(corpus(tmp_path / "text", drawn([20, 20, 9])))


def test_what_is_held_out_is_not_learnt_in_another_place(tmp_path: Path) -> None:
    different = [tuple(document) for document in drawn([15] * 300)]
    documents = different * 3
    learnt, held = _corpus.divided(corpus(tmp_path / "text", documents))
    assert held.sum() == 10
    apart = {documents[place] for place in np.flatnonzero(held)}
    assert len(apart) == 10
    assert apart.isdisjoint(documents[place] for place in np.flatnonzero(learnt))
    assert learnt.sum() == 900 - 30
    # One that is most of the text is no rival of itself.
    learnt, held = _corpus.divided(corpus(tmp_path / "other", [different[0]] * 100 + different[1:30]))
    assert learnt[:100].all() and not held[:100].any() and held.any()


@pytest.fixture
def afina_(
    tmp_path: Path, one_thread: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """The command, in a folder with a text and a model."""
    monkeypatch.chdir(tmp_path)
    lines = [f"El perro número {i} duerme en la casa. Mañana viene el gato {i}." for i in range(40)]
    (tmp_path / "text.txt").write_text("\n\n".join(lines), encoding="utf-8")
    (tmp_path / "part.txt").write_text("\n\n".join([*lines[7:12], LETTER]), encoding="utf-8")
    toy.model(tmp_path / "tiny")
    monkeypatch.setattr("afina.verbs._forgetting.MOST", 20)
    return toy.command(capfd)


one_thread = pytest.fixture(scope="module")(toy.one_thread)
SMALL = ("--max-tokens", "1000", "--tokens-per-step", "500", "--short-length", "32")


def test_it_is_said_what_is_held_out(afina_: Command) -> None:
    words = ("pretrain", "text.txt", "--tokenizer", "tiny", "--shape", "tiny", *SMALL)
    said = afina_(*words, "--output-dir", "run")
    assert "Documents to learn from: 36 (720 tokens); held out: 4 (80 tokens)." in said.err
    assert "So little held-out text" in said.err and "word for word" not in said.err
    said = afina_(*words, "--validation", "part.txt", "--output-dir", "other")
    assert "Documents to learn from: 35 (" in said.err and "held out: 6 (" in said.err
    assert "word for word like a held-out one, left out of what is learnt: 5." in said.err


def test_a_language_that_comes_late_is_seen(
    afina_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_domain, "TOKENIZED", 2000)
    spanish = (tmp_path / "text.txt").read_text("utf-8")
    (tmp_path / "late.txt").write_text(spanish + "\n\n" + "他们在北京学习中文。\n\n" * 60, encoding="utf-8")
    said = afina_("adapt", "late.txt", "--model", "tiny", *SMALL, "--output-dir", "run")
    assert said.code == 2 and "does not know" in said.err and "late.txt" in said.err


def test_rows_of_a_task_have_columns(afina_: Command, tmp_path: Path) -> None:
    rows = [
        {
            "id": i,
            "type": "perros",
            "case": f"El perro {i} duerme en la casa.",
            "question": f"¿Muerde mucho el animal {i}?",
        }
        for i in range(9)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "rows.txt").write_text("\n\n".join(row["case"] for row in rows), encoding="utf-8")
    words = ("adapt", "text.txt", "--model", "tiny", "--dry-run", "--json", "--task-data")
    guessed = afina_(*words, "rows.jsonl")
    assert guessed.code == 0 and "Of rows.jsonl the column 'question' is read" in guessed.err
    named = afina_(*words, "rows.jsonl", "--text", "case")
    assert named.code == 0 and "the column" not in named.err
    assert named.json["domain"] == afina_(*words, "rows.txt").json["domain"] != guessed.json["domain"]
    wrong = afina_(*words, "rows.jsonl", "--text", "cas")
    assert wrong.code == 2 and "Did you mean 'case'" in wrong.err
    # Where the text has columns of its own, the rows need not have that one.
    (tmp_path / "text.jsonl").write_text('{"body": "El perro."}\n', encoding="utf-8")
    words = ("adapt", "text.jsonl", *words[2:], "rows.jsonl", "--text", "body")
    assert "Of rows.jsonl the column 'question' is read" in afina_(*words).err


def test_pairs_out_of_few_sentences_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task: Any = MaskedLm()
    text = corpus(tmp_path / "text", drawn([20] * 1000))
    np.array([0, 990, 995, 1000], dtype=np.int64).tofile(tmp_path / "text" / "documents.bin")
    text = Corpus(tmp_path / "text", text.facts)
    _corpus.check_pairs((text, None), (text, None), task, quiet=False)
    assert "All but 10 of 1,000 sentences are in one document" in capfd.readouterr().err
    even = corpus(tmp_path / "even", drawn([20] * 40))
    _corpus.check_pairs((even, None), (even, None), task, quiet=False)
    _corpus.check_pairs((text, None), (text, None), SimpleNamespace(nsp=False), quiet=False)
    assert not capfd.readouterr().err

"""`afina pretrain` as a command: what it leaves behind, what it goes on with, what it refuses."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import families
import toy
from afina.models.find import EMBEDDED, shape
from afina.names import DECODER
from afina.sample import spread
from afina.train.run import Run
from afina.verbs import _objectives, _pretraining
from afina.verbs._corpus import corpora
from afina.verbs._initial_model import start, within
from afina.verbs._tokenizer import sample_of, texts_of

Command = Callable[..., toy.Said]
SMALL = (
    "--shape",
    "tiny",
    "--initialisation",
    "random",
    "--max-tokens",
    "2000",
    "--tokens-per-step",
    "500",
    "--short-length",
    "32",
)

one_thread = pytest.fixture(scope="module")(toy.one_thread)


def corpus(file: Path, documents: int = 40) -> Path:
    lines = [f"El perro número {i} duerme en la casa. Mañana viene el gato {i}." for i in range(documents)]
    file.write_text("\n\n".join(lines), encoding="utf-8")
    return file


@pytest.fixture
def afina_(
    tmp_path: Path, one_thread: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """The command, in a folder with a text and a tokenizer."""
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path / "text.txt")
    toy.model(tmp_path / "tiny")
    return toy.command(capfd)


def test_dry_run_writes_nothing(afina_: Command, tmp_path: Path) -> None:
    before = toy.content(tmp_path)
    said = afina_("pretrain", "text.txt", *SMALL, "--dry-run", "--json")
    assert said.code == 0
    assert said.json["run"] == "runs/text"
    assert said.json["tokens_seen"] is None and set(said.json["losses"]["validation"]) == {"mlm", "nsp"}
    assert "2,000 tokens, 500 a step" in said.err
    assert toy.content(tmp_path) == before


@pytest.mark.parametrize(
    "words",
    [
        "few.txt --tokenizer tiny",  # too few documents
        "text.txt --vocab-size 200",  # fewer than the characters take
        "latin.txt",
        "text.txt --tokenizer tiny --tokens-per-step 100000000",
    ],
)
def test_what_cannot_be_learnt_leaves_no_folder(words: str, afina_: Command, tmp_path: Path) -> None:
    corpus(tmp_path / "few.txt", 3)
    (tmp_path / "latin.txt").write_bytes("El niño comió.\n\n".encode("latin-1") * 9)
    before = toy.content(tmp_path)
    said = afina_("pretrain", *words.split(), "--output-dir", "run")
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert toy.content(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("text.txt --tokenizer gpt", "lacks (cls_token, sep_token, mask_token)"),
        ("text.txt --objective clm --tokenizer tiny", "lacks (eos_token)"),
        ("armenian.txt --tokenizer tiny", "does not know"),
        ("armenian.txt --model tiny --dry-run", "does not know"),
        ("one.txt --tokenizer tiny --validation text.txt", "The text is one document"),
        (
            "part.txt --tokenizer tiny --validation text.txt",
            "Every document of the text is in the held-out text",
        ),
        ("text.txt --validation copy.txt", "is the training text text.txt itself"),
        ("text.txt one.txt ./text.txt", "The text text.txt is named twice"),
        ("text.txt --model roberta --nsp", "a kind without a head for next sentences"),
        ("text.txt --objective clm --dropout 0.1", "--dropout changes nothing"),
    ],
)
def test_what_does_not_fit_is_refused(words: str, message: str, afina_: Command, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("El burro come heno. Mañana viene la vaca.", encoding="utf-8")
    corpus(tmp_path / "part.txt", 3)
    corpus(tmp_path / "copy.txt")
    (tmp_path / "armenian.txt").write_text("\n\n".join(["Բարեւ, ինչպե՞ս ես այսօր։"] * 40), encoding="utf-8")
    (tmp_path / "gpt").symlink_to(EMBEDDED / DECODER.removeprefix("afina/"))
    if "roberta" in words:
        families.build("RoBERTa", tmp_path / "roberta")
    before = toy.content(tmp_path)
    said = afina_("pretrain", *words.split(), *SMALL[4:], "--output-dir", "run", "--quiet")
    assert said.code == 2
    assert message in said.err
    assert said.err.count("\n") == 1
    assert toy.content(tmp_path) == before


def test_a_model_without_a_head_for_pairs_learns_none(afina_: Command, tmp_path: Path) -> None:
    families.build("RoBERTa", tmp_path / "roberta")
    said = afina_(
        "pretrain", "text.txt", "--model", "roberta", *SMALL[4:], "--max-length", "32", "--output-dir", "run"
    )
    assert said.code == 0, said.err
    assert "roberta has no head for next sentences" in said.err
    settings = tmp_path / "run" / "run.toml"
    assert Run(tmp_path / "run").settings["nsp"] is False
    # Runs that were made before this was seen say otherwise.
    settings.write_text(settings.read_text("utf-8").replace("nsp = false", "nsp = true"), encoding="utf-8")
    said = afina_("predict", "run", "El gato duerme.\tMañana viene.")
    assert said.code == 2 and "has not learnt which sentence follows" in said.err


def test_what_a_run_cannot_do_is_said(afina_: Command, tmp_path: Path) -> None:
    corpus(tmp_path / "one.txt", 1)
    words = ("--tokenizer", "tiny", *SMALL, "--validation", "one.txt", "--warmup-steps", "900", "--json")
    said = afina_("pretrain", "text.txt", *words)
    assert said.code == 0, said.err
    assert said.json["losses"]["validation"]["nsp"] is None and said.json["losses"]["validation"]["mlm"]
    assert "The held-out text is one document" in said.err
    assert "steps, --warmup-steps is 900" in said.err


def test_short_rows_are_no_longer_than_long_ones() -> None:
    from afina.verbs.pretrain import Pretrain

    assert within(Pretrain(max_length=64), None, None).short_length == 64
    assert within(Pretrain(), None, SimpleNamespace()).short_length == 128


def test_a_tokenizer_that_an_earlier_attempt_left_is_not_taken(afina_: Command, tmp_path: Path) -> None:
    from afina.models.load import read_tokenizer

    toy.model(tmp_path / "runs" / "text" / "tokenizer")
    before = len(read_tokenizer(tmp_path / "runs" / "text" / "tokenizer"))
    assert afina_("pretrain", "text.txt", *SMALL, "--vocab-size", "1100", "--quiet").code == 0
    assert len(read_tokenizer(tmp_path / "runs" / "text" / "best")) < before


def test_a_finished_run(afina_: Command, tmp_path: Path) -> None:
    words = ("pretrain", "text.txt", "--tokenizer", "tiny", *SMALL, "--quiet", "--output-dir", "run")
    first = afina_(*words, "--json")
    assert first.code == 0
    settings = (tmp_path / "run" / "run.toml").read_text(encoding="utf-8")
    assert not any(name in settings for name in ("output_dir", "resume", "overwrite", "dry_run"))
    before = toy.weights(tmp_path / "run")
    assert (
        shape(tmp_path / "run" / "best")["hidden_dropout_prob"] == 0.1
    )  # pre-trained without, fine-tuned with it

    # What the run began with need not be said again, and may not be said otherwise.
    again = afina_("pretrain", "--resume", "--output-dir", "run", "--quiet", "--json")
    assert again.code == 0
    assert again.json["losses"] == first.json["losses"]
    assert toy.weights(tmp_path / "run") == before
    for change in (("--seed", "4"), ("--max-tokens", "3000"), ("--no-nsp",)):
        said = afina_(*words, "--resume", *change)
        assert said.code == 2
        assert f"began with {change[0].replace('--no-', '--')}" in said.err
    said = afina_("pretrain", corpus(tmp_path / "other.txt"), "--resume", "--output-dir", "run")
    assert (said.code, "text.txt" in said.err) == (2, True)

    # A text that cannot be read does not cost the run that it was to replace.
    (tmp_path / "latin.txt").write_bytes("El niño comió.\n\n".encode("latin-1") * 9)
    assert afina_("pretrain", "latin.txt", "--output-dir", "run", "--overwrite").code == 2
    assert toy.weights(tmp_path / "run") == before

    toy.table(tmp_path / "toy.csv")
    said = afina_("evaluate", "run", "toy.csv")
    assert (said.code, "afina finetune DATA --model run" in said.err) == (2, True)
    said = afina_("finetune", "run/run.toml")
    assert (said.code, "afina pretrain" in said.err) == (2, True)
    said = afina_("finetune", "toy.csv", "--model", "run", "--max-steps", "1", "--quiet", "--json")
    assert said.code == 0
    assert json.loads((tmp_path / "runs/toy/scores.json").read_text(encoding="utf-8"))["model"] == "run"


@pytest.mark.parametrize("family", ["BERT", "RoBERTa"])
def test_rows_are_no_longer_than_the_model_reads(family: str, afina_: Command, tmp_path: Path) -> None:
    """RoBERTa has two positions more than it can take tokens."""
    families.build(family, tmp_path / "short")
    go_on = ("--model", "short", *SMALL[4:], "--no-nsp", "--short-share", "0.5", "--output-dir", "run")
    most = families.LENGTH
    refused = afina_("pretrain", "text.txt", *go_on, "--max-length", str(most + 1))
    assert refused.code != 0 and f"more than the {most} tokens" in refused.err
    said = afina_("pretrain", "text.txt", *go_on, "--json", "--quiet")
    assert said.code == 0 and said.json["tokens_seen"] > 1000


def test_a_run_without_a_checkpoint_goes_on_from_the_start_that_it_had(
    afina_: Command, tmp_path: Path
) -> None:
    """What was killed before its first checkpoint begins as it did: from counted vectors, and not from noise."""
    words = ("pretrain", "text.txt", "--tokenizer", "tiny", *SMALL, "--initialisation", "informed")
    assert afina_(*words, "--quiet", "--output-dir", "run").code == 0
    run, before = tmp_path / "run", toy.weights(tmp_path / "run")
    for part in ("best", "last", "corpus"):
        shutil.rmtree(run / part)
    for part in ("scores.json", "steps.jsonl"):
        (run / part).unlink()
    assert afina_("pretrain", "--resume", "--output-dir", "run", "--quiet").code == 0
    assert toy.weights(run) == before


@pytest.mark.parametrize("most", [16_000_000, 200])
@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_held_out_words_are_not_counted(
    objective: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The word vectors of words that stand in held-out documents alone are drawn, as without counts.

    Of a longer text than is counted, pieces are read from all over.
    """
    monkeypatch.setattr(_objectives, "COUNTED", most)
    monkeypatch.setattr(_objectives, "PIECE", 20)
    texts = [
        f"El perro duerme en la casa azul. El gato come pan. {'once' if i < 20 else 'doce'} {i}."
        for i in range(40)
    ]
    texts[spread(40, 10)[0]] = "zapatero quimera."
    (tmp_path / "text.txt").write_text("\n\n".join(texts), encoding="utf-8")
    chosen: Any = SimpleNamespace(
        objective=objective, shape="tiny", max_length=None, dropout=None, validation=None, resume=False,
        model=None, tokenizer=None, initialisation="informed",
    )  # fmt: skip
    tokenizer = _objectives.OBJECTIVES[objective].tokenizer(iter(texts), 1000)
    train, held = corpora([tmp_path / "text.txt"], chosen, tokenizer, tmp_path)
    assert held[1][spread(40, 10)[0]]
    found = {}
    for chosen.initialisation in ("informed", "random"):
        torch.manual_seed(0)
        model = start(chosen, None, None, tokenizer, train, tmp_path)
        found[chosen.initialisation] = model.get_input_embeddings().weight
    learnt = np.concatenate([np.concatenate(train[0].document(i)) for i in np.flatnonzero(train[1])])
    read = _objectives.counted(train)
    if most == 200:
        assert len(read) == 200
        pieces = np.lib.stride_tricks.sliding_window_view(learnt, 20)
        assert all((pieces == piece).all(1).any() for piece in read.reshape(10, 20))
        both = tokenizer(" once doce", add_special_tokens=False)["input_ids"]
        assert np.isin(both, read).all()
    else:
        assert np.array_equal(read, learnt)
    changed = torch.ne(found["informed"], found["random"]).any(1)
    assert set(changed.nonzero().flatten().tolist()) == set(read.tolist())


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_what_is_saved_is_what_is_scored(
    objective: str, afina_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of the best scoring, where those of the last step are worse."""
    words = (
        "pretrain",
        "text.txt",
        "--objective",
        objective,
        "--vocab-size",
        "1000",
        *SMALL,
        "--quiet",
        "--json",
    )
    told = afina_(*words, "--output-dir", "straight").json
    learn = _pretraining.learn

    def spoilt(accelerator: Any, model: Any, *given: Any, **how: Any) -> Any:
        progress = learn(accelerator, model, *given, **how)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(1.0)
        return progress

    monkeypatch.setattr(_pretraining, "learn", spoilt)
    assert afina_(*words, "--output-dir", "spoilt").json["scores"] == told["scores"]


def test_the_seconds_are_those_of_all_sittings(
    afina_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "pretrain",
        "text.txt",
        "--tokenizer",
        "tiny",
        *SMALL,
        "--quiet",
        "--json",
        "--output-dir",
        "run",
    )
    assert afina_(*words).code == 0
    file = tmp_path / "run" / "last" / "progress.json"
    saved = json.loads(file.read_text("utf-8"))
    assert saved["total"] > saved["seconds"]
    file.write_text(json.dumps(saved | {"seconds": 1000.0, "total": 1500.0}), encoding="utf-8")
    seconds = afina_(*words, "--resume").json["seconds"]
    assert seconds["train"] == 1000 and 1500 < seconds["total"] < 1600
    del saved["total"]  # as an earlier version wrote it
    file.write_text(json.dumps(saved | {"seconds": 1000.0}), encoding="utf-8")
    seconds = afina_(*words, "--resume").json["seconds"]
    assert seconds["train"] == 1000 and 1000 < seconds["total"] < 1100


def test_a_tokenizer_learns_from_an_even_part_of_much_text(tmp_path: Path) -> None:
    """Paragraphs drawn over files and documents of any length and in any order, and all of what is short enough."""
    files = [tmp_path / "one.txt", tmp_path / "two.txt"]
    paragraphs = [f"{'en' if place % 2 else 'es'} {place:04}" for place in range(2000)]
    files[0].write_text(
        "\n".join(paragraphs[:900]) + "\n\n" + "\n\n".join(paragraphs[900:960]), encoding="utf-8"
    )
    files[1].write_text("\n\n".join(paragraphs[960:]), encoding="utf-8")
    size = sum(map(len, texts_of(files)))
    drawn = "\n".join(sample_of(files, most=size // 4)).split("\n")
    assert drawn == sorted(drawn, key=paragraphs.index) and len(set(drawn)) == len(drawn)
    assert 400 < len(drawn) < 600
    assert (
        180 < sum(paragraph.startswith("es") for paragraph in drawn) < 320
    )  # no language falls between the draws
    assert list(sample_of(files, most=size)) == list(texts_of(files))


def test_encoding_that_a_full_disk_stops_is_gone_on_with(
    afina_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from afina.data import encode

    keep = encode._keep

    def full(folder: Path, done: dict[str, Any]) -> None:
        keep(folder, done)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    words = ("pretrain", "text.txt", "--tokenizer", "tiny", *SMALL, "--quiet", "--output-dir", "run")
    with monkeypatch.context() as patch:
        patch.setattr(encode, "_keep", full)
        said = afina_(*words)
    assert said.code == 2 and "Cannot write" in said.err and "Free some space" in said.err
    assert (tmp_path / "run/corpus.tmp/progress.json").is_file()
    assert afina_(*words, "--resume").code == 0

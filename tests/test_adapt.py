"""`afina adapt`: what it leaves behind and goes on with, replay, new words, nearness, and what it refuses."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

import families
import toy
from afina.core import Batch
from afina.data.corpus import Corpus
from afina.models import vocabulary
from afina.models.find import find
from afina.models.load import load, load_config, load_tokenizer, read_tokenizer
from afina.tasks.masked_lm import MaskedLm
from afina.train.folder import fingerprint
from afina.train.run import Run
from afina.verbs import _domain, _pretraining
from afina.verbs._phases import between, passes, phases, replayed
from test_pretrain import corpus

Command = Callable[..., toy.Said]
SMALL = ["--max-tokens", "3000", "--tokens-per-step", "500", "--short-length", "32", "--quiet"]
WORD = "electroencefalografista"

one_thread = pytest.fixture(scope="module")(toy.one_thread)


def decoder(folder: Path) -> Path:
    """Write a two-layer Llama with random weights, an untied head and the embedded decoder's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(find("afina/gpt-mini-es-en"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small encoder and a small decoder."""
    place = tmp_path_factory.mktemp("models")
    return {"encoder": toy.model(place / "encoder"), "decoder": decoder(place / "decoder")}


@pytest.fixture
def afina_(
    models: dict[str, Path],
    tmp_path: Path,
    one_thread: None,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    """The command, in a folder with a text, general text and the models."""
    monkeypatch.chdir(tmp_path)
    for name, folder in models.items():
        (tmp_path / name).symlink_to(folder)
    corpus(tmp_path / "text.txt", 60)
    general = [f"Someone said {i} words, and then the train was late." for i in range(30)]
    (tmp_path / "general.txt").write_text("\n\n".join(general), encoding="utf-8")
    monkeypatch.setattr("afina.verbs._forgetting.MOST", 20)
    return toy.command(capfd)


def test_dry_run_writes_nothing(afina_: Command, tmp_path: Path) -> None:
    before = toy.content(tmp_path)
    said = afina_("adapt", "text.txt", "--model", "encoder", "--dry-run", "--json", "--task-data", "text.txt")
    assert said.code == 0
    assert set(said.json["losses"]["validation"]) == {"mlm", "nsp"}
    assert said.json["forgetting"] == {"es": None, "en": None}
    assert said.json["domain"]["far"] is None  # too few words
    assert "over the text 3 times" in said.err
    assert toy.content(tmp_path) == before


def dropouts(folder: Path) -> dict[str, float]:
    return {name: value for name, value in vars(load_config(folder)).items() if "drop" in name}


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_finished_run(kind: str, afina_: Command, tmp_path: Path) -> None:
    words = ("adapt", "text.txt", "--model", kind, *SMALL, "--output-dir", "run")
    first = afina_(*words, "--json")
    assert first.code == 0
    loss = {"encoder": "mlm", "decoder": "clm"}[kind]
    told = first.json
    assert told["losses"]["validation"][loss] < told["losses"]["before"][loss]
    assert told["forgetting"].keys() == {"es", "en"}
    assert all(each["before"] != each["after"] for each in told["forgetting"].values())
    assert json.loads((tmp_path / "run" / "scores.json").read_text(encoding="utf-8")) == told
    settings = (tmp_path / "run" / "run.toml").read_text(encoding="utf-8")
    assert not any(name in settings for name in ("output_dir", "resume", "overwrite", "dry_run"))
    before = toy.weights(tmp_path / "run")
    assert dropouts(tmp_path / "run" / "best") == dropouts(tmp_path / kind), (
        "0 here, but not when it is fine-tuned"
    )

    again = afina_("adapt", "--resume", "--output-dir", "run", "--quiet", "--json")
    assert again.code == 0
    assert again.json["losses"] == told["losses"]
    assert again.json["forgetting"] == told["forgetting"]
    assert toy.weights(tmp_path / "run") == before
    for change in (("--seed", "4"), ("--method", "lora"), ("--add-tokens", "3")):
        said = afina_(*words, "--resume", *change)
        assert said.code == 2
        assert f"began with {change[0]}" in said.err
    said = afina_(*words)
    assert (said.code, "--resume" in said.err) == (2, True)
    said = afina_("finetune", "run/run.toml")
    assert (said.code, "afina adapt" in said.err) == (2, True)

    asked = {"encoder": "El [MASK] duerme.", "decoder": "El perro"}[kind]
    assert afina_("predict", "run", asked, "--json").json[0]["prediction"]
    toy.table(tmp_path / "toy.csv")
    said = afina_("finetune", "toy.csv", "--model", "run/best", "--max-steps", "1", "--quiet", "--json")
    assert said.code == 0


def test_a_stopped_run_goes_on_bit_by_bit(
    afina_: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(text.read_text("utf-8") + f"\n\nUna {WORD} duerme." * 40, encoding="utf-8")
    words = [
        "adapt",
        "text.txt",
        "--model",
        "encoder",
        *SMALL,
        "--replay",
        "0.2",
        "--replay-text",
        "general.txt",
    ]
    words += ["--add-tokens", "1", "--dropout", "0.1", "--json", "--output-dir"]
    straight = afina_(*words, "straight")
    assert straight.code == 0
    assert straight.json["added_tokens"] == 1
    assert len(toy.steps(tmp_path / "straight")) > 8

    def stopping(*given: Any) -> Iterator[list[Any]]:
        for step, batch in enumerate(between(*given), given[2]):
            if step == 3:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(_pretraining, "between", stopping)
        assert afina_(*words, "stopped").code == 130
    whole = text.read_text("utf-8")
    text.write_text(whole + "\n\nOtra cosa.", encoding="utf-8")
    said = afina_("adapt", "--resume", "--quiet", "--output-dir", "stopped")
    assert said.code == 2 and "has changed since the run began" in said.err
    text.write_text(whole, encoding="utf-8")
    resumed = afina_("adapt", "--resume", "--quiet", "--json", "--output-dir", "stopped")
    assert resumed.code == 0
    assert toy.weights(tmp_path / "stopped") == toy.weights(tmp_path / "straight")
    assert toy.steps(tmp_path / "stopped") == toy.steps(tmp_path / "straight")
    assert resumed.json["losses"] == straight.json["losses"]
    assert read_tokenizer(tmp_path / "stopped" / "best").tokenize(WORD) == [WORD]


def test_an_adapter_is_merged(afina_: Command, models: dict[str, Path], tmp_path: Path) -> None:
    words = ("adapt", "text.txt", "--model", "encoder", *SMALL, "--output-dir", "run", "--method", "lora")
    said = afina_(*words, "--json", "--learning-rate", "0.05")
    assert said.code == 0
    assert said.json["trained_weights"] < 10_000
    assert not (tmp_path / "run" / "best" / "adapter_config.json").exists()
    new, old = (
        load(folder, MaskedLm.head).state_dict() for folder in (tmp_path / "run" / "best", models["encoder"])
    )
    assert new.keys() == old.keys()
    moved = {name for name in new if not torch.equal(new[name], old[name])}
    assert moved
    assert all((name.endswith("weight") and ".layer." in name) or "pooler" in name for name in moved)


@pytest.mark.parametrize("method", ["lora", "ia3", "bitfit", "partial", "gradual"])
def test_what_is_kept_answers_as_what_was_trained(method: str, afina_: Command, tmp_path: Path) -> None:
    words = ("adapt", "text.txt", "--model", "encoder", *SMALL, "--output-dir", "run", "--method", method)
    said = afina_(*words, "--json", "--learning-rate", "0.02")
    assert said.code == 0
    scored = [step["validation"] for step in toy.steps(tmp_path / "run") if step.get("best")]
    assert said.json["losses"]["validation"]["mlm"] == pytest.approx(scored[-1]["mlm"], abs=1e-5)
    assert scored[-1]["mlm"] < said.json["losses"]["before"]["mlm"]


@pytest.mark.parametrize("most", [9, 16, 40, 130])
def test_as_many_tokens_as_asked_are_planned(most: int, models: dict[str, Path], tmp_path: Path) -> None:
    """Of a small text too, of which the last rows would not fill a step."""
    tokenizer = load_tokenizer(models["encoder"])
    text = Corpus.build([corpus(tmp_path / "text.txt", most)], tokenizer, tmp_path / "text")
    found = phases(asked(tokens_per_step=256), (text, None), tokenizer, 1, 0, tokens=20_000)
    assert seen(found)[0] == pytest.approx(20_000, abs=512)


@pytest.mark.parametrize(
    ("share", "step", "general"), [(0.05, 256, 50), (0.01, 512, 50), (0.5, 2000, 4), (0.1, 4000, 50)]
)
def test_replay_is_the_share_that_was_asked_for(
    share: float, step: int, general: int, models: dict[str, Path], tmp_path: Path
) -> None:
    """Where it is less than a row a step too, and where a step needs more than the whole text."""
    tokenizer = load_tokenizer(models["encoder"])
    parts = [
        (Corpus.build([corpus(tmp_path / f"{n}.txt", n)], tokenizer, tmp_path / str(n)), None)
        for n in (400, general)
    ]
    chosen = asked(tokens_per_step=step, replay=share)
    found = phases(chosen, parts[0], tokenizer, 1, 0, tokens=200_000, replay=parts[1])
    field, replay = seen(found)
    assert replay / (field + replay) == pytest.approx(share, rel=0.1)
    assert replayed(found) == pytest.approx(replay / (field + replay), rel=0.05)
    assert field + replay == pytest.approx(200_000, rel=0.05)

    def drawn(start: int) -> list[Any]:
        def collate(items: list[Any]) -> Batch:
            return Batch({}, {}, 0, [rng.random() for _row, rng in items])

        return [[batch.rows for batch in step] for step in between(found, collate, start, 30)]

    assert drawn(17) == drawn(0)[17:]


def asked(**settings: Any) -> Any:
    return SimpleNamespace(
        **{
            "objective": "mlm", "max_length": 64, "short_length": 32, "short_share": 0.5, "seed": 1,
            "micro_batch_tokens": 1000,
        } | settings
    )  # fmt: skip


def seen(found: list[Any]) -> list[int]:
    """Return the tokens of each text in all steps."""
    tokens = [0, 0]
    for sources, steps in found:
        for place, (rows, plan) in enumerate(sources):
            tokens[place] += sum(rows[i]["length"] for step in range(steps) for i in plan.rows(step))
    return tokens


def test_replay_is_a_share_of_the_tokens_of_every_part(models: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = load_tokenizer(models["encoder"])
    field = Corpus.build([corpus(tmp_path / "field.txt", 400)], tokenizer, tmp_path / "field")
    general = Corpus.build([corpus(tmp_path / "general.txt", 50)], tokenizer, tmp_path / "general")
    chosen = SimpleNamespace(
        objective="mlm", max_length=64, short_length=32, short_share=0.5, seed=1, tokens_per_step=4000,
        micro_batch_tokens=1000, replay=0.1,
    )  # fmt: skip
    found = phases(chosen, (field, None), tokenizer, 1, 0, tokens=40_000, replay=(general, None))
    assert len(found) == 2
    for sources, _steps in found:
        field, general = seen([(sources, 12)])
        assert general / (field + general) == pytest.approx(0.1, abs=0.01)
    # The same rows in the same order, whatever was read before.
    task = MaskedLm()

    def collate(items: list[Any]) -> Any:
        return task.collate(items, tokenizer)

    whole, late = list(between(found, collate, 0, 8)), list(between(found, collate, 5, 8))
    for a, b in zip(whole[5:], late, strict=True):
        for one, other in zip(a, b, strict=True):
            assert torch.equal(one.tensors["input_ids"], other.tensors["input_ids"])


@pytest.mark.parametrize("objective", ["mlm", "clm"])
@pytest.mark.parametrize("words", [2, 30])
@pytest.mark.parametrize("short_share", [0.0, 0.4, 1.0])
def test_a_pass_reads_every_row_once(
    objective: str, words: int, short_share: float, models: dict[str, Path], tmp_path: Path
) -> None:
    """Short rows too, in which the special tokens are most."""
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(["casa " * words] * 3000), encoding="utf-8")
    tokenizer = load_tokenizer(models[{"mlm": "encoder", "clm": "decoder"}[objective]])
    text = (Corpus.build([file], tokenizer, tmp_path / "text"), None)
    chosen = asked(objective=objective, tokens_per_step=256, short_share=short_share)
    found = phases(chosen, text, tokenizer, 1, 0, tokens=round(passes(chosen, text, 3)))
    read = sum(steps / plan.steps_per_epoch for [(_rows, plan)], steps in found)
    assert read == pytest.approx(3, abs=0.05)


def test_words_that_are_added_are_not_forgetting(afina_: Command, tmp_path: Path) -> None:
    """That there are more tokens to choose from raises the loss before any training."""
    text = tmp_path / "text.txt"
    added = "\n\n".join(f"Una {WORD}{end} duerme." for end in "abcdefghijklmnopqrst" for _time in range(12))
    text.write_text(text.read_text("utf-8") + "\n\n" + added, encoding="utf-8")
    words = (
        "--max-steps",
        "1",
        "--learning-rate",
        "1e-12",
        "--weight-decay",
        "0",
        "--output-dir",
        "run",
        "--json",
    )
    for kind in ("encoder", "decoder"):
        said = afina_(
            "adapt", "text.txt", "--model", kind, *SMALL, "--add-tokens", "20", *words, "--overwrite"
        )
        assert said.code == 0 and said.json["added_tokens"] == 20
        for loss in said.json["forgetting"].values():
            assert loss["after"] == pytest.approx(loss["before"], abs=1e-5)


@pytest.mark.parametrize("kind", ["encoder", "decoder", "RoBERTa", "DistilBERT", "GPT-2"])
def test_new_words(kind: str, models: dict[str, Path], tmp_path: Path) -> None:
    folder = models[kind] if kind in models else families.build(kind, tmp_path / "model")
    shorter = load_tokenizer(folder)
    texts = [f"Una {WORD} y la casa."] * 12 + ["Otra otorrinolaringóloga."] * 9
    words = vocabulary.broken_words(texts, shorter, 5)
    assert words[0].strip("Ġ") == WORD
    assert not any("otorrino" in word for word in words)  # too rare
    words = words[:1]
    longer = vocabulary.extended(shorter, words)
    longer.save_pretrained(tmp_path)
    longer = read_tokenizer(tmp_path)
    vocabulary.check(longer, words, tmp_path)
    assert len(longer) == len(shorter) + 1

    # Cut as before: words that only begin or end so, signs, and what a long text holds.
    old = f"La {WORD}s, pre{WORD} y {WORD.upper()}; it's 3.5 km — ¿no? 😂\n El gato."
    assert longer(old)["input_ids"] == shorter(old)["input_ids"]
    new = f"La {WORD}, ayer."
    assert words[0] in longer.tokenize(new)
    assert len(longer.tokenize(new)) < len(shorter.tokenize(new))
    assert longer.decode(longer(new)["input_ids"]) == shorter.decode(shorter(new)["input_ids"])

    head = "AutoModelForCausalLM" if kind in ("decoder", "GPT-2") else MaskedLm.head
    before, after = load(folder, head), load(folder, head)
    with torch.no_grad():
        for model in (before, after):
            bias: Any = model.get_output_embeddings().bias  # type: ignore[operator]
            if bias is not None:
                bias.copy_(torch.arange(len(bias)) / 1000)
    ids = torch.tensor([shorter(old)["input_ids"][:40]])
    pieces = shorter.backend_tokenizer.model.tokenize(words[0])  # type: ignore[attr-defined]
    grown: Any = vocabulary.grow(after, shorter, longer)
    assert grown.config.vocab_size == len(longer)
    vectors = before.get_input_embeddings().weight[[piece.id for piece in pieces]].mean(0)  # type: ignore[operator]
    assert torch.allclose(grown.get_input_embeddings().weight[-1], vectors)
    with torch.no_grad():
        a, b = (
            (out.logits if "logits" in out else out.prediction_logits)
            for out in (before.eval()(ids), grown.eval()(ids))
        )
    assert torch.allclose(a, b[..., :-1], atol=1e-6)
    # A mean of rows and biases gives the mean of the logits.
    grown.save_pretrained(tmp_path / "grown")
    read: Any = load(tmp_path / "grown", head).eval()(ids)
    assert torch.equal(b, read.logits if "logits" in read else read.prediction_logits)
    assert torch.allclose(b[..., -1], a[..., [piece.id for piece in pieces]].mean(-1), atol=1e-5)
    assert [each for each in vocabulary.broken_words(texts * 2, longer, 5) if WORD in each] == []


def test_a_tokenizer_that_takes_no_words() -> None:
    from tokenizers.models import Unigram

    backend = Tokenizer(Unigram([("a", 0.0)]))
    tokenizer: Any = SimpleNamespace(backend_tokenizer=backend)
    with pytest.raises(vocabulary.InputError, match="byte-level"):
        vocabulary.broken_words(["a"], tokenizer, 3)


def test_nearness(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, 9)) for _ in range(3000)]
    fields = [words[:1500], words[1500:]]

    def write(name: str, field: int, size: int = 8000) -> Path:
        file = tmp_path / name
        file.write_text(" ".join(random.choice(fields[field], size)), encoding="utf-8")
        return file

    text, rows, other = write("text.txt", 0), write("rows.txt", 0), write("other.txt", 1)
    near, far = (_domain.nearness([text], file) for file in (rows, other))
    assert (near.far, far.far) == (False, True)
    assert near.divergence < 0.05
    assert (far.divergence, far.overlap) == (1, 0)
    assert near.overlap > 0.6
    # The size of a text does not count, and few words say nothing.
    assert _domain.nearness([text], write("small.txt", 0, 2500)).divergence < 0.05
    assert _domain.nearness([text], write("few.txt", 0, 500)).far is None
    assert "not of their field" in _domain.in_words(far, "rows.txt")
    # What everyday text is full of brings nothing near.
    text.write_text(text.read_text("utf-8") + " de la que the and" * 9000, encoding="utf-8")
    other.write_text(other.read_text("utf-8") + " de la que the and" * 9000, encoding="utf-8")
    assert _domain.nearness([text], other).divergence == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [("decoder", "lacks (eos_token)"), ("RoBERTa --nsp", "a kind without a head for next sentences")],
)
def test_a_model_that_lacks_what_is_to_be_learnt_is_refused(
    words: str, message: str, afina_: Command, models: dict[str, Path], tmp_path: Path
) -> None:
    name, *flags = words.split()
    if name == "decoder":
        shutil.copytree(models[name], tmp_path / "model")
        file = tmp_path / "model" / "tokenizer_config.json"
        kept = json.loads(file.read_text("utf-8"))
        file.write_text(
            json.dumps({key: kept[key] for key in kept if key[:3] not in ("bos", "eos")}), "utf-8"
        )
    else:
        families.build(name, tmp_path / "model")
    before = toy.content(tmp_path)
    said = afina_("adapt", "text.txt", "--model", "model", *flags, *SMALL, "--output-dir", "run")
    assert said.code == 2 and message in said.err
    assert toy.content(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("text.txt", "--model"),
        ("--model encoder", "at least one text file"),
        ("missing.txt --model encoder", "does not exist"),
        ("empty.txt --model encoder", "is empty"),
        ("few.txt --model encoder", "too few to hold some out. Put a blank line between documents"),
        ("text.txt --model encoder --tokens-per-step 100000", "too little to adapt"),
        ("text.txt --model encoder --max-tokens 1000 --tokens-per-step 9000", "too few for one step"),
        ("text.txt --model encoder --max-length 600", "512"),
        ("chinese.txt --model encoder", "does not know"),
        ("text.txt --model encoder --replay 0.1", "--replay-text"),
        ("text.txt --model encoder --replay-text general.txt", "--replay-text"),
        ("text.txt --model encoder --replay 0.1 --replay-text missing.txt", "does not exist"),
        ("text.txt --model encoder --task-data missing.txt", "does not exist"),
        ("text.txt --model encoder --replay 0.1 --replay-text ./text.txt", "is text.txt itself"),
        (
            "text.txt --model encoder --validation nine.txt --replay 0.1 --replay-text nine.txt",
            "is nine.txt itself",
        ),
        ("text.txt --model encoder --replay 0.1 --replay-text chinese.txt", "of the text in chinese.txt"),
        ("text.txt --model encoder --replay 0.1 --replay-text one.txt --dry-run", "one.txt is one document"),
        (
            "text.txt --model encoder --replay 0.1 --replay-text latin.txt --dry-run",
            "latin.txt, line 1: the text is not",
        ),
        (
            "text.txt --model decoder --replay 0.1 --replay-text late.txt --dry-run",
            "late.txt, line 2001: the text is not",
        ),
        (
            "text.txt --model encoder --validation latin.txt --dry-run",
            "latin.txt, line 1: the text is not UTF-8",
        ),
        ("text.txt --model encoder --text resumen", "has no columns: leave out --text"),
        ("text.txt --model t5", "t5 is an encoder-decoder"),
        ("text.txt --model encoder --method lorra", "Did you mean 'lora'"),
        ("text.txt --model encoder --method houlsby", "cannot be merged"),
        ("text.txt --model encoder --method head", "leaves the model's body as it is"),
        (". --model encoder", "is a folder"),
        ("run.toml --model encoder", "holds settings and no text"),
        ("text.txt --model encoder --rank 4", "which is not what was chosen here"),
        ("nine.txt --model encoder --add-tokens 5", "leave out --add-tokens"),
        ("words.txt --model encoder --add-tokens 5 --method lora", "--method full"),
        ("text.txt --model classifier", "no head over a vocabulary"),
        ("text.txt --model adapter", "holds an adapter"),
        ("text.txt --model other_tokenizer", "do not belong together"),
        ("text.txt --model encoder --resume", "no run to resume"),
    ],
)
def test_what_is_refused_leaves_everything_as_it_was(
    words: str, message: str, afina_: Command, models: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    (tmp_path / "empty.txt").touch()
    corpus(tmp_path / "few.txt", 3)
    corpus(tmp_path / "nine.txt", 9)
    corpus(tmp_path / "one.txt", 1)
    (tmp_path / "latin.txt").write_bytes("El niño comió.\n\n".encode("latin-1") * 9)
    (tmp_path / "late.txt").write_bytes(
        b"The train was late, and nobody knew why.\n" * 2000 + b"El ni\xf1o.\n"
    )
    if "t5" in words:
        families.build("T5", tmp_path / "t5")
    (tmp_path / "chinese.txt").write_text(
        "\n\n".join(["今天天气很好，我们去公园散步。"] * 50), encoding="utf-8"
    )
    (tmp_path / "words.txt").write_text("\n\n".join([f"Una {WORD} duerme."] * 50), encoding="utf-8")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_model.safetensors").touch()
    for name in ("classifier", "other_tokenizer"):
        toy.model(tmp_path / name)
    config = json.loads((tmp_path / "classifier" / "config.json").read_text(encoding="utf-8"))
    BertForSequenceClassification(BertConfig(**config)).save_pretrained(tmp_path / "classifier")
    (tmp_path / "other_tokenizer" / "config.json").write_text(
        json.dumps(config | {"vocab_size": 100}), "utf-8"
    )
    before = toy.content(tmp_path)
    said = afina_("adapt", *words.split(), "--output-dir", "run", "--quiet")
    assert said.code == 2
    assert message in said.err
    assert said.err.count("\n") == 1
    assert toy.content(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("adapt text.txt --model run", "run/best"),
        ("adapt text.txt --model run/last/../best", "run/last/../best"),
        ("adapt text.txt --model link", "link"),
        ("adapt run/corpus/text.txt --model encoder", "run/corpus/text.txt"),
        ("adapt text.txt --model encoder --validation run/corpus/text.txt", "run/corpus/text.txt"),
        (
            "adapt text.txt --model encoder --replay 0.1 --replay-text run/corpus/text.txt",
            "run/corpus/text.txt",
        ),
        ("pretrain text.txt --model run", "run/best"),
        ("pretrain text.txt --tokenizer run/tokenizer", "run/tokenizer"),
        ("finetune toy.csv --model run --method lora", "run/best"),
        ("finetune run/predictions.csv", "run/predictions.csv"),
        ("finetune chain.toml", "run/corpus/text.txt"),
    ],
)
def test_what_a_run_needs_is_not_removed_with_the_one_that_it_replaces(
    words: str, needed: str, afina_: Command, models: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for name in ("best", "last", "tokenizer"):
        shutil.copytree(models["encoder"], run / name)
    (run / "corpus").mkdir()
    corpus(run / "corpus" / "text.txt", 30)
    (run / "run.toml").write_text('data = "toy.csv"\n', encoding="utf-8")
    toy.table(run / "predictions.csv")
    toy.table(tmp_path / "toy.csv")
    (tmp_path / "link").symlink_to(run / "best")
    (tmp_path / "chain.toml").write_text(
        'data = "toy.csv"\n[[stage]]\nverb = "adapt"\ntexts = ["run/corpus/text.txt"]\n', encoding="utf-8"
    )
    before = toy.content(run)
    said = afina_(*words.split(), "--output-dir", "run", "--overwrite", "--quiet")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert f"{needed} lies in run," in said.err
    assert toy.content(run) == before


@pytest.mark.parametrize("verb", ["adapt", "pretrain"])
def test_a_run_goes_on_from_the_model_that_it_began_from_only(
    verb: str, afina_: Command, models: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(models["encoder"], tmp_path / "base")
    resumed = (verb, "--resume", "--output-dir", "run", "--quiet")
    assert afina_(verb, "text.txt", "--model", "base", *SMALL, "--max-steps", "1", *resumed[2:]).code == 0
    assert Run(tmp_path / "run").recorded["model"] == fingerprint(tmp_path / "base")
    assert afina_(*resumed).code == 0
    file = tmp_path / "base" / "model.safetensors"
    save_file({name: weight + 1 for name, weight in load_file(file).items()}, file, {"format": "pt"})
    before = toy.content(tmp_path / "run")
    for more in ((), ("--dry-run",)):
        said = afina_(*resumed, *more)
        assert (said.code, said.err.count("\n")) == (2, 1)
        assert "The model base is not the model of the run" in said.err
    assert toy.content(tmp_path / "run") == before
    # A run that was begun before this was recorded.
    settings = tmp_path / "run" / "run.toml"
    settings.write_text(
        "".join(
            line
            for line in settings.read_text("utf-8").splitlines(True)
            if fingerprint(models["encoder"]) not in line
        ),
        encoding="utf-8",
    )
    assert afina_(*resumed).code == 0
    assert "model" not in Run(tmp_path / "run").recorded


@pytest.mark.parametrize("verb", ["adapt", "pretrain"])
def test_the_column_that_is_named_is_learnt(verb: str, afina_: Command, tmp_path: Path) -> None:
    rows = [(f"El gato {i} duerme en la casa.", f"perro {i}") for i in range(300)]
    toy.table(tmp_path / "rows.csv", rows, ("texto", "resumen"))
    words = (verb, "rows.csv", "--model", "encoder", *SMALL[:-1], "--max-steps", "1")
    said = afina_(*words, "--dry-run")
    assert said.code == 0 and "Of rows.csv the column 'texto' is read: by its name." in said.err
    said = afina_(*words, "--text", "resume", "--dry-run")
    assert said.code == 2 and "Did you mean 'resumen'" in said.err
    said = afina_(*words, "--text", "resumen", "--quiet", "--output-dir", "run")
    assert said.code == 0, said.err
    read = load_tokenizer(tmp_path / "encoder").decode(Corpus.open(tmp_path / "run" / "corpus").tokens)
    assert "perro" in read and "gato" not in read
    assert Run(tmp_path / "run").settings["text"] == "resumen"

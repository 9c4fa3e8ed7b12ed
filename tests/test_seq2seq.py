"""Text to text: T5, BART and Marian shapes, what is guessed, what is written, and what a person is told of both."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

import toys
from afina.core import Batch, Splits, Table
from afina.data.records import table
from afina.errors import InputError
from afina.models import heads
from afina.models.byte_bpe import train_byte_bpe
from afina.models.load import load
from afina.names import find, known
from afina.tasks._written import IGNORED
from afina.tasks.seq2seq import Seq2Seq
from afina.train.bundle import Base, Bundle
from afina.verbs.evaluate import evaluate
from afina.verbs.finetune import finetune
from afina.verbs.predict import predict

SIDES = {
    "d_model": 32,
    **dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_attention_heads"), 2),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 64),
    "decoder_attention_heads": 2,
    "max_position_embeddings": 24,
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": (
        "T5ForConditionalGeneration",
        {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
    ),
    "t5 v1.1": (
        "T5ForConditionalGeneration",
        {
            **{"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
            **{"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"},
        },
    ),
    "bart": ("BartForConditionalGeneration", SIDES | {"scale_embedding": True}),
    "marian": ("MarianMTModel", SIDES | {"scale_embedding": True}),
}
ROWS = [row for row in map(Seq2Seq().clean, Seq2Seq.toy()) if row is not None]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_byte_bpe((text for row in ROWS for text in row.values()), 400)


@pytest.fixture(scope="module")
def folders(tokenizer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a model of each shape; what T5's decoder begins with its configuration does not say."""
    found = {}
    for name, (kind, knobs) in SHAPES.items():
        special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
        if name in ("bart", "marian"):
            special |= {"decoder_start_token_id": tokenizer.pad_token_id, "forced_eos_token_id": None}
        torch.manual_seed(0)
        cls = getattr(transformers, kind)
        model = cls(cls.config_class(vocab_size=len(tokenizer), **knobs, **special))
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
        found[name] = tmp_path_factory.mktemp("shape") / name.replace(" ", "_")
        model.save_pretrained(found[name])
        tokenizer.save_pretrained(found[name])
    return found


@pytest.fixture(params=SHAPES)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


def fresh(folder: Path) -> nn.Module:
    torch.manual_seed(0)
    return load(folder, Seq2Seq.head, dropout=0.0).eval()


def some(task: Seq2Seq, tokenizer: PreTrainedTokenizerBase, rows: Any = ROWS[:6]) -> Batch:
    encoded = task.encode(rows, tokenizer, 20)
    return task.collate([(row, None) for row in encoded], tokenizer)


def test_the_loss_is_that_of_the_models_own_logits(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Scaled outputs (T5), a bias on the logits (BART, Marian) and the shift to the right are the model's own."""
    model, batch = fresh(folder), some(Seq2Seq(), tokenizer)
    labels = batch.tensors["labels"]
    with torch.no_grad():
        out: Any = model(
            input_ids=batch.tensors["input_ids"],
            attention_mask=batch.tensors["attention_mask"],
            labels=labels,
        )
        states = heads.decoder_states(model, batch.tensors)
        torch.testing.assert_close(heads.vocabulary(model, states), out.logits, atol=1e-5, rtol=1e-5)
        ours = Seq2Seq().loss(model, batch)["loss"].sum
    plain = cross_entropy(out.logits.flatten(0, 1), labels.flatten(), reduction="sum", ignore_index=IGNORED)
    assert float(ours) == pytest.approx(float(plain), rel=1e-5)
    assert batch.counts["loss"] == float((labels != IGNORED).sum())


@pytest.mark.parametrize("shape", ["t5", "bart", "marian"])
@pytest.mark.parametrize("method", known("methods"))
def test_every_method_learns_writes_and_comes_back(
    method: str, shape: str, folders: dict[str, Path], tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    task, folder = Seq2Seq.of({"max_new_tokens": 3, "num_beams": 2}), folders[shape]
    model, one = fresh(folder), find("methods", method)()
    if (
        method == "head"
    ):  # these models' vocabulary is tied to their embeddings, so they have no head of their own
        with pytest.raises(InputError, match="finds nothing in this model"):
            one.modify(model, tokenizer)
        return
    model = one.modify(model, tokenizer)
    trained = one.stages(model)[-1].trainable
    for name, weight in model.named_parameters():
        weight.requires_grad_(trained is None or name in trained)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.02)
    batch, losses = some(task, tokenizer), []
    for _step in range(4):
        loss = task.loss(model, batch)["loss"].sum / batch.counts["loss"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    bundle = Bundle(model.eval(), tokenizer, task, one, 20, base=Base.of(str(folder), folder))
    bundle.save(tmp_path)
    asked = ["el gato canta", "la casa"]
    told = bundle.predict(asked)
    assert told == Bundle.load(tmp_path).predict(asked)
    assert [each["score"] for each in told] == [None, None]


def test_a_prompt_takes_no_position_from_the_text(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Twenty vectors before a text as long as the model reads; and with nothing before it, the text alone."""
    task, model = Seq2Seq(), fresh(folder)
    batch = some(task, tokenizer, [{"source": "la casa " * 40, "target": "the house"}])
    with torch.no_grad():
        plain = task.loss(model, batch)["loss"].sum
        method = find("methods", "prompt")()
        model = method.modify(model, tokenizer)
        prompted = task.loss(model, batch)["loss"].sum
        with method.off(model):
            assert torch.equal(task.loss(model, batch)["loss"].sum, plain)
    assert torch.isfinite(prompted) and not torch.equal(prompted, plain)


def test_what_is_drawn_is_drawn_again(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    task = Seq2Seq.of({"temperature": 1.5, "top_p": 0.9, "max_new_tokens": 4})
    model, batch = fresh(folder), some(task, tokenizer)
    state = torch.random.get_rng_state()
    with torch.no_grad():
        told = [task.answer(model, batch) for _time in range(2)]
        likeliest = Seq2Seq(max_new_tokens=4).answer(model, batch)
    assert told[0] == told[1] != likeliest
    assert torch.equal(state, torch.random.get_rng_state()), "training goes on as if nobody had asked"


@pytest.mark.parametrize("shape", ["bart", "marian"])
def test_more_words_than_the_decoder_has_places(
    shape: str, folders: dict[str, Path], tokenizer: PreTrainedTokenizerBase
) -> None:
    bundle = Bundle(
        fresh(folders[shape]), tokenizer, Seq2Seq(max_new_tokens=200), find("methods", "full")(), 20
    )
    assert isinstance(bundle.predict("el gato")[0]["prediction"], str)


def test_a_target_ends_once_and_begins_with_no_end(tokenizer: PreTrainedTokenizerBase) -> None:
    """A GPT's tokenizer begins a text with the sign that ends one: learnt so, the model would say nothing at all."""
    (row,) = Seq2Seq(source_prefix="translate: ").encode([ROWS[0]], tokenizer, 20)
    end = tokenizer.eos_token_id
    assert row["target"].count(end) == 1 and row["target"][-1] == end
    assert tokenizer.decode(row["input_ids"], skip_special_tokens=True) == f"translate: {ROWS[0]['source']}"
    (long,) = Seq2Seq().encode([{"source": "la casa " * 30, "target": "the house " * 30}], tokenizer, 12)
    assert len(long["input_ids"]) == len(long["target"]) == 12 and long["target"][-1] == end
    whole = Seq2Seq().encode([{"source": "la casa " * 30, "target": "the house " * 30}], tokenizer, 10**6)[0]
    assert Seq2Seq().unseen(long, Seq2Seq().length(whole)) == (
        len(whole["input_ids"]) + len(whole["target"]) - 24
    )


def test_a_tokenizer_without_an_end(tokenizer: PreTrainedTokenizerBase) -> None:
    from copy import deepcopy

    bare = deepcopy(tokenizer)
    bare.eos_token = bare.sep_token = None
    with pytest.raises(InputError, match="no token for the end"):
        Seq2Seq().encode(ROWS[:1], bare, 20)


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        (("id", "fuente", "destino"), ("fuente", "destino")),
        (("article", "highlights"), ("article", "highlights")),
        (("text", "label"), ("text", "label")),
        (("question", "context", "answer"), ("question", "answer")),
        (("source", "target", "lang"), ("source", "target")),
        (("texto", "resumen"), ("texto", "resumen")),
    ],
)
def test_columns_are_found_by_name(columns: tuple[str, ...], chosen: tuple[str, str]) -> None:
    rows = [dict.fromkeys(columns, "uno dos")]
    task = Seq2Seq().choose_columns(Table(rows, columns, "x.csv"))
    assert (task.source, task.target) == chosen


def test_a_translation_has_a_column_a_language() -> None:
    read = table([{"id": 1, "translation": {"es": "hola", "en": "hello"}}], "x.json")
    assert read.columns == ("id", "es", "en")
    with pytest.raises(InputError, match=r"--source.*id, es, en"):
        Seq2Seq().choose_columns(read)
    task = Seq2Seq.of({"source": "es", "target": "en"}).choose_columns(read)
    assert task.clean(read.rows[0]) == {"source": "hola", "target": "hello"}
    with pytest.raises(InputError, match="cannot be both"):
        Seq2Seq.of({"source": "es", "target": "es"}).choose_columns(read)


def test_a_label_is_a_target_like_any() -> None:
    task = Seq2Seq()
    assert [task.clean({"source": "x", "target": value}) for value in (3, 2.0, True, " bien ", None, "", np.nan)] == [
        *({"source": "x", "target": text} for text in ("3", "2", "true", "bien")), None, None, None,
    ]  # fmt: skip
    with pytest.raises(InputError, match="no text to learn from"):
        task.check(Splits([], [], [], ""))


def test_baselines_and_what_they_are_measured_by(tokenizer: PreTrainedTokenizerBase) -> None:
    task, train, asked = Seq2Seq(), ROWS[:40], ROWS[40:]
    found = task.baselines(train, asked, tokenizer, 64)
    assert {answer["text"] for answer in found["majority"]} <= {row["target"] for row in train}
    assert [answer["text"] for answer in found["copy"]] == [row["source"] for row in asked]
    assert [answer["text"] for answer in task.baselines(train, train, tokenizer, 64)["nearest"]] == [
        row["target"] for row in train
    ]
    assert list(task.score(found["ngram"], asked).values) == ["loss", "perplexity"]
    assert list(task.score(found["copy"], asked).values) == ["chrf", "rouge_l", "exact_match"]
    ours = [{"loss": 1.0, "tokens": 4, "text": row["target"]} for row in asked]
    assert next(iter(task.score(ours, asked).values)) == "loss"
    metrics = {name: task.difference(ours, found[name], asked).metric for name in found}
    assert metrics == {"ngram": "loss", "majority": "chrf", "copy": "chrf", "nearest": "chrf"}
    assert task.difference(ours, found["copy"], asked).shown


def test_without_a_model_it_says_what_to_do(tmp_path: Path) -> None:
    file = write(tmp_path / "data.csv", ROWS)
    with pytest.raises(InputError, match="No model for task 'seq2seq' ships with afina"):
        finetune(file, task="seq2seq", output_dir=tmp_path / "run")
    with pytest.raises(InputError, match=r"kind 'bert'.*AutoModelForSeq2SeqLM"):
        finetune(file, task="seq2seq", model="afina/bert-mini-es-en", output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def write(file: Path, rows: Any) -> Path:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_a_run_from_a_file_and_again_from_its_settings(folders: dict[str, Path], tmp_path: Path) -> None:
    file = write(tmp_path / "data.csv", ROWS)
    settings: dict[str, Any] = {
        **{"task": "seq2seq", "model": folders["bart"], "max_steps": 4, "max_new_tokens": 5, "samples": 3},
        **{"eval_steps": 2, "quiet": True},
    }
    run = finetune(file, **settings, output_dir=tmp_path / "run")
    scores = run.result["scores"]["test"]
    assert list(scores) == ["loss", "perplexity", "chrf", "rouge_l", "exact_match"]
    assert scores["chrf"]["n"] < scores["loss"]["n"]
    assert set(run.result["baselines"]) == {"majority", "tfidf", "ngram", "copy", "nearest"}
    assert "loss" not in run.result["baselines"]["copy"]["test"]
    with (run.path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    asked = [line for line in lines if line["asked"] == "True"]
    assert len(lines) > len(asked) == scores["chrf"]["n"]
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert "What it writes" in page and all(line["source"] in page for line in asked)
    card = (run.path / "best" / "README.md").read_text(encoding="utf-8")
    assert "AutoModelForSeq2SeqLM" in card

    again = finetune(run.path / "run.toml", output_dir=tmp_path / "again", quiet=True)
    assert again.result["scores"] == run.result["scores"]
    other = evaluate(run.path, file, quiet=True)
    assert other["scores"]["test"]["loss"]["n"] == len(ROWS)
    told = predict(run.path, file, output=str(tmp_path / "told.csv"), quiet=True)
    assert [each["prediction"] for each in told] == [
        each["prediction"] for each in run.bundle.predict([row["source"] for row in ROWS])
    ]
    assert json.loads((run.path / "best" / "config.json").read_text())["architectures"]


def test_the_contracts_model_has_a_head_of_its_own(tmp_path: Path) -> None:
    """So that every method has something to train, also one that trains the head alone."""
    case = toys.case("seq2seq-head", toys.build(tmp_path))
    assert any(name.startswith("lm_head") for name, _weight in case.model().named_parameters())

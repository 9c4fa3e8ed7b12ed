"""`predict` on a language model: masks filled, a sentence said to follow or not, a text written on."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import afina
import families
import toy
from afina.errors import InputError
from afina.models.find import EMBEDDED
from afina.models.load import load, load_tokenizer
from afina.names import DECODER, ENCODER
from afina.tasks._asked_masks import FOLLOWS, MASK, NOT

Command = Callable[..., toy.Said]
BERT = EMBEDDED / ENCODER.removeprefix("afina/")
one_thread = pytest.fixture(scope="module", autouse=True)(toy.one_thread)


@pytest.fixture
def predict(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    command = toy.command(capfd)
    return lambda *words: command("predict", *words)


def test_a_mask_gets_what_plain_transformers_gives_it() -> None:
    text = f"The {MASK} of the House of Commons is {MASK}."
    (told,) = afina.predict(ENCODER, text, top_k=3)
    tokenizer, model = load_tokenizer(BERT), load(BERT, "AutoModelForMaskedLM").eval()
    asked = tokenizer(text, return_tensors="pt", split_special_tokens=False)
    with torch.no_grad():
        shares = model(**asked).logits[asked["input_ids"] == tokenizer.mask_token_id].softmax(-1)
    shares[:, tokenizer.all_special_ids] = 0
    best = shares.topk(3)
    assert [[each["word"] for each in mask] for mask in told["masks"]] == [
        tokenizer.convert_ids_to_tokens(ids) for ids in best.indices.tolist()
    ]
    first, second = ([each["probability"] for each in mask] for mask in told["masks"])
    assert torch.allclose(torch.tensor([first, second]), best.values, atol=1e-5)
    assert told["probability"] == pytest.approx(first[0] * second[0])
    words = [mask[0]["word"] for mask in told["masks"]]
    assert told["prediction"] == f"The {words[0]} of the House of Commons is {words[1]}."
    assert "next" not in told


def test_answers_keep_their_order_whatever_their_length() -> None:
    texts = [f"{'muy ' * i}{MASK}." + f" Y {MASK}." * (i % 2) for i in range(12)]
    together = afina.predict(ENCODER, texts)
    for text, told in zip(texts, together, strict=True):
        (alone,) = afina.Bundle.predict(_bert(), [text])
        assert alone["prediction"] == told["prediction"] and len(told["masks"]) == text.count(MASK)
        assert alone["probability"] == pytest.approx(told["probability"], abs=1e-5)


def _bert() -> Any:
    from afina.train.language_model import language_model

    return language_model(BERT)


def test_two_sentences_are_said_to_follow_or_not() -> None:
    pairs = [
        ("Abra el archivo.", "Guarde el archivo en la carpeta."),
        ("Abra el archivo.", "He had ruled the country for forty years."),
    ]
    told = afina.predict(ENCODER, pairs)
    assert [each["prediction"] for each in told] == [FOLLOWS, NOT]
    for each in told:
        assert each["next"][FOLLOWS] + each["next"][NOT] == pytest.approx(1)
        assert each["probability"] == max(each["next"].values()) and "masks" not in each
    model, tokenizer = load(BERT, "AutoModelForNextSentencePrediction").eval(), load_tokenizer(BERT)
    with torch.no_grad():
        plain = model(**tokenizer(*pairs[0], return_tensors="pt")).logits.softmax(-1)[0, 0]
    assert told[0]["next"][FOLLOWS] == pytest.approx(float(plain), abs=1e-5)
    same: list[Any] = ["\t".join(pairs[0]), dict(zip(("text", "text_pair"), pairs[1], strict=True))]
    assert [each["next"] for each in afina.predict(ENCODER, same)] == [
        pytest.approx(each["next"], abs=1e-5) for each in told
    ]
    for wrong in ([], [3, "x"], {"text_pair": "x"}, None):
        with pytest.raises(InputError, match="Row 1: "):
            _bert().predict([wrong])
    for alone in (f"Voy al {MASK}.\t", [f"Voy al {MASK}.", " "]):
        (told_alone,) = _bert().predict([alone])
        assert "next" not in told_alone and "\t" not in told_alone["prediction"]
    (both,) = afina.predict(ENCODER, [(f"Voy al {MASK}.", "Compro pan.")])
    assert both["prediction"].endswith("\tCompro pan.") and set(both) >= {"masks", "next"}


def test_a_file_a_pipe_and_columns_added(
    predict: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"El gato {MASK} en la casa.", "Llueve.\tLa calle está mojada.", f"{MASK} dog"]
    (tmp_path / "lines.txt").write_text("\n".join(texts), encoding="utf-8")
    told = predict(ENCODER, "lines.txt", "--output", "out.csv", "--json")
    assert told.code == 0 and told.err == ""
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").startswith("text,prediction,probability\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(texts).encode())))
    lines = predict(ENCODER, "-").out.splitlines()
    assert lines == [f"{each['prediction']}\t{each['probability']:.3f}" for each in told.json]
    toy.table(tmp_path / "rows.csv", [("1", texts[0], ""), ("2", *texts[1].split("\t"))], ("id", "text", "text_pair"))  # fmt: skip
    rows = predict(ENCODER, "rows.csv", "--json").json
    assert [each["prediction"] for each in rows] == [each["prediction"] for each in told.json[:2]]
    assert "next" not in rows[0], "an empty cell is no second sentence"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((ENCODER, "sin nada que adivinar"), "Row 1: there is nothing to guess. Write [MASK]"),
        ((ENCODER, f"{MASK}", "x"), "Row 2: there is nothing to guess"),
        ((ENCODER, f"{MASK}" + " muy" * 600), "Row 1: the text has 603 tokens, but the model reads at most 512"),
        ((ENCODER, f"a\tb\t{MASK}"), "Row 1: this model reads one text, or two"),
        ((ENCODER, MASK, "--temperature", "1"), "--temperature changes nothing"),
        ((DECODER, "hola", "--top-k", "3"), "--top-k changes nothing"),
        (("afina/bert-mini-es", MASK), "afina/bert-mini-es-en"),
        (("body", MASK), "brings no head over its vocabulary"),
        (("words", "uno\tdos"), "has not learnt which sentence follows another"),
        (("nowhere", MASK), "run.toml is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered(words: tuple[str, ...], said: str, predict: Command, tmp_path: Path) -> None:
    for name, head in (("body", "AutoModel"), ("words", "AutoModelForMaskedLM")):
        load(toy.model(tmp_path / "both"), head).save_pretrained(tmp_path / name)  # type: ignore[operator]
        load_tokenizer(tmp_path / "both").save_pretrained(tmp_path / name)
    found = predict(*words)
    assert found.code == 2 and said in found.err, found.err
    assert found.err.count("\n") == 1


def test_a_model_that_learnt_no_pairs_still_fills_masks_in_two_texts(tmp_path: Path) -> None:
    load(BERT, "AutoModelForMaskedLM").save_pretrained(tmp_path)  # type: ignore[operator]
    load_tokenizer(BERT).save_pretrained(tmp_path)
    (told,) = afina.predict(tmp_path, [("Voy al mercado.", f"Compro {MASK}.")])
    assert "next" not in told and len(told["masks"]) == 1
    with pytest.raises(InputError, match="has not learnt which sentence"):
        afina.predict(tmp_path, [("uno", "dos")])


def test_the_mask_of_another_family_is_known_by_both_names(tmp_path: Path) -> None:
    folder = families.build("RoBERTa", tmp_path)
    mask = load_tokenizer(folder).mask_token
    assert mask != MASK
    ours, own = afina.predict(folder, f"el gato {MASK} en casa", f"el gato {mask} en casa")
    assert ours["prediction"] == own["prediction"] and mask not in own["prediction"]
    with pytest.raises(InputError, match=mask):
        afina.predict(folder, "el gato")


def test_a_decoder_writes_on_the_same_each_time_it_is_asked() -> None:
    likeliest, again = (
        afina.predict(DECODER, "The history of the", "El gato", max_new_tokens=8) for _time in "12"
    )
    assert likeliest == again and all(each["prediction"] for each in likeliest)
    drawn, anew = (
        afina.predict(DECODER, "The history of the", max_new_tokens=8, temperature=1.0) for _time in "12"
    )
    assert drawn == anew != likeliest[:1]


def test_runs_of_pretrain_answer(predict: Command, tmp_path: Path) -> None:
    lines = [f"El perro número {i} duerme en la casa. Mañana viene el gato {i}." for i in range(40)]
    (tmp_path / "text.txt").write_text("\n\n".join(lines), encoding="utf-8")
    small = {
        "shape": "tiny", "max_tokens": 1000, "tokens_per_step": 500, "short_length": 32, "quiet": True,
        "initialisation": "random", "vocab_size": 1100,
    }  # fmt: skip
    for name, knobs in {
        "mlm": {"top_k": 2, "mlm_probability": 0.3, "whole_word_masking": True},
        "words": {"nsp": False},
        "clm": {"objective": "clm", "temperature": 0.7, "max_new_tokens": 4},
    }.items():
        afina.pretrain(tmp_path / "text.txt", output_dir=tmp_path / name, **small, **knobs)
    bundle = afina.Run(tmp_path / "mlm").bundle
    assert bundle.task.mlm_probability == 0.3 and bundle.task.whole_word_masking
    (told,) = bundle.predict([f"El perro {MASK} en la casa."])
    assert len(told["masks"][0]) == 2
    assert afina.predict(tmp_path / "mlm", "El gato.\tEl perro.")[0]["prediction"] in (FOLLOWS, NOT)
    assert afina.predict(tmp_path / "mlm" / "best", f"{MASK} x")[0]["masks"]
    # Its head for pairs is there, but nobody taught it.
    assert "has not learnt which sentence" in predict("words", "El gato.\tEl perro.").err
    assert predict("clm", "El perro", "--json").json == predict("clm", "El perro", "--json").json
    assert afina.Run(tmp_path / "clm").bundle.task.temperature == 0.7

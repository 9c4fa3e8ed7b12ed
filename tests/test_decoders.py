"""Decoders: packed texts, long texts in windows, counted trigrams, examples in the prompt, talking to one."""

import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BioGptConfig,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerBase,
    Qwen3Config,
    RwkvConfig,
    modeling_utils,
)

import families
import toy
import toys
from afina.batching.pack import pack, reads_apart
from afina.models.byte_bpe import train_byte_bpe
from afina.models.find import find as find_model
from afina.models.heads import hidden_states, vocabulary
from afina.models.load import load_tokenizer
from afina.names import DECODER
from afina.scoring.language import difference
from afina.scoring.ngram import Trigram
from afina.tasks.causal_lm import CausalLm
from afina.verbs._describe import mask_in_words
from afina.verbs._in_context import Prompts, demonstrations

Command = Callable[..., toy.Said]
SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pad_token_id": 0,
}
LLAMA = SHAPE | {"hidden_size": 16, "intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8}
DECODERS = {
    "gpt2": GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=40),
    "llama": LlamaConfig(**LLAMA),
    "qwen3": Qwen3Config(**LLAMA),
    "gemma2": Gemma2Config(**LLAMA, sliding_window=4, layer_types=["sliding_attention", "full_attention"]),
}

one_thread = pytest.fixture(scope="module")(toy.one_thread)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.build(tmp_path_factory.mktemp("decoders")) / "decoder"


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(folder)


def rows(lengths: list[int]) -> list[dict[str, Any]]:
    drawn = np.random.default_rng(0)
    texts = [drawn.integers(1, 50, length).tolist() for length in lengths]
    return [{"windows": [(ids, [*ids[1:], -100])], "prompt": None} for ids in texts]


def test_packed_rows_are_full_and_every_text_has_its_place() -> None:
    lengths = [7, 1, 3, 10, 2, 2, 5, 1]
    packed = pack(lengths)
    assert packed.position_ids.shape == (4, 10)
    taken = np.zeros((4, 10), dtype=int)
    for (row, start), length in zip(packed.places, lengths, strict=True):
        taken[row, start : start + length] += 1
        assert packed.position_ids[row, start : start + length].tolist() == list(range(length))
    assert taken.max() == 1 and taken.sum() == sum(lengths)


def test_no_warning_of_padding_in_packed_rows(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GPT-2 would ask for a mask, which packed rows do without."""
    config = GPT2Config(
        vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=40, pad_token_id=tokenizer.pad_token_id
    )
    warned: list[str] = []
    monkeypatch.setattr(modeling_utils.logger, "warning_once", warned.append)
    task = CausalLm(packing=True)
    batch = task.collate([(row, None) for row in rows([9, 3, 6, 1])], tokenizer)
    assert (batch.tensors["input_ids"][:, -1] == tokenizer.pad_token_id).any()
    task.loss(AutoModelForCausalLM.from_config(config), batch)
    assert not warned


@pytest.mark.parametrize("name", DECODERS)
def test_packed_texts_are_blind_to_each_other(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(DECODERS[name]).eval()
    texts = rows([9, 3, 6, 1, 5, 9, 2, 2, 4])
    found = {}
    for packing in (False, True):
        task = CausalLm(packing=packing)
        batch = task.collate([(row, None) for row in texts], tokenizer)
        model.zero_grad()
        term = task.loss(model, batch)["loss"].sum
        term.backward()
        with torch.no_grad():
            answers = [each["loss"] for each in task.glance(model, batch)]
        size = sum(
            float(weight.grad.square().sum()) for weight in model.parameters() if weight.grad is not None
        )
        found[packing] = (answers, size, batch.tensors["input_ids"].numel(), batch.tokens, batch.counts)
    assert found[True][0] == pytest.approx(found[False][0], abs=1e-4)
    assert found[True][1] == pytest.approx(found[False][1], rel=1e-4)
    assert found[True][3:] == found[False][3:] and found[True][2] < 0.7 * found[False][2]


STRAIGHT: dict[str, Any] = {
    "opt": OPTConfig(
        vocab_size=50, hidden_size=16, word_embed_proj_dim=16, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2
    ),
    "bloom": BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=2),
    "lfm2": Lfm2Config(**LLAMA, layer_types=["conv", "full_attention"]),  # which hardly mixes, as it is drawn
}  # fmt: skip


@pytest.mark.parametrize("name", [*DECODERS, *STRAIGHT])
def test_it_is_known_which_models_keep_packed_texts_apart(name: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config({**DECODERS, **STRAIGHT}[name])
    state = torch.get_rng_state()
    assert reads_apart(model) == (name in DECODERS)
    assert torch.equal(state, torch.get_rng_state()) and model.training


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_packing_is_refused_where_texts_would_see_each_other(
    more: list[str], afina_: Command, tokenizer: PreTrainedTokenizerBase
) -> None:
    shape = STRAIGHT["opt"].to_dict() | {"vocab_size": len(tokenizer)}
    AutoModelForCausalLM.from_config(OPTConfig.from_dict(shape)).save_pretrained("opt")
    tokenizer.save_pretrained("opt")
    words = ("finetune", "train.csv", "--task", "causal_lm", "--model", "opt", "--max-steps", "1", "--quiet")
    said = afina_(*words, "--packing", *more)
    assert said.code == 2 and "Leave out --packing." in said.err and said.err.count("\n") == 1
    assert not Path("runs").exists()
    assert afina_(*words, *more).code == 0


def test_a_head_that_is_not_known_is_said_before_training(
    afina_: Command, tokenizer: PreTrainedTokenizerBase
) -> None:
    shape = {"hidden_size": 16, "attention_hidden_size": 16, "num_hidden_layers": 2, "context_length": 40}
    AutoModelForCausalLM.from_config(RwkvConfig(vocab_size=len(tokenizer), **shape)).save_pretrained("rwkv")
    tokenizer.save_pretrained("rwkv")
    said = afina_("finetune", "train.csv", "--task", "causal_lm", "--model", "rwkv", "--max-steps", "1")
    assert said.code == 2 and "kind 'rwkv'" in said.err and "Traceback" not in said.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", [*DECODERS, "biogpt"])
def test_the_vocabulary_is_that_of_the_model(name: str) -> None:
    torch.manual_seed(0)
    biogpt = BioGptConfig(**SHAPE, hidden_size=16, intermediate_size=32, scale_embedding=False)
    model = AutoModelForCausalLM.from_config({**DECODERS, "biogpt": biogpt}[name]).eval()
    ids = torch.tensor([[3, 7, 9, 11], [5, 6, 0, 0]])
    tensors = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    with torch.no_grad():
        ours, theirs = vocabulary(model, hidden_states(model, tensors)), model(**tensors).logits
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("stride", [0, 3, 128])
def test_every_token_of_a_long_text_is_guessed_once(stride: int, tokenizer: PreTrainedTokenizerBase) -> None:
    text = "el gato duerme hoy y la casa está lejos, dicen, " * 20
    whole = tokenizer(text.strip())["input_ids"]
    (row,) = CausalLm(doc_stride=stride).encode([{"text": text.strip()}], tokenizer, 16)
    guessed = [token for _ids, following in row["windows"] for token in following if token != -100]
    assert guessed == [*whole[1:], tokenizer.eos_token_id]
    assert all(len(ids) == len(following) <= 16 for ids, following in row["windows"])
    (cut,) = CausalLm(long="truncate").encode([{"text": text.strip()}], tokenizer, 16)
    assert [ids for ids, _following in cut["windows"]] == [whole[:16]]
    assert CausalLm(long="truncate").unseen(cut, len(whole) + 1) == len(whole) - 15


def test_the_shares_of_a_trigram_add_up() -> None:
    drawn = np.random.default_rng(1)
    texts = [(drawn.integers(0, 6, 12).tolist(), [False] + [True] * 11) for _ in range(30)]
    model = Trigram(texts, 6)
    for before in ([], [3], [2, 5], [5, 5, 1]):
        shares = [
            math.exp(-model.loss([*before, token], [False] * len(before) + [True])[0]) for token in range(6)
        ]
        assert sum(shares) == pytest.approx(1.0)
    assert model.loss([1, 2], [False, False]) == (0, 0)


def test_a_few_rows_show_no_difference_of_losses() -> None:
    drawn = np.random.default_rng(3)
    tokens = np.full(4, 10.0)
    few = difference(np.full(4, 20.0), 40 + drawn.normal(0, 0.1, 4), tokens)
    assert few.value == pytest.approx(2, abs=0.05) and few.p == pytest.approx(2 / 16) and not few.shown
    one = difference(np.array([20.0]), np.array([40.0]), np.array([10.0]))
    assert (one.low, one.high, one.p) == (-4, 4, 1) and not one.shown
    many = difference(np.full(40, 20.0), 21 + drawn.normal(0, 1, 40), np.full(40, 10.0))
    assert many.shown and many.low < 0.1 < many.high
    found = [difference(*(30 + drawn.normal(0, 3, (2, 25))), np.full(25, 10.0)) for _ in range(300)]
    assert np.mean([each.low <= 0 <= each.high for each in found]) > 0.92
    assert np.mean([each.p < 0.05 for each in found]) < 0.08


def test_examples_are_balanced_and_the_same_for_a_seed() -> None:
    train = [{"text": f"t{i}", "label": "abc"[min(i // 8, 2)]} for i in range(20)]
    chosen = demonstrations(train, ["a", "b", "c"], 6, 3)
    assert sorted(row["label"] for row in chosen) == [*"aabbcc"]
    assert (
        chosen == demonstrations(train, ["a", "b", "c"], 6, 3) != demonstrations(train, ["a", "b", "c"], 6, 4)
    )
    assert len(demonstrations(train[:2], ["a"], 9, 0)) == 2


def test_of_a_prompt_only_the_label_is_scored(tokenizer: PreTrainedTokenizerBase) -> None:
    shown = [{"text": "muy bueno", "label": "bien"}, {"text": "muy malo", "label": "mal"}]
    prompts = Prompts(["text"], ["bien", "mal"], shown, tokenizer, 500)
    encoded = prompts.encode({"text": "el gato"})
    texts = [tokenizer.decode(row["windows"][0][0], skip_special_tokens=True) for row in encoded]
    before = "Text: muy bueno\nLabel: bien\n\nText: muy malo\nLabel: mal\n\nText: el gato\nLabel:"
    assert texts == [f"{before} bien", f"{before} mal"]
    for row, label in zip(encoded, ("bien", "mal"), strict=True):
        ids, following = row["windows"][0]
        assert tokenizer.decode([token for token in following if token != -100]) == f" {label}"
        assert ids[1:] == [b if b != -100 else a for a, b in zip(ids[1:], following, strict=False)]
    short = Prompts(["text"], ["bien", "mal"], shown, tokenizer, 40)
    assert short.fitting({"text": "el gato"}) < 2
    long = {"text": "muy largo " * 40}
    cut = [row["windows"][0][0] for row in short.encode(long)]
    assert max(map(len, cut)) == 40
    assert all(
        ids[0] == tokenizer.bos_token_id for ids in cut
    )  # what begins every text is not what is left out
    assert short.cut({"text": "el gato"}) == 0 < short.cut(long)
    room = Prompts(["text"], ["bien", "mal"], shown, tokenizer, 40 + short.cut(long))
    assert (room.cut(long), room.fitting(long)) == (0, 0)


@pytest.fixture
def afina_(folder: Path, tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, in a folder with a decoder and two tables."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt").symlink_to(folder)
    toy.table(tmp_path / "train.csv", toy.ROWS)
    toy.table(tmp_path / "test.csv", toy.ROWS[::2])
    return toy.command(capfd)


def test_a_decoder_is_asked_with_examples(afina_: Command) -> None:
    said = afina_("evaluate", "gpt", "test.csv", "--few-shot", "2", "--train", "train.csv", "--json")
    assert said.code == 0, said.err
    assert (said.json["method"], said.json["run"], said.json["trained_weights"]) == ("few_shot", None, 0)
    assert said.json["scores"]["test"]["macro_f1"]["n"] == len(toy.ROWS[::2])
    assert set(said.json["baselines"]) >= {"majority", "tfidf"}
    assert "less than about a billion" in said.err
    half = len(toy.ROWS[::2])
    assert f"Of {half} rows, training rows too: {half}." in said.err
    assert afina_("evaluate", "gpt", "test.csv", "--few-shot", "2", "--train", "train.csv").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("gpt test.csv --few-shot 2", "name their file with --train"),
        ("gpt test.csv --few-shot 2 --train no.csv", "no file"),
        ("gpt test.csv", "no folder of a run"),
        ("gpt test.csv --few-shot -1 --train train.csv", "at least 0"),
    ],
)
def test_what_cannot_be_asked_with_examples_is_said(words: str, said: str, afina_: Command) -> None:
    answer = afina_("evaluate", *words.split())
    assert answer.code == 2 and said in answer.err


def test_a_pipe_is_answered_line_by_line(afina_: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hola\n\n/new\n¿qué tal?\n"))
    said = afina_("chat", "gpt", "--max-new-tokens", "4", "--json")
    assert said.code == 0, said.err
    assert [message["role"] for message in said.json] == ["user", "assistant"] * 2
    assert [message["content"] for message in said.json[::2]] == ["hola", "¿qué tal?"]
    assert all(message["content"] for message in said.json)


def test_a_conversation_that_grows_too_long_is_said_once(
    afina_: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hola\n" * 6))
    said = afina_("chat", "gpt", "--max-new-tokens", "4")
    assert said.code == 0, said.err
    assert said.err.count("its oldest turns are no longer read") == 1 and said.out.count("\n") == 6


def test_a_run_that_has_not_learnt_to_converse_is_said(afina_: Command, tmp_path: Path) -> None:
    toy.model(tmp_path / "tiny")
    done = afina_("finetune", "train.csv", "--model", "tiny", "--max-steps", "1", "--output-dir", "run")
    assert done.code == 0, done.err
    said = afina_("chat", "run")
    assert said.code == 2 and "has not learnt to converse" in said.err
    shown = afina_("finetune", "train.csv", "--model", "tiny", "--show-mask", "--dry-run")
    assert shown.code == 2 and "--show-mask has nothing to show" in shown.err


def test_what_is_learnt_is_shown(afina_: Command, tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").write_text(
        "".join(f'{{"prompt": "¿{i}?", "completion": "es {i}"}}\n' for i in range(30)), encoding="utf-8"
    )
    said = afina_("finetune", "chat.jsonl", "--task", "chat", "--model", "gpt", "--show-mask", "--dry-run")
    assert said.code == 0, said.err
    assert said.err.count("what is learnt in ⟦ ⟧:\n<|endoftext|><|user|>") == 3
    assert "<|assistant|>⟦" in said.err and "⟦<|end|>⟧" in said.err


def test_what_is_learnt_is_shown_with_its_blanks_window_by_window() -> None:
    """A tokenizer of sentence pieces decodes a lone token without the blank that begins its word."""
    tokenizer, task = families.tokenizer(families.FAMILIES["Llama"]), CausalLm(doc_stride=4)
    (text,) = (row["text"] for row in CausalLm.toy()[:1])
    (encoded,) = task.encode([{"text": text}], tokenizer, 500)
    (shown,) = mask_in_words(task, tokenizer, [encoded])
    assert (
        shown.split("\n", 1)[1].replace("⟧", "").replace("⟦", "").removeprefix("<s>").strip() == text + "</s>"
    )
    short = task.encode([{"text": text}], tokenizer, 4)
    assert len(short[0]["windows"]) > 1
    windows = mask_in_words(task, tokenizer, short)[0].split("\n")[1:]
    assert windows[1::2] == [
        f"Window {i}, which may begin with tokens of the one before:" for i in range(2, len(windows) // 2 + 2)
    ]
    assert "".join(windows[0::2]).count("⟦") == len(
        tokenizer(text)["input_ids"]
    )  # all but the first, and the end


@pytest.mark.parametrize("most", [7, 8, 9, 10, 11, 12])
def test_tokens_of_characters_that_a_window_cuts_are_shown_one_by_one(most: int) -> None:
    """Each guessed token once: a character in one bracket, or its tokens in one each where a window parts them."""
    tokenizer = load_tokenizer(find_model(DECODER))
    text = " ".join(f"sol 🜁 {i}" for i in range(9))
    ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    (encoded,) = CausalLm(doc_stride=2).encode([{"text": text}], tokenizer, most)
    windows = mask_in_words(CausalLm(), tokenizer, [encoded])[0].split("\n")[1::2]
    found = re.findall("⟦(.*?)⟧", "".join(windows))
    assert sum(len(tokenizer.tokenize(piece)) if "🜁" in piece else 1 for piece in found) == len(ids) - 1
    assert "\ufffd" not in "".join(windows)


@pytest.mark.parametrize(
    "words", ["finetune train.csv --task causal_lm --max-steps 1", "evaluate {} --few-shot 1", "chat {}"]
)
def test_an_encoder_is_no_decoder(words: str, afina_: Command, tmp_path: Path) -> None:
    toy.model(tmp_path / "tiny")
    asked = {
        "finetune": [*words.split(), "--model", "tiny"],
        "evaluate": ["evaluate", "tiny", "test.csv", "--few-shot", "1", "--train", "train.csv"],
        "chat": ["chat", "tiny"],
    }[words.split()[0]]
    said = afina_(*asked)
    assert said.code == 2 and "cannot learn to write" in said.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("objective", "model"), [("clm", "tiny"), ("mlm", "gpt")])
def test_pretraining_goes_on_with_its_own_kind(
    objective: str, model: str, afina_: Command, tmp_path: Path
) -> None:
    toy.model(tmp_path / "tiny")
    (tmp_path / "text.txt").write_text("\n\n".join(f"El gato {i} duerme. Hoy." for i in range(40)), "utf-8")
    said = afina_("pretrain", "text.txt", "--objective", objective, "--model", model, "--dry-run")
    assert said.code == 2 and "cannot go on with --objective" in said.err


def test_a_gpt_is_pretrained_and_gone_on_with(afina_: Command, tmp_path: Path) -> None:
    text = "\n\n".join(f"El gato número {i} duerme en la casa. Mañana viene el perro {i}." for i in range(60))
    (tmp_path / "text.txt").write_text(text, "utf-8")
    small = ["--tokens-per-step", "400", "--max-tokens", "2000", "--short-length", "32", "--quiet", "--json"]
    new = ["--objective", "clm", "--shape", "tiny", "--vocab-size", "300", "--initialisation", "random"]
    said = afina_("pretrain", "text.txt", *new, *small, "--output-dir", "first")
    assert said.code == 0, said.err
    assert set(said.json["losses"]["validation"]) == {"clm"} and said.json["losses"]["validation"]["clm"] < 6
    said = afina_(
        "pretrain", "text.txt", "--objective", "clm", "--model", "first", *small, "--output-dir", "second"
    )
    assert said.code == 0, said.err
    assert afina_("finetune", "train.csv", "--task", "causal_lm", "--model", "second", "--dry-run").code == 0


def test_a_control_token_of_number_0_is_one() -> None:
    from types import SimpleNamespace

    from afina.verbs._objectives import OBJECTIVES

    tokenizer: Any = SimpleNamespace(bos_token_id=0, eos_token_id=2, pad_token_id=1)
    assert OBJECTIVES["clm"].rows([], tokenizer).begins == 0
    tokenizer.bos_token_id = None
    assert OBJECTIVES["clm"].rows([], tokenizer).begins == 2

    class Nothing(SimpleNamespace):
        def __call__(self, *_given: Any, **_settings: Any) -> dict[str, list[int]]:
            return {"input_ids": []}

    none: Any = Nothing(eos_token_id=0, pad_token_id=1)
    assert CausalLm().prompt_ids({"text": "", "asked": True}, none, 9) == [0]


def test_rows_of_which_nothing_is_learnt_are_said_before_training(afina_: Command, tmp_path: Path) -> None:
    rows = [
        f'{{"prompt": "¿cuánto es {i} más uno y nada más que eso?", "completion": "es"}}' for i in range(20)
    ]
    (tmp_path / "chat.jsonl").write_text("\n".join(rows), encoding="utf-8")
    cut = ["chat.jsonl", "--task", "chat", "--model", "gpt", "--max-length", "12", "--long", "truncate"]
    said = afina_("finetune", *cut)
    assert said.code == 2 and "No row of the training part has a token that is learnt" in said.err
    assert not (tmp_path / "runs").exists()
    (tmp_path / "chat.jsonl").write_text(
        "\n".join(rows + [f'{{"prompt": "{i}", "completion": "b"}}' for i in range(60)]), "utf-8"
    )
    said = afina_("finetune", *cut, "--dry-run")
    assert said.code == 0 and "without a token that is learnt, which count for nothing" in said.err


def test_a_prompt_that_is_cut_is_said(afina_: Command, tmp_path: Path) -> None:
    run = ["--max-steps", "1", "--output-dir", "run", "--max-new-tokens", "4"]
    done = afina_("finetune", "train.csv", "--task", "causal_lm", "--model", "gpt", *run)
    assert done.code == 0, done.err
    said = afina_("predict", "run", "muy largo " * 40, "--json")
    assert said.code == 0 and "Tokens that are not seen" in said.err
    assert "[transformers]" not in said.err
    assert "not seen" not in afina_("predict", "run", "corto", "--json").err


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_what_stands_before_every_text_is_not_packed(method: str, afina_: Command) -> None:
    said = afina_(
        "finetune", "train.csv", "--task", "causal_lm", "--model", "gpt", "--method", method, "--packing"
    )
    assert said.code == 2 and "cannot go with --packing" in said.err


def test_a_vocabulary_of_bytes_knows_every_character() -> None:
    tokenizer = train_byte_bpe(iter(["el niño comió jamón, my friend"] * 3), 300)
    text = "日本 😀 e\u0301 ñ\n\t  x"
    told = tokenizer(text)["input_ids"]
    assert told[0] == tokenizer.bos_token_id
    assert tokenizer.decode(told, skip_special_tokens=True) == "日本 😀 é ñ\n\t  x"

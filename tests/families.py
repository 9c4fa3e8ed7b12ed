"""A tiny model with random weights of every family that is supported, with its own class of tokenizer."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import tokenizers
import torch
import transformers
from tokenizers import trainers
from tokenizers.models import BPE, Unigram, WordPiece

from afina.names import find, known

LENGTH = 64  # positions of the models
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
ENCODER, DECODER, BOTH = "AutoModelForMaskedLM", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": LENGTH,
}
SMALL_HEADS = {"num_key_value_heads": 1, "head_dim": 16}
Learn = Callable[[Any, Sequence[str], list[str]], dict[str, Any]]


class Family(NamedTuple):
    """What a family is called in the docs, and what its smallest model is made of."""

    kind: str  # transformers' name of it
    head: str  # of the model that is fine-tuned
    sizes: dict[str, Any]
    tokenizer: Any
    learn: Learn
    special: list[str]
    knobs: Mapping[str, Any] = MappingProxyType({})


def pieces(trainer: Any, model: Any, plain: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Return a vocabulary, and merges where there are any, learnt as the tokenizer `plain` cuts text."""
    draft = tokenizers.Tokenizer(model)
    pipeline = plain.backend_tokenizer
    if pipeline.normalizer is not None:
        draft.normalizer = pipeline.normalizer
    if pipeline.pre_tokenizer is not None:
        draft.pre_tokenizer = pipeline.pre_tokenizer
    draft.train_from_iterator(texts, trainer)
    found = json.loads(draft.to_str())["model"]
    if isinstance(found["vocab"], list):
        return {"vocab": [tuple(each) for each in found["vocab"]]}
    merges = {"merges": [tuple(pair) for pair in found["merges"]]} if "merges" in found else {}
    return {"vocab": found["vocab"]} | merges


def wordpiece(plain: Any, texts: Sequence[str], special: list[str]) -> dict[str, Any]:
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    return pieces(trainer, WordPiece(unk_token="[UNK]"), plain, texts)


def byte_bpe(plain: Any, texts: Sequence[str], special: list[str]) -> dict[str, Any]:
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return pieces(trainer, BPE(), plain, texts)


def sentence_bpe(plain: Any, texts: Sequence[str], special: list[str]) -> dict[str, Any]:
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special + BYTES, show_progress=False)
    return pieces(
        trainer, BPE(byte_fallback=True), plain, [f" {word}" for text in texts for word in text.split()]
    )


def unigram(plain: Any, texts: Sequence[str], special: list[str]) -> dict[str, Any]:
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=special, unk_token=plain.unk_token, show_progress=False
    )
    return pieces(trainer, Unigram(), plain, texts)


CASED = {"do_lower_case": False, "strip_accents": False}
WORDPIECE = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
GPT = ["<|endoftext|>"]
AFTER_PADDING = SIZES | {"max_position_embeddings": LENGTH + 2, "type_vocab_size": 1}
GEMMA = SIZES | SMALL_HEADS | {"sliding_window": 8, "query_pre_attn_scalar": 16}

FAMILIES = {
    "BERT": Family("bert", ENCODER, SIZES, transformers.BertTokenizer, wordpiece, WORDPIECE, CASED),
    "RoBERTa": Family("roberta", ENCODER, AFTER_PADDING, transformers.RobertaTokenizer, byte_bpe, ROBERTA),
    "DistilBERT": Family(
        "distilbert",
        ENCODER,
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": LENGTH},
        transformers.DistilBertTokenizer, wordpiece, WORDPIECE, CASED,
    ),
    "ELECTRA": Family(
        "electra", ENCODER, SIZES | {"embedding_size": 16},
        transformers.ElectraTokenizer, wordpiece, WORDPIECE, CASED,
    ),
    "DeBERTa-v3": Family(
        "deberta-v2",
        ENCODER,
        SIZES | {
            "relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0, "position_biased_input": False,
            "max_relative_positions": -1,
        },
        transformers.DebertaV2Tokenizer, unigram, ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"],
    ),
    "ModernBERT": Family(
        "modernbert", ENCODER, SIZES | {"local_attention": 8, "global_attn_every_n_layers": 2},
        transformers.PreTrainedTokenizerFast, byte_bpe, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    ),
    "XLM-R": Family("xlm-roberta", ENCODER, AFTER_PADDING, transformers.XLMRobertaTokenizer, unigram, ROBERTA),
    "GPT-2": Family(
        "gpt2", DECODER, {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": LENGTH},
        transformers.GPT2Tokenizer, byte_bpe, GPT,
    ),
    "Llama": Family(
        "llama", DECODER, SIZES | SMALL_HEADS, transformers.LlamaTokenizer, sentence_bpe, ["<unk>", "<s>", "</s>"],
        {"add_bos_token": True},
    ),
    "Qwen3": Family(
        "qwen3", DECODER, SIZES | SMALL_HEADS, transformers.Qwen2Tokenizer, byte_bpe,
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], {"eos_token": "<|im_end|>"},
    ),
    "Gemma 2": Family(
        "gemma2", DECODER, GEMMA, transformers.GemmaTokenizer, sentence_bpe,
        ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"], {"add_bos_token": True},
    ),
    "Gemma 3": Family(
        "gemma3_text", DECODER, GEMMA, transformers.GemmaTokenizer, sentence_bpe,
        ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"], {"add_bos_token": True},
    ),
    "T5": Family(
        "t5", BOTH, {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
        transformers.T5Tokenizer, unigram, ["<pad>", "</s>", "<unk>"], {"extra_ids": 0},
    ),
    "BART": Family(
        "bart",
        BOTH,
        {
            "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
            "max_position_embeddings": LENGTH, "forced_eos_token_id": None,
        },
        transformers.BartTokenizer, byte_bpe, ROBERTA,
    ),
}  # fmt: skip


def texts() -> list[str]:
    """Return the toy texts of all tasks."""
    return [
        " ".join(each["content"] if isinstance(each, dict) else str(each) for each in value)
        if isinstance(value, list)
        else str(value)
        for name in known("tasks")
        for row in find("tasks", name).toy()
        for value in row.values()
    ]


def tokenizer(family: Family) -> Any:
    """Return a tokenizer of the family's class, learnt from the toy texts."""
    if family.kind == "modernbert":  # whose tokenizer is of the general class
        return _modernbert(family)
    plain = family.tokenizer(**family.knobs)
    return family.tokenizer(**family.learn(plain, texts(), family.special), **family.knobs)


def _modernbert(family: Family) -> Any:
    plain = tokenizers.Tokenizer(BPE())
    plain.normalizer = tokenizers.normalizers.NFC()
    plain.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    empty = transformers.PreTrainedTokenizerFast(tokenizer_object=plain)
    learnt = family.learn(empty, texts(), family.special)
    whole = tokenizers.Tokenizer(BPE(**learnt))
    whole.normalizer, whole.pre_tokenizer = plain.normalizer, plain.pre_tokenizer
    whole.decoder = tokenizers.decoders.ByteLevel()
    whole.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(sign, whole.token_to_id(sign)) for sign in ("[CLS]", "[SEP]")],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=whole,
        model_input_names=["input_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def build(name: str, folder: Path) -> Path:
    """Write the model of the family into `folder` as its makers would publish it."""
    family = FAMILIES[name]
    made = tokenizer(family)
    made.model_max_length = LENGTH
    made.save_pretrained(folder)
    signs = ("pad", "bos", "eos", "cls", "sep")
    ids = {f"{sign}_token_id": getattr(made, f"{sign}_token_id") for sign in signs}
    if family.head == DECODER:  # whose makers name no padding, whatever the tokenizer has
        ids["pad_token_id"] = None
    if family.head == BOTH:
        ids["decoder_start_token_id"] = made.pad_token_id if family.kind == "t5" else made.eos_token_id
    config = transformers.AutoConfig.for_model(family.kind, vocab_size=len(made), **ids, **family.sizes)
    torch.manual_seed(0)
    model = getattr(transformers, family.head).from_config(config)
    model.save_pretrained(folder)
    return folder

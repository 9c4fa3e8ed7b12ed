"""Models and tokenizers as transformers' own classes, always in float32 and never from a pickle."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from afina.errors import InputError
from afina.messages import _
from afina.models.find import shape
from afina.models.parts import first_position, inside, stack

# What the field calls its dropouts; those of the attention stay as they are (0 unless asked: see `load`).
DROPOUTS = (
    "hidden_dropout_prob",
    "dropout",
    "resid_pdrop",
    "embd_pdrop",
    "dropout_rate",
    "mlp_dropout",
    "embedding_dropout",
    "classifier_dropout",
    "seq_classif_dropout",
    "qa_dropout",
)
ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")


def load(
    folder: Path,
    head: str,
    config: Mapping[str, Any] | None = None,
    *,
    random_weights: bool = False,
    dropout: float | None = None,
) -> nn.Module:
    """Return the model of `folder` with the head `AutoModelFor…` in float32 (the file may hold fp16).

    `config` is laid over the model's own (number and names of labels). With `random_weights` only the shape is
    taken. `dropout` sets every dropout but that of the attention, which is always 0 in training here: it forces
    the slow attention path on CPU. What is set so is of this training alone: the model's `config`, which is saved with
    it, keeps its own (Falcon alone reads its attention's there again in every step). Raises InputError where the
    folder's model has no such head.
    """
    settings = load_config(folder, config)
    auto = _auto(head, settings)
    if auto is transformers.AutoModelForSequenceClassification and not _reads_both_ways(settings):
        # A decoder's head looks for the padding to find a row's end; its makers name none, or not the tokenizer's.
        settings.pad_token_id = load_tokenizer(folder).pad_token_id
    own = {
        name: getattr(settings, name) for name in (*DROPOUTS, *ATTENTION_DROPOUTS) if hasattr(settings, name)
    }
    for name in ATTENTION_DROPOUTS:
        if getattr(settings, name, None):
            setattr(settings, name, 0.0)
    if dropout is not None:
        for name in DROPOUTS:
            if isinstance(getattr(settings, name, None), (int, float)):
                setattr(settings, name, dropout)
    with _quiet():
        try:
            if random_weights:
                fresh = auto.from_config(settings, dtype=torch.float32, trust_remote_code=False)
                fresh.config.update(own)
                return _causal(fresh, head)
            # A head for other labels has another size and is drawn anew; the backbone must fit (see `_whole`).
            renamed = _renamed(auto, settings)
            model, info = auto.from_pretrained(
                folder,
                config=settings,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                key_mapping=renamed,
            )
            model.config.update(own)
            if renamed:  # transformers would save it under the old names again, and not find them itself
                kept = [each for each in model._weight_conversions if {*each.source_patterns} - {*renamed}]
                model._weight_conversions = kept
            return _causal(_whole(model, info, folder), head)
        except (ValueError, KeyError) as error:
            if own_code := _own_code(folder, error):
                raise InputError(own_code) from None
            raise
        except (OSError, SafetensorError) as error:
            raise InputError(_unreadable(folder, error)) from None


def _auto(head: str, settings: Any) -> Any:
    """Return the class `AutoModelFor…` that has the head for such a model; InputError where none has.

    For pre-training some families have no class, and ELECTRA one that finds replaced words: both guess hidden ones
    with another.
    """
    auto, kind = getattr(transformers, head), type(settings)
    if auto is transformers.AutoModelForPreTraining:
        if not _reads_both_ways(settings) or settings.is_encoder_decoder:
            raise InputError(
                _(
                    "A model of the kind '{kind}' cannot guess hidden words. Choose an encoder, such as BERT or RoBERTa."
                ).format(kind=settings.model_type)
            )
        if settings.model_type == "electra" or kind not in transformers.MODEL_FOR_PRETRAINING_MAPPING:
            auto = transformers.AutoModelForMaskedLM
    if auto is transformers.AutoModelForCausalLM and settings.is_encoder_decoder:
        raise InputError(
            _(
                "A model of the kind '{kind}' cannot write on from a text, only a text out of another one. Take "
                "--task seq2seq, or a decoder such as GPT-2 or Llama."
            ).format(kind=settings.model_type)
        )
    if kind not in auto._model_mapping and not hasattr(settings, "auto_map"):
        raise InputError(
            _(
                "A model of the kind '{kind}' cannot be used for this task: transformers has no {head} for it."
            ).format(kind=settings.model_type, head=head)
        )
    return auto


def auto_class(architecture: str) -> str:
    """Return the `AutoModelFor…` of a class such as `BertForPreTraining`."""
    for end in ("ForPreTraining", "ForCausalLM", "ForMaskedLM", "ForConditionalGeneration", "LMHeadModel"):
        if architecture.endswith(end):
            known = {
                "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
                "LMHeadModel": "AutoModelForCausalLM",
            }
            return known.get(end, f"AutoModel{end}")
    head = architecture[architecture.find("For") :] if "For" in architecture else ""
    return f"AutoModel{head}"


def _reads_both_ways(settings: Any) -> bool:
    """Whether a word is read with what comes after it, as in encoders and encoder-decoders."""
    return settings.is_encoder_decoder or type(settings) in transformers.MODEL_FOR_MASKED_LM_MAPPING


def _renamed(auto: Any, settings: Any) -> dict[str, str] | None:
    """Return how weights in a file are renamed: Llama's head for questions calls its backbone by an older name."""
    kinds: list[Any] = [each._model_mapping for each in (auto, transformers.AutoModel)]
    if not all(type(settings) in each for each in kinds):
        return None
    ours, usual = (each[type(settings)].base_model_prefix for each in kinds)
    return None if ours == usual else {rf"^{usual}\.": f"{ours}."}


def _causal(model: nn.Module, head: str) -> nn.Module:
    """Return the model where it does not see what it is to guess: transformers makes a decoder of any encoder."""
    if head != "AutoModelForCausalLM":
        return model
    with torch.inference_mode():
        first, other = (model.eval()(input_ids=torch.tensor([ids])).logits[0, 0] for ids in ([3, 4], [3, 5]))
    if torch.allclose(first, other, atol=1e-4):
        return model
    raise InputError(
        _(
            "A model of the kind '{kind}' reads a text from both sides, so it cannot learn to write. Choose a decoder, "
            "such as GPT-2 or Llama."
        ).format(kind=model.config.model_type)  # type: ignore[union-attr]
    )


def _whole(model: nn.Module, info: Mapping[str, Any], folder: Path) -> nn.Module:
    """Return the model where its backbone came from the file: transformers would draw what is missing, silently.

    `model.drawn` names the weights that the file did not bring: a new head, sometimes the pooler below it.
    """
    unfit = [name for name, *_sizes in info["mismatched_keys"] if inside(model, name)]
    missing = [name for name in info["missing_keys"] if inside(model, name)]
    model.drawn = frozenset(  # type: ignore[assignment]
        [*info["missing_keys"], *(name for name, *_sizes in info["mismatched_keys"])]
    )
    own = [name for name in model.state_dict() if inside(model, name)]
    if unfit or 2 * len(missing) > len(own):
        raise InputError(
            _("The weights in {folder} do not fit its config.json, for example {name}.").format(
                folder=folder, name=sorted(unfit or missing)[0]
            )
        )
    return model


def load_config(folder: Path, config: Mapping[str, Any] | None = None) -> Any:
    """Return the model's configuration with `config` laid over it."""
    try:
        # Said in so many words: where nothing is said, transformers asks the person and runs the folder's code.
        with _quiet():
            settings: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False, **(config or {}))
    except (OSError, ValueError) as error:
        raise InputError(_own_code(folder, error) or _unreadable(folder, error)) from None
    _pad_token(settings)
    _start_token(settings)
    return settings


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer that `folder` holds, with or without a model; InputError where there is none.

    A text that names a control token (`[MASK]`, `</s>`) is text to it: what is to be read as one says so when it calls.
    Unigram vocabularies (T5, XLM-R) hold theirs as ordinary pieces, too, and cannot tell the two apart.
    """
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(
            _own_code(folder, error)
            or _("The tokenizer in {folder} cannot be read: {reason}").format(
                folder=folder, reason=str(error).split("\n")[0]
            )
        ) from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers makes an empty one of nothing
        raise InputError(
            _("{folder} holds no tokenizer. Copy its files there (tokenizer.json and its like).").format(
                folder=folder
            )
        )
    tokenizer.split_special_tokens = True
    tokenizer.init_kwargs.pop("split_special_tokens", None)  # or it would be saved, and break chats elsewhere
    return tokenizer


def load_tokenizer(folder: Path, model: Path | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the model in `folder`, with a padding token in any case.

    The `model` may lie in another folder. Raises InputError where there is none or where it is not the model's.
    """
    tokenizer = read_tokenizer(folder)
    tokens = shape(model or folder).get("vocab_size")
    if isinstance(tokens, int) and tokenizer.vocab_size > tokens:
        raise InputError(
            _(
                "The tokenizer in {folder} has {vocabulary} tokens, but the model knows {tokens}: they do not belong "
                "together."
            ).format(folder=folder, vocabulary=tokenizer.vocab_size, tokens=tokens)
        )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None and tokenizer.unk_token is None:
            raise InputError(
                _(
                    "The tokenizer in {folder} has no padding token, and none for the end of a text that could stand "
                    "for it. Name one under pad_token in tokenizer_config.json."
                ).format(folder=folder)
            )
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def longest(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many tokens a row may have, special ones counted, by the model's positions and tokenizer."""
    positions = (
        getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or 512
    )
    return int(min(positions - _before_text(config), tokenizer.model_max_length))


def _before_text(config: Any) -> int:
    """Return how many positions lie before that of a text's first token, which only the model's modules tell."""
    if type(config) not in transformers.MODEL_MAPPING:
        return 0
    own = deepcopy(config)  # some models write into it
    with torch.device("meta"), _quiet():  # without weights
        return first_position(stack(transformers.AutoModel.from_config(own, trust_remote_code=False)))


def _own_code(folder: Path, error: Exception) -> str | None:
    """Return what to say where transformers asks for leave to run the folder's code, which it never gets."""
    if "trust_remote_code" not in str(error):
        return None
    return _(
        "The model in {folder} needs code of its own to be run, which afina never does. Choose a model of a kind "
        "that transformers knows."
    ).format(folder=folder)


def _unreadable(folder: Path, error: Exception) -> str:
    return _("The model in {folder} cannot be read: {reason}").format(
        folder=folder, reason=str(error).split("\n")[0]
    )


def _pad_token(config: Any) -> None:
    """Decoder heads look for the padding token to find a row's end; many decoders have none of their own."""
    if getattr(config, "pad_token_id", None) is None and getattr(config, "eos_token_id", None) is not None:
        eos = config.eos_token_id
        config.pad_token_id = eos[0] if isinstance(eos, list) else eos


def _start_token(config: Any) -> None:
    """A T5's configuration need not say what its decoder begins with, though the model asks for it: the padding."""
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = config.pad_token_id


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers reports a fresh head as a defect of the file; here it is what was asked for."""
    from transformers import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

"""Where a model keeps its parts: the backbone, the vocabulary head, the next-sentence head.

The one place that knows the inside of transformers' model classes.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from afina.core import Batch
from afina.errors import InputError
from afina.messages import _
from afina.models.parts import backbone, config, first_position

# The modules that lead from the last layer to the vocabulary, by family, those that are most particular first.
VOCABULARY = (
    ("cls.predictions",),  # BERT, DeBERTa
    ("generator_predictions", "generator_lm_head"),  # ELECTRA
    ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),  # DistilBERT
    ("lm_head",),  # RoBERTa, decoders
    ("output_projection",),  # BioGPT
    ("head", "decoder"),  # ModernBERT
    ("predictions",),  # ALBERT
    ("cls",),
)
NEXT_SENTENCE = "cls.seq_relationship"
AT_ONCE = 4096  # tokens of one row that go through the model together, padding counted
# Logits over the vocabulary that go through at once, 1 GB in float32, of which there are up to four copies on the way
# back; and how many go through at a time where there are more. Fewer save less than they cost (benchmarks/LOG.md).
LOGITS, PART = 2**28, 2**26


def hidden_states(model: nn.Module, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the last layer's output [rows, tokens, width] of the backbone of an `AutoModelFor…`.

    `position_ids` that begin anew within a row, without an `attention_mask`, keep packed texts apart in a decoder.
    """
    backbone = model.get_submodule(str(model.base_model_prefix))
    known = inspect.signature(backbone.forward).parameters
    wanted = ("input_ids", "attention_mask", "position_ids", *_segments(model))
    given: dict[str, Any] = {name: tensors[name] for name in wanted if name in tensors and name in known}
    if "position_ids" in given:
        given["position_ids"] = given["position_ids"] + first_position(backbone)
        # Without a mask GPT-2 warns of padding, which lies behind the last text of a packed row, apart from it.
        backbone.warn_if_padding_and_no_attention_mask = _silent  # type: ignore[assignment]
    if "use_cache" in known:
        given["use_cache"] = (
            False  # nothing is generated here, and with a cache packed texts are not told apart
        )
    return backbone(**given)[0]


def _silent(_input_ids: Tensor, _attention_mask: Tensor | None) -> None:
    """Say nothing of rows without a mask."""


def decoder_states(model: nn.Module, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return what an encoder-decoder guesses `labels` [rows, tokens] from, [rows, tokens, width], by teacher forcing.

    The decoder reads the labels moved one place to the right by the model's own rule, IGNORED ones as padding.
    """
    body = backbone(model)
    shifted = model.prepare_decoder_input_ids_from_labels(tensors["labels"])  # type: ignore[operator]
    if body:
        return model.get_submodule(body)(
            input_ids=tensors["input_ids"],
            attention_mask=tensors["attention_mask"],
            decoder_input_ids=shifted,
            use_cache=False,
        )[0]
    read = model.get_submodule("encoder")(
        input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"]
    )[0]
    hidden = model.get_submodule("decoder")(
        input_ids=shifted,
        encoder_hidden_states=read,
        encoder_attention_mask=tensors["attention_mask"],
        use_cache=False,
    )[0]
    # T5's, where the vocabulary is that of the embeddings.
    config: Any = model.config
    return hidden * config.d_model**-0.5 if config.scale_decoder_outputs else hidden


def _segments(model: nn.Module) -> list[str]:
    """Return what a model that tells segments apart is given besides: RoBERTa has one embedding, GPT-2 takes them for words."""
    return ["token_type_ids"] if getattr(model.config, "type_vocab_size", 0) > 1 else []


def outputs(model: nn.Module, batch: Batch, *names: str) -> list[Tensor]:
    """Return the named outputs of the head of an `AutoModelFor…`, or all, for each row of the tensors, in float32.

    One row of data may be many windows: alone in its batch it goes through the model AT_ONCE tokens at a time. Where
    a gradient is asked for, each such part is computed a second time on the way back instead of being kept (Chen et
    al. 2016).
    """
    wanted = ["input_ids", "attention_mask", *_segments(model)]
    given = {name: batch.tensors[name] for name in wanted if name in batch.tensors}
    rows, width = given["input_ids"].shape
    # Nothing is generated here, and blocks that are computed a second time would warn of a cache.
    plain = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}

    def ask(*tensors: Tensor) -> tuple[Tensor, ...]:
        try:
            out = model(**dict(zip(given, tensors, strict=True)), **plain)
        except ValueError as error:  # of the heads of T5 and BART, which read a row at the sign for its end
            if "number of <eos> tokens" not in str(error):
                raise
            sentence = _("A text holds the sign that ends a text for this model, such as </s>. Take it out.")
            raise InputError(sentence) from None
        given_out = names or [name for name, value in out.items() if isinstance(value, Tensor)]
        return tuple(out[name].float() for name in given_out)

    some, learning = max(1, AT_ONCE // width), torch.is_grad_enabled()
    if rows <= some or (learning and len(batch.rows) > 1):
        return list(ask(*given.values()))
    parts = zip(*(tensor.split(some) for tensor in given.values()), strict=True)
    found = [checkpoint(ask, *part, use_reentrant=False) if learning else ask(*part) for part in parts]
    return [torch.cat(each) for each in zip(*found, strict=True)]


@contextmanager
def asked_once(model: nn.Module) -> Iterator[None]:
    """Let `model` give, in the context, the output it has given where it is asked for the same tensors again.

    The tensors must be the same memory, unchanged: a batch that goes through in parts is cut anew each time. Only for
    use without gradient.
    """
    own = model.forward
    known: dict[
        Any, tuple[dict[str, Any], Any]
    ] = {}  # what was given is held on to: its memory is not used again

    def forward(*args: Any, **given: Any) -> Any:
        key = tuple((name, _place(value)) for name, value in given.items())
        if args:
            return own(*args, **given)
        if key not in known:
            known[key] = given, own(**given)
        return known[key][1]

    model.forward = forward
    try:
        yield
    finally:
        del model.forward


def _place(value: Any) -> Any:
    """Return what tells where the numbers of a tensor lie; what is none stands for itself."""
    return (value.data_ptr(), value.shape, value.stride()) if isinstance(value, Tensor) else value


def vocabulary_modules(model: nn.Module) -> tuple[str, ...]:
    """Return the paths of the modules that lead from the last layer to the vocabulary; InputError where none is known."""
    modules = dict(model.named_modules())
    path = next((path for path in VOCABULARY if all(name in modules for name in path)), None)
    if path is None:
        raise InputError(
            _(
                "Of a model of the kind '{kind}' afina does not know the head over the vocabulary, so it cannot learn to "
                "write or to guess words. Choose another one, such as a GPT-2, a Llama or a BERT."
            ).format(kind=config(model).model_type)
        )
    return path


def vocabulary(model: nn.Module, hidden: Tensor) -> Tensor:
    """Return the logits over the vocabulary for `hidden` [places, width]: only where they are asked for."""
    for name in vocabulary_modules(model):
        hidden = model.get_submodule(name)(hidden)
    bias = getattr(model, "final_logits_bias", None)  # BART's and Marian's
    if bias is not None:
        hidden = hidden + bias
    cap = getattr(model.config, "final_logit_softcapping", None)  # Gemma's
    return hidden if cap is None else cap * (hidden / cap).tanh()


def surprise(logits: Tensor, gold: Tensor) -> Tensor:
    """Return the loss in nats [places] of `gold` [places] under `logits` [places, vocabulary]."""
    return cross_entropy(logits, gold, reduction="none")


def drawn(logits: Tensor, _gold: Tensor) -> Tensor:
    """Return a token [places] drawn for each of `logits` [places, vocabulary], as likely as they say."""
    return logits.softmax(-1).multinomial(1)[:, 0]


def divergence(logits: Tensor, other: Tensor) -> Tensor:
    """Return how far each of `logits` [places, choices] is from `other`, in nats (Kullback & Leibler 1951)."""
    wanted = other.log_softmax(-1)
    shares = wanted.exp()
    return cross_entropy(logits, shares, reduction="none") + (shares * wanted).sum(-1)


def taught_by(teacher: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what tells how far logits are from those that `teacher` has for its own `hidden` [places, width]."""

    def told(logits: Tensor, hidden: Tensor) -> Tensor:
        with torch.no_grad():
            other = vocabulary(teacher, hidden).float()
        return divergence(logits, other)

    return told


def guessed(
    model: nn.Module,
    hidden: Tensor,
    gold: Tensor,
    told: Callable[[Tensor, Tensor], Tensor] = surprise,
) -> Tensor:
    """Return what `told` says, place by place, of the logits over the vocabulary for `hidden` and of `gold` [places, …].

    It is given logits [places, vocabulary] in float32; where they are more than LOGITS, PART of them at a time. Where a
    gradient is asked for, those of each part are then computed a second time on the way back instead of being kept (Chen
    et al. 2016).
    """

    def tell(hidden: Tensor, gold: Tensor) -> Tensor:
        return told(vocabulary(model, hidden).float(), gold)

    words, learning = int(config(model).vocab_size), torch.is_grad_enabled()
    if len(hidden) * words <= LOGITS:
        return tell(hidden, gold)
    some = max(1, PART // words)
    parts = zip(hidden.split(some), gold.split(some), strict=True)
    return torch.cat(
        [checkpoint(tell, *part, use_reentrant=False) if learning else tell(*part) for part in parts]
    )


@contextmanager
def embodied(model: nn.Module, body: nn.Module) -> Iterator[None]:
    """Let `model` have another body in the context: the head of one model on the body of another."""
    path = backbone(model)
    own = model.get_submodule(path)
    setattr(model, path, body)
    try:
        yield
    finally:
        setattr(model, path, own)


def pooled(model: nn.Module, hidden: Tensor) -> Tensor:
    """Return what speaks for each row [rows, width]: BERT's pooled first token, else the first token as it is."""
    try:
        return model.get_submodule("bert.pooler")(hidden)
    except AttributeError:
        return hidden[:, 0]


def next_sentence(model: nn.Module, hidden: Tensor) -> Tensor | None:
    """Return the logits [rows, 2] of BERT's next-sentence head (0: B follows A), None where there is none."""
    try:
        head = model.get_submodule(NEXT_SENTENCE)
    except AttributeError:
        return None
    return head(pooled(model, hidden))

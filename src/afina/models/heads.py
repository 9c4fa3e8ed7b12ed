"""Where a model keeps its parts: the backbone, the vocabulary head, the next-sentence head.

The one place that knows the inside of transformers' model classes.
"""

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from afina.core import Batch
from afina.errors import InputError
from afina.messages import _

# The modules that lead from the last layer to the vocabulary, by family, those that are most particular first.
VOCABULARY = (
    ("cls.predictions",),  # BERT, DeBERTa
    ("generator_predictions", "generator_lm_head"),  # ELECTRA
    ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),  # DistilBERT
    ("lm_head",),  # RoBERTa, decoders
    ("head", "decoder"),  # ModernBERT
    ("cls",),
)
AT_ONCE = 4096  # tokens of one row that go through the model together, padding counted


def hidden_states(model: nn.Module, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the last layer's output [rows, tokens, width] of the backbone of an `AutoModelFor…`."""
    backbone = model.get_submodule(str(model.base_model_prefix))
    known = inspect.signature(backbone.forward).parameters
    wanted = ("input_ids", "attention_mask", *_segments(model))
    return backbone(**{name: tensors[name] for name in wanted if name in tensors and name in known})[0]


def _segments(model: nn.Module) -> list[str]:
    """Return what a model that tells segments apart is given besides: RoBERTa has one embedding, GPT-2 takes them for words."""
    return ["token_type_ids"] if getattr(model.config, "type_vocab_size", 0) > 1 else []


def outputs(model: nn.Module, batch: Batch, *names: str) -> list[Tensor]:
    """Return the named outputs of the head of an `AutoModelFor…` for each row of the tensors, in float32.

    One row of data may be many windows: alone in its batch it goes through the model AT_ONCE tokens at a time. Where
    a gradient is asked for, each such part is computed a second time on the way back instead of being kept (Chen et
    al. 2016).
    """
    wanted = ["input_ids", "attention_mask", *_segments(model)]
    given = {name: batch.tensors[name] for name in wanted if name in batch.tensors}
    rows, width = given["input_ids"].shape

    def ask(*tensors: Tensor) -> tuple[Tensor, ...]:
        try:
            out = model(**dict(zip(given, tensors, strict=True)))
        except ValueError as error:  # of the heads of T5 and BART, which read a row at the sign for its end
            if "number of <eos> tokens" not in str(error):
                raise
            sentence = _("A text holds the sign that ends a text for this model, such as </s>. Take it out.")
            raise InputError(sentence) from None
        return tuple(out[name].float() for name in names)

    some, learning = max(1, AT_ONCE // width), torch.is_grad_enabled()
    if rows <= some or (learning and len(batch.rows) > 1):
        return list(ask(*given.values()))
    parts = zip(*(tensor.split(some) for tensor in given.values()), strict=True)
    found = [checkpoint(ask, *part, use_reentrant=False) if learning else ask(*part) for part in parts]
    return [torch.cat(each) for each in zip(*found, strict=True)]


def vocabulary(model: nn.Module, hidden: Tensor) -> Tensor:
    """Return the logits over the vocabulary for `hidden` [places, width]: only where they are asked for."""
    modules = dict(model.named_modules())
    for path in VOCABULARY:
        if all(name in modules for name in path):
            for name in path:
                hidden = modules[name](hidden)
            return hidden
    raise TypeError(f"{type(model).__name__} has no vocabulary head that is known here")


def pooled(model: nn.Module, hidden: Tensor) -> Tensor:
    """Return what speaks for each row [rows, width]: BERT's pooled first token, else the first token as it is."""
    try:
        return model.get_submodule("bert.pooler")(hidden)
    except AttributeError:
        return hidden[:, 0]


def next_sentence(model: nn.Module, hidden: Tensor) -> Tensor | None:
    """Return the logits [rows, 2] of BERT's next-sentence head (0: B follows A), None where there is none."""
    try:
        head = model.get_submodule("cls.seq_relationship")
    except AttributeError:
        return None
    return head(pooled(model, hidden))

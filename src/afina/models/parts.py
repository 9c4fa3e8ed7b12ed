"""Where a model keeps its blocks and projections: BERT, RoBERTa, DistilBERT, ModernBERT, GPT-2, Llama, T5, BART and kin."""

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from afina.errors import InputError
from afina.messages import _

# Paths of the projections within a block, as the field's models name them; a fused projection counts as each part.
ROLES = {
    "key": r"self\.key|k_lin|Wqkv|c_attn|k_proj|(Self|EncDec)Attention\.k",
    "value": r"self\.value|v_lin|Wqkv|c_attn|v_proj|(Self|EncDec)Attention\.v",
    "attention": r"attention\.output\.dense|out_lin|attn\.Wo|attn\.c_proj|self_attn\.o_proj|(Self|EncDec)Attention\.o|(self|encoder)_attn\.out_proj",
    "feed_forward": r"(?<!attention\.)output\.dense|ffn\.lin2|mlp\.(Wo|c_proj|down_proj)|DenseReluDense\.wo|fc2",
}


CROSS = ("EncDecAttention", "encoder_attn")  # attention of a decoder to what the encoder has read
# Embeddings and their normalisations, which some families (BART, DeBERTa) declare after the blocks they feed.
EMBEDDINGS = re.compile(r"embed|relative_attention_bias|^deberta\.encoder\.LayerNorm\.")


def backbone(model: nn.Module) -> str:
    """Return the path of the body below the head of an `AutoModelFor…`, empty where it has none of its own.

    A T5 that writes holds encoder and decoder itself, beside `lm_head`.
    """
    path = str(model.base_model_prefix)
    return path if hasattr(model, path) else ""


def inside(model: nn.Module, name: str) -> bool:
    """Whether the weight or module of that name is part of the body and not of the head."""
    body = backbone(model)
    return name.startswith(body + ".") if body else name.partition(".")[0] != "lm_head"


def head(model: nn.Module) -> frozenset[str]:
    """Return the names of the weights outside the backbone; a vocabulary tied to the embeddings is not one."""
    # XLM-R declares its head first, so a tied vocabulary goes by the head's name there.
    tied = model.get_input_embeddings().weight  # type: ignore[operator]
    return frozenset(
        name for name, weight in model.named_parameters() if weight is not tied and not inside(model, name)
    )


def answers_in_words(model: nn.Module) -> bool:
    """Whether the head is the language model's own, which maps to the vocabulary."""
    return model.get_output_embeddings() is not None  # type: ignore[operator]


def drawn(model: nn.Module) -> frozenset[str]:
    """Return the names of the weights that the base model did not bring and that were drawn anew when it was loaded."""
    found: frozenset[str] = getattr(model, "drawn", frozenset())
    return found & {name for name, _weight in model.named_parameters()}


def begin(model: nn.Module, prior: Sequence[float] | None) -> None:
    """Let the new head of `model` give `prior` for what it cannot read yet, by its bias, in place.

    Nothing happens where the checkpoint brought the head, or where it has no bias, as those of decoders.
    """
    import torch

    new = drawn(model) if hasattr(model, "drawn") else head(model)
    layers = [module for name, module in model.named_modules() if f"{name}.bias" in new and is_linear(module)]
    if prior is None or not layers or width(layers[-1]) != len(prior):
        return
    with torch.no_grad():
        layers[-1].bias.copy_(torch.tensor(prior))


def blocks(model: nn.Module) -> list[str]:
    """Return the paths of the blocks from the lowest to the highest; of T5 the encoder's, then the decoder's."""
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and inside(model, name)
    ]
    outer = [name for name in lists if not any(name.startswith(other + ".") for other in lists)]
    return [f"{name}.{i}" for name in outer for i in range(len(model.get_submodule(name)))]  # type: ignore[arg-type]


def depths(model: nn.Module) -> dict[str, int]:
    """Return of each weight how deep it lies: 0 the embeddings, then the blocks from 1, one more the head.

    What stands in the backbone after a block (a last normalisation, the pooler) goes with that block. A vocabulary
    tied to the embeddings lies as deep as they do, so nothing may lie above the blocks.
    """
    above, depth, found = head(model), 0, {}
    paths = blocks(model)
    for name, _weight in model.named_parameters():
        block = next((i for i, path in enumerate(paths, 1) if name.startswith(path + ".")), None)
        depth = block or depth
        embeds = not block and EMBEDDINGS.search(name)
        found[name] = len(paths) + 1 if name in above else 0 if embeds else depth
    return found


def linear(model: nn.Module) -> list[str]:
    """Return the paths of all linear layers of the backbone that the base model brought."""
    new = drawn(model)
    return [
        name
        for name, module in model.named_modules()
        if inside(model, name) and is_linear(module) and f"{name}.weight" not in new
    ]


def places(model: nn.Module, *roles: str) -> list[str]:
    """Return the paths of the linear layers that play one of the `roles`; InputError where a role is not found."""
    every = linear(model)
    found: dict[str, None] = {}
    for role in roles:
        players = [name for name in every if re.search(rf"(^|\.)({ROLES[role]})$", name)]
        if not players:
            raise InputError(
                _("This method does not know its way inside a model of the kind '{kind}'.").format(
                    kind=config(model).model_type
                )
            )
        found |= dict.fromkeys(players)
    return [name for name in every if name in found]


def stack(model: nn.Module) -> nn.Module:
    """Return the part that reads the text: the backbone, or the encoder of an encoder-decoder."""
    body = model.get_submodule(backbone(model))
    return body.get_submodule("encoder") if config(model).is_encoder_decoder else body


def config(model: nn.Module) -> Any:
    """Return the model's configuration."""
    return model.config


def is_linear(module: nn.Module) -> bool:
    """Whether the module is a linear layer, as torch or as GPT-2 writes it."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def width(module: nn.Module) -> int:
    """Return how many numbers a linear layer gives."""
    return int(getattr(module, "out_features", None) or module.nf)  # type: ignore[arg-type]


def norms(model: nn.Module) -> set[str]:
    """Return the names of the weights of all normalisations in the backbone."""
    return {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if inside(model, path) and type(module).__name__.endswith("Norm")
        for name, _weight in module.named_parameters(recurse=False)
    }


def inputs(module: nn.Module) -> int:
    """Return how many numbers a linear layer takes."""
    return int(getattr(module, "in_features", None) or module.nx)  # type: ignore[arg-type]


def first_position(reader: nn.Module) -> int:
    """Return the position of a text's first token in what reads it: RoBERTa's and its kin's come after the padding's."""
    embeddings = getattr(getattr(reader, "embeddings", None), "position_embeddings", None)
    padding = getattr(embeddings, "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def positions(model: nn.Module) -> int | None:
    """Return how many places a text may have, None where the model knows distances alone (T5)."""
    found: int | None = getattr(config(model), "max_position_embeddings", None)
    return found

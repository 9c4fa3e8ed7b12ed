"""A new BERT or GPT by the name of its size."""

from typing import Any

from torch import nn

SHAPES = {  # layers, width: the miniatures of Turc et al. (2019)
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
}


def bert(shape: str, vocab_size: int, positions: int = 512, dropout: float = 0.0) -> nn.Module:
    """Return a `BertForPreTraining` of the named shape with fresh weights (Devlin et al. 2019).

    Attention dropout is 0: it forces the slow attention path and smaller models do not need it. `dropout` is that of
    the pre-training; what is later fine-tuned from the model finds the paper's 0.1 in its configuration.
    """
    from transformers import BertConfig, BertForPreTraining

    layers, width = SHAPES[shape]
    config: Any = BertConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(2, width // 64),
        intermediate_size=4 * width,
        max_position_embeddings=positions,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForPreTraining(config)
    model.config.hidden_dropout_prob = 0.1
    return model


def gpt(shape: str, vocab_size: int, positions: int = 1024, *, ends: int, pads: int) -> nn.Module:
    """Return a `LlamaForCausalLM` of the named shape with fresh weights (Touvron et al. 2023).

    As wide as the BERT of that name and half as deep again, since a vocabulary that is tied costs it no head. `ends`
    is the token that begins and ends a text, `pads` the padding.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, width = SHAPES[shape]
    config: Any = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=layers + layers // 2,
        num_attention_heads=max(2, width // 64),
        intermediate_size=-(-8 * width // 3 // 32) * 32,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=ends,
        eos_token_id=ends,
        pad_token_id=pads,
        use_cache=True,
    )
    return LlamaForCausalLM(config)

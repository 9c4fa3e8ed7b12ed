"""A GPT's tokenizer learnt from text: byte-level pairs (Radford et al. 2019), and signs for who speaks in a chat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from afina.errors import InputError
from afina.messages import _

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END, PAD = "<|endoftext|>", "<|pad|>"
# One sign for each who speaks and one for the end of what was said, so that a chat costs few tokens.
SPEAKERS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
# Digits one by one, as numbers are read; then as GPT-2 cuts, with marks kept on their letters.
CUT = r"\p{N}| ?[\p{L}\p{M}]+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_byte_bpe(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of at most `vocab_size` tokens; no character is unknown to it.

    Text is read in Unicode form C. <|endoftext|> begins and ends one, padding has a token of its own, and a chat
    template is with it. Raises
    InputError where the texts hold no word or the size leaves no room beside the 256 bytes.
    """
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    special = [END, PAD, *SPEAKERS]
    smallest = len(special) + 256
    if vocab_size <= smallest:
        raise InputError(
            _("A vocabulary of {size} tokens is too small: single bytes alone take {smallest}.").format(
                size=vocab_size, smallest=smallest
            )
        )
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(CUT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if tokenizer.get_vocab_size() <= smallest:
        raise InputError(_("The texts are empty: there are no words to learn a vocabulary from."))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(SPEAKERS),
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )

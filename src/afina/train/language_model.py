"""A checkpoint as the language model that it is: asked with its own head over the vocabulary."""

from collections.abc import Iterable
from pathlib import Path

from torch import nn

from afina.core import Task
from afina.errors import InputError
from afina.messages import _
from afina.models.find import writes
from afina.models.heads import NEXT_SENTENCE, vocabulary_modules
from afina.models.load import load, load_config, load_tokenizer, longest
from afina.models.parts import drawn
from afina.names import find
from afina.train.bundle import Bundle


class NoLanguageModel(InputError):
    """A checkpoint that is asked as the language model that it is not."""


def language_model(folder: Path) -> Bundle:
    """Return what fills the masks of a text (an encoder) or writes on from it (a decoder), with nothing trained.

    Of an encoder without a next-sentence head the task has no `nsp`. Raises NoLanguageModel where the checkpoint brings
    no head over the vocabulary: one drawn anew would answer at random.
    """
    config = load_config(folder)
    if config.is_encoder_decoder:
        raise NoLanguageModel(
            _(
                "{folder} holds an encoder-decoder, which has no task of its own yet. Fine-tune it first: "
                "afina finetune DATA --task seq2seq --model {folder}"
            ).format(folder=folder)
        )
    masked = not writes(folder)
    task: Task = find("tasks", "masked_lm" if masked else "causal_lm")()
    tokenizer, model = load_tokenizer(folder), load(folder, task.head)
    if masked and tokenizer.mask_token_id is None:
        raise NoLanguageModel(
            _("The tokenizer in {folder} has no token for hidden words.").format(folder=folder)
        )
    if _drawn(model, vocabulary_modules(model)):
        raise NoLanguageModel(
            _(
                "The model in {folder} brings no head over its vocabulary, so it can neither guess words nor write. "
                "Fine-tune it first: afina finetune DATA --model {folder}"
            ).format(folder=folder)
        )
    if masked:
        follows = NEXT_SENTENCE in dict(model.named_modules()) and not _drawn(model, [NEXT_SENTENCE])
        task = task.replace(nsp=follows)
    return Bundle(model.eval(), tokenizer, task, find("methods", "full")(), longest(config, tokenizer))


def _drawn(model: nn.Module, modules: Iterable[str]) -> bool:
    """Whether any weight of these modules was drawn anew, since the checkpoint lacks it."""
    return any(name.startswith(f"{module}.") for name in drawn(model) for module in modules)

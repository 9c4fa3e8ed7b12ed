"""The model that training on plain text begins from: whose weights, which heads, how long its rows."""

from pathlib import Path
from typing import Any

from afina.errors import InputError
from afina.messages import _
from afina.tasks.masked_lm import MaskedLm
from afina.verbs._corpus import Part
from afina.verbs._objectives import OBJECTIVES
from afina.verbs._resolve import check_length


def source(chosen: Any, *, offline: bool) -> Path | None:
    """Return the folder of the model to go on from, None for a new one."""
    from afina.models.find import find, writes

    if not chosen.model:
        return None
    if chosen.tokenizer:
        raise InputError(_("--model brings its own tokenizer: leave out --tokenizer."))
    folder = find(chosen.model, offline=offline)
    check_kind(folder, chosen.model)
    if writes(folder) != (chosen.objective == "clm"):
        raise InputError(
            _(
                "{model} cannot go on with --objective {objective}: clm is for decoders, mlm for encoders."
            ).format(model=chosen.model, objective=chosen.objective)
        )
    return folder


def check_kind(source: Path, model: str) -> None:
    """Raise InputError where the model is an encoder-decoder, which neither objective is for."""
    from afina.models.load import load_config

    if load_config(source).is_encoder_decoder:
        raise InputError(
            _(
                "{model} is an encoder-decoder, which cannot be trained on plain text here. Choose an encoder (BERT) or a "
                "decoder (GPT)."
            ).format(model=model)
        )


def pairing(task: Any, source: Path | None, model: str | None, *, asked: bool, quiet: bool) -> Any:
    """Return the task, without next sentences where the model brings no head for them and nobody has `asked` for it.

    InputError where they are asked for and the model is of a kind that has none.
    """
    from afina.models.find import pairs
    from afina.train.track import say

    if source is None or not getattr(task, "nsp", False) or pairs(source):
        return task
    if not asked:
        say(
            _("{model} has no head for next sentences, so they are not learnt (--no-nsp).").format(
                model=model
            ),
            quiet,
        )
        return task.replace(nsp=False)
    if not _may_pair(source):
        raise InputError(
            _("{model} is of a kind without a head for next sentences: leave out --nsp.").format(model=model)
        )
    return task


def _may_pair(source: Path) -> bool:
    """Whether a head for next sentences can be drawn, as for a BERT that was saved without its own."""
    import torch
    from transformers import AutoModelForPreTraining

    from afina.models.heads import NEXT_SENTENCE
    from afina.models.load import load_config

    config = load_config(source)
    if type(config) not in AutoModelForPreTraining._model_mapping:
        return False
    with torch.device("meta"):
        return NEXT_SENTENCE in dict(AutoModelForPreTraining.from_config(config).named_modules())


def head(task: Any, source: Path) -> str:
    """Return the class of model to train: BERT's head for sentences is kept, and drawn only where it is asked for."""
    from afina.models.find import pairs

    without = task.head == MaskedLm.head and not (task.nsp or pairs(source))
    return "AutoModelForMaskedLM" if without else task.head


def start(chosen: Any, task: Any, source: Path | None, tokenizer: Any, text: Part, run: Path) -> Any:
    """Return the model as it is before the first step: that of `source`, or a new one.

    What a new one begins with is counted from the documents of `text` that are learnt from; not so where the `run` goes
    on from weights of its own.
    """
    from afina.models.load import load
    from afina.train import checkpoint

    objective = OBJECTIVES[chosen.objective]
    if not source:
        goes_on = chosen.resume and checkpoint.progress(run / "last") is not None
        return objective.build(chosen, tokenizer, None if goes_on else text)
    return load(source, head(task, source), dropout=chosen.dropout or 0.0)


def within(chosen: Any, source: Path | None, tokenizer: Any) -> Any:
    """Return the settings with rows that the model of `source` can take; InputError where longer ones are asked for.

    A new model takes rows of any length.
    """
    from afina.models.load import load_config, longest

    length = chosen.max_length or 512
    if source:
        most = longest(load_config(source), tokenizer)
        check_length(chosen, most)
        length = min(length, most)
    return chosen.replace(max_length=length, short_length=min(chosen.short_length, length))

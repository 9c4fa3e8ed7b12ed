"""Forgetting: what training has cost a model of the language model that its checkpoint was."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from afina import data
from afina.core import Method, Row
from afina.errors import InputError
from afina.sample import spread

if TYPE_CHECKING:
    from torch import nn

    from afina.train.bundle import Bundle

TEXTS = Path(data.__file__).parent / "neutral"
LANGUAGES = ("es", "en")
MOST = 500  # sentences of a file that are read, drawn from all over it
TOKENS = 1024  # that go through the model at once, padding counted

Neutral = dict[str, list[Row]]


def neutral(file: str | None) -> Neutral:
    """Return rows of text by language that no training is about: those that ship, or one list, named `neutral`.

    Raises InputError where the file holds no text.
    """
    from afina.data.read import read
    from afina.tasks.causal_lm import CausalLm
    from afina.verbs._prepare import clean, nothing_usable

    found: Neutral = {}
    for language, place in _places(file).items():
        table = read(place, offline=True)
        task = CausalLm().choose_columns(table)
        rows = clean(task, table.rows, table, [])
        if not rows:
            raise InputError(nothing_usable(task, place))
        found[language] = [rows[place] for place in spread(len(rows), MOST)]
    return found


def before(base: Path, texts: Neutral, grown: "nn.Module | None" = None) -> dict[str, float] | None:
    """Return by language the loss a token of the checkpoint in `base`, by the head over the vocabulary that it brings.

    None where it brings none, or is no language model of plain text (an encoder-decoder). Masks are the same every
    time. `grown` is that model with more tokens, among which the same ones are harder to guess before any training.
    """
    own = language_model(base)
    return losses(own, grown or own.model, texts) if own else None


def forgetting(
    trained: "nn.Module", method: Method, base: Path, texts: Neutral, known: Mapping[str, float] | None
) -> dict[str, dict[str, float | None]] | None:
    """Return by language the loss `before` (what `before` told of `base`) and `after`, None where nothing is `known`.

    `off` is the loss with the method switched off, None where it keeps no base model. A trained model without a head
    over the vocabulary gets the checkpoint's own, as it was before training.
    """
    from afina.models.heads import embodied
    from afina.models.parts import answers_in_words, backbone

    own = language_model(base) if known else None
    if own is None or known is None:
        return None
    off = None
    changed = own.model.to(next(trained.parameters()).device)
    body: Any = embodied(changed, trained.get_submodule(backbone(trained)))
    if answers_in_words(trained):
        changed, body = trained, nullcontext()
    with body:
        after = losses(own, changed, texts)
        if not method.whole:
            with method.off(trained):
                off = losses(own, changed, texts)
    return {
        name: {"before": known[name], "after": after[name], "off": off[name] if off else None}
        for name in texts
    }


def typical(
    found: Sequence[Mapping[str, Mapping[str, float | None]] | None],
) -> dict[str, dict[str, float | None]] | None:
    """Return the median of every figure over runs, None where no run has any."""
    told = [each for each in found if each]

    def middle(language: str, figure: str) -> float | None:
        values = [value for each in told if (value := each[language][figure]) is not None]
        return median(values) if values else None

    return (
        {name: {figure: middle(name, figure) for figure in told[0][name]} for name in told[0]}
        if told
        else None
    )


def losses(own: "Bundle", model: "nn.Module", texts: Neutral) -> dict[str, float]:
    """Return by language the loss a token of `model`, which may be another than that of `own`, of its vocabulary.

    Of an encoder only the hidden words are asked for, since a sentence alone has none that follows.
    """
    from afina.train.bundle import mean_loss

    task = own.task.replace(nsp=False) if "nsp" in type(own.task).model_fields else own.task
    found = {}
    for name, rows in texts.items():
        encoded = task.encode(rows, own.tokenizer, own.max_length)
        found[name] = mean_loss(model, task, own.tokenizer, encoded, TOKENS)
    return found


def language_model(folder: Path) -> "Bundle | None":
    """Return the checkpoint in `folder` as the language model that it is, None where it holds none."""
    from afina.train import language_model as checkpoint

    try:
        return checkpoint.language_model(folder)
    except checkpoint.NoLanguageModel:
        return None


def _places(file: str | None) -> dict[str, Path]:
    if file is not None:
        return {"neutral": Path(file)}
    return {language: TEXTS / f"{language}.txt" for language in LANGUAGES}

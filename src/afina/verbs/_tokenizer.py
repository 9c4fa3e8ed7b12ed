"""The tokenizer of training on plain text: that of a model, one that is named, or one learnt from the text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from afina.errors import InputError
from afina.messages import _
from afina.verbs._domain import check_tokenizer
from afina.verbs._objectives import OBJECTIVES

TOKENIZER_CHARACTERS = 100_000_000  # of more text a tokenizer learns the same words from a part


def taken(texts: list[Path], chosen: Any, source: Path | None, column: str | None) -> Any | None:
    """Return the tokenizer of the model or the one that is named, None for one to be learnt.

    InputError where it does not fit the objective or the text.
    """
    from afina.models.load import load_tokenizer, read_tokenizer

    if not (source or chosen.tokenizer):
        return None
    if not source and not Path(chosen.tokenizer).is_dir():
        raise InputError(_("There is no tokenizer folder {folder}.").format(folder=chosen.tokenizer))
    found = load_tokenizer(source) if source else read_tokenizer(Path(chosen.tokenizer))
    check_fit(texts, found, chosen, chosen.model or chosen.tokenizer, column)
    return found


def check_fit(texts: list[Path], tokenizer: Any, chosen: Any, name: str, column: str | None = None) -> None:
    """Raise InputError where the tokenizer lacks a token that the objective needs, or knows too little of the text."""
    lacking = [each for each in OBJECTIVES[chosen.objective].needs if getattr(tokenizer, each) is None]
    if lacking:
        raise InputError(
            _(
                "The tokenizer of {model} does not fit: {objective} needs tokens that it lacks ({tokens}). Choose "
                "another, or train one with afina pretrain."
            ).format(model=name, objective=chosen.objective, tokens=", ".join(lacking))
        )
    # Of a run that goes on, what came from the Hub need not be there.
    if not chosen.resume or all(text.exists() for text in texts):
        check_tokenizer(texts, tokenizer, name, column)


def tokenizer(texts: list[Path], chosen: Any, made: Path | None, column: str | None) -> Any:
    """Take the tokenizer in the folder `made`, or train one."""
    from afina.models.load import read_tokenizer

    if made and made.is_dir():
        return read_tokenizer(made)
    return OBJECTIVES[chosen.objective].tokenizer(sample_of(texts, column), chosen.vocab_size)


def texts_of(files: list[Path], column: str | None = None) -> Iterator[str]:
    """Yield the documents of all files, a paragraph a line."""
    from afina.data.plain_text import documents

    return ("\n".join(paragraphs) for file in files for paragraphs in documents(file, column))


def sample_of(
    files: list[Path], column: str | None = None, most: int = TOKENIZER_CHARACTERS
) -> Iterator[str]:
    """Yield what `texts_of` does or, of more than `most` characters, paragraphs drawn from all of it: about so many.

    The text is read twice, the first time to count it; the same is drawn every time.
    """
    import random

    share = most / max(1, sum(map(len, texts_of(files, column))))
    if share >= 1:
        yield from texts_of(files, column)
        return
    draw = random.Random(0)
    for text in texts_of(files, column):
        if some := [paragraph for paragraph in text.split("\n") if draw.random() < share]:
            yield "\n".join(some)


def kept(tokenizer: Any, folder: Path) -> Any:
    """Return the tokenizer as it is when it is read back from `folder`, where it is written."""
    from afina.models.load import read_tokenizer
    from afina.train.atomic import replaced

    with replaced(folder) as new:
        tokenizer.save_pretrained(new)
    return read_tokenizer(folder)

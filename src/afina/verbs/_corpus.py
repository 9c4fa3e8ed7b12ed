"""Plain text as tokens on disk: what is learnt from, and what is held out."""

from pathlib import Path
from typing import Any

from afina.data.unseen import Unseen
from afina.errors import InputError, Unfinished
from afina.messages import _
from afina.sample import spread

Part = tuple[Any, Any]  # a corpus, and which of its documents (None: all)


def corpora(
    texts: list[Path],
    chosen: Any,
    tokenizer: Any,
    run: Path,
    unseen: Unseen | None = None,
    column: str | None = None,
) -> tuple[Part, Part]:
    """Return the text to learn from, without what is `unseen`, and the held-out text, both out of the same `column`.

    Without a file of its own the latter is 1 % of the documents, ten if it can be.
    """
    import numpy as np

    train, _all = encoded(texts, tokenizer, run / "corpus", begun=chosen.resume, unseen=unseen, column=column)
    if chosen.validation:
        held_out = encoded(
            [Path(chosen.validation)], tokenizer, run / "held_out", begun=chosen.resume, column=column
        )
        return (train, None), held_out
    held = np.zeros(len(train), dtype=bool)
    one_in = max(2, min(100, len(train) // 10))
    held[list(spread(len(train), -(-len(train) // one_in)))] = True
    if len(train) < 4:
        raise InputError(
            _("Documents in the text (parts between blank lines): {n}, too few to hold some out.").format(
                n=len(train)
            )
            + " "
            + _(
                "Put a blank line between documents, give JSONL with a document in the field text of each line, or name "
                "a file of held-out text with --validation."
            )
        )
    return (train, ~held), (train, held)


def check_pairs(train: Part, held: Part, task: Any, *, quiet: bool) -> None:
    """Raise InputError where next sentences cannot be learnt from one document, and say where they cannot be scored."""
    from afina.train.track import say

    if not getattr(task, "nsp", False):
        return
    if documents(train) < 2:
        raise InputError(
            _(
                "The text is one document (parts between blank lines), but half of the pairs for next sentences need "
                "another. Give more documents, or leave pairs out with --no-nsp."
            )
        )
    if documents(held) < 2:
        say(_("The held-out text is one document, so next sentences (nsp) have no figures."), quiet)


def check_replay(texts: list[Path], task: Any) -> None:
    """Raise InputError where a replay text is one document, of which no pairs of next sentences can be made."""
    from itertools import islice

    from afina.data import plain_text

    for text in texts if getattr(task, "nsp", False) else ():
        if len(list(islice(plain_text.documents(text), 2))) > 1:
            continue
        raise InputError(
            _(
                "The replay text {file} is one document (parts between blank lines), but half of the pairs for next "
                "sentences need another. Give more documents, or leave pairs out with --no-nsp."
            ).format(file=text)
        )


def documents(part: Part) -> int:
    """Return how many documents are in a part."""
    corpus, chosen = part
    return len(corpus) if chosen is None else int(chosen.sum())


def encoded(
    texts: list[Path],
    tokenizer: Any,
    folder: Path,
    *,
    begun: bool,
    unseen: Unseen | None = None,
    column: str | None = None,
) -> Part:
    """Return the whole of the texts but what is `unseen`, encoded into `folder`.

    Unfinished where that cannot be written, InputError where it holds another text than the run has `begun` with.
    """
    from afina.data.corpus import Corpus
    from afina.train.atomic import cannot_write

    try:
        return Corpus.build(texts, tokenizer, folder, begun=begun, unseen=unseen, column=column), None
    except OSError as error:
        raise Unfinished(str(cannot_write(folder, error))) from None

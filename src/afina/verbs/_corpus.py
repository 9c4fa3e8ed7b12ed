"""Plain text as tokens on disk: what is learnt from, and what is held out."""

from pathlib import Path
from typing import Any

from afina.data.unseen import Unseen
from afina.errors import InputError, Unfinished
from afina.messages import _
from afina.sample import spread

Part = tuple[Any, Any]  # a corpus, and which of its documents (None: all)
FEWEST = 4  # different documents
MOST = 10  # held out is one of so many tokens at most
LITTLE = 1000  # held-out tokens that say something
LOPSIDED = 20  # one document has more than so many times the sentences of all others


def corpora(
    texts: list[Path],
    chosen: Any,
    tokenizer: Any,
    run: Path,
    unseen: Unseen | None = None,
    column: str | None = None,
) -> tuple[Part, Part]:
    """Return the text to learn from, without what is `unseen`, and the held-out text, both out of the same `column`.

    Documents that are like a held-out one, token by token, are not learnt from. InputError where the tokenizer does not
    know the text, or none of it can be held out.
    """
    import numpy as np

    train, _all = encoded(texts, tokenizer, run / "corpus", begun=chosen.resume, unseen=unseen, column=column)
    if name := chosen.model or chosen.tokenizer:
        check_known(train, texts, tokenizer, name)
    if not chosen.validation:
        learnt, held = divided(train)
        return (train, learnt), (train, held)
    file = Path(chosen.validation)
    other, _all = encoded([file], tokenizer, run / "held_out", begun=chosen.resume, column=column)
    learnt = ~np.isin(train.fingerprints(), other.fingerprints())
    if not learnt.any():
        raise InputError(
            _(
                "Every document of the text is in the held-out text {file} too, so nothing is left to learn from. Name "
                "another file with --validation, or leave it out."
            ).format(file=file)
        )
    return (train, None if learnt.all() else learnt), (other, None)


def divided(corpus: Any) -> tuple[Any, Any]:
    """Return which documents [documents] are learnt from, and which are held out; InputError where they are too few.

    Held out are 1 % of them, ten where there are few, and a tenth of the tokens at most, or the shortest document where
    each is more than that: of those drawn, the longest are learnt from. Of documents that are alike one is held out, and none of the others learnt from.
    """
    import numpy as np

    lengths = np.diff(corpus.sentences[corpus.documents])
    _print, first, alike = np.unique(corpus.fingerprints(), return_index=True, return_inverse=True)
    order = np.argsort(first)  # the different documents as they stand in the text
    tokens = np.bincount(alike, weights=lengths)[order]  # of each and all that are like it
    room = max(lengths.sum() / MOST, tokens.min(initial=np.inf))
    able = np.flatnonzero(tokens <= room)
    if len(first) < FEWEST:
        raise InputError(
            _(
                "Different documents in the text (parts between blank lines): {n}, too few to hold some out."
            ).format(n=len(first))
            + " "
            + _(
                "Put a blank line between documents, give JSONL with a document in the field text of each line, or name "
                "a file of held-out text with --validation."
            )
        )
    wanted = min(len(first) // 2, max(10, -(-len(first) // 100)))
    drawn = able[list(spread(len(able), wanted))]
    drawn = drawn[np.argsort(tokens[drawn], kind="stable")]
    drawn = drawn[np.cumsum(tokens[drawn]) <= room]
    held = np.zeros(len(corpus), dtype=bool)
    held[first[order[drawn]]] = True
    return ~np.isin(alike, order[drawn]), held


def check_known(corpus: Any, texts: list[Path], tokenizer: Any, name: str) -> None:
    """Raise InputError where much of an encoded text is unknown to the tokenizer of that name."""
    from afina.verbs._domain import check_share

    if tokenizer.unk_token_id is not None:
        check_share(corpus.count(tokenizer.unk_token_id) / corpus.facts["tokens"], texts, name)


def tell(train: Part, held: Part, *, quiet: bool) -> None:
    """Say how much is learnt from and how much is held out, and which documents are neither."""
    from afina.messages.numbers import number
    from afina.train.track import say

    learnt, apart = tokens(train), tokens(held)
    say(
        _(
            "Documents to learn from: {documents} ({tokens} tokens); held out: {held} ({held_tokens} tokens)."
        ).format(
            documents=number(documents(train)),
            tokens=number(learnt),
            held=number(documents(held)),
            held_tokens=number(apart),
        ),
        quiet,
    )
    alike = len(train[0]) - documents(train) - (documents(held) if held[0] is train[0] else 0)
    if alike:
        say(
            _(
                "Documents that are word for word like a held-out one, left out of what is learnt: {n}."
            ).format(n=number(alike)),
            quiet,
        )
    if apart < LITTLE:
        say(_("So little held-out text tells little: name a longer one with --validation."), quiet)


def check_pairs(train: Part, held: Part, task: Any, *, quiet: bool) -> None:
    """Raise InputError where next sentences cannot be learnt from one document.

    Says where they cannot be scored, and where those that do not follow are the same few again and again.
    """
    import numpy as np

    from afina.messages.numbers import number
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
    sentences = _of(train, np.diff(train[0].documents))
    others = int(sentences.sum() - sentences.max())
    if others * LOPSIDED < sentences.max():
        say(
            _(
                "All but {few} of {all} sentences are in one document, so for most pairs what does not follow is drawn "
                "from these few. Give more documents, or leave pairs out with --no-nsp."
            ).format(few=number(others), all=number(int(sentences.sum()))),
            quiet,
        )


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


def tokens(part: Part) -> int:
    """Return how many tokens are in a part."""
    import numpy as np

    return int(_of(part, np.diff(part[0].sentences[part[0].documents])).sum())


def _of(part: Part, counts: Any) -> Any:
    """Return of `counts` [documents] those of a part."""
    return counts if part[1] is None else counts[part[1]]


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

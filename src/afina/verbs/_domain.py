"""Is a text what a task's rows are like? Words counted on both sides, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from afina.errors import InputError
from afina.messages import _
from afina.messages.numbers import number
from afina.verbs._forgetting import LANGUAGES, TEXTS

CHARACTERS = 3_000_000  # of each side that are looked at
COMMON = 300  # tokens of each neutral text that say nothing of a field: articles, pronouns, signs
SAMPLE = 20_000  # tokens of each side that are compared, so that the size of a text does not count
FEWEST = 2_000  # with fewer the figure says little
FAR = 0.42  # measured on pairs of real sets: benchmarks/LOG.md
TOP = 1000
UNKNOWN = 0.2  # share of tokens; the embedded tokenizers know all but 1 % of Spanish and English text


class Nearness(NamedTuple):
    """How far a text lies from rows, from 0 (as one) to 1 (no word shared), and the share of common words.

    `far` is None where there are too few words to say.
    """

    divergence: float
    overlap: float
    far: bool | None


def check_tokenizer(texts: list[Path], tokenizer: Any, model: str) -> None:
    """Raise InputError where much of the text is unknown to the tokenizer."""
    import numpy as np

    if tokenizer.unk_token_id is None:
        return
    ids = _ids(texts, tokenizer)
    share = float(np.mean(ids == tokenizer.unk_token_id)) if len(ids) else 0.0
    if share > UNKNOWN:
        raise InputError(
            _(
                "The tokenizer of {model} does not know {share} %\u00a0of the text: it does not fit. Choose a model of "
                "the text's language, or train one with afina pretrain."
            ).format(model=model, share=number(100 * share))
        )


def nearness(texts: list[Path], rows: Path, tokenizer: Any) -> Nearness:
    """Return how near the texts are to the rows of a task, by the tokens of both that are not common everywhere.

    The divergence is that of Jensen and Shannon (Lin 1991) between samples of one size, less what two samples of one
    text have; the overlap is the share of the rows' most frequent tokens among those of the text (Gururangan et al.
    2020). Raises InputError where the rows hold no text.
    """
    import numpy as np

    size = len(tokenizer)
    common = np.zeros(size, dtype=bool)
    for language in LANGUAGES:
        counts = np.bincount(_ids([TEXTS / f"{language}.txt"], tokenizer), minlength=size)
        common[np.argsort(-counts, kind="stable")[:COMMON]] = True
    sides = [(ids := _ids(files, tokenizer))[~common[ids]] for files in (texts, [rows])]
    if not len(sides[1]):
        raise InputError(_("No words were found in {files}.").format(files=rows))
    most = min(SAMPLE, *map(len, sides))
    if not most:
        return Nearness(1.0, 0.0, None)
    random = np.random.default_rng(0)
    a, b = (
        np.bincount(random.choice(side, most, replace=False), minlength=size).astype(float) for side in sides
    )
    pooled = (a + b) / (2 * most)
    chance = _divergence(*random.multinomial(most, pooled, 2).astype(float))
    divergence = max(0.0, (_divergence(a, b) - chance) / (1 - chance)) if chance < 1 else 0.0
    first, second = (
        set(np.argsort(-each, kind="stable")[: min(TOP, np.count_nonzero(each))]) for each in (a, b)
    )
    far = divergence > FAR if most >= FEWEST else None
    return Nearness(round(divergence, 3), round(len(first & second) / len(second), 3), far)


def in_words(found: Nearness, rows: str) -> str:
    """Say how near the text is to the rows of the file, and what to do where it is far."""
    told = {
        "distance": number(found.divergence, 2),
        "share": number(100 * found.overlap),
        "rows": rows,
        "limit": number(FAR, 2),
    }
    measured = _(
        "Distance of the text from the rows in {rows}: {distance} (0 alike, 1 no word in common; irrelevant above "
        "{limit}); {share} %\u00a0of their most frequent words are frequent in the text too."
    ).format(**told)
    if found.far is None:
        return measured + " " + _("There are too few words to say whether the text is of their field.")
    if found.far:
        return (
            measured
            + " "
            + _("The text is not of their field: adapting to it will hardly help with these rows.")
        )
    return measured + " " + _("The text is of their field.")


def _ids(files: Iterable[Path], tokenizer: Any) -> Any:
    """Return the tokens of the first CHARACTERS of the files, as many of each."""
    import numpy as np

    from afina.data.corpus import documents, plain

    files, taken = list(files), []
    for file in files:
        room = CHARACTERS // len(files)
        for paragraphs in documents(file):
            taken.append([paragraph[:room] for paragraph in paragraphs])
            room -= sum(map(len, paragraphs))
            if room <= 0:
                break
    encodings = plain(tokenizer).encode_batch_fast(list(chain.from_iterable(taken)), add_special_tokens=False)
    return np.array([token for encoding in encodings for token in encoding.ids], dtype=np.int64)


def _divergence(a: Any, b: Any) -> float:
    """Return the Jensen-Shannon divergence of two lists of counts, in bits: 0 to 1."""
    import numpy as np

    shares = [each / each.sum() for each in (a, b)]
    middle = (shares[0] + shares[1]) / 2
    found = 0.0
    for share in shares:
        some = share > 0
        found += float((share[some] * np.log2(share[some] / middle[some])).sum()) / 2
    return found

"""Is a text what a task's rows are like? Words counted on both sides, before anything is trained."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from afina.errors import InputError
from afina.messages import _
from afina.messages.numbers import number
from afina.verbs._forgetting import LANGUAGES, TEXTS

WORD = re.compile(r"[^\W\d_]+")
CHARACTERS = 3_000_000  # of each side that are looked at
COMMON = 300  # words of each neutral text that say nothing of a field: articles, pronouns, everyday verbs
SAMPLE = 20_000  # words of each side that are compared, so that the size of a text does not count
FEWEST = 5_000  # with fewer the figure says little
FAR = 0.55  # measured on pairs of real sets: benchmarks/LOG.md
TOP = 1000
UNKNOWN = 0.2  # share of tokens; the embedded encoder knows nearly all of Spanish and English text
TOKENIZED = 300_000  # characters whose tokens are looked at


class Nearness(NamedTuple):
    """How far a text lies from rows, from 0 (as one) to 1 (no word shared), and the share of frequent words.

    `far` is None where there are too few words to say.
    """

    divergence: float
    overlap: float
    far: bool | None


def check_tokenizer(texts: list[Path], tokenizer: Any, model: str, column: str | None = None) -> None:
    """Raise InputError where the beginning of a text cannot be read, or much of it is unknown to the tokenizer."""
    from afina.data.encode import plain

    beginning = list(_paragraphs(texts, TOKENIZED, column))
    if tokenizer.unk_token_id is None:
        return
    encodings = plain(tokenizer).encode_batch_fast(beginning, add_special_tokens=False)
    counted = Counter(token for encoding in encodings for token in encoding.ids)
    check_share(counted[tokenizer.unk_token_id] / max(1, counted.total()), texts, model)


def check_share(share: float, texts: list[Path], model: str) -> None:
    """Raise InputError where that share of the texts' tokens is more than may be unknown to the tokenizer of a model."""
    if share > UNKNOWN:
        raise InputError(
            _(
                "The tokenizer of {model} does not know {share} %\u00a0of the text in {files}: it does not fit. Choose a "
                "model of the text's language, or train one with afina pretrain."
            ).format(model=model, share=number(100 * share), files=", ".join(str(text) for text in texts))
        )


def nearness(texts: list[Path], rows: Path, column: str | None = None) -> Nearness:
    """Return how near the texts are to the rows of a task, by the words of both that are not common everywhere.

    The divergence is that of Jensen and Shannon (Lin 1991) between samples of one size, less what two samples of one
    text have; the overlap is the share of the rows' most frequent words among those of the text (Gururangan et al.
    2020). Whole words, not tokens: pieces are shared by every field. Raises InputError where the rows hold no word.
    """
    import numpy as np

    from afina.data.plain_text import documents
    from afina.data.plain_text import rows as task_rows

    common = {
        word
        for language in LANGUAGES
        for word, _times in Counter(_words(documents(TEXTS / f"{language}.txt"))).most_common(COMMON)
    }
    read = _paragraphs(texts, CHARACTERS, column)
    sides = [
        np.array([word for word in words if word not in common])
        for words in (_words([paragraph] for paragraph in read), _words(task_rows(rows, column)))
    ]
    if not len(sides[1]):
        raise InputError(_("No words were found in {files}.").format(files=rows))
    most = min(SAMPLE, *map(len, sides))
    if not most:
        return Nearness(1.0, 0.0, None)
    random = np.random.default_rng(0)
    samples = [random.choice(side, most, replace=False) for side in sides]
    words, numbers = np.unique(np.concatenate(samples), return_inverse=True)
    a, b = (np.bincount(each, minlength=len(words)).astype(float) for each in np.split(numbers, 2))
    chance = _divergence(*random.multinomial(most, (a + b) / (2 * most), 2).astype(float))
    divergence = max(0.0, (_divergence(a, b) - chance) / (1 - chance))
    first, second = (_frequent(each) for each in (a, b))
    return Nearness(
        round(divergence, 3),
        round(len(first & second) / len(second), 3),
        divergence > FAR if most >= FEWEST else None,
    )


def in_words(found: Nearness, rows: str) -> str:
    """Say how near the text is to the rows of the file, and what to do where it is far."""
    measured = _(
        "Distance of the text from the rows in {rows}: {distance} (0 alike, 1 no word in common; irrelevant above "
        "{limit}); {share} %\u00a0of their most frequent words are frequent in the text too."
    ).format(
        rows=rows,
        distance=number(found.divergence, 2),
        limit=number(FAR, 2),
        share=number(100 * found.overlap),
    )
    verdict = {
        None: _("There are too few words to say whether the text is of their field."),
        True: _("The text is not of their field: adapting to it will hardly help with these rows."),
        False: _("The text is of their field."),
    }
    return f"{measured} {verdict[found.far]}"


def _words(read: Iterable[list[str]]) -> list[str]:
    """Return the words in the first CHARACTERS of what is read."""
    return [word for paragraph in _beginning(read, CHARACTERS) for word in WORD.findall(paragraph.lower())]


def _paragraphs(files: list[Path], most: int, column: str | None) -> Iterator[str]:
    """Yield the first `most` characters of the files, as many of each."""
    from afina.data.plain_text import documents

    for file in files:
        yield from _beginning(documents(file, column), most // len(files))


def _beginning(read: Iterable[list[str]], room: int) -> Iterator[str]:
    """Yield the paragraphs of documents, `room` characters of them."""
    for paragraphs in read:
        for paragraph in paragraphs:
            yield paragraph[: max(0, room)]
            room -= len(paragraph)
        if room <= 0:
            break


def _frequent(counts: Any) -> set[int]:
    """Return the TOP most frequent words, fewer where there are fewer."""
    import numpy as np

    return set(np.argsort(-counts, kind="stable")[: min(TOP, np.count_nonzero(counts))].tolist())


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

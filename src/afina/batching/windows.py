"""A corpus cut into rows of one length, each drawn anew every epoch as one segment or a pair."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from afina.data.corpus import Corpus

FOLLOWS, ELSEWHERE, NO_PAIR = 0, 1, -100
CUT = np.dtype(
    [("start", np.int64), ("end", np.int64), ("final", bool)]
)  # of a row, and whether its document ends


class Windows:
    """Stretches of a corpus of at most `room` tokens, each within one document, cut between sentences.

    `rows[i]["length"]` is the tokens of a row and `rows[i]["draw"](rng, pair)` returns ([A, B], FOLLOWS or
    ELSEWHERE) or ([A], NO_PAIR): half of the pairs are neighbours; for the others B comes from another document and
    is about as long as the true B, so that its length tells nothing. A sentence longer than `room` is cut. One document
    alone gives no pairs. `chosen` [documents] says which documents are in, `special` how many tokens a row has besides:
    [CLS] A [SEP] B [SEP]. Of `reach` positions that the model is to learn a row
    leaves `free` what its length does not take.
    """

    def __init__(
        self, corpus: Corpus, room: int, chosen: np.ndarray | None = None, special: int = 3, reach: int = 0
    ):
        self.corpus, self.room, self.special = corpus, room, special
        self.free = max(0, reach - room - special)
        self.chosen = np.ones(len(corpus), dtype=bool) if chosen is None else chosen
        self.alone = np.count_nonzero(self.chosen) < 2
        self.documents = np.flatnonzero(self.chosen)
        counts = np.diff(corpus.documents)[self.documents]
        self.before = np.concatenate(
            [[0], np.cumsum(counts)]
        )  # sentences in the chosen documents before each
        # Never as Python's own numbers: those of 2 GB of text take half a gigabyte.
        cut = np.fromiter(_cut(corpus, room, self.documents), CUT)
        self.starts, self.ends, self.final = (np.ascontiguousarray(cut[name]) for name in CUT.names or ())

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        length = int(self.ends[index] - self.starts[index]) + self.special
        return {
            "draw": lambda rng, pair: self._draw(int(index), rng, pair),
            "length": length,
            "free": self.free,
        }

    def lengths(self) -> list[int]:
        """Return the tokens of every row, the special ones of a pair counted."""
        return (self.ends - self.starts + self.special).tolist()

    def stretch(self, index: int) -> tuple[np.ndarray, bool]:
        """Return the tokens of a row, and whether its document ends with it."""
        return self.corpus.tokens[self.starts[index] : self.ends[index]], bool(self.final[index])

    def _draw(self, index: int, rng: np.random.Generator, pair: bool) -> tuple[list[np.ndarray], int]:
        start, end = int(self.starts[index]), int(self.ends[index])
        tokens = self.corpus.tokens
        if not pair or self.alone or end - start < 2:
            return [tokens[start:end]], NO_PAIR
        sentences = self.corpus.sentences
        inner = sentences[
            np.searchsorted(sentences, start, "right") : np.searchsorted(sentences, end, "left")
        ]
        middle = int(rng.choice(inner)) if len(inner) else int(rng.integers(start + 1, end))
        if rng.random() < 0.5:
            return [tokens[start:middle], tokens[middle:end]], FOLLOWS
        second = self._elsewhere(start, end - middle, self.room - (middle - start), rng)
        return [tokens[start:middle], second], ELSEWHERE

    def _elsewhere(self, start: int, like: int, most: int, rng: np.random.Generator) -> np.ndarray:
        """Return whole sentences from another document, about `like` tokens and at most `most`."""
        sentences, documents = self.corpus.sentences, self.corpus.documents
        own = np.searchsorted(documents, np.searchsorted(sentences, start, "right") - 1, "right") - 1
        # One of all other sentences, each as likely: never by drawing until one is in another document, for where one
        # document is nearly all, that takes thousands of draws.
        place = int(np.searchsorted(self.documents, own))
        begins, ends = int(self.before[place]), int(self.before[place + 1])
        drawn = int(rng.integers(int(self.before[-1]) - (ends - begins)))
        drawn += (ends - begins) * (drawn >= begins)
        place = int(np.searchsorted(self.before, drawn, "right")) - 1
        document = int(self.documents[place])
        first = int(documents[document]) + drawn - int(self.before[place])
        last_of_document = int(documents[document + 1])
        begin = int(sentences[first])
        last = first + int(np.searchsorted(sentences[first + 1 : last_of_document + 1], begin + like)) + 1
        last = min(last, last_of_document)
        if last - 1 > first and sentences[last] - begin - like > begin + like - sentences[last - 1]:
            last -= 1
        return self.corpus.tokens[begin : min(int(sentences[last]), begin + most)]


def _cut(corpus: Corpus, room: int, documents: np.ndarray) -> Iterator[tuple[int, int, bool]]:
    sentences = np.asarray(corpus.sentences)
    for document in documents:
        marks = sentences[corpus.documents[document] : corpus.documents[document + 1] + 1]
        start, final = int(marks[0]), int(marks[-1])
        while start < final:
            fit = int(marks[np.searchsorted(marks, start + room, "right") - 1])
            end = fit if fit > start else min(start + room, final)
            yield start, end, end == final
            start = end

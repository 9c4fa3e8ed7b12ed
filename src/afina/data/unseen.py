"""Rows that a model will be scored on, by their texts: what a training before that must not learn."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

Texts = frozenset[str]


class Unseen:
    """Rows as the sets of their texts; `in` says whether a row's texts hold all of one of them, or are part of one.

    So a sentence is found in a pair that holds it, but two questions about different texts, which share their wording,
    are two rows. Case and blanks do not count.
    """

    def __init__(self, rows: Iterable[Any]) -> None:
        """Take what `Task.key` returns of each row: a text, or texts nested in any way."""
        self.rows = list(dict.fromkeys(texts for row in rows if (texts := _texts(row))))
        self._holding: dict[str, list[Texts]] = defaultdict(list)
        for row in self.rows:
            for text in row:
                self._holding[text].append(row)
        # Under its rarest text each row is looked up seldom, however many share a question.
        self._by_rarest: dict[str, list[Texts]] = defaultdict(list)
        for row in self.rows:
            self._by_rarest[min(row, key=lambda text: (len(self._holding[text]), text))].append(row)

    def __contains__(self, key: Any) -> bool:
        own = _texts(key)
        if not own:
            return False
        rarest = min((self._holding.get(text, []) for text in own), key=len)
        return any(own <= row for row in rarest) or any(
            row <= own for text in own for row in self._by_rarest.get(text, [])
        )

    @property
    def fingerprint(self) -> str:
        """A sha256 that names the rows, in any order."""
        return hashlib.sha256(repr(sorted(map(sorted, self.rows))).encode(errors="replace")).hexdigest()

    def kept(self, paragraphs: Collection[str]) -> list[str]:
        """Return the paragraphs of a document without those that are rows; none where the whole document is one."""
        if "\n".join(paragraphs) in self:
            return []
        return [paragraph for paragraph in paragraphs if paragraph not in self]


def _texts(key: Any) -> Texts:
    """Return the different texts of a key."""
    if isinstance(key, str):
        text = "".join(key.casefold().split())  # words of CoNLL have blanks before a full stop
        return frozenset((text,)) if text else frozenset()
    if not isinstance(key, Collection):
        return frozenset()
    return frozenset(text for part in key for text in _texts(part))

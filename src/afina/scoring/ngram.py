"""The language model of before: what follows two tokens, counted (Witten & Bell 1991)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

Sequence_ = tuple[Sequence[int], Sequence[bool]]  # token ids, and which of them are learnt and guessed
Context = tuple[int, ...]


class Trigram:
    """Counts of what stands after two tokens, after one, and at all, each falling back on the next (Witten-Bell).

    Of a sequence only the tokens that are marked are counted and guessed; the others are context.
    """

    def __init__(self, sequences: Sequence[Sequence_], vocabulary: int):
        self.vocabulary = vocabulary
        self.counts: dict[Context, Counter[int]] = defaultdict(Counter)
        for ids, marked in sequences:
            for i, token in enumerate(ids):
                if marked[i]:
                    for order in range(min(i, 2) + 1):
                        self.counts[tuple(ids[i - order : i])][token] += 1
        self.totals = {context: sum(found.values()) for context, found in self.counts.items()}

    def loss(self, ids: Sequence[int], marked: Sequence[bool]) -> tuple[float, int]:
        """Return the summed loss in nats of the marked tokens of a sequence, and how many there are."""
        losses = [-math.log(self._share(ids, i)) for i, learnt in enumerate(marked) if learnt]
        return sum(losses), len(losses)

    def _share(self, ids: Sequence[int], i: int) -> float:
        share = 1 / self.vocabulary
        for order in range(min(i, 2) + 1):
            context = tuple(ids[i - order : i])
            found = self.counts.get(context)
            if not found:
                break
            total, kinds = self.totals[context], len(found)
            share = (found[ids[i]] + kinds * share) / (total + kinds)
        return share

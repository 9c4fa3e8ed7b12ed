"""What a masked language model guesses: which tokens of a row are chosen, and what it sees in their place."""

from __future__ import annotations

from typing import Any

IGNORED = -100


def choose(ids: Any, places: Any, rng: Any, share: float, words: Any) -> Any:
    """Return which of the `places` are guessed, one at least: tokens or, by their pieces, whole `words`.

    The last is taken or left at random, so that the share is true on short rows and long words are no rarer.
    """
    import numpy as np

    if words is None:
        wanted = max(1, int(share * len(places) + rng.random()))
        return rng.choice(places, size=min(wanted, len(places)), replace=False)
    if not len(places):
        return places
    word, sizes = np.unique(np.cumsum(words.starts(ids))[places], return_inverse=True, return_counts=True)[1:]
    order = rng.permutation(len(sizes))
    ends = np.cumsum(sizes[order])
    taken = int(np.searchsorted(ends, share * len(places), "right"))
    if taken < len(order):
        over = share * len(places) - (ends[taken - 1] if taken else 0)
        taken += bool(rng.random() * sizes[order[taken]] < over)
    return places[np.isin(word, order[: max(1, taken)])]


def hide(ids: Any, chosen: Any, rng: Any, mask: int, ordinary: Any) -> tuple[Any, Any]:
    """Return the row with the chosen tokens hidden, and the gold: the token where it is hidden, else IGNORED."""
    import numpy as np

    hidden, gold = ids.copy(), np.full(len(ids), IGNORED)
    gold[chosen] = ids[chosen]
    fate = rng.random(len(chosen))
    hidden[chosen[fate < 0.8]] = mask
    other = chosen[fate >= 0.9]
    hidden[other] = rng.choice(ordinary, size=len(other))
    return hidden, gold

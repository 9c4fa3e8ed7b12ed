"""Some rows out of many, the same ones every time."""

import random
from functools import lru_cache
from itertools import pairwise


@lru_cache(maxsize=8)
def spread(count: int, most: int) -> tuple[int, ...]:
    """Return at most `most` of the places 0 to `count` - 1, in order: one drawn from each of as many equal stretches.

    Never every n-th row: where labels or languages take turns in a file, those are all of one kind.
    """
    most = min(count, most)
    draw = random.Random(0)
    ends = [place * count // most for place in range(most + 1)] if most > 0 else []
    return tuple(draw.randrange(first, end) for first, end in pairwise(ends))

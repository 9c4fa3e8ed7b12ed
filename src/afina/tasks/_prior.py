"""Logits of the best answer that is the same for every row: what a head that cannot read yet should say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

HALF = 0.5  # what a label counts for that was never found, so that none is impossible


def log_shares(found: Sequence[int], labels: int, weights: Sequence[float] = ()) -> list[float]:
    """Return the logarithm of each label's share among those `found`, weighted as the loss weighs them."""
    counts = Counter(found)
    heavy = [(weights[i] if weights else 1.0) * (counts[i] or HALF) for i in range(labels)]
    return [math.log(each / sum(heavy)) for each in heavy]


def log_odds(positive: float, total: float) -> float:
    """Return the logarithm of the odds of a share, half a count away from impossible and certain."""
    return math.log((positive + HALF) / (total - positive + HALF))

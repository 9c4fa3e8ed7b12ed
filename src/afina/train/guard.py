"""A guard against spikes: one bad batch must not undo what weeks of steps have learnt."""

from dataclasses import dataclass, field
from math import isfinite

import numpy as np

WINDOW = 128  # steps before this one that say what is usual
LEAST = 32  # of them, before anything is called unusual
SIGMAS = 6.0  # standard deviations above their mean …
# … and so many times the mean. On a plateau six deviations of the loss are soon passed; and where a part of the loss
# begins to be learnt, gradients three or four times as long are a good sign.
LOSS, NORM = 1.25, 5.0
IN_A_ROW = 8  # skipped steps; then it was no spike, but the level is another


@dataclass
class Guard:
    """Says whether a step is to be skipped, by the losses and gradient norms of the steps that were taken before.

    The rule is that of OLMo 2 (2025), with skipped steps kept out of what is usual. Its fields are all it knows, so
    that a run goes on from them bit by bit.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    in_a_row: int = 0
    skipped: int = 0

    def skips(self, loss: float, norm: float) -> bool:
        """Return whether the step of this loss and gradient norm, not yet taken, is to be skipped, and note it.

        What is no number is skipped too, but not IN_A_ROW times: then the training has come to its end.
        """
        broken = not (isfinite(loss) and isfinite(norm))
        if broken and self.in_a_row == IN_A_ROW - 1:
            return False
        if broken or _far(loss, self.losses, LOSS) or _far(norm, self.norms, NORM):
            self.skipped += 1
            self.in_a_row += 1
            if self.in_a_row == IN_A_ROW:
                self.losses, self.norms, self.in_a_row = [], [], 0
            return True
        self.in_a_row = 0
        self.losses = [*self.losses[1 - WINDOW :], loss]
        self.norms = [*self.norms[1 - WINDOW :], norm]
        return False


def _far(value: float, before: list[float], factor: float) -> bool:
    """Whether a value is no number that could come after those before it."""
    if len(before) < LEAST:
        return False
    mean = float(np.mean(before))
    return value > max(mean + SIGMAS * float(np.std(before)), factor * mean)

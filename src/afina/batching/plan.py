"""Which rows make up which optimizer step: a pure function of (seed, step), so resuming is arithmetic."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from afina.core import Batch
from afina.errors import InputError
from afina.messages import _

POOL = 50  # steps whose rows are sorted by length together: 97 % useful tokens, and the order still looks shuffled
JITTER = 0.1  # lengths are blurred by this share before sorting, so that small sets meet in new batches every epoch


@dataclass(frozen=True)
class Plan:
    """The rows of every step, shuffled anew each epoch, rows of like length together.

    `lengths` are tokens a row, `batch_size` rows a step over all processes. `micro_tokens` bounds what one rank
    sends through the model at once, padding counted; it changes memory and speed, never the result. Raises
    InputError where a step has fewer rows than there are processes: one of them would wait for ever.
    """

    lengths: Sequence[int]
    batch_size: int
    micro_tokens: int
    seed: int = 0
    world: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        fewest = len(self.lengths) // self.steps_per_epoch
        if fewest < self.world and self.world > 1:
            raise InputError(
                _(
                    "A step of {rows} rows cannot be shared among {world} processes. Give at least {least} rows a "
                    "step, or start fewer processes."
                ).format(rows=fewest, world=self.world, least=2 * self.world)
            )

    @cached_property
    def steps_per_epoch(self) -> int:
        """How many steps pass over all rows once; their sizes differ by one row at most."""
        return max(1, -(-len(self.lengths) // self.batch_size))

    def tokens(self, steps: int) -> float:
        """Return the tokens of so many steps, in the mean of a whole pass."""
        return steps * sum(self.lengths) / self.steps_per_epoch

    def rows(self, step: int) -> np.ndarray:
        """Return the rows of `step` (from 0) over all ranks, the longest first."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[index]

    def micro_batches(self, step: int, most: int | None = None) -> list[list[tuple[int, int]]]:
        """Return this rank's share of `step` as lists of (epoch, row), each within the token budget and `most`."""
        epoch = step // self.steps_per_epoch
        mine = self.rows(step)[self.rank :: self.world]
        budget = self.micro_tokens if most is None else min(most, self.micro_tokens)
        return [[(epoch, int(row)) for row in rows] for rows in by_tokens(mine, self.lengths, budget)]

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        if self._kept.get("epoch") != epoch:
            self._kept.update(epoch=epoch, steps=self._shuffle(epoch))
        return self._kept["steps"]

    @cached_property
    def _kept(self) -> dict[str, Any]:
        return {}

    def _shuffle(self, epoch: int) -> list[np.ndarray]:
        random = np.random.default_rng((self.seed, epoch))
        lengths = np.asarray(self.lengths)
        blurred = lengths * (1 + JITTER * random.random(len(lengths))) + random.random(len(lengths))
        steps: list[np.ndarray] = []
        parts = np.array_split(random.permutation(len(lengths)), self.steps_per_epoch)
        for first in range(0, len(parts), POOL):
            pool = np.concatenate(parts[first : first + POOL])
            pool = pool[np.argsort(-blurred[pool], kind="stable")]
            ends = np.cumsum([len(part) for part in parts[first : first + POOL]])
            steps.extend(np.split(pool, ends[:-1]))
        return [
            rows[np.argsort(-lengths[rows], kind="stable")]
            for rows in (steps[i] for i in random.permutation(len(steps)))
        ]


@dataclass(frozen=True)
class Paced:
    """A plan of which each step takes `pace` steps in the mean, spread evenly: only some take one, or some take more."""

    plan: Plan
    pace: float

    @property
    def seed(self) -> int:
        return self.plan.seed

    def tokens(self, steps: int) -> float:
        """Return the tokens of so many steps."""
        return self.plan.tokens(self._before(steps))

    def rows(self, step: int) -> np.ndarray:
        """Return the rows of `step` (from 0) over all ranks."""
        return np.concatenate([np.empty(0, dtype=int), *(self.plan.rows(own) for own in self._own(step))])

    def micro_batches(self, step: int, most: int | None = None) -> list[list[tuple[int, int]]]:
        """Return this rank's share of `step` as lists of (epoch, row), none where it has no step of the plan."""
        return [rows for own in self._own(step) for rows in self.plan.micro_batches(own, most)]

    def _own(self, step: int) -> range:
        return range(self._before(step), self._before(step + 1))

    def _before(self, step: int) -> int:
        return int(step * self.pace + 0.5)


def by_tokens(rows: Sequence[int] | np.ndarray, lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Cut `rows` (longest first) into lists whose padded size, longest times number, fits the budget."""
    lists: list[list[int]] = []
    for row in rows:
        if lists and lengths[lists[-1][0]] * (len(lists[-1]) + 1) <= budget:
            lists[-1].append(int(row))
        else:
            lists.append([int(row)])
    return lists


def generator(seed: int, epoch: int, row: int) -> np.random.Generator:
    """Return the random generator of one row in one epoch: keyed by what it is about, never by when."""
    return np.random.default_rng((seed, epoch, row))


def batches(
    plan: Plan | Paced,
    rows: Sequence[Any],
    collate: Callable[[list], Batch],
    start: int,
    stop: int,
    most: int | None = None,
) -> Iterator[list[Batch]]:
    """Yield this rank's micro-batches of each step in [start, stop), of `most` tokens at most."""
    for step in range(start, stop):
        yield [
            collate([(rows[row], generator(plan.seed, epoch, row)) for epoch, row in keys])
            for keys in plan.micro_batches(step, most)
        ]

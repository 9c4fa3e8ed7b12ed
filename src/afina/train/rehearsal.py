"""Replay in which a model is taught by itself as it began, not by the text (Li & Hoiem 2016; Buzzega et al. 2020).

What is to be kept is what the model said of general text, and that it can be asked for: a whole distribution for each
guess, where the text itself would give one token of it.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from afina.core import Batch, Loss, Term

KEPT = "kept_"  # before the names of the terms of a batch of replay
DRAWN = "drawn_"  # and of one whose answers were drawn from the model's own
WEIGHT = 0.1  # of the mean guess of replay beside the mean guess of the text: benchmarks/LOG.md


def rehearsed(collate: Callable[[list], Batch]) -> Callable[[list], Batch]:
    """Return what collates rows to a batch of replay, whose terms are counted apart."""

    def marked(items: list) -> Batch:
        return _renamed(collate(items), "", KEPT)

    return marked


@dataclass(frozen=True)
class Rehearsal:
    """What a model is trained for that shall not forget: `task` on its text, and on replay to think as `teacher` does."""

    task: Any
    teacher: nn.Module

    @classmethod
    def of(cls, task: Any, model: nn.Module, device: Any) -> "Rehearsal":
        """Return what keeps `model` near what it is now; a copy of it is held on to."""
        teacher = copy.deepcopy(model).to(device).requires_grad_(False)
        return cls(task, teacher.eval())

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the task's terms or, of replay, how far each of them is from the teacher's (a divergence in nats)."""
        name = next(iter(batch.counts))
        if name.startswith(KEPT):
            terms = self.task.distilled(model, self.teacher, batch)
        else:
            terms = self.task.loss(model, batch)
            if not name.startswith(DRAWN):
                return terms
        return {KEPT + name: Term(each.sum, WEIGHT * each.weight) for name, each in terms.items()}

    def drawn(self, model: nn.Module, batch: Batch) -> Batch:
        """Return the batch with answers drawn from the model's own, of replay too: both have the same curvature."""
        return _renamed(self.task.drawn(model, batch), KEPT, DRAWN)


def _renamed(batch: Batch, old: str, new: str) -> Batch:
    """Return the batch with `new` before the names of its counts in place of `old`, where that stands."""
    counts = {
        new + name.removeprefix(old) if name.startswith(old) else name: count
        for name, count in batch.counts.items()
    }
    return replace(batch, counts=counts)

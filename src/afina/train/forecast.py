"""How long a training will take and how much memory, from a few of its own steps that change no weight."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn

from afina.batching.plan import Plan
from afina.core import Batch, Loss, Method
from afina.train import machine, memory
from afina.train.fit import Batches, spans, unfreeze
from afina.train.frozen import Readings, keeping
from afina.train.loop import Objective, steps
from afina.train.optimizer import adamw
from afina.train.track import peak_memory_mb

TIMED = 4  # steps of each stage that are timed, after one that is not
# What steps of other lengths leave unused between them: a share of what one takes, at most so many MB (benchmarks/LOG.md).
HOLES, MOST_HOLES = 0.5, 160
WORTH = 50  # steps; a shorter training is sooner done than foretold


class Forecast(NamedTuple):
    """Seconds of training without evaluations, to the end of all steps, and the most memory of the process in MB."""

    seconds: float
    memory_mb: float


class _Clock:
    """Batches that know how long each was read after the other; the first, which is also checked, is not counted."""

    def __init__(self, batches: list[Batch]):
        self.batches, self.at = batches, list[float]()

    def __call__(self) -> Iterator[Batch]:
        for batch in self.batches:
            self.at.append(time.perf_counter())
            yield batch
        self.at.append(time.perf_counter())

    def seconds_a_token(self) -> float:
        """Return how long reading took, where all batches were read."""
        return (self.at[-1] - self.at[1]) / max(sum(batch.tokens for batch in self.batches[1:]), 1)


def forecast(
    accelerator: Accelerator,
    model: nn.Module,
    method: Method,
    loss: Callable[[nn.Module, Batch], Loss],
    batches: Batches,
    plan: Plan,
    total: int,
    timed: int = TIMED,
    *,
    slow: bool = False,
    score: Callable[[], Any] | None = None,
) -> Forecast:
    """Take a few of the `total` steps, `timed` of each stage, at a learning rate of 0; return what all will take.

    The first and the last are the one with the longest row, which wants most memory and is not timed: what shorter
    steps leave in the heap is no place for it. The others are spread evenly. Time is counted a token, since steps
    differ in length; what frozen blocks give is computed once, unless the training is `slow`. `score` takes the memory
    that scoring in mid-training does. All processes must take part.
    """
    before = peak_memory_mb()
    model.to(accelerator.device)
    machine.plain_attention(model, accelerator)
    longest = max(
        range(plan.steps_per_epoch), key=lambda step: max(plan.lengths[row] for row in plan.rows(step))
    )
    tokens = sum(plan.lengths)
    seconds = 0.0
    for stage, start, end in spans(method.stages(model), total):
        unfreeze(model, stage)
        # Without decay and rate the weights stay, bit by bit; what the optimizer keeps is let go of.
        still = adamw(model, 0.0, 0.0, 0.999, stage.rates)
        objective, optimizer = accelerator.prepare(Objective(model, loss), still)
        places = [start + (end - start) * i // timed for i in range(min(timed, end - start))]
        where = (longest, *places, longest)
        tried = [micro for index in where for micro in batches(index, index + 1, None)]
        clock = _Clock([batch for micro in tried for batch in micro])
        readings = None if slow else Readings(clock, sum(batch.tokens for batch in clock.batches))
        passes = (end - start) / plan.steps_per_epoch
        with keeping(accelerator, model, stage, readings, passes) as kept:
            filled = clock.seconds_a_token() if kept else 0.0

            def smaller(number: int, micro: list[Batch], where: tuple[int, ...] = where) -> list[Batch]:
                cut = partial(batches, where[number], where[number] + 1)
                return memory.smaller(micro, cut)[0]

            taken = []
            made = steps(
                accelerator,
                objective,
                optimizer,
                lambda _step: 0.0,
                tried,
                max_grad_norm=1.0,
                smaller=smaller,
            )
            for number, step in enumerate(made):
                if 0 < number <= len(places):
                    taken.append(step)
                if score and number == len(places):
                    score()
        accelerator.free_memory()
        a_token = sum(step.seconds for step in taken) / max(sum(step.tokens for step in taken), 1)
        seconds += (a_token * passes + filled) * tokens
    model.zero_grad(set_to_none=True)
    model.requires_grad_(True)
    if accelerator.device.type == "cuda":
        return Forecast(seconds, torch.cuda.max_memory_allocated() / 2**20)
    peak = peak_memory_mb()
    return Forecast(seconds, peak + min(HOLES * (peak - before), MOST_HOLES))

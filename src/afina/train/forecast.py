"""What a training will take: how many tokens fit at once, how long and how much memory, from what changes no weight."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn

from afina.batching.plan import Plan
from afina.core import Batch, Loss, Method
from afina.models.parts import blocks
from afina.models.recompute import kept_whole
from afina.train import machine, memory
from afina.train.fit import Batches, spans, unfreeze
from afina.train.frozen import Readings, keeping, room
from afina.train.loop import Objective, steps
from afina.train.optimizer import adamw
from afina.train.track import peak_memory_mb

TIMED = 4  # steps of each stage that are timed, after one that is not
# What steps of other lengths leave unused between them: a share of what one takes, at most so many MB (benchmarks/LOG.md).
HOLES, MOST_HOLES = 0.5, 160
WORTH = 50  # steps; a shorter training is sooner done than foretold


MOVED = 12  # bytes beside each weight that trains: its gradient, and two numbers of AdamW


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


def fitting(
    accelerator: Accelerator,
    model: nn.Module,
    method: Method,
    loss: Callable[[nn.Module, Batch], Loss],
    batches: Batches,
    plan: Plan,
) -> int:
    """Return how many tokens at once fit into the memory that is free: those of `plan`, or half, a quarter … of them.

    What the longest row leaves for the way back is counted in one forward pass, and a micro-batch takes as much for
    each row of that length. Where nothing is known of the memory, and for several processes, all is said to fit.
    """
    free = memory.free(accelerator.device)
    if free is None or accelerator.num_processes > 1:
        return plan.micro_tokens
    model.to(accelerator.device)
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    weights, stage = max(
        (
            (sum(n for name, n in sizes.items() if stage.trainable is None or name in stage.trainable), stage)
            for stage in method.stages(model)
        ),
        key=lambda each: each[0],
    )
    unfreeze(model, stage)
    step = _longest(plan)
    ((row, *_others),) = batches(step, step + 1, 1)
    # In float32: with less precision copies of the weights would be counted for every row.
    objective, row = Objective(model, loss).train(), row.to(accelerator.device)
    a_row = _kept(objective, row)
    if model.is_activation_checkpointing:  # on the way back one block at a time is there whole
        with kept_whole(model):
            a_row += (_kept(objective, row) - a_row) // len(blocks(model))
    model.requires_grad_(True)
    tokens, length = plan.micro_tokens, max(plan.lengths)
    while tokens > length and MOVED * weights + (1 + HOLES) * a_row * (tokens // length) > free:
        tokens //= 2
    return tokens


def _kept(objective: nn.Module, batch: Batch) -> int:
    """Return the bytes beside the weights that a forward pass leaves for the way back."""
    own = {weight.untyped_storage().data_ptr() for weight in objective.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = objective(batch)  # held, so that no memory is counted as that of another tensor
    size = sum(size for place, size in kept.items() if place not in own)
    del found
    return size


def _longest(plan: Plan) -> int:
    """Return the step of the first epoch with the longest row."""
    return max(
        range(plan.steps_per_epoch), key=lambda step: max(plan.lengths[row] for row in plan.rows(step))
    )


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
    readings: Readings | None = None,
    run: Path | None = None,
    score: Callable[[], Any] | None = None,
) -> Forecast:
    """Take a few of the `total` steps, `timed` of each stage, at a learning rate of 0; return what all will take.

    The first and the last are the one with the longest row, which wants most memory and is not timed: what shorter
    steps leave in the heap is no place for it. The others are spread evenly. Time is counted a token, since steps
    differ in length. What frozen blocks give is kept where that of all `readings` fits on the disk of `run`, which need
    not be there yet. `score` takes the memory that scoring in mid-training does. All processes must take part.
    """
    before = peak_memory_mb()
    model.to(accelerator.device)
    machine.plain_attention(model, accelerator)
    most = None if run is None else room(run)
    longest = _longest(plan)
    tokens = sum(plan.lengths)
    seconds = 0.0
    for stage, start, end in spans(method.stages(model), total):
        unfreeze(model, stage)
        # Without decay and rate the weights stay, bit by bit; what the optimizer keeps is let go of.
        still = adamw(model, 0.0, 0.0, 0.999, stage.rates)
        objective = accelerator.prepare(Objective(model, loss))
        places = [start + (end - start) * i // timed for i in range(min(timed, end - start))]
        where = (longest, *places, longest)
        tried = [micro for index in where for micro in batches(index, index + 1, None)]
        clock = _Clock([batch for micro in tried for batch in micro])
        some = readings and readings._replace(batches=clock)
        passes = (end - start) / plan.steps_per_epoch
        with keeping(accelerator, model, stage, some, passes, most=most) as kept:
            filled = clock.seconds_a_token() * readings.tokens if readings and kept.rows else 0.0

            def smaller(number: int, micro: list[Batch], where: tuple[int, ...] = where) -> list[Batch]:
                cut = partial(batches, where[number], where[number] + 1)
                return memory.smaller(micro, cut)[0]

            taken = []
            made = steps(
                accelerator,
                objective,
                still,
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
        seconds += a_token * passes * tokens + filled
    model.zero_grad(set_to_none=True)
    model.requires_grad_(True)
    if accelerator.device.type == "cuda":
        return Forecast(seconds, torch.cuda.max_memory_allocated() / 2**20)
    peak = peak_memory_mb()
    return Forecast(seconds, peak + min(HOLES * (peak - before), MOST_HOLES))

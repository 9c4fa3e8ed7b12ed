"""How long a training will take and how much memory, from a few of its own steps that change no weight."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import nn

from afina.batching.plan import Plan
from afina.core import Batch, Loss, Method
from afina.train import machine
from afina.train.fit import spans, unfreeze
from afina.train.loop import Objective, steps
from afina.train.optimizer import adamw
from afina.train.track import peak_memory_mb

TIMED = 4  # steps of each stage that are timed, after one that is not
WORTH = 50  # steps; a shorter training is sooner done than foretold


class Forecast(NamedTuple):
    """Seconds of training without evaluations, to the end of all steps, and the most memory of the process in MB."""

    seconds: float
    memory_mb: float


def forecast(
    accelerator: Accelerator,
    model: nn.Module,
    method: Method,
    loss: Callable[[nn.Module, Batch], Loss],
    batches: Callable[[int, int], Iterable[list[Batch]]],
    plan: Plan,
    total: int,
    timed: int = TIMED,
) -> Forecast:
    """Take a few of the `total` steps, `timed` of each stage, at a learning rate of 0; return what all will take.

    The first is the one with the longest row, which wants most memory and is not timed; the others are spread
    evenly. Time is counted a token, since steps differ in length. All processes must take part.
    """
    model.to(accelerator.device)
    machine.plain_attention(model, accelerator)
    longest = max(
        range(plan.steps_per_epoch), key=lambda step: max(plan.lengths[row] for row in plan.rows(step))
    )
    tokens_a_step = sum(plan.lengths) / plan.steps_per_epoch
    seconds = 0.0
    for stage, start, end in spans(method.stages(model), total):
        unfreeze(model, stage)
        # Without decay and rate the weights stay, bit by bit; what the optimizer keeps is let go of.
        still = adamw(model, 0.0, 0.0, 0.999, stage.rates)
        objective, optimizer = accelerator.prepare(Objective(model, loss), still)
        tried = [start + (end - start) * i // timed for i in range(min(timed, end - start))]
        taken = [
            step
            for index in (longest, *tried)
            for step in steps(
                accelerator,
                objective,
                optimizer,
                lambda _step: 0.0,
                batches(index, index + 1),
                max_grad_norm=1.0,
            )
        ][1:]
        accelerator.free_memory()
        a_token = sum(step.seconds for step in taken) / max(sum(step.tokens for step in taken), 1)
        seconds += a_token * tokens_a_step * (end - start)
    model.zero_grad(set_to_none=True)
    model.requires_grad_(True)
    if accelerator.device.type == "cuda":
        return Forecast(seconds, torch.cuda.max_memory_allocated() / 2**20)
    return Forecast(seconds, peak_memory_mb())

"""The training loop: everything between a batch and a changed weight is in `steps`, everything else in `fit`."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from afina.core import Batch, Loss, Step
from afina.train import machine, memory


class Objective(nn.Module):
    """A model together with what it is trained for, as one module: so wrappers (DDP, autocast) see one forward.

    Which weights train is settled when it first goes into training mode.
    """

    def __init__(self, model: nn.Module, loss: Callable[[nn.Module, Batch], Loss]):
        super().__init__()
        self.model, self.loss = model, loss
        self.ready = False

    def train(self, mode: bool = True) -> "Objective":
        """Set training mode, but for the parts in which nothing trains: a frozen part knows no dropout.

        It is asked for before every step, and to look through all modules takes a small model as long as the step: so
        nothing is done while scoring has not put the model into the other mode.
        """
        if mode and self.ready and self.model.training:
            return self
        super().train(mode)
        self.ready = mode
        if mode:
            for module in self.modules():
                weights = list(module.parameters())
                if weights and not any(weight.requires_grad for weight in weights):
                    module.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, tuple[Tensor, float]]:
        return {name: (term.sum, term.weight) for name, term in self.loss(self.model, batch).items()}


def steps(
    accelerator: Accelerator,
    objective: nn.Module,
    optimizer: Any,
    rate: Callable[[int], float],
    batches: Iterable[list[Batch]],
    *,
    max_grad_norm: float,
    seed: int = 0,
    start: int = 0,
    skips: Callable[[float, float], bool] | None = None,
    observe: Callable[[int, list[Batch], dict[str, float]], None] | None = None,
    smaller: Callable[[int, list[Batch]], list[Batch]] | None = None,
) -> Iterator[Step]:
    """Take one optimizer step per list of micro-batches and yield what happened.

    Every term of the loss is a sum, divided here by its count over all micro-batches and processes: so how a
    batch is cut changes nothing. `rate` gives the factor on each group's own learning rate. Dropout draws from a
    generator keyed by (seed, step, rank): a run stopped and resumed needs no saved random state. A step of whose loss
    and gradient norm `skips` says so changes no weight. `observe` is shown each step's index, batches and counts before
    it is taken, for an optimizer that wants to know the curvature. A step that runs out of memory is taken again from
    its beginning with the micro-batches that `smaller` makes of its index and those that it had.
    """
    base = [group["lr"] for group in optimizer.param_groups]
    trained = [weight for weight in objective.parameters() if weight.requires_grad]
    began = time.perf_counter()
    for index, micro in enumerate(batches, start):
        objective.train()
        totals = _totals(accelerator, micro)
        seen = observe is None
        while True:
            try:
                if observe and not seen:
                    observe(index, micro, totals)
                    seen = True
                machine.seed(accelerator.device, mix(seed, index, accelerator.process_index))
                sums = _gradient(accelerator, objective, micro, totals)
                break
            except memory.ERRORS as error:
                if smaller is None or not memory.ran_out(error):
                    raise
            # Out here the error is gone, and with it all that it held on to.
            optimizer.zero_grad(set_to_none=True)
            memory.release()
            micro = smaller(index, micro)
        norm = float(accelerator.clip_grad_norm_(trained, max_grad_norm))
        names = sorted(sums)
        reduced = accelerator.reduce(torch.stack([sums[name] for name in names]), "sum").tolist()
        found = {name: pair for name, pair in zip(names, reduced, strict=True) if totals[name]}
        whole = sum(pair[1] / totals[name] for name, pair in found.items())
        for group, learning_rate in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = learning_rate * rate(index)
        skipped = skips is not None and skips(whole, norm)
        if not skipped:
            _move(optimizer)
        optimizer.zero_grad(set_to_none=True)
        yield Step(
            index=index + 1,
            loss=whole,
            parts={name: pair[0] / totals[name] for name, pair in found.items()},
            grad_norm=norm,
            learning_rate=max(group["lr"] for group in optimizer.param_groups),
            tokens=int(totals["tokens"]),
            rows=int(totals["rows"]),
            seconds=time.perf_counter() - began,
            skipped=skipped,
        )
        began = time.perf_counter()
    for group, learning_rate in zip(optimizer.param_groups, base, strict=True):
        group["lr"] = learning_rate


def _gradient(
    accelerator: Accelerator, objective: nn.Module, micro: list[Batch], totals: dict[str, float]
) -> dict[str, Tensor]:
    """Add up the gradient of a step; return by term its sum, and the same times its weight."""
    sums: dict[str, Tensor] = {}
    for batch in micro:
        last = batch is micro[-1]
        with nullcontext() if last else accelerator.no_sync(objective):
            terms = objective(batch.to(accelerator.device))
            # Where nothing counts, the sum is 0 and so is its gradient.
            parts = [value * weight / (totals[name] or 1.0) for name, (value, weight) in terms.items()]
            # DDP averages over the processes, but the counts above are already those of all of them.
            accelerator.backward(torch.stack(parts).sum() * accelerator.num_processes)
        for name, (value, weight) in terms.items():
            part = torch.stack([value.detach().float(), value.detach().float() * weight])
            sums[name] = sums.get(name, torch.zeros_like(part)) + part
    return sums


def _move(optimizer: Any) -> None:
    """Change the weights; InputError where there is no room for what the optimizer keeps, half of which may be made."""
    try:
        optimizer.step()
    except memory.ERRORS as error:
        if not memory.ran_out(error):
            raise
        raise memory.too_large() from None


def _totals(accelerator: Accelerator, micro: list[Batch]) -> dict[str, float]:
    """Return the counts of every term, the tokens and the rows of the whole step, over all processes."""
    counts: dict[str, float] = {"tokens": 0.0, "rows": 0.0}
    for batch in micro:
        for name, count in batch.counts.items():
            counts[name] = counts.get(name, 0.0) + count
        counts["tokens"] += batch.tokens
        counts["rows"] += len(batch.rows or next(iter(batch.tensors.values())))
    names = sorted(counts)
    local = torch.tensor([counts[name] for name in names], dtype=torch.float64, device=accelerator.device)
    return dict(zip(names, accelerator.reduce(local, "sum").tolist(), strict=True))


def mix(seed: int, step: int, rank: int) -> int:
    """Return one 63-bit number for the three, so that neighbours share nothing (splitmix64's constants)."""
    value = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**64
    value = (value ^ value >> 31) * 0x94D049BB133111EB % 2**64
    return (value ^ value >> 30) >> 1

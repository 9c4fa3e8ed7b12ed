"""Two estimates of the diagonal of a loss's curvature, each unbiased, from the batches of one step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from afina.core import Batch
from afina.train.loop import mix
from afina.train.sophia import Sophia

Drawn = Callable[[nn.Module, Batch], Batch]
"""Returns the batch with gold answers that are drawn from what the model itself thinks of it."""


def observer(
    accelerator: Any, objective: nn.Module, optimizer: Any, seed: int, drawn: Drawn | None
) -> Callable[[int, list[Batch], dict[str, float]], None] | None:
    """Return what shows Sophia the curvature of the steps that it wants to know it of, None for another optimizer."""
    if not isinstance(optimizer, Sophia):
        return None
    if drawn is None and optimizer.curvature == "gnb":
        raise ValueError("the estimate gnb needs a task that draws answers")
    inner = accelerator.unwrap_model(objective)  # what comes of it is no gradient that DDP should know of

    def observe(index: int, micro: list[Batch], totals: dict[str, float]) -> None:
        if not optimizer.due(index):
            return
        # Keyed like dropout, but by another number; what all processes share is keyed without a rank.
        mine, ours = (mix(seed, ~index, rank) for rank in (accelerator.process_index + 1, 0))
        given = (accelerator, inner, optimizer.weights(), micro, totals)
        if drawn and optimizer.curvature == "gnb":
            optimizer.see(gauss_newton_bartlett(*given, drawn, mine))
        else:
            optimizer.see(hutchinson(*given, ours, mine))

    return observe


def gauss_newton_bartlett(
    accelerator: Any,
    objective: Any,
    weights: Sequence[Tensor],
    micro: Sequence[Batch],
    totals: Mapping[str, float],
    drawn: Drawn,
    seed: int,
) -> list[Tensor]:
    """Return an estimate of the diagonal of the Gauss-Newton matrix of the step's mean loss, by weight; never negative.

    A term that is a mean of B negative log likelihoods, of weight w, has a Gauss-Newton diagonal of which w / B times
    the square of its summed gradient on drawn answers is an estimate (Bartlett 1953; Liu et al. 2023, there for one
    term). Terms and processes are drawn apart, so that their sums may be squared together. `totals` are the counts of
    the terms in the whole step; `seed` is of this process.
    """
    found = [torch.zeros_like(weight) for weight in weights]
    for index, batch in enumerate(micro):
        batch = batch.to(accelerator.device)
        torch.manual_seed(seed + index)
        with torch.no_grad():
            asked = drawn(objective.model, batch)
        torch.manual_seed(seed + index)  # the same dropout as of the model that was drawn from
        terms = objective(asked)
        parts = [value * (weight / (totals[name] or 1.0)) ** 0.5 for name, (value, weight) in terms.items()]
        _add(found, torch.autograd.grad(torch.stack(parts).sum(), weights, allow_unused=True))
    return [accelerator.reduce(total, "sum").square() for total in found]


def hutchinson(
    accelerator: Any,
    objective: Any,
    weights: Sequence[Tensor],
    micro: Sequence[Batch],
    totals: Mapping[str, float],
    seed: int,
    dropout_seed: int,
) -> list[Tensor]:
    """Return an estimate of the diagonal of the Hessian of the step's mean loss, by weight: u times Hessian u.

    u holds signs, which have the least variance (Hutchinson 1989), drawn from `seed`, the same in all processes.
    Attention is computed the plain way, since fused kernels know no second derivative.
    """
    generator = torch.Generator().manual_seed(seed)
    signs = [
        (2.0 * torch.randint(2, weight.shape, generator=generator) - 1).to(weight.device)
        for weight in weights
    ]
    found = [torch.zeros_like(weight) for weight in weights]
    for index, batch in enumerate(micro):
        torch.manual_seed(dropout_seed + index)
        with sdpa_kernel(SDPBackend.MATH):
            terms = objective(batch.to(accelerator.device))
            parts = [value * weight / (totals[name] or 1.0) for name, (value, weight) in terms.items()]
            slopes = torch.autograd.grad(
                torch.stack(parts).sum(), weights, create_graph=True, allow_unused=True
            )
            along = [
                (slope * sign).sum() for slope, sign in zip(slopes, signs, strict=True) if slope is not None
            ]
            _add(found, torch.autograd.grad(torch.stack(along).sum(), weights, allow_unused=True))
    return [sign * accelerator.reduce(total, "sum") for sign, total in zip(signs, found, strict=True)]


def _add(sums: Sequence[Tensor], parts: Sequence[Tensor | None]) -> None:
    for total, part in zip(sums, parts, strict=True):
        if part is not None:  # of a weight that this batch does not reach
            total += part.detach()

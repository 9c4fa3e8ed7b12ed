"""AdamW, Sophia and the learning rate as a pure function of the step."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from afina.core import Curvature, Schedule
from afina.train.sophia import Sophia

DECAY = 0.2  # the share of the steps in which `warmup_stable_decay` falls (Hu et al. 2024, MiniCPM)
BEGIN = 1 / 25  # the share of the highest rate from which `one_cycle` rises (Smith & Topin 2018)
LOWEST = 1 / 32  # what `slanted_triangular` falls to (Howard & Ruder 2018, ULMFiT)


def adamw(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    beta2: float,
    rates: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov & Hutter 2019) over the trainable weights, with decay on matrices only.

    `rates` are factors on the learning rate of the weights they name.
    """
    groups = _groups(model, learning_rate, weight_decay, rates)
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, beta2), fused=True)


def sophia(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    curvature: Curvature,
    rates: Mapping[str, float] | None = None,
) -> Sophia:
    """Return Sophia (Liu et al. 2023) over the trainable weights, decay and `rates` as with AdamW."""
    return Sophia(_groups(model, learning_rate, weight_decay, rates), learning_rate, curvature)


def _groups(
    model: nn.Module, learning_rate: float, weight_decay: float, rates: Mapping[str, float] | None
) -> list[dict[str, Any]]:
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            groups.setdefault(((rates or {}).get(name, 1.0), weight.ndim >= 2), []).append(weight)
    return [
        {"params": weights, "lr": learning_rate * factor, "weight_decay": weight_decay if decays else 0.0}
        for (factor, decays), weights in groups.items()
    ]


def rate(step: int, steps: int, warmup: float, schedule: Schedule = "linear") -> float:
    """Return the factor on the learning rate in `step` (from 0) of `steps`: it rises, then falls towards zero."""
    rise = max(1, round(warmup * steps) if warmup < 1 else int(warmup))
    if step < rise:
        risen = (step + 1) / rise
        return BEGIN + (1 - BEGIN) * _eased(risen) if schedule == "one_cycle" else risen
    left = (steps - step) / max(1, steps - rise)
    if schedule == "slanted_triangular":
        return LOWEST + (1 - LOWEST) * left
    if schedule in ("cosine", "one_cycle"):
        return _eased(left)
    if schedule == "warmup_stable_decay":
        return min(1.0, (steps - step) / max(1, DECAY * steps))
    return left


def _eased(share: float) -> float:
    """Return 0 at 0 and 1 at 1, along half a cosine."""
    return 0.5 * (1 - math.cos(math.pi * share))

"""AdamW and the learning rate as a pure function of the step."""

import math
from typing import Literal

import torch
from torch import nn

Schedule = Literal["linear", "cosine", "warmup_stable_decay"]
DECAY = 0.2  # the share of the steps in which `warmup_stable_decay` falls (Hu et al. 2024, MiniCPM)


def adamw(model: nn.Module, learning_rate: float, weight_decay: float, beta2: float) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov & Hutter 2019) over the trainable weights, with decay on matrices only."""
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [w for w in trainable if w.ndim >= 2], "weight_decay": weight_decay},
        {"params": [w for w in trainable if w.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=learning_rate, betas=(0.9, beta2), fused=True
    )


def rate(step: int, steps: int, warmup: float, schedule: Schedule = "linear") -> float:
    """Return the factor on the learning rate in `step` (from 0) of `steps`: it rises, then falls towards zero."""
    rise = max(1, round(warmup * steps) if warmup < 1 else int(warmup))
    if step < rise:
        return (step + 1) / rise
    left = (steps - step) / max(1, steps - rise)
    if schedule == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    if schedule == "warmup_stable_decay":
        return min(1.0, (steps - step) / max(1, DECAY * steps))
    return left

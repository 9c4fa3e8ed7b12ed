"""Sophia: momentum over curvature, clipped weight by weight (Liu et al. 2023)."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from afina.core import Curvature

BETAS = (0.96, 0.99)  # of the momentum and of the curvature, as in the paper
EVERY = 10  # steps between two estimates
RHO = {"gnb": 0.05, "hutchinson": 0.01}  # the paper's gamma: more of it, and fewer weights are clipped
LEAST = 1e-12  # curvature; where there is less, a weight goes the whole way


class Sophia(torch.optim.Optimizer):
    """Move each weight by the learning rate times momentum / (rho x curvature), at most by the learning rate.

    Every `every` steps it asks for an estimate of the curvature's diagonal of the kind `curvature`, which `see` takes
    before that step. Weight decay is decoupled, as in AdamW. What it keeps is tensors in its state alone.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        curvature: Curvature = "gnb",
        rho: float | None = None,
        betas: tuple[float, float] = BETAS,
        every: int = EVERY,
    ):
        self.curvature, self.every = curvature, every
        super().__init__(
            groups, {"lr": lr, "betas": betas, "rho": rho or RHO[curvature], "weight_decay": 0.0}
        )

    def due(self, index: int) -> bool:
        """Whether step `index` (from 0) begins with an estimate."""
        return index % self.every == 0

    def weights(self) -> list[Tensor]:
        """Return what it trains, in the order in which `see` takes their curvature."""
        return [weight for group in self.param_groups for weight in group["params"]]

    @torch.no_grad()
    def see(self, curvature: Sequence[Tensor]) -> None:
        """Take an estimate of the curvature's diagonal into the running one, by weight."""
        for (weight, group), seen in zip(self._with_group(), curvature, strict=True):
            self._state(weight)["hessian"].lerp_(seen, 1 - group["betas"][1])

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move the weights that have a gradient."""
        for weight, group in self._with_group():
            if weight.grad is None:
                continue
            state, rate = self._state(weight), group["lr"]
            momentum = state["exp_avg"].lerp_(weight.grad, 1 - group["betas"][0])
            step = momentum / (group["rho"] * state["hessian"]).clamp_(min=LEAST)
            weight.mul_(1 - rate * group["weight_decay"]).sub_(step.clamp_(-1, 1), alpha=rate)

    def _with_group(self) -> Iterable[tuple[Tensor, dict[str, Any]]]:
        return ((weight, group) for group in self.param_groups for weight in group["params"])

    def _state(self, weight: Tensor) -> dict[str, Tensor]:
        state = self.state[weight]
        for name in ("exp_avg", "hessian"):
            if name not in state:
                state[name] = torch.zeros_like(weight)
        return state

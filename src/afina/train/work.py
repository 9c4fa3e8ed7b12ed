"""The useful arithmetic of a training: what its tokens and rows cost in FLOP."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from afina.core import Step
from afina.models.parts import blocks, config, depths, stack


class Work:
    """The useful FLOP of a stage: 6 a weight of a matrix that trains for what it is multiplied with, embeddings not.

    A frozen matrix costs 4 above the lowest weight that trains (the gradient passes through) and 2 below it. Attention
    costs a third of 12 · width · length a block for each of forward and twice backward. A matrix is multiplied with
    every token, or with one of each row (poolers, most heads over whole texts): that is seen in the first step.
    """

    def __init__(self, model: nn.Module):
        looked_up = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        depth, paths = depths(model), blocks(model)
        weights = dict(model.named_parameters())
        lowest = min((depth[name] for name, weight in weights.items() if weight.requires_grad), default=0)
        frozen = min(len(paths), max(0, lowest - 1))
        self.cost: dict[str, float] = {}  # by matrix
        self.passed: set[str] = set()  # those in the frozen blocks, which a row that is kept passes by
        for name, weight in weights.items():
            if weight.ndim == 2 and id(weight) not in looked_up:
                factor = 6.0 if weight.requires_grad else 4.0 if depth[name] >= lowest else 2.0
                self.cost[name] = factor * weight.numel()
                if any(name.startswith(path + ".") for path in paths[:frozen]):
                    self.passed.add(name)
        width = float(getattr(config(model), "hidden_size", 0) or 0)
        self.attention, self.attention_passed = 12.0 * width * (len(paths) - frozen), 4.0 * width * frozen
        self.once: set[str] = set()  # those that one token of a row is multiplied with
        self._shape = (0, 0)
        self._hooks = self._look(model)

    def __call__(self, step: Step, kept: float = 0.0) -> float:
        """Return the useful FLOP of a step, a share of whose rows is `kept` and passes the frozen blocks."""
        self.close()
        computed = self._of(step.tokens, step.rows, self.cost.keys() - self.passed, self.attention)
        return computed + (1 - kept) * self.reading(step.tokens, step.rows)

    def reading(self, tokens: int, rows: int) -> float:
        """Return the FLOP of what the frozen blocks do with so many tokens."""
        return self._of(tokens, rows, self.passed, self.attention_passed)

    def close(self) -> None:
        """Look on no more."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _of(self, tokens: int, rows: int, names: set[str], attention: float) -> float:
        matrices = sum(self.cost[name] * (rows if name in self.once else tokens) for name in names)
        return matrices + attention * tokens * tokens / max(rows, 1)

    def _look(self, model: nn.Module) -> list[RemovableHandle]:
        """Have the model note which matrices are multiplied with one token a row."""
        body = stack(model)
        signature = inspect.signature(body.forward)

        def rows(_body: nn.Module, positional: tuple[Any, ...], named: Mapping[str, Any]) -> None:
            ids = signature.bind(*positional, **named).arguments.get("input_ids")
            self._shape = (0, 0) if ids is None else tuple(ids.shape)

        def places(name: str, positional: tuple[Any, ...]) -> None:
            given = positional[0] if positional else None
            if isinstance(given, Tensor) and self._shape[1] > 1:
                found = given.numel() // given.shape[-1]
                (self.once.add if found == self._shape[0] else self.once.discard)(name)

        hooks = [body.register_forward_pre_hook(rows, with_kwargs=True)]
        for path, module in model.named_modules():
            name = f"{path}.weight"
            if name in self.cost:
                hooks.append(
                    module.register_forward_pre_hook(lambda _module, given, name=name: places(name, given))
                )
        return hooks

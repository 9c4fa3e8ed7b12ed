"""What frozen blocks give for rows, in a file: looked up by the row's tokens, and handed on in the place of the blocks."""

import errno
import hashlib
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from afina.core import Batch
from afina.models.heads import AT_ONCE, hidden_states, outputs
from afina.models.parts import answers_in_words, blocks, config, stack

FIRST = 1024  # tokens on which it is tried first
SURE = 1e-4  # how far the model's output may be off on them


class _Enough(Exception):
    """Ends a reading at the highest frozen block: nothing above it is wanted."""


@dataclass
class Kept:
    """How many rows are kept; where there is no room, `why` not; how many training `asked` for and `found` of late."""

    rows: int = 0
    why: str = ""
    asked: int = 0
    found: int = 0

    def taken(self) -> float:
        """Return which share of the rows that training asked for, since this was last asked, passed the frozen blocks by."""
        share = self.found / max(self.asked, 1)
        self.asked = self.found = 0
        return share


def _close(some: Tensor, other: Tensor) -> bool:
    return torch.allclose(some, other, rtol=SURE, atol=SURE)


def _cut(tensors: dict[str, Tensor], most: int) -> Iterator[dict[str, Tensor]]:
    """Cut the rows of a batch into parts of at most so many tokens: a row of data may be many windows."""
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in tensors]
    rows = max(1, most // tensors["input_ids"].shape[1])
    for parts in zip(*(tensors[name].split(rows) for name in names), strict=True):
        yield dict(zip(names, parts, strict=True))


# Which tokens are kept of those that are no padding, `seen`, and are not its sign, `said` [rows, tokens].
def _all(seen: np.ndarray, _said: np.ndarray) -> np.ndarray:
    return seen


def _first(seen: np.ndarray, _said: np.ndarray) -> np.ndarray:
    return seen & (seen.cumsum(1) == 1)


def _last(_seen: np.ndarray, said: np.ndarray) -> np.ndarray:  # so decoders find the end of a row
    return said & (said.cumsum(1) == said.sum(1, keepdims=True))


def _none(seen: np.ndarray, _said: np.ndarray) -> np.ndarray:
    return np.zeros_like(seen)


Wanted = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Store:
    """What the blocks give, by the row's tokens: `places` says where in the file it stands and how many tokens are kept."""

    def __init__(self, model: nn.Module, frozen: list[nn.Module], file: int, most: int):
        self.model, self.frozen, self.file, self.most = model, frozen, file, most
        self.body = stack(model)
        self.signature = inspect.signature(self.body.forward)
        self.places: dict[bytes, tuple[int, int]] = {}
        self.end = 0
        self.wanted: Wanted = _all
        self.found = Kept()
        self.fits = True  # whether the blocks give what can be kept
        self.full = False  # whether there is too little room for it
        self._behind: tuple[Any, ...] | None = None  # what the last block gives beside the hidden states
        self._storing = False
        self._rows: list[bytes] | None = None
        self._seen: np.ndarray = np.empty(0)
        self._chosen: np.ndarray = np.empty(0)  # which of the tokens of the rows in hand are kept
        self._known: Tensor | None = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the body look up its rows and the frozen blocks pass them on."""
        hook = self.body.register_forward_pre_hook(self._look, with_kwargs=True)
        before = [vars(block).get("forward") for block in self.frozen]
        for place, block in enumerate(self.frozen):
            block.forward = partial(self._pass, place, block.forward)
        try:
            yield
        finally:
            hook.remove()
            for block, own in zip(self.frozen, before, strict=True):
                if own is None:
                    del block.forward
                else:
                    block.forward = own

    def read(self, tensors: dict[str, Tensor]) -> None:
        """Keep what the frozen blocks give for some rows."""
        self._storing = True
        try:
            hidden_states(self.model, tensors)
        except _Enough:
            pass
        finally:
            self._storing = False

    def begins(self, tensors: dict[str, Tensor], tokens: int, rows: int) -> bool:
        """Whether the first of some rows come out of the model alike, and there is room for `rows` with all their `tokens`."""
        first = next(_cut(tensors, FIRST))
        if not self.same(first):
            return False
        self._narrow(first)
        self.full = self.size(tokens, rows) > self.most
        return not self.full

    def read_all(self, tensors: dict[str, Tensor]) -> bool:
        """Keep what the frozen blocks give for all rows of a batch; False where they do not fit."""
        for some in _cut(tensors, AT_ONCE):
            self.read(some)
        return self.fits

    def size(self, tokens: int, rows: int) -> int:
        """Return how many bytes so many rows of so many tokens take."""
        return 4 * (tokens if self.wanted is _all else rows) * int(config(self.model).hidden_size)

    def _narrow(self, tensors: dict[str, Tensor]) -> None:
        """Keep the first or the last token of a row alone where the whole model says the same with zeros for all others.

        Where it says so with nothing but zeros too (a head whose weights are 0), that tells nothing.
        """
        if len(self.frozen) < len(blocks(self.model)) or answers_in_words(self.model):
            return
        batch = Batch(tensors, {}, 0)
        plain = outputs(self.model, batch)
        for wanted in (_none, _first, _last):
            self._forget(wanted)
            self.read(tensors)
            if all(map(_close, outputs(self.model, batch), plain)):
                break
        else:
            wanted = _none
        self._forget(_all if wanted is _none else wanted)

    def _forget(self, wanted: Wanted) -> None:
        self.places.clear()
        self.end, self.wanted = 0, wanted

    def same(self, tensors: dict[str, Tensor]) -> bool:
        """Keep some rows, and say whether the body gives and trains the same with them.

        Some families carry more from block to block, and a method may have put something below that trains.
        """
        plain, trained = self._asked(tensors)
        if self._rows is None:  # something other than tokens is read
            return False
        self.read(tensors)
        if not self.fits:
            return False
        again, still = self._asked(tensors)
        return trained == still and _close(again, plain)

    def _asked(self, tensors: dict[str, Tensor]) -> tuple[Tensor, list[bool]]:
        """Return the body's output where rows are not padded, and which weights a gradient reaches from there."""
        with torch.enable_grad():
            hidden = hidden_states(self.model, tensors)
            if self._rows is not None:
                hidden = hidden[torch.from_numpy(self._seen)]
            weights = [weight for weight in self.model.parameters() if weight.requires_grad]
            reached = [False] * len(weights)
            if hidden.requires_grad:
                found = torch.autograd.grad(hidden.sum(), weights, allow_unused=True)
                reached = [each is not None for each in found]
        return hidden.detach(), reached

    def _look(self, body: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Find what is known of the rows that the body is about to read."""
        given = self.signature.bind(*positional, **named).arguments
        ids, self._known = given.get("input_ids"), None
        if ids is None or given.get("position_ids") is not None:
            self._rows = None
            return
        mask = given.get("attention_mask")
        self._seen = (torch.ones_like(ids) if mask is None else mask).bool().numpy()
        padding = config(self.model).pad_token_id
        said = self._seen if padding is None else self._seen & (ids != padding).numpy()
        self._chosen = self.wanted(self._seen, said)
        types = given.get("token_type_ids")
        read = np.stack([ids.numpy()] if types is None else [ids.numpy(), types.numpy()])
        self._rows = [
            hashlib.blake2b(read[:, row, seen].tobytes(), digest_size=16).digest()
            for row, seen in enumerate(self._seen)
        ]
        known = not self._storing and all(row in self.places for row in self._rows)
        if known:
            self._known = self._gather()
        if self.model.training:  # scoring asks too
            self.found.asked += len(self._rows)
            self.found.found += known * len(self._rows)

    def _pass(self, place: int, own: Callable[..., Any], hidden: Tensor, *more: Any, **named: Any) -> Any:
        """Stand in for a frozen block: nothing is computed where the rows are known."""
        last = place == len(self.frozen) - 1
        if self._known is not None:
            given = self._known if last else hidden
            return given if self._behind is None else (given, *self._behind)
        out = own(hidden, *more, **named)
        if last and self._storing:
            self._keep(out)
            raise _Enough
        return out

    def _keep(self, out: Any) -> None:
        behind = out[1:] if isinstance(out, tuple) else None
        hidden = (out if behind is None else out[0]).numpy()
        alike = hidden.shape[:2] == self._seen.shape  # Longformer pads rows for itself
        self.fits = alike and self._rows is not None and not any(each is not None for each in behind or ())
        if not self.fits:
            return
        self._behind = behind
        for row, key in enumerate(self._rows or ()):
            if key not in self.places:
                data = np.ascontiguousarray(hidden[row, self._chosen[row]], np.float32)
                if os.pwrite(self.file, data.tobytes(), self.end) < data.nbytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.places[key] = self.end, len(data)
                self.end += data.nbytes
        if self.end > self.most:  # windows are more than rows
            self.fits, self.full = False, True

    def _gather(self) -> Tensor:
        """Return what is kept of the rows [rows, tokens, width]; zeros where they are not."""
        width = int(config(self.model).hidden_size)
        hidden = np.zeros((*self._seen.shape, width), np.float32)
        for row, key in enumerate(self._rows or ()):
            start, tokens = self.places[key]
            data = os.pread(self.file, 4 * tokens * width, start)
            hidden[row, self._chosen[row]] = np.frombuffer(data, np.float32).reshape(tokens, width)
        return torch.from_numpy(hidden)

"""Frozen lower blocks are computed once: what they give for a row is kept on disk and read again in every epoch.

Nothing below the lowest weight that trains changes, and a frozen part knows no dropout, so a row comes out of it
alike in every epoch. A row is known by its tokens; one that is not known goes through the blocks as ever.
"""

import errno
import hashlib
import inspect
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from afina.core import Batch, Stage
from afina.models.heads import AT_ONCE, hidden_states
from afina.models.parts import blocks, config, depths, stack
from afina.train import memory

MOST = 4 * 2**30  # bytes that are kept at most
FIRST = 1024  # tokens on which it is tried first
SURE = 1e-4  # how far the model's output may be off on them
AGAIN = 1.5  # passes over the rows from which on it pays to keep what the first one gives


class _Enough(Exception):
    """Ends a reading at the highest frozen block: nothing above it is wanted."""


class Readings(NamedTuple):
    """All that a training reads again and again: its batches, the same ones in the same order, and their tokens."""

    batches: Callable[[], Iterable[Batch]]
    tokens: int


def frozen_blocks(model: nn.Module, stage: Stage) -> list[str]:
    """Return the paths of the blocks below the lowest weight that trains, from the bottom; none in a T5 or BART."""
    if config(model).is_encoder_decoder:
        return []
    depth = depths(model)
    lowest = min(depth[name] for name in depth if stage.trainable is None or name in stage.trainable)
    return blocks(model)[: max(0, lowest - 1)]


def keeping(
    accelerator: Accelerator,
    model: nn.Module,
    stage: Stage,
    readings: Readings | None,
    passes: float,
    folder: Path | None = None,
) -> AbstractContextManager[int]:
    """Return `kept` where it was measured to pay: one process, in fp32 on CPU, and rows read more than once."""
    plain = accelerator.mixed_precision == "no" and accelerator.device.type == "cpu"
    if readings is None or passes < AGAIN or not plain or accelerator.num_processes > 1:
        return nullcontext(0)
    return kept(model, stage, readings, folder)


@contextmanager
def kept(model: nn.Module, stage: Stage, readings: Readings, folder: Path | None) -> Iterator[int]:
    """Let the model, in the context, take what its frozen blocks give from a nameless file (of `folder`'s disk).

    Yields how many rows were kept: 0 where nothing is frozen at the bottom, the file would be too large, or the
    model does not answer alike so (checked on the first rows); then all is computed as ever. The output is that of
    the plain path but for rounding, since rows are read in other company.
    """
    paths, place = frozen_blocks(model, stage), folder or Path(tempfile.gettempdir())
    size = 4 * readings.tokens * int(config(model).hidden_size)
    if paths and size <= min(MOST, shutil.disk_usage(place).free // 2):
        with tempfile.TemporaryFile(dir=place) as file:
            store = _Store(model, [model.get_submodule(path) for path in paths], file.fileno())
            with store.installed():
                if _fill(store, model, readings):
                    yield len(store.places)
                    return
    yield 0


def _fill(store: "_Store", model: nn.Module, readings: Readings) -> bool:
    """Read all rows once; False where the first come out of the model another way than they should, or there is no room."""
    model.eval()
    with torch.no_grad():
        for number, batch in enumerate(readings.batches()):
            if "input_ids" not in batch.tensors or "position_ids" in batch.tensors:  # packed rows
                return False
            try:
                if not number and not store.same(next(_cut(batch.tensors, FIRST))):
                    return False
                for some in _cut(batch.tensors, AT_ONCE):
                    store.read(some)
                if not store.fits:
                    return False
            except OSError:  # the disk is full
                return False
            except memory.ERRORS as error:
                if not memory.ran_out(error):
                    raise
                return False
    return True


def _cut(tensors: dict[str, Tensor], most: int) -> Iterator[dict[str, Tensor]]:
    """Cut the rows of a batch into parts of at most so many tokens: a row of data may be many windows."""
    names = [name for name in ("input_ids", "attention_mask", "token_type_ids") if name in tensors]
    rows = max(1, most // tensors["input_ids"].shape[1])
    for parts in zip(*(tensors[name].split(rows) for name in names), strict=True):
        yield dict(zip(names, parts, strict=True))


class _Store:
    """What the blocks give, by the row's tokens: `places` says where in the file it stands and how many tokens it has."""

    def __init__(self, model: nn.Module, frozen: list[nn.Module], file: int):
        self.model, self.frozen, self.file = model, frozen, file
        self.body = stack(model)
        self.signature = inspect.signature(self.body.forward)
        self.places: dict[bytes, tuple[int, int]] = {}
        self.end = 0
        self.fits = True  # whether the blocks give what can be kept
        self._behind: tuple[Any, ...] | None = None  # what the last block gives beside the hidden states
        self._storing = False
        self._rows: list[bytes] | None = None
        self._seen: np.ndarray = np.empty(0)
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
        return trained == still and torch.allclose(again, plain, rtol=SURE, atol=SURE)

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
        types = given.get("token_type_ids")
        read = np.stack([ids.numpy()] if types is None else [ids.numpy(), types.numpy()])
        self._rows = [
            hashlib.blake2b(read[:, row, seen].tobytes(), digest_size=16).digest()
            for row, seen in enumerate(self._seen)
        ]
        if not self._storing and all(row in self.places for row in self._rows):
            self._known = self._gather()

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
                data = np.ascontiguousarray(hidden[row, self._seen[row]], np.float32)
                if os.pwrite(self.file, data.tobytes(), self.end) < data.nbytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.places[key] = self.end, len(data)
                self.end += data.nbytes

    def _gather(self) -> Tensor:
        """Return what is kept of the rows [rows, tokens, width]; zeros where they are padded."""
        width = int(config(self.model).hidden_size)
        hidden = np.zeros((*self._seen.shape, width), np.float32)
        for row, key in enumerate(self._rows or ()):
            start, tokens = self.places[key]
            data = os.pread(self.file, 4 * tokens * width, start)
            hidden[row, self._seen[row]] = np.frombuffer(data, np.float32).reshape(tokens, width)
        return torch.from_numpy(hidden)

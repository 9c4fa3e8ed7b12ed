"""Frozen lower blocks are computed once: what they give for a row is kept on disk and read again in every epoch.

Nothing below the lowest weight that trains changes, and a frozen part knows no dropout, so a row comes out of it
alike in every epoch. A row is known by its tokens; one that is not known goes through the blocks as ever. Where all
blocks are frozen and what stands above them reads one token of a row, that token alone is kept.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import nn

from afina.core import Batch, Stage
from afina.messages import _
from afina.messages.numbers import number
from afina.models.parts import blocks, config, depths
from afina.train import memory
from afina.train.store import Kept, Store

MOST = 4 * 2**30  # bytes that are kept at most
AGAIN = 1.5  # passes over the rows from which on it pays to keep what the first one gives


class Readings(NamedTuple):
    """All that a training reads again and again: its batches, the same ones in the same order, their tokens and rows."""

    batches: Callable[[], Iterable[Batch]]
    tokens: int
    rows: int


def frozen_blocks(model: nn.Module, stage: Stage) -> list[str]:
    """Return the paths of the blocks below the lowest weight that trains, from the bottom; none in a T5 or BART."""
    if config(model).is_encoder_decoder:
        return []
    depth = depths(model)
    lowest = min(depth[name] for name in depth if stage.trainable is None or name in stage.trainable)
    return blocks(model)[: max(0, lowest - 1)]


def room(folder: Path) -> int:
    """Return how many bytes may be kept on the disk of `folder`, which need not exist yet: half of what is free."""
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
    return min(MOST, shutil.disk_usage(place).free // 2)


def keeping(
    accelerator: Accelerator,
    model: nn.Module,
    stage: Stage,
    readings: Readings | None,
    passes: float,
    folder: Path | None = None,
    most: int | None = None,
    between: Callable[[int], None] = lambda _tokens: None,
) -> AbstractContextManager[Kept]:
    """Return `kept` where it was measured to pay: one process, in fp32 on CPU, and rows read more than once."""
    plain = accelerator.mixed_precision == "no" and accelerator.device.type == "cpu"
    if readings is None or passes < AGAIN or not plain or accelerator.num_processes > 1:
        return nullcontext(Kept())
    return kept(model, stage, readings, folder, most, between)


@contextmanager
def kept(
    model: nn.Module,
    stage: Stage,
    readings: Readings,
    folder: Path | None,
    most: int | None = None,
    between: Callable[[int], None] = lambda _tokens: None,
) -> Iterator[Kept]:
    """Let the model, in the context, take what its frozen blocks give from a nameless file (of `folder`'s disk).

    Yields what is kept: no rows where nothing is frozen at the bottom, the file would have more than `most` bytes (those
    of `room`), or the model does not answer alike so (checked on the first rows); then all is computed as ever. The
    output is that of the plain path but for rounding, since rows are read in other company. `between` is told before
    each batch how many tokens have been read, and may raise: nothing is left behind.
    """
    paths, place = frozen_blocks(model, stage), folder or Path(tempfile.gettempdir())
    found = Kept()
    if paths:
        with tempfile.TemporaryFile(dir=place) as file:
            limit = room(place) if most is None else most
            store = Store(model, [model.get_submodule(path) for path in paths], file.fileno(), limit)
            with store.installed():
                if _fill(store, model, readings, between):
                    store.found.rows = len(store.places)
                    yield store.found
                    return
            if store.full:
                found.why = _no_room(
                    max(store.size(readings.tokens, readings.rows), store.end), min(limit, room(place))
                )
    yield found


def _no_room(size: int, most: int) -> str:
    """Say that nothing is kept, and why."""
    needs, has = number(size / 2**20), number(most / 2**20)
    if most == MOST:
        return _(
            "What the frozen blocks give is computed anew in every epoch, which takes longer: to keep it would take "
            "{size} MB on disk, and at most {most} MB are taken."
        ).format(size=needs, most=has)
    return _(
        "What the frozen blocks give is computed anew in every epoch, which takes longer: to keep it would take {size} MB "
        "on the disk of --output-dir, and {most} MB, half of what is free there, may be taken."
    ).format(size=needs, most=has)


def _fill(store: Store, model: nn.Module, readings: Readings, between: Callable[[int], None]) -> bool:
    """Read all rows once; False where the first come out of the model another way than they should, or there is no room."""
    model.eval()
    done = 0
    with torch.no_grad():
        for place, batch in enumerate(readings.batches()):
            if "input_ids" not in batch.tensors or "position_ids" in batch.tensors:  # packed rows
                return False
            if not place and not _goes(
                store, partial(store.begins, batch.tensors, readings.tokens, readings.rows)
            ):
                return False
            between(done)
            if not _goes(store, partial(store.read_all, batch.tensors)):
                return False
            done += batch.tokens
    return True


def _goes(store: Store, go: Callable[[], bool]) -> bool:
    """Whether it goes, and there is room for it."""
    try:
        return go()
    except OSError:  # the disk is full
        store.full = True
    except memory.ERRORS as error:
        if not memory.ran_out(error):
            raise
    return False

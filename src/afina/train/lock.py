"""One process at a time in a run's folder: two would write one another's steps and checkpoints to pieces."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afina.errors import InputError
from afina.messages import _

WAIT = 15.0  # seconds for a process that is just about to end
_held: dict[Path, int] = {}  # the folders of this process, and the open file that holds each


def take(folder: Path) -> None:
    """Keep every other process that asks out of the folder until the verb is done; InputError where one is in it.

    The system lets go of the lock with the process, however that ends. A disk without locks, such as that of another
    machine, keeps nobody out.
    """
    place = folder.resolve()
    if place in _held:
        return
    opened = os.open(place, os.O_RDONLY)
    try:
        _lock(opened, folder)
    except BaseException:
        os.close(opened)
        raise
    _held[place] = opened


@contextmanager
def until_done() -> Iterator[None]:
    """Let go, at the end, of the folders that were taken in between: those of a verb, within another's too."""
    before = set(_held)
    try:
        yield
    finally:
        for place in _held.keys() - before:
            os.close(_held.pop(place))


def _lock(opened: int, folder: Path) -> None:
    until = time.monotonic() + WAIT
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.2)
                continue
            raise InputError(
                _(
                    "Another process is at work in {run}. Wait for its end, or end it, and go on with --resume; or name "
                    "another folder with --output-dir."
                ).format(run=folder)
            ) from None
        except OSError:
            return
        return

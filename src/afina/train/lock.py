"""One process at a time in a run's folder: two would write one another's steps and checkpoints to pieces."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afina.errors import InputError
from afina.messages import _

WAIT = 15.0  # seconds for a process that is just about to end, as a run does that has lost its comparison


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep every other process that asks out of the folder, however this one ends; InputError where one is in it.

    The system lets go of the lock with the process. A disk without locks keeps nobody out.
    """
    place = os.open(folder, os.O_RDONLY)
    try:
        _take(place, folder)
        yield
    finally:
        os.close(place)


def _take(place: int, folder: Path) -> None:
    until = time.monotonic() + WAIT
    while True:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        except OSError:  # a disk of another machine, say
            return
        return

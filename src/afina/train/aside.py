"""What a run has left, put aside within its folder until the run that replaces it has taken a step, or put back."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from afina.errors import InputError, Interrupted, Unfinished
from afina.messages import _
from afina.train.lock import take

# What a run leaves in its folder: whatever else lies there is the person's and is never removed.
FILES = ("run.toml", "compare.toml", "steps.jsonl", "scores.json", "predictions.csv", "report.html")
STAGES = "stages"  # the runs of the stages before
FOLDERS = ("best", "last", "tokenizer", "corpus", "held_out", "replay", "runs", "folds", STAGES, "trial")
HALF = (".new", ".old", ".tmp")  # what a kill leaves beside a file or folder that was being written

ASIDE = "replaced"  # all of the old run: what lies beside it is a new one that has taken no step
MOVING = "replaced.tmp"  # what of it lies in here belongs to what lies beside it
SPENT = "replaced.old"  # of no use to anyone


class _Begun(NamedTuple):
    run: Path
    new: bool  # the folder too


_begun: list[_Begun] = []  # the runs of this process that have taken no step yet, the outer one first


def begin(run: Path, *, new: bool, replaces: bool) -> None:
    """Put what a run has left in the folder aside where one `replaces` it; one that is refused leaves nothing."""
    _begun.append(_Begun(run.absolute(), new))
    parts = [place for place in left(run) if replaces and os.path.lexists(place)]
    if parts:
        (run / MOVING).mkdir()
        for place in parts:
            place.rename(run / MOVING / place.name)
        (run / MOVING).rename(run / ASIDE)


def stepped() -> None:
    """Remove what was put aside: what has begun has taken a step, and is a run from now on."""
    while _begun:
        _spend(_begun.pop().run)


@contextmanager
def until_stepped() -> Iterator[None]:
    """Put back what was put aside in between where a verb ends before the first step, however it ends.

    Where there was no run before, one that was refused is taken away, and any other is left: it can be gone on with.
    """
    before = len(_begun)
    try:
        yield
    except BaseException as error:
        refused = isinstance(error, InputError) and not isinstance(error, Unfinished)
        ended, back = _begun[before:], False
        del _begun[before:]
        for run, new in reversed(ended):
            if _holds(run):
                put_back(run)
                back = True
            elif refused:
                _take_away(run, new=new)
        if back and isinstance(error, KeyboardInterrupt | Interrupted):
            raise Interrupted(
                _(
                    "Stopped before the first step, so {run} holds what it held before. Start anew with --overwrite."
                ).format(run=os.path.relpath(ended[0].run))
            ) from None
        raise
    for run, _new in _begun[before:]:
        _spend(run)
    del _begun[before:]


def recover(run: Path) -> None:
    """Put back what a process has put aside that was killed before its first step."""
    if any((run / name).is_dir() for name in (ASIDE, MOVING, SPENT)) and not any(
        run.absolute() == each.run for each in _begun
    ):
        take(run)
        put_back(run)


def put_back(run: Path) -> None:
    """Put back what was put aside and remove what has begun in its place; a kill in between leaves it to be done."""
    shutil.rmtree(run / SPENT, ignore_errors=True)
    if (run / ASIDE).is_dir():
        for place in left(run):
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        (run / ASIDE).rename(run / MOVING)
    if (run / MOVING).is_dir():
        for place in (run / MOVING).iterdir():
            place.rename(run / place.name)
        (run / MOVING).rmdir()


def left(run: Path) -> Iterator[Path]:
    """Yield all that a run may have left in its folder, whether it is there or not."""
    for part in (*FOLDERS, *reversed(FILES)):
        yield from (*(run / f"{part}{half}" for half in HALF), run / part)


def _holds(run: Path) -> bool:
    return (run / ASIDE).is_dir() or (run / MOVING).is_dir()


def _spend(run: Path) -> None:
    if (run / ASIDE).is_dir():
        (run / ASIDE).rename(run / SPENT)
        shutil.rmtree(run / SPENT, ignore_errors=True)  # what stays is removed the next time


def _take_away(run: Path, *, new: bool) -> None:
    """Let there be no run where none was before, nor the folder if it is new."""
    if new:
        shutil.rmtree(run)
        return
    for name in FILES:
        (run / name).unlink(missing_ok=True)

"""What a run has left, put aside within its folder until the run that replaces it has taken a step, or put back."""

import os
import shutil
import tempfile
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

# No name that a person would give a folder of theirs.
ASIDE = ".afina-replaced"  # all of the old run: what lies beside it is a new one that has taken no step
MOVING = ".afina-replaced.tmp"  # what of it lies in here belongs to what lies beside it
SPENT = ".afina-spent."  # and more: of no use to anyone


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
        _spend(_begun[-1].run)
        _begun.pop()


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
            if holds(run):
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
    """Put back what a killed process was just putting aside: the run that it would have begun is not there.

    One that is there, and has taken no step, can be gone on with or replaced in its turn, and what it replaces stays
    aside. Of several processes that are launched together the first does it.
    """
    begun = (run / ASIDE).is_dir() and any((run / name).is_file() for name in FILES)
    mine = any(run.absolute() == each.run for each in _begun)
    if holds(run) and not (begun or mine) and os.environ.get("RANK", "0") == "0":
        take(run)
        put_back(run)


def put_back(run: Path) -> None:
    """Put back what was put aside and remove what has begun in its place; a kill in between leaves it to be done."""
    if (run / ASIDE).is_dir():
        # Moved out of the way first: on a network disk a file that is still open cannot be removed.
        spent = Path(tempfile.mkdtemp(prefix=SPENT, dir=run))
        for place in left(run):
            if os.path.lexists(place):
                place.rename(spent / place.name)
        (run / ASIDE).rename(run / MOVING)
    if (run / MOVING).is_dir():
        for place in (run / MOVING).iterdir():
            place.rename(run / place.name)
        (run / MOVING).rmdir()
    _clear(run)


def left(run: Path) -> Iterator[Path]:
    """Yield all that a run may have left in its folder, whether it is there or not."""
    for part in (*FOLDERS, *reversed(FILES)):
        yield from (*(run / f"{part}{half}" for half in HALF), run / part)


def holds(run: Path) -> bool:
    """Whether something was put aside in the folder."""
    return (run / ASIDE).is_dir() or (run / MOVING).is_dir()


def _spend(run: Path) -> None:
    if (run / ASIDE).is_dir():
        (run / ASIDE).rename(tempfile.mkdtemp(prefix=SPENT, dir=run))
    _clear(run)


def _clear(run: Path) -> None:
    """Remove what is of no use; what cannot be removed now is the next time."""
    for place in run.glob(f"{SPENT}*"):
        shutil.rmtree(place, ignore_errors=True)


def _take_away(run: Path, *, new: bool) -> None:
    """Let there be no run where none was before, nor the folder if it is new."""
    if new:
        shutil.rmtree(run)
        return
    for name in FILES:
        (run / name).unlink(missing_ok=True)

"""A run's folder: where it lies, whether it may be written, and the files in it."""

import errno
import hashlib
import json
import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

from afina.errors import InputError
from afina.messages import _
from afina.train import aside
from afina.train.aside import FILES, HALF
from afina.train.atomic import cannot_write, write_text
from afina.train.lock import take


def place(output_dir: str | None, data: str, *, next_free: bool = False) -> Path:
    """Return where the run of `data` goes: the folder that is named, else `runs/<file name>` (or `-2`, `-3` …)."""
    if output_dir:
        return Path(output_dir)
    run = Path("runs") / (Path(data).name.split(".")[0] or "run")
    if not next_free:
        return run
    return next(
        free for i in count(1) if not is_run(free := run if i == 1 else run.with_name(f"{run.name}-{i}"))
    )


def check(run: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise InputError where the folder cannot be the run's."""
    base = next(place for place in (run.absolute(), *run.absolute().parents) if place.exists())
    if not base.is_dir():
        raise InputError(_("{run} is a file; name a folder with --output-dir.").format(run=base))
    if not os.access(base, os.W_OK):
        raise cannot_write(base, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    try:
        aside.recover(run)
    except OSError as error:
        raise cannot_write(run, error) from None
    holds = is_run(run)
    if resume and not holds:
        raise InputError(_("{run} holds no run to resume. Start it without --resume.").format(run=run))
    if holds and not (resume or overwrite):
        raise InputError(
            _(
                "{run} holds a run already. Add --resume to go on with it, --overwrite to replace it, or name "
                "another folder with --output-dir."
            ).format(run=run)
        )
    # Without --overwrite a run may begin beside other things, but replaces none of them.
    if not holds and any((run / part).exists() for part in ("best", "last", *FILES)):
        overwrite = True
    if not holds and overwrite and run.exists() and any(each.suffix not in HALF for each in run.iterdir()):
        raise InputError(
            _(
                "{run} holds other things than a run, so it is not overwritten. Name another --output-dir."
            ).format(run=run)
        )


def check_spared(run: Path, needed: Iterable[str | Path]) -> None:
    """Raise InputError where something that the new run needs would be removed with the run that it replaces."""
    left = [place.resolve() for place in aside.left(run)]
    for each in needed:
        place = Path(each).expanduser()
        if any(place.resolve().is_relative_to(part) for part in left):
            raise InputError(
                _(
                    "{file} lies in {run}, in what --overwrite removes, and the new run needs it: name another folder "
                    "with --output-dir."
                ).format(file=place, run=run)
            )


def claim(run: Path, *, resume: bool, overwrite: bool) -> None:
    """Make the folder, empty of a run unless one goes on; InputError where it may not or cannot be written.

    A run that is replaced is put aside until the new one has taken a step: see `train.aside`.
    """
    check(run, resume=resume, overwrite=overwrite)
    new = not run.exists()
    try:
        run.mkdir(parents=True, exist_ok=True)
        take(run)
        if overwrite and aside.holds(
            run
        ):  # by a run that has taken no step: it is what was there before that is kept
            aside.put_back(run)
        if not resume or aside.holds(run):
            aside.begin(run, new=new, replaces=overwrite and not resume)
    except OSError as error:
        raise cannot_write(run, error) from None


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run, whole or begun."""
    return any((folder / name).is_file() for name in ("run.toml", "compare.toml", "steps.jsonl"))


def write_json(file: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(file, json.dumps(value, indent=1, ensure_ascii=False))


def fingerprint(model: Path) -> str:
    """Return the sha256 of a model folder's weights."""
    found = hashlib.sha256()
    for file in sorted(model.glob("*.safetensors")):
        with file.open("rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()

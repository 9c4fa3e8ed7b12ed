"""The runs of a comparison: which they are, what is told of them, and what came of them."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from afina.errors import Interrupted
from afina.messages import _
from afina.messages.numbers import number
from afina.verbs._runners import LATE, Runner
from afina.verbs._trial import ASKED, FEW_SHOT, MEASURED

RANDOM = "random_weights"
BASELINES = (RANDOM, FEW_SHOT)  # that are runs of a model, as the methods are


class Trial(NamedTuple):
    """One run: a method (or one of BASELINES) on a model with one seed, and what else is set for it."""

    method: str
    model: str
    seed: int
    settings: dict[str, Any]
    name: str


class Done(NamedTuple):
    """What came of a trial: its `scores.json`, what was measured beside it, or why there is neither."""

    trial: Trial
    result: dict[str, Any] | None
    measured: dict[str, Any] | None
    error: str | None


def trial(
    method: str, model: str, seed: int, own: dict[str, Any],
    *, whose: str | None = None, mark: str = "", fold: int | None = None,
) -> Trial:  # fmt: skip
    """Return one trial with the settings of its own; `whose` tells those of one model from those of another."""
    method_settings: dict[str, Any] = (
        {"method": "full", "random_weights": True} if method == RANDOM else {"method": method}
    )
    name = "-".join([*([whose] if whose else []), method, *([mark] if mark else []), str(seed)])
    if fold is not None:
        name, method_settings = f"{name}-fold-{fold}", method_settings | {"fold": fold}
    return Trial(method, model, seed, own | method_settings, name)


def carry_out(
    trials: Sequence[Trial],
    data: str,
    alike: dict[str, Any],
    folder: Path,
    *,
    runner: Runner,
    until: float | None,
    tell: Callable[[str], None],
    first: Callable[[], None] = lambda: None,
    late: str = LATE,
) -> list[Done]:
    """Have each trial that is not done yet carried out by the runner and return what came of them, in order.

    No trial begins after `until` (on the clock of `time.time`); `late` is what is said of those that are. `first` is
    called when one has a result, again at each. Raises Interrupted after Ctrl-C, when the running ones have kept their
    state.
    """
    from afina.train.interrupt import asked_to_stop

    def one(place: int) -> Done:
        each = trials[place]
        settings = alike | {"model": each.model, "seed": each.seed} | each.settings
        known = as_asked(folder / each.name, settings, each)
        done = read(each, folder)
        if known and done.result is not None:
            return done
        began = time.perf_counter()
        asked = {"data": data, "model": each.model, "settings": settings}
        over = stop.asked or (until is not None and time.time() > until)
        if not (known or over):
            shutil.rmtree(folder / each.name)
        error = LATE if over else runner.run(folder / each.name, asked, until, stop)
        if error == LATE:
            return Done(each, None, None, _(late))
        tell(
            _("{i} of {n}: {name}, {seconds} s").format(
                i=place + 1, n=len(trials), name=each.name, seconds=number(time.perf_counter() - began)
            )
            + (f": {error}" if error else "")
        )
        if error:
            return Done(each, None, None, error)
        first()
        return read(each, folder)

    with asked_to_stop() as stop, ThreadPoolExecutor(runner.at_once) as pool:
        found = list(pool.map(one, range(len(trials))))
    if stop.asked:
        raise Interrupted(_("Stopped; what was finished is kept. Go on with --resume."))
    return found


def as_asked(run: Path, settings: Mapping[str, Any], each: Trial) -> bool:
    """Whether the run in a folder, if there is one, was told what the trial is told now.

    What all runs are told alike cannot have changed since the comparison began; a rate that was searched can.
    """
    if not run.exists():
        return True
    try:
        was = json.loads((run / ASKED).read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError):
        return False
    now = json.loads(json.dumps(settings))
    return all(was.get(name) == now.get(name) for name in {"model", "seed", "learning_rate", *each.settings})


def read(each: Trial, folder: Path) -> Done:
    """Return what a finished trial left in its folder, nothing where it is not finished."""
    try:
        result, measured = (
            json.loads((folder / each.name / name).read_text(encoding="utf-8"))
            for name in ("scores.json", MEASURED)
        )
    except (OSError, ValueError):
        return Done(each, None, None, None)
    return Done(each, result, measured, None)

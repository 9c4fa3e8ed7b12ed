"""One run of a comparison in a process of its own: `python -m afina.verbs._trial FOLDER`.

Peak memory can only be measured so, for within a process it never falls again; and a crash stays one row.
"""

import hashlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from afina.core import Row
from afina.errors import AfinaError
from afina.train import lock

if TYPE_CHECKING:
    from afina.train.bundle import Bundle
    from afina.verbs._in_context import InContext

ASKED, ROWS, NEUTRAL, MEASURED = "trial.json", "rows.json", "neutral.json", "measured.json"
FEW_SHOT, SHOTS = "few_shot", 8  # the row of a decoder that trains nothing, and the examples in its prompt
PATIENCE = (
    600.0  # seconds for the same run of a comparison that was killed, which ends after its step and scoring
)
TIMED = 20  # answers, one row at a time, whose median time is the latency


def main(folder: Path) -> int:
    """Train (or only ask) and measure what `trial.json` asks for; the exit code is that of the command line."""
    from afina.train.folder import write_json
    from afina.train.track import peak_memory_mb

    asked = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    if asked["settings"].get("dry_run"):
        return _planned(asked, folder)
    by_fold = json.loads((folder.parent / ROWS).read_text(encoding="utf-8"))
    rows = by_fold[asked["settings"].get("fold", 0)]
    shown = asked["settings"]["method"] == FEW_SHOT
    answering: Bundle | InContext
    try:
        answering, costs = _shown(asked, rows) if shown else _trained(asked, folder)
    except AfinaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    measured = {
        "latency_ms": latency_ms(answering, rows),
        "answers": answering.answers(rows),
        "task_settings": answering.task.model_dump(mode="json"),
    }
    if shown:  # `finetune` writes its own
        nothing = {"trained_weights": 0, "peak_memory_mb": peak_memory_mb(), "seconds": {"train": None}}
        write_json(folder / "scores.json", nothing)
    write_json(folder / MEASURED, measured | costs)
    return 0


def _planned(asked: dict[str, Any], folder: Path) -> int:
    """Leave in the folder what the run says of itself without being trained."""
    from afina.train.folder import write_json
    from afina.verbs.finetune import finetune

    try:
        said: Any = finetune(asked["data"], **asked["settings"], output_dir=folder / "run")
    except AfinaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    write_json(folder / "scores.json", said)
    write_json(folder / MEASURED, dict.fromkeys(("saved_mb", "latency_ms", "forgetting")))
    return 0


def rivals_of(model: str, fold: int) -> str:
    """Return the name of the file with what the baselines answer in the tokens of a model."""
    return f"rivals-{hashlib.sha256(model.encode()).hexdigest()[:12]}-{fold}.json"


def _trained(asked: dict[str, Any], folder: Path) -> tuple["Bundle", dict[str, Any]]:
    """Return the trained model, and what its training has cost."""
    from afina.models.find import find
    from afina.report import words
    from afina.report.record import Record
    from afina.train.folder import is_run
    from afina.verbs._forgetting import forgetting
    from afina.verbs.finetune import finetune

    settings = asked["settings"]
    rivals = folder.parent / rivals_of(asked["model"], settings.get("fold", 0))
    run = finetune(asked["data"], **settings, output_dir=folder, resume=is_run(folder), rivals=rivals)
    assert run is not None
    places = [folder / "best"]
    if "stage" in settings and not run.bundle.method.whole and run.bundle.base:
        places.append(Path(run.bundle.base.model))  # nobody else has it
    files = (file for place in places for file in place.rglob("*") if file.is_file())
    costs: dict[str, Any] = {
        "saved_mb": round(sum(file.stat().st_size for file in files) / 1e6, 2),
        "forgetting": None,
        "notes": [f"{asked['model']}: {sentence}" for sentence in words.stages(Record.of(folder))],
    }
    if not settings.get("random_weights"):  # which has nothing to forget
        neutral = json.loads((folder.parent / NEUTRAL).read_text(encoding="utf-8"))
        costs["forgetting"] = forgetting(
            run.bundle.model, run.bundle.method, find(settings["model"]),
            neutral["texts"], neutral["before"][settings["model"]],
        )  # fmt: skip
    return run.bundle, costs


def _shown(asked: dict[str, Any], rows: Sequence[Row]) -> tuple["InContext", dict[str, Any]]:
    """Return a decoder that is shown examples out of the training rows of the other methods."""
    from afina.models.find import find
    from afina.verbs._in_context import InContext
    from afina.verbs._prepare import prepare
    from afina.verbs._settings import begin, choose
    from afina.verbs.finetune import Finetune

    settings = {name: value for name, value in asked["settings"].items() if name != "method"}
    begin(settings)
    chosen = choose(settings, Finetune)
    verb = chosen.verb
    prepared = prepare(
        chosen.task, asked["data"], verb.validation, verb.test,
        seed=verb.split_seed, offline=chosen.common.offline,
        group_by=verb.group_by, folds=verb.folds, fold=verb.fold,
    )  # fmt: skip
    decoder = InContext(find(verb.model), prepared.task, prepared.splits.train, rows, SHOTS, verb.seed)
    return decoder, {"saved_mb": None, "forgetting": None, "notes": decoder.notes}


def latency_ms(answering: "Bundle | InContext", rows: Sequence[Row]) -> float:
    """Return the median time of one answer, tokenising included, after three that are not counted."""
    some = [rows[i * len(rows) // TIMED] for i in range(TIMED)]
    times: list[Any] = []
    for row in some[:3] + some:
        began = time.perf_counter()
        answering.answers([row])
        times.append(time.perf_counter() - began)
    return round(1000 * statistics.median(times[3:]), 2)


def _end_with(parent: int) -> None:
    """Stop, with the state kept, once the comparison is gone: whoever goes on with it begins this run again."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    lock.WAIT = PATIENCE
    sys.exit(main(Path(sys.argv[1])))

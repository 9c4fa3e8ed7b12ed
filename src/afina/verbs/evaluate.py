"""Score a trained run on other rows, beside the baselines of its own training rows where they are at hand."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afina.core import Row, Task
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import Common, Settings, divide, setting
from afina.verbs._settings import begin


class Evaluate(Settings):
    """Settings of `afina evaluate`."""

    text: str | None = setting(
        None, N_("Column that holds the text (default: as in training, else guessed).")
    )
    text_pair: str | None = setting(
        None, N_("Column that holds the second text of a pair (default: as in training, else guessed).")
    )
    label: str | None = setting(
        None, N_("Column that holds the label (default: as in training, else guessed).")
    )
    question: str | None = setting(
        None, N_("Column that holds the question (default: as in training, else guessed).")
    )
    context: str | None = setting(
        None, N_("Column that holds the text with the answer (default: as in training, else guessed).")
    )
    answers: str | None = setting(
        None, N_("Column that holds the answers (default: as in training, else guessed).")
    )
    answer_start: str | None = setting(
        None, N_("Column that says where the answer begins (default: as in training, else guessed).")
    )


def evaluate(run: str | Path, data: str | Path, **settings: Any) -> dict[str, Any]:
    """Return the figures of the run's model on the rows of `data`, under `test`, as INTERFACE.md names them.

    Labels that the model does not know count as errors and are named. The baselines learn from the run's own
    training rows; where its data is no longer there or has changed, they are left out. Raises InputError.
    """
    began = time.perf_counter()
    begin(settings)
    common, own = divide(settings, Common, Evaluate)
    common, own = Common.of(common), Evaluate.of(own)
    from afina.data.read import read
    from afina.train.run import Run
    from afina.train.track import say
    from afina.verbs._measure import compare, unread
    from afina.verbs._prepare import clean, guessed, lengths, long_rows, nothing_usable

    trained = Run(run)
    result = trained.result
    bundle = trained.bundle
    table = read(data, offline=common.offline)
    asked = columns(bundle.task, table, own)
    task = asked.choose_columns(table)
    notes = [*table.notes, *guessed(asked, task)]
    rows = clean(task, table.rows, table, notes)
    if not rows:
        raise InputError(nothing_usable(task, data))
    answers = bundle.answers(rows)
    seconds = time.perf_counter() - began
    train = _training_rows(trained, bundle.task)
    rivals = bundle.task.baselines(train, rows) if train else {}
    found = compare(bundle.task, {"test": rows}, answers, rivals)
    if unseen := found["details"]["test"].get("unseen"):
        notes.append(
            _("Labels that the model does not know, whose rows count as errors: {labels}.").format(
                labels=", ".join(unseen)
            )
        )
    notes += long_rows(lengths(bundle.task, rows, bundle.tokenizer, bundle.max_length)) + unread(found)
    if not train:
        notes.append(
            _("There are no baselines: the run's training data is not at hand, or has changed since.")
        )
    found["details"]["data"] = {"rows": {"test": len(rows)}, "notes": notes}
    for note in notes:
        say(note, common.quiet)
    return {
        **{name: result[name] for name in ("run", "model", "task", "method")},
        **found,
        "rows_per_s": None,
        "tokens_per_s": None,
        "share_of_peak": None,
        "seconds": {
            "prepare": None,
            "train": None,
            "evaluate": round(seconds, 2),
            "total": round(seconds, 2),
        },
        "trained_weights": result["trained_weights"],
        "peak_memory_mb": None,
    }


def columns(task: Task, table: Any, own: Evaluate) -> Task:
    """Return the task with the columns of another table that are named, or else are those of training."""
    from afina.verbs._prepare import named

    there = {role for role, trained in task.columns().items() if set(trained) <= set(table.columns)}
    chosen = {role: getattr(task, role) if role in there else None for role in (*task.inputs, *task.gold)}
    return task.replace(**chosen | named(own, chosen))


def _training_rows(run: Any, task: Task) -> Sequence[Row]:
    """Return the rows the run was trained on, or none where they cannot be had unchanged."""
    from afina.verbs._prepare import prepare

    settings = run.settings
    try:
        prepared = prepare(
            task.asked(), settings["data"], settings.get("validation"), settings.get("test"),
            seed=settings.get("split_seed", settings["seed"]), offline=True,
        )  # fmt: skip
    except InputError:
        return []
    return prepared.splits.train if prepared.splits.fingerprint == run.recorded.get("data") else []

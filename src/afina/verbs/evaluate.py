"""Score a trained run on other rows, beside the baselines of its own training rows where they are at hand."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.core import Row, Task
from afina.data.stream import blocks
from afina.errors import InputError
from afina.messages import N_, _
from afina.messages.numbers import number
from afina.settings import Common, Settings, divide, setting
from afina.verbs._settings import begin

if TYPE_CHECKING:
    from afina.train.bundle import Bundle


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
    messages: str | None = setting(
        None, N_("Column that holds the conversation (default: as in training, else guessed).")
    )
    prompt: str | None = setting(
        None, N_("Column that holds what the user says (default: as in training, else guessed).")
    )
    input: str | None = setting(
        None, N_("Column with a text that the prompt is about (default: as in training, else guessed).")
    )
    completion: str | None = setting(
        None, N_("Column that holds the reply (default: as in training, else guessed).")
    )
    source: str | None = setting(
        None, N_("Column that holds the text to write from (default: as in training, else guessed).")
    )
    target: str | None = setting(
        None, N_("Column that holds the text to be written (default: as in training, else guessed).")
    )
    few_shot: int | None = setting(
        None,
        N_(
            "Instead of a run ask a decoder, by its name or folder, with so many examples of --train in its prompt."
        ),
        ge=0,
    )
    train: str | None = setting(None, N_("File with the rows that examples are drawn from, for --few-shot."))
    task: str = setting("classification", N_("What is asked, with --few-shot."))
    seed: int = setting(0, N_("Seed of the drawn examples, with --few-shot."), ge=0, le=2**32 - 1)


def evaluate(run: str | Path, data: str | Path, **settings: Any) -> dict[str, Any]:
    """Return the figures of the run's model on the rows of `data`, under `test`, as INTERFACE.md names them.

    Labels that the model does not know count as errors and are named. The baselines learn from the run's own
    training rows; where its data is no longer there or has changed, they are left out. With `few_shot` no run is
    asked but a decoder, `run` by name or folder, which reads examples out of `train`; then `run` is None in the
    result. Raises InputError.
    """
    began = time.perf_counter()
    begin(settings)
    common, own = divide(settings, Common, Evaluate)
    common, own = Common.of(common), Evaluate.of(own)
    if own.few_shot is not None:
        return _in_context(str(run), data, common, own, began)
    from afina.data.read import read
    from afina.train.run import Run
    from afina.verbs._measure import compare, unread
    from afina.verbs._prepare import clean, guessed, long_rows, nothing_usable

    trained = Run(run)
    if "objective" in trained.settings:  # of `pretrain`
        raise InputError(
            _(
                "The model in {path} is pre-trained and has learnt no task yet. Fine-tune it first: "
                "afina finetune DATA --model {path}"
            ).format(path=trained.path)
        )
    result = trained.result
    bundle = trained.bundle
    table = read(data, offline=common.offline)
    asked = columns(bundle.task, table, own)
    task = asked.choose_columns(table)
    notes = [*table.notes, *guessed(asked, task)]
    lost: list[str] = []
    rows = clean(task, table.rows, table, lost)
    if not rows:
        raise InputError(" ".join([nothing_usable(task, data), *lost]))
    notes += lost
    answers, length = _answered(bundle, rows)
    seconds = time.perf_counter() - began
    train = _training_rows(trained, bundle.task)
    rivals = bundle.task.baselines(train, rows, bundle.tokenizer, bundle.max_length) if train else {}
    found = compare(bundle.task, {"test": rows}, answers, rivals)
    notes += _unknown(task, rows, found["details"]["test"])
    notes += long_rows(length) + unread(found)
    notes += _seen(bundle.task, train or [], rows)
    if not train:
        notes.append(
            _("There are no baselines: the run's training data is not at hand, or has changed since.")
        )
    of = {name: result[name] for name in ("run", "model", "task", "method", "trained_weights")}
    return _told(of, found, rows, notes, seconds, quiet=common.quiet)


def _answered(bundle: "Bundle", rows: Sequence[Row]) -> tuple[list[Any], dict[str, Any]]:
    """Return the answers to the rows, in their order, and how long these are.

    Block by block, for encoded rows take many times the memory of their text; but at once where answers are written,
    which is done for some rows only, drawn from all of them.
    """
    from afina.verbs._prepare import COUNTED, lengths

    task, answers, seen = bundle.task, [], Counter[str]()
    for some in [rows] if task.writes else blocks(iter(rows)):
        encoded = task.encode(some, bundle.tokenizer, bundle.max_length)
        answers += bundle.answers_to(encoded)
        length = lengths(task, some, encoded, bundle.tokenizer, bundle.max_length)
        seen.update({name: length[name] for name in COUNTED})
    return answers, {**seen, "max_length": bundle.max_length}


def _in_context(model: str, data: str | Path, common: Common, own: Evaluate, began: float) -> dict[str, Any]:
    """Return the figures of a decoder that reads examples and trains nothing."""
    from afina.data.read import read
    from afina.models.find import find as find_model
    from afina.names import find
    from afina.verbs import _in_context as parts
    from afina.verbs._measure import compare
    from afina.verbs._prepare import clean, guessed, nothing_usable

    if own.train is None:
        raise InputError(_("--few-shot draws its examples from training rows: name their file with --train."))
    table, source = read(data, offline=common.offline), read(own.train, offline=common.offline)
    task: Any = find("tasks", own.task)()
    given = columns(task, source, own)
    task = given.choose_columns(source)
    parts.check(task)
    notes = [*source.notes, *table.notes, *guessed(given, task)]
    train = clean(task, source.rows, source, notes)
    task = task.learn(train)
    rows = clean(columns(task, table, own).choose_columns(table), table.rows, table, notes)
    for file, usable in ((own.train, train), (data, rows)):
        if not usable:
            raise InputError(nothing_usable(task, file))
    folder = find_model(model, offline=common.offline)
    decoder = parts.InContext(folder, task, train, rows, own.few_shot or 0, own.seed)
    notes += decoder.notes + _seen(task, train, rows)
    answers = decoder.answers(rows)
    seconds = time.perf_counter() - began
    rivals = task.baselines(train, rows, decoder.tokenizer, decoder.max_length)
    found = compare(task, {"test": rows}, answers, rivals)
    of = {"run": None, "model": model, "task": own.task, "method": "few_shot", "trained_weights": 0}
    return _told(of, found, rows, notes, seconds, quiet=common.quiet)


def _unknown(task: Task, rows: Sequence[Row], details: dict[str, Any]) -> list[str]:
    """Say which labels the model does not know, and where that is every label of every row, what to do."""
    unseen = details.get("unseen")
    if not unseen:
        return []
    sentence = _("Labels that the model does not know, whose rows count as errors: {labels}.")
    said = [sentence.format(labels=", ".join(unseen))]
    if all(task.counted(row) and {*task.counted(row)} <= {*unseen} for row in rows):
        said.append(
            _(
                "The model knows none of the labels in this file, so no figure can be good: name another column with "
                "--label, or give the labels the names that were learnt."
            )
        )
    return said


def _seen(task: Task, train: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """Say how many of the rows are training rows: of those the figures prove nothing."""
    known = {task.key(row) for row in train}
    n = sum(task.key(row) in known for row in rows)
    if not n:
        return []
    sentence = _("Of {all} rows, training rows too: {n}. On those any figure is too good to be true.")
    return [sentence.format(n=number(n), all=number(len(rows)))]


def _told(
    of: dict[str, Any],
    found: dict[str, Any],
    rows: Sequence[Row],
    notes: list[str],
    seconds: float,
    *,
    quiet: bool,
) -> dict[str, Any]:
    """Return the figures under the keys that are promised, and say the notes."""
    from afina.train.track import say

    found["details"]["data"] = {"rows": {"test": len(rows)}, "notes": notes}
    for note in notes:
        say(note, quiet)
    return {
        **of,
        **found,
        "rows_per_s": None,
        "tokens_per_s": None,
        "processes": None,
        "share_of_peak": None,
        "seconds": {
            "prepare": None,
            "train": None,
            "evaluate": round(seconds, 2),
            "total": round(seconds, 2),
        },
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
            seed=settings.get("split_seed", settings["seed"]), offline=True, group_by=settings.get("group_by"),
            folds=settings.get("folds", 0), fold=settings.get("fold"),
        )  # fmt: skip
    except InputError:
        return []
    return prepared.splits.train if prepared.splits.fingerprint == run.recorded.get("data") else []

"""Ask a trained run: texts in, answers out, in the same order."""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from afina.core import Table, Task
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import Common, Settings, divide, flag, knobs, setting
from afina.verbs._settings import begin

if TYPE_CHECKING:
    from afina.train.bundle import Bundle


class Predict(Settings):
    """Settings of `afina predict`."""

    text: str | None = setting(
        None, N_("Column that holds the text (default: as in training, else guessed).")
    )
    text_pair: str | None = setting(
        None, N_("Column that holds the second text of a pair (default: as in training, else guessed).")
    )
    question: str | None = setting(
        None, N_("Column that holds the question (default: as in training, else guessed).")
    )
    context: str | None = setting(
        None, N_("Column that holds the text with the answer (default: as in training, else guessed).")
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
    source: str | None = setting(
        None, N_("Column that holds the text to write from (default: as in training, else guessed).")
    )
    max_new_tokens: int | None = setting(
        None, N_("How many tokens a written answer has at most (default: as in training)."), ge=1
    )
    num_beams: int | None = setting(
        None, N_("How many answers are followed at once (default: as in training)."), ge=1
    )
    temperature: float | None = setting(
        None, N_("How freely an answer is drawn (default: as in training, 0: the likeliest)."), ge=0
    )
    top_p: float | None = setting(
        None, N_("Draw only from the likeliest tokens of this share (default: as in training)."), gt=0, le=1
    )
    top_k: int | None = setting(
        None, N_("How many words are told for each mask of a text (default: as in training, 5)."), ge=1
    )
    output: str | None = setting(None, N_("File for the answers: the table with columns added, as CSV."))


def predict(run: str | Path, *texts: str | Path | Sequence[str], **settings: Any) -> list[dict[str, Any]]:
    """Return one answer an input: texts (or a list of them), one file or folder, or `-`: standard input, a text a line.

    `run` is a run, or a model that ships with afina or lies in a folder: that one, like a run of `pretrain`, fills masks
    or writes on. Where the model reads two texts at once, a file has a column for each, and a text or line a tab between
    them. With `output` the answers are also written beside their rows as CSV. Raises InputError.
    """
    begin(settings)
    common, own = divide(settings, Common, Predict)
    common, own = Common.of(common), Predict.of(own)
    if own.output and (Path(own.output).is_dir() or not Path(own.output).parent.is_dir()):
        raise InputError(
            _("{file} cannot be written: it is a folder, or its folder is missing.").format(file=own.output)
        )
    if own.output and any(isinstance(text, str | Path) and _same(text, own.output) for text in texts):
        raise InputError(_("{file} holds what is asked; choose another --output.").format(file=own.output))
    from afina.train.track import say
    from afina.verbs._prepare import lengths, long_rows, named, taken

    bundle = _bundle(run)
    bundle = replace(bundle, task=_answering(bundle.task, own))
    listed = texts[0] if len(texts) == 1 and isinstance(texts[0], list | tuple) else texts
    if not all(isinstance(text, str | Path) for text in listed):
        return bundle.predict(listed)  # rows, or what is none, which it says
    table = _table(cast(Sequence[str | Path], listed), offline=common.offline)
    task, notes = bundle.task, list(table.notes)
    own_columns = named(own, task.inputs)
    asked: list[Any] = [_asked(row[table.columns[0]]) for row in table.rows]
    if table.columns != ("text",) or own_columns:
        trained = {
            role: column for role, (column, *_more) in task.columns().items() if column in table.columns
        }
        known = {role: own_columns.get(role, trained.get(role)) for role in task.inputs}
        task = task.replace(**known).choose_inputs(table)
        columns = {role: column for role in task.inputs if (column := getattr(task, role))}
        notes += [
            taken(column, role, pair="text_pair" in columns)
            for role, column in columns.items()
            if known[role] is None
        ]
        asked = [row | {column: _asked(row.get(column)) for column in columns.values()} for row in table.rows]
    for note in notes:
        say(note, common.quiet)
    answers = replace(bundle, task=task).predict(asked)
    if asked:
        rows = [task.ask(each) for each in asked]
        for note in long_rows(lengths(task, rows, bundle.tokenizer, bundle.max_length)):
            say(note, common.quiet)
    if own.output:
        write(Path(own.output), table, answers)
    return answers


def _same(text: str | Path, output: str) -> bool:
    """Whether what is asked is the file that the answers would go to."""
    try:
        return Path(text).samefile(output)
    except (OSError, ValueError):  # it is no file, but a text
        return False


def _bundle(run: str | Path) -> "Bundle":
    """Return the trained model of a run, or the language model that a folder or an embedded name stands for."""
    from afina.models.find import adapts, find
    from afina.train.bundle import FILE, Bundle
    from afina.train.language_model import language_model
    from afina.train.run import Run

    # A name of the Hub is none here: a misspelt run is no reason to fetch anything.
    ships = str(run).startswith("afina/")
    bare = (Path(run) / "config.json").is_file() or adapts(Path(run))
    if ships or (bare and not (Path(run) / "run.toml").is_file()):
        folder = find(str(run), offline=True)
        return Bundle.load(folder) if (folder / FILE).is_file() else language_model(folder)
    return Run(run).bundle


def _answering(task: Task, own: Predict) -> Task:
    """Return the task with the settings of answering that are named; InputError where it has no such setting."""
    chosen = {
        name: value
        for name in ("max_new_tokens", "num_beams", "temperature", "top_p", "top_k")
        if (value := getattr(own, name)) is not None
    }
    if extra := [name for name in chosen if name not in knobs(type(task))]:
        sentence = _("{flag} changes nothing of what this model answers; leave it out.")
        raise InputError(sentence.format(flag=flag(extra[0])))
    return task.replace(**chosen)


def write(file: Path, table: Table, answers: Sequence[dict[str, Any]]) -> None:
    """Write the table with the answers' columns added, named `prediction_1` … where such a column was there."""
    from afina.train.atomic import write_text
    from afina.verbs._measure import cell

    first = answers[0] if answers else {}
    added = [name for name in first if name == "prediction" or not isinstance(first[name], (dict, list))]
    names = {name: _free(name, table.columns) for name in added}
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*table.columns, *names.values()], extrasaction="ignore")
    writer.writeheader()
    for row, answer in zip(table.rows, answers, strict=True):
        writer.writerow(row | {names[name]: cell(answer[name]) for name in added})
    write_text(file, text.getvalue())


def _asked(value: Any) -> Any:
    """Return a cell as a text, empty where it is; a list of words as it is."""
    from afina.data.value import text_of

    return value if isinstance(value, list) else text_of(value) or ""


def _free(name: str, taken: Sequence[str]) -> str:
    return next(free for i in count() if (free := f"{name}_{i}" if i else name) not in taken)


def _table(texts: Sequence[str | Path], *, offline: bool) -> Table:
    from afina.data.read import read

    if not texts:
        raise InputError(_("Name a text, a file, or - for standard input."))
    if len(texts) == 1 and str(texts[0]) == "-":
        # As bytes, since a pipe may carry another encoding than the terminal's.
        return _lines(sys.stdin.buffer.read(), "-")
    files = [text for text in texts if _is_file(text)]
    if files and len(texts) > 1:
        raise InputError(_("{file} is a file; give one file alone, or only texts.").format(file=files[0]))
    if files:
        found = read(files[0], offline=offline)
        if found.columns == ("text",) and Path(files[0]).suffix.lower() == ".txt":
            return _lines(Path(files[0]).read_bytes(), found.source)  # a blank line has its answer too
        return found
    return Table([{"text": str(text)} for text in texts], ("text",), "")


def _lines(data: bytes, source: str) -> Table:
    """Return each line as a text."""
    from afina.data.encoding import decode

    text, notes = decode(data, source)
    lines = io.StringIO(text, newline=None)  # which knows every line end, and no other signs, as one
    return Table([{"text": line.rstrip("\n")} for line in lines], ("text",), source, tuple(notes))


def _is_file(text: str | Path) -> bool:
    """Whether it is a file or a folder, or one word with a table's ending, which must be meant as one."""
    from afina.data.read import ENDINGS

    words = str(text).split()
    if isinstance(text, Path) or (len(words) == 1 and words[0].lower().endswith(ENDINGS)):
        return True
    try:
        # A word that some folder is also called is a word; a path ends in a slash or has one within.
        return Path(text).is_file() or ("/" in str(text) and Path(text).is_dir())
    except (OSError, ValueError):  # a long text is no possible name
        return False

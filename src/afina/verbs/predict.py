"""Ask a trained run: texts in, answers out, in the same order, block by block."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from afina.core import Row, Table, Task
from afina.data.stream import Stream
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import Common, Settings, divide, flag, knobs, setting
from afina.verbs._output import Output, check
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
    return list(stream(run, *texts, **settings))


def stream(run: str | Path, *texts: str | Path | Sequence[str], **settings: Any) -> Iterator[dict[str, Any]]:
    """Yield the same answers as they are found, block by block, so that a file may be larger than memory.

    Where the work breaks off in mid-file, those of the blocks before are kept in `output` with `.part` at its end.
    """
    begin(settings)
    common, own = divide(settings, Common, Predict)
    common, own = Common.of(common), Predict.of(own)
    if own.output:
        check(Path(own.output))
    if own.output and any(isinstance(text, str | Path) and _same(text, own.output) for text in texts):
        raise InputError(_("{file} holds what is asked; choose another --output.").format(file=own.output))
    from afina.train.track import say
    from afina.verbs._prepare import COUNTED, lengths, long_rows, named, taken

    def tell(note: str) -> None:
        say(note, common.quiet)

    bundle = _bundle(run)
    bundle = replace(bundle, task=_answering(bundle.task, own))
    listed = texts[0] if len(texts) == 1 and isinstance(texts[0], list | tuple) else texts
    if not all(isinstance(text, str | Path) for text in listed):
        yield from bundle.predict(listed)  # rows, or what is none, which it says
        return
    found = _found(cast(Sequence[str | Path], listed), tell, offline=common.offline)
    task, notes = bundle.task, list(found.notes)
    own_columns = named(own, task.inputs)
    columns: list[str] = []
    if found.columns != ("text",) or own_columns:
        trained = {
            role: column for role, (column, *_more) in task.columns().items() if column in found.columns
        }
        known = {role: own_columns.get(role, trained.get(role)) for role in task.inputs}
        table = found if isinstance(found, Table) else found.beginning()
        task = task.replace(**known).choose_inputs(table)
        by_role = {role: column for role in task.inputs if (column := getattr(task, role))}
        notes += [
            taken(column, role, pair="text_pair" in by_role)
            for role, column in by_role.items()
            if known[role] is None
        ]
        columns = list(by_role.values())
    for note in notes:
        tell(note)
    bundle = replace(bundle, task=task)
    rows = Stream.out_of(found) if isinstance(found, Table) else found
    output = Output(Path(own.output), found.columns) if own.output else None
    seen: Counter[str] = Counter()
    with output or nullcontext():
        done = 0
        for block in rows.blocks(None if output or not columns else task.asked_columns()):
            asked = bundle.ask([_asked(row, columns) for row in block], done + 1)
            encoded = bundle.encode(asked, done + 1)
            answers = bundle.told(asked, encoded)
            length = lengths(task, asked, encoded, bundle.tokenizer, bundle.max_length)
            seen.update({name: length[name] for name in COUNTED})
            if output:
                output.add(block, answers)
            done += len(block)
            yield from answers
    for note in long_rows({**seen, "max_length": bundle.max_length}) if done else []:
        tell(note)


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


def _asked(row: Row, columns: Sequence[str]) -> Any:
    """Return what is asked of a row: its only text, or the row with texts in `columns`."""
    if columns:
        return row | {column: _text(row.get(column)) for column in columns}
    (value,) = row.values()
    return _text(value)


def _text(value: Any) -> Any:
    """Return a cell as a text, empty where it is; a list of words as it is."""
    from afina.data.value import text_of

    return value if isinstance(value, list) else text_of(value) or ""


def _found(texts: Sequence[str | Path], tell: Callable[[str], None], *, offline: bool) -> Stream | Table:
    from afina.data import read
    from afina.data.pipe import Pipe

    if not texts:
        raise InputError(_("Name a text, a file, or - for standard input."))
    if len(texts) == 1 and str(texts[0]) == "-":
        # As bytes, since a pipe may carry another encoding than the terminal's.
        return Pipe.of(cast(BufferedReader, sys.stdin.buffer), tell)
    files = [text for text in texts if _is_file(text)]
    if files and len(texts) > 1:
        raise InputError(_("{file} is a file; give one file alone, or only texts.").format(file=files[0]))
    if files:
        found = read.stream(files[0], offline=offline)
        if found.columns == ("text",) and Path(files[0]).suffix.lower() == ".txt":
            return read.lines(Path(files[0]))  # a blank line has its answer too
        return found
    return Table([{"text": str(text)} for text in texts], ("text",), "")


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

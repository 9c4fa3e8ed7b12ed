"""From the person's files to clean, split rows of a task: what every verb with data begins with."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from afina.core import Row, Splits, Table, Task
from afina.data.unseen import Unseen
from afina.errors import InputError
from afina.messages import _
from afina.names import find
from afina.settings import Settings, flag

GROUP = "group"  # the field of a cleaned row that holds its value in the column to group by


@dataclass(frozen=True)
class Prepared:
    """A task that knows its columns and labels, and the rows it is about; `left_out` are those that stay unseen."""

    task: Task
    splits: Splits
    notes: list[str]
    left_out: int = 0

    @property
    def fingerprint(self) -> str:
        """What names the rows and how they are divided."""
        return self.splits.fingerprint

    @property
    def judging(self) -> list[Row]:
        """The rows that a model is chosen by and scored on."""
        return [*self.splits.validation, *self.splits.test]


@dataclass(frozen=True)
class Folded:
    """All rows, and for each fold what a run on the others is made of: its test part is the fold.

    `task` learnt its labels from all rows; the answers of the folds' own tasks are restated in its terms.
    """

    task: Task
    rows: list[Row]
    places: list[int]
    parts: list[Prepared]
    notes: list[str]

    @property
    def fingerprint(self) -> str:
        """What names the rows and how they are divided."""
        from afina.data.split import fingerprint

        return fingerprint(*(part.splits.test for part in self.parts))

    @property
    def judging(self) -> list[Row]:
        """The rows that a model is scored on: all, each once."""
        return self.rows

    def in_order(self, by_fold: Sequence[Sequence[Any]]) -> list[Any]:
        """Return what there is of each row of each fold in the order of `rows`."""
        each = [iter(values) for values in by_fold]
        return [next(each[fold]) for fold in self.places]


def prepare(
    task: Task, data: str, validation: str | None, test: str | None,
    *, seed: int, offline: bool = False, group_by: str | None = None, folds: int = 0, fold: int | None = None,
    unseen: Unseen | None = None,
) -> Prepared:  # fmt: skip
    """Read, choose columns, clean, split and check; InputError before anything is loaded or written.

    Rows with the same value in the column `group_by` lie on one side. Of `folds` the test part is the one `fold`.
    Rows that are `unseen` are left out of every part.
    """
    from afina.data.split import split

    if folds and fold is not None:
        folded = prepare_folds(task, data, folds, seed=seed, offline=offline, group_by=group_by)
        mine = folded.parts[fold]
        return Prepared(mine.task, mine.splits, folded.notes + mine.notes)
    task, parts, notes, lost = _gather(task, data, validation, test, group_by, offline=offline)
    left_out = 0
    if unseen and (left_out := _leave_out(unseen, task, parts)):
        sentence = _("Rows that the run will be scored on, left out here: {count}.").format(count=left_out)
        notes, lost = [*notes, sentence], [*lost, sentence]
    train, *others = parts
    try:
        splits = split(train or [], others[0], others[1], **_rules(task, group_by), seed=seed)
    except InputError as error:  # too few rows, perhaps because of those that could not be used
        raise InputError(" ".join([str(error), *lost])) from None
    task.check(splits)
    notes += list(splits.notes) + task.warn(splits)
    return Prepared(task.learn(splits.train), splits, notes, left_out)


def prepare_folds(
    task: Task, data: str, k: int, *, seed: int, offline: bool = False, group_by: str | None = None
) -> Folded:
    """Read, choose columns, clean, divide into `k` folds and check each; InputError before anything is written."""
    from afina.data.split import folds, split

    task, (found, *_others), notes, _lost = _gather(
        task, data, None, None, group_by, offline=offline, whole=True
    )
    rows, rules = found or [], _rules(task, group_by)
    places, more = folds(rows, k, **rules, labels=task.counted, seed=seed)
    parts = []
    for fold in range(k):
        rest, test = (
            [row for row, at in zip(rows, places, strict=True) if (at == fold) is mine]
            for mine in (False, True)
        )
        try:
            splits = split(rest, None, test, **rules, seed=seed)
            task.check(splits)
        except InputError as error:
            sentence = _("With the rows of fold {fold} as the test part: {error}")
            raise InputError(sentence.format(fold=fold, error=error)) from None
        parts.append(Prepared(task.learn(splits.train), splits, task.warn(splits)))
    return Folded(task.learn(rows), rows, places, parts, notes + more)


def _gather(
    task: Task, data: str, validation: str | None, test: str | None, group_by: str | None,
    *, offline: bool, whole: bool = False,
) -> tuple[Task, list[list[Row] | None], list[str], list[str]]:  # fmt: skip
    """Return the task with its columns, the clean rows of each part as given, notes, and what rows were lost by.

    With `whole` all rows are one part.
    """
    from afina.data.read import read
    from afina.data.split import by_column, split_column

    table = read(data, offline=offline)
    asked, other = task, another_task(task, table)
    try:
        task = task.choose_columns(table)
    except InputError as error:
        if not other:
            raise
        raise InputError(" ".join([str(error), *other])) from None
    notes = [*table.notes, *other, *guessed(asked, task)]
    parts: list[list[Row] | None] = [table.rows, None, None]
    if validation is None and test is None and not whole:
        parts = list(by_column(table) or parts)
    elif column := split_column(table):
        sentence = _("Column '{column}' is not used to split: the parts are files.")
        if whole:
            sentence = _("Column '{column}' is not used to split: every row is in a fold.")
        notes.append(sentence.format(column=column))
    others: dict[int, Table] = {}
    for place, file in ((1, validation), (2, test)):
        if file is not None:
            others[place] = read(file, offline=offline)
            notes += others[place].notes
            _same_columns(task, table, others[place], file)
            parts[place] = others[place].rows
    tables = [table, others.get(1, table), others.get(2, table)]
    for source in tables:
        if group_by is not None and group_by not in source.columns:
            sentence = _("{file} has no column '{column}' to group by. Its columns: {all}.")
            columns = ", ".join(source.columns)
            raise InputError(sentence.format(file=source.source, column=group_by, all=columns))
    lost: list[str] = []
    cleaned = [
        None if part is None else clean(task, part, source, lost, group_by)
        for part, source in zip(parts, tables, strict=True)
    ]
    for part, file in ((cleaned[1], validation), (cleaned[2], test)):
        if file is not None and not part:
            raise InputError(" ".join([nothing_usable(task, file), *lost]))
    return task, cleaned, notes + lost, lost


def another_task(task: Task, table: Table) -> list[str]:
    """Say so where a table has the form of another task than that of one label a text, which nobody need ask for."""
    from afina.data.columns import likely_task

    likely = likely_task(table)
    asked: Any = task
    if type(task) is not find("tasks", "classification") or likely is None or (asked.text and asked.label):
        return []
    sentence = _("{file} has the form of data for another task: --task {task}.")
    return [sentence.format(file=table.source, task=likely)]


def _leave_out(unseen: Unseen, task: Task, parts: list[list[Row] | None]) -> int:
    """Take the rows that are `unseen` out of the parts, in place, and return how many those were."""
    count = 0
    for place, part in enumerate(parts):
        if part is not None:
            parts[place] = kept = [row for row in part if task.key(row) not in unseen]
            count += len(part) - len(kept)
    return count


def _rules(task: Task, group_by: str | None) -> dict[str, Any]:
    """Return what a draw keeps in proportion, and what it does not part."""
    bond = (lambda row: row[GROUP]) if group_by else None
    return {
        "key": task.key, "group": task.group, "strata": task.strata, "together": task.together, "bond": bond,
    }  # fmt: skip


def guessed(asked: Task, task: Task) -> list[str]:
    """Say which columns of `task` were guessed: those that nobody `asked` for."""
    chosen = task.columns()
    return [
        taken(column, role, pair="text_pair" in chosen)
        for role, (column, *more) in chosen.items()
        if not more and getattr(asked, role) is None
    ]


def taken(column: str, role: str, *, pair: bool) -> str:
    """Say which column was guessed for a role, and why; the two texts of a `pair` are looked for alike."""
    from afina.data.column_names import NAMES
    from afina.data.columns import why

    like = "text_pair" if pair and role == "text" else role
    return _("Column '{column}' is taken as the {role}: {why}.").format(
        column=column, role=_(NAMES[role]), why=why(column, like)
    )


def clean(
    task: Task, rows: Sequence[Row], table: Table, notes: list[str], group_by: str | None = None
) -> list[Row]:
    """Return the rows the task can use, and note how many it cannot; `table` is where they come from.

    With `group_by` they hold the value of that column too, under `group`, None where the cell is blank.
    """
    from afina.data.columns import listed
    from afina.data.value import label_text

    kept, lacking = [], 0
    for row in rows:
        try:
            cleaned = task.clean(row)
            group = {GROUP: label_text(row[group_by])} if group_by else {}
        except InputError as error:
            number = next(n for n, other in enumerate(table.rows, 1) if other is row)
            sentence = _("{source}, row {number}: {error}")
            raise InputError(sentence.format(source=table.source, number=number, error=error)) from None
        if cleaned is not None:
            kept.append(cleaned | group)
        else:
            lacking += task.lacks(row)
    if lacking:
        columns = listed(needed(task), _("or"))
        notes.append(_("Rows without {columns}, left out: {n}.").format(n=lacking, columns=columns))
    notes += task.remarks(rows, kept)
    return kept


def named(own: Settings, roles: Collection[str]) -> dict[str, str]:
    """Return by role the columns that a person named; InputError for a role that is none of the task's `roles`."""
    from afina.data.column_names import NAMES

    found = {role: getattr(own, role) for role in NAMES if getattr(own, role, None) is not None}
    if extra := found.keys() - set(roles):
        sentence = _("The task of this run has no such column; leave out {flag}.")
        raise InputError(sentence.format(flag=flag(min(extra))))
    return found


def needed(task: Task) -> tuple[str, ...]:
    """Return the roles whose columns every usable row fills."""
    roles = (*task.inputs, *task.gold[:1])
    return tuple(role for role in roles if getattr(task, role, None)) or roles


def nothing_usable(task: Task, file: str | Path) -> str:
    """Say that no row of a file can be used."""
    from afina.data.columns import listed

    return _("{file} has no row with {columns}.").format(file=file, columns=listed(needed(task), _("and")))


# What `lengths` counts, so that blocks of rows can be added up.
COUNTED = ("rows", "rows_cut", "tokens_cut", "rows_in_windows", "tokens_in_windows")


def lengths(
    task: Task, rows: Sequence[Row], encoded: Sequence[Row], tokenizer: Any, max_length: int
) -> dict[str, Any]:
    """Return how long `rows` are in tokens, what the model does not see of them, and what it reads in windows.

    `encoded` are the rows as the model reads them. Only those that fill it are cut into tokens once more, and all where
    answers are written: of a prompt as much is left out as the answer may take.
    """
    whole = [task.length(row) for row in encoded]
    full = [place for place, tokens in enumerate(whole) if tokens >= max_length or task.writes]
    if full:
        again = task.encode([rows[place] for place in full], tokenizer, 10**6)
        for place, row in zip(full, again, strict=True):
            whole[place] = task.length(row)
    unseen = [task.unseen(row, tokens) for row, tokens in zip(encoded, whole, strict=True)]
    found, cut = np.array(whole), np.array(unseen)
    windows = (found > max_length) & (cut == 0)
    return {
        "rows": len(whole),
        "mean": float(found.mean()),
        "median": float(np.median(found)),
        "p95": float(np.quantile(found, 0.95)),
        "max": int(found.max()),
        "max_length": max_length,
        "rows_cut": int((cut > 0).sum()),
        "tokens_cut": int(cut.sum()),
        "rows_in_windows": int(windows.sum()),
        "tokens_in_windows": int((found - max_length)[windows].sum()),
    }


def long_rows(length: dict[str, Any]) -> list[str]:
    """Say how many rows are longer than the model takes, and what becomes of them."""
    notes = []
    if length["rows_cut"]:
        notes.append(
            _(
                "Of {all} rows, longer than {limit} tokens: {rows}. Tokens that are not seen: {tokens}."
            ).format(
                rows=length["rows_cut"],
                all=length["rows"],
                limit=length["max_length"],
                tokens=length["tokens_cut"],
            )
        )
    if length["rows_in_windows"]:
        notes.append(
            _(
                "Of {all} rows, longer than {limit} tokens and read to their end in overlapping windows: {rows}. "
                "Tokens beyond that length: {tokens}."
            ).format(
                rows=length["rows_in_windows"],
                all=length["rows"],
                limit=length["max_length"],
                tokens=length["tokens_in_windows"],
            )
        )
    return notes


def _same_columns(task: Task, table: Table, other: Table, file: str) -> None:
    for column in (column for columns in task.columns().values() for column in columns):
        if column not in other.columns:
            raise InputError(
                _("{file} has no column '{column}', which {data} has. Its columns: {all}.").format(
                    file=file, column=column, data=table.source, all=", ".join(other.columns)
                )
            )

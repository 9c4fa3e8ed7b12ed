"""From the person's files to clean, split rows of a task: what every verb with data begins with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from afina.core import Row, Splits, Table, Task
from afina.errors import InputError
from afina.messages import _


@dataclass(frozen=True)
class Prepared:
    """A task that knows its columns and labels, and the rows it is about."""

    task: Task
    splits: Splits
    notes: list[str]


def prepare(
    task: Task, data: str, validation: str | None, test: str | None, *, seed: int, offline: bool = False
) -> Prepared:
    """Read, choose columns, clean, split and check; InputError before anything is loaded or written."""
    from afina.data.read import read
    from afina.data.split import by_column, split, split_column

    table = read(data, offline=offline)
    asked = task
    task = task.choose_columns(table)
    notes = [*table.notes, *guessed(asked, task)]
    parts: list[list[Row] | None] = [table.rows, None, None]
    if validation is None and test is None:
        parts = list(by_column(table) or parts)
    elif column := split_column(table):
        notes.append(_("Column '{column}' is not used to split: the parts are files.").format(column=column))
    for place, file in ((1, validation), (2, test)):
        if file is not None:
            other = read(file, offline=offline)
            notes += other.notes
            _same_columns(task, table, other, file)
            parts[place] = other.rows
    cleaned = [None if part is None else clean(task, part, notes) for part in parts]
    for part, file in ((cleaned[1], validation), (cleaned[2], test)):
        if file is not None and not part:
            raise InputError(nothing_usable(task, file))
    splits = split(
        cleaned[0] or [], cleaned[1], cleaned[2],
        key=task.key, group=task.group, seed=seed, together=task.together,
    )  # fmt: skip
    task.check(splits)
    return Prepared(task.learn(splits.train), splits, notes + list(splits.notes) + task.warn(splits))


def guessed(asked: Task, task: Task) -> list[str]:
    """Say which columns of `task` were guessed: those that nobody `asked` for."""
    return [
        taken(column, role)
        for role in roles(task)
        if getattr(asked, role) is None and (column := getattr(task, role))
    ]


def taken(column: str, role: str) -> str:
    """Say which column was guessed for a role, and why."""
    from afina.data.columns import NAMES, why

    return _("Column '{column}' is taken as the {role}: {why}.").format(
        column=column, role=_(NAMES[role]), why=why(column, role)
    )


def clean(task: Task, rows: Sequence[Row], notes: list[str]) -> list[Row]:
    """Return the rows the task can use, and note how many it cannot; InputError with the row's number."""
    from afina.data.columns import listed

    kept = []
    for number, row in enumerate(rows, 1):
        try:
            kept.append(task.clean(row))
        except InputError as error:
            raise InputError(_("Row {number}: {error}").format(number=number, error=error)) from None
    found = [row for row in kept if row is not None]
    if len(found) < len(rows):
        columns = listed(needed(task), _("or"))
        notes.append(
            _("{n} rows without {columns} were left out.").format(n=len(rows) - len(found), columns=columns)
        )
    notes += task.remarks(rows, found)
    return found


def roles(task: Task) -> tuple[str, ...]:
    """Return the fields of the task that name columns."""
    return (*task.inputs, *task.gold)


def needed(task: Task) -> tuple[str, ...]:
    """Return the columns that every usable row has."""
    return (*task.inputs, *task.gold[:1])


def nothing_usable(task: Task, file: str | Path) -> str:
    """Say that no row of a file can be used."""
    from afina.data.columns import listed

    return _("{file} has no row with {columns}.").format(file=file, columns=listed(needed(task), _("and")))


def lengths(tokens: Sequence[int], unseen: Sequence[int], max_length: int) -> dict[str, Any]:
    """Return how long the rows are in tokens, what of them the model does not see, and what it reads in windows."""
    found, cut = np.array(tokens), np.array(unseen)
    return {
        "median": float(np.median(found)),
        "p95": float(np.quantile(found, 0.95)),
        "max": int(found.max()),
        "max_length": max_length,
        "rows_cut": int((cut > 0).sum()),
        "tokens_cut": int(cut.sum()),
        "rows_in_windows": int(((found > max_length) & (cut == 0)).sum()),
    }


def _same_columns(task: Task, table: Table, other: Table, file: str) -> None:
    for role in roles(task):
        column = getattr(task, role)
        if column and column not in other.columns:
            raise InputError(
                _("{file} has no column '{column}', which {data} has. Its columns: {all}.").format(
                    file=file, column=column, data=table.source, all=", ".join(other.columns)
                )
            )

"""From the person's files to clean, split rows of a task: what every verb with data begins with."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    from afina.data.columns import why
    from afina.data.read import read
    from afina.data.split import by_column, split

    table = read(data, offline=offline)
    asked = task
    task = task.choose_columns(table)
    notes = list(table.notes)
    roles = {"text": _("text"), "text_pair": _("second text"), "label": _("label")}
    for role, (column, *more) in task.columns().items():
        if not more and getattr(asked, role) is None:
            sentence = _("Column '{column}' is taken as the {role}: {why}.")
            notes.append(sentence.format(column=column, role=roles.get(role, role), why=why(column, role)))
    parts: list[list[Row] | None] = [table.rows, None, None]
    by_split_column = by_column(table) if validation is None and test is None else None
    if by_split_column:
        parts = list(by_split_column)
    others: dict[int, Table] = {}
    for place, file in ((1, validation), (2, test)):
        if file is not None:
            others[place] = read(file, offline=offline)
            notes += others[place].notes
            _same_columns(task, table, others[place], file)
            parts[place] = others[place].rows
    tables = [table, others.get(1, table), others.get(2, table)]
    cleaned = [
        None if part is None else clean(task, part, source, notes)
        for part, source in zip(parts, tables, strict=True)
    ]
    for part, file in ((cleaned[1], validation), (cleaned[2], test)):
        if file is not None and not part:
            raise InputError(_("{file} has no row with both text and label.").format(file=file))
    splits = split(
        cleaned[0] or [], cleaned[1], cleaned[2],
        key=task.key, group=task.group, strata=task.strata, seed=seed,
    )  # fmt: skip
    task.check(splits)
    task = task.learn(splits.train)
    return Prepared(task, splits, notes + task.notes() + list(splits.notes))


def clean(task: Task, rows: Sequence[Row], table: Table, notes: list[str]) -> list[Row]:
    """Return the rows the task can use, and note how many it cannot; `table` is where they come from."""
    kept = []
    for row in rows:
        try:
            cleaned = task.clean(row)
        except InputError as error:
            number = next(n for n, other in enumerate(table.rows, 1) if other is row)
            sentence = _("{source}, row {number}: {error}")
            raise InputError(sentence.format(source=table.source, number=number, error=error)) from None
        if cleaned is not None:
            kept.append(cleaned)
    if len(kept) < len(rows):
        notes.append(_("{n} rows without text or label were left out.").format(n=len(rows) - len(kept)))
    return kept


def lengths(tokens: Sequence[int], max_length: int) -> dict[str, Any]:
    """Return how long the rows are in tokens and how much of them the model does not see."""
    found = np.array(tokens)
    return {
        "median": float(np.median(found)),
        "p95": float(np.quantile(found, 0.95)),
        "max": int(found.max()),
        "max_length": max_length,
        "rows_cut": int((found > max_length).sum()),
        "tokens_cut": int(np.maximum(found - max_length, 0).sum()),
    }


def _same_columns(task: Task, table: Table, other: Table, file: str) -> None:
    for column in (column for columns in task.columns().values() for column in columns):
        if column not in other.columns:
            raise InputError(
                _("{file} has no column '{column}', which {data} has. Its columns: {all}.").format(
                    file=file, column=column, data=table.source, all=", ".join(other.columns)
                )
            )

"""In which file, and where in it, a row stands that could not be encoded."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from afina.core import Task
from afina.errors import InputError, RowError
from afina.messages import _


@contextmanager
def located(task: Task, *files: str | None, offline: bool) -> Iterator[None]:
    """Raise a RowError as one that names file and row: rows are divided and shuffled when they are encoded."""
    try:
        yield
    except RowError as error:
        sentence = _("{source}, row {number}: {error}")
        place = None
        with suppress(
            InputError
        ):  # a file may have changed, or the Hub be gone: the row is told by its words then
            place = next(_places(task, [file for file in files if file], error.row, offline=offline), None)
        if place is None:
            raise
        raise InputError(sentence.format(source=place[0], number=place[1], error=error.reason)) from None


def _places(
    task: Task, files: list[str], row: dict[str, object], *, offline: bool
) -> Iterator[tuple[str, int]]:
    from afina.data.read import read

    for file in files:
        table = read(file, offline=offline)
        for number, given in enumerate(table.rows, 1):
            cleaned = task.clean(given)
            if cleaned is not None and {name: row.get(name) for name in cleaned} == cleaned:
                yield table.source, number

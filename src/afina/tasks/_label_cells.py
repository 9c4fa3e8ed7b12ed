"""How a set of labels is written in a cell: as a list, as `a;b`, or as columns of 0 and 1, yes and no."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from afina.data.cells import structure
from afina.data.value import label_text
from afina.errors import InputError
from afina.messages import _

# Whether a column's label is given: as numbers, with decimals where a cell was blank once, or in words.
FLAGS = dict.fromkeys(("0", "0.0", "false", "falso", "no"), False)
FLAGS |= dict.fromkeys(("1", "1.0", "true", "verdadero", "yes", "sí", "si"), True)


def read(cell: Any) -> list[str] | None:
    """Return the labels of a list, of `a;b`, or of {column: 0 or 1}; None for a blank, [] for an empty list."""
    if isinstance(cell, Mapping):
        return _of_flags(cell)
    if isinstance(cell, str):
        cell = _listed(cell)
    if cell is None or cell != cell:
        return None
    if not isinstance(cell, list | tuple):
        cell = [cell]
    found = kinds(cell)
    if "no label" in found or len(found) > 1:
        sentence = (
            _("{value} holds something that is no label. Labels are texts or numbers.")
            if "no label" in found
            else _("{value} mixes texts and numbers. Write all labels of a list the same way.")
        )
        raise InputError(sentence.format(value=json.dumps(cell, ensure_ascii=False, default=str)[:80]))
    return sorted({label for label in map(label_text, cell) if label is not None})


def kinds(cell: Any) -> set[str]:
    """Return of what kinds the labels of a cell are, none of a blank or of columns of 0 and 1."""
    if cell is None or cell != cell or isinstance(cell, str | Mapping):
        return set()
    return {_kind(each) for each in (cell if isinstance(cell, list | tuple) else [cell])}


def run_together(labels: Collection[str]) -> list[str]:
    """Return the labels that are others of them with a comma or a bar between, or of the same parts as others."""
    parts = {label: [part.strip() for part in re.split(r"[,|]", label)] for label in labels}
    several = Counter(part for found in parts.values() if len(found) > 1 for part in {*found})
    known = {*labels, *(part for part, times in several.items() if times > 1)}
    return sorted(label for label, found in parts.items() if len(found) > 1 and known.issuperset(found))


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    return (
        "a number" if isinstance(value, int | float) else "a text" if isinstance(value, str) else "no label"
    )


def _listed(cell: str) -> Any:
    """Return the labels of `a;b`, or of a list as JSON, Python or pandas writes it; None for a blank."""
    if not cell.strip():
        return None
    found = structure(cell)
    return found if isinstance(found, list) else cell.split(";")


def _of_flags(cells: Mapping[str, Any]) -> list[str] | None:
    """Return the columns that hold 1 or yes, None where one is blank."""
    found = []
    for column, cell in cells.items():
        given = str(cell) if isinstance(cell, list | tuple | dict) else label_text(cell)
        if given is None:
            return None
        if given.lower() not in FLAGS:
            sentence = _(
                "Column '{column}' holds {value!r}, but a column of one label holds 0 or 1, yes or no."
            )
            raise InputError(sentence.format(column=column, value=cell))
        if FLAGS[given.lower()]:
            found.append(column)
    return sorted(found)

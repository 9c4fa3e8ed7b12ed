"""Which columns of a table hold tokens and which their tags, or entities, and what these mark: by names and content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from afina.core import Table
from afina.errors import InputError
from afina.messages import _

SHOWN_TAGS = 5
SHOWN = 60  # characters of a wrong value in a message
NO_TEXT = (list, tuple, Mapping)  # spaCy's tokens are objects that hold places in a text
ENTITIES = ("entities", "entidades", "spans")  # columns that by their name hold entities, not tags


def tokens_of(table: Table, named: str | None) -> str | None:
    """Return the column of tokens, the one `named` if any; None where it holds no lists of texts."""
    from afina.data import conll
    from afina.data.columns import named_like

    found = named_like(table, "tokens", named, lambda column: _are_tokens(table, column))
    found = found or conll.words(table, numbered(table))
    return found if found is not None and _are_tokens(table, found) else None


def tags_of(table: Table, named: str | None, tokens: str | None, *, words: bool) -> str | None:
    """Return the column of tags or entities: `named`, else the first known name whose lists fit, else the first.

    With `words` entities do not fit.
    """
    from afina.data.column_names import plain
    from afina.data.columns import named_like
    from afina.data.spans import is_entities

    def fits(column: str) -> bool:
        first = filled(table, column)
        if first is None or tokens is None or is_entities(first):
            return is_entities(first) and not words
        # WikiANN's `spans` are texts, fewer than its tokens, beside its tags.
        pairs = zip(lists(table, column), lists(table, tokens), strict=True)
        return plain(column) not in ENTITIES or all(len(tags) == len(those) for tags, those in pairs)

    found = named_like(table, "tags", named, fits) or named_like(table, "tags")
    return found or (numbered(table)[-1] if len(numbered(table)) > 1 else None)


def are_entities(table: Table, column: str, tokens: str | None) -> bool:
    """Return whether a column's lists hold entities; where all are empty, its name and missing `tokens` tell."""
    from afina.data.column_names import plain
    from afina.data.spans import is_entities

    first = filled(table, column)
    return is_entities(first) if first is not None else tokens is None or plain(column) in ENTITIES


def marked(rows: Sequence[Sequence[Any]], lines: Sequence[int] = ()) -> str:
    """Return what the tags of rows mark, `entities` or `words`; InputError where most but not all mark entities.

    `lines` are those of the file in which the rows begin, a word a line.
    """
    from afina.data.conll import TAG

    counted = Counter(str(tag) for tags in rows for tag in tags)
    odd = sorted(tag for tag in counted if not TAG.fullmatch(tag))
    if not odd:
        return "entities" if counted.keys() != {"O"} else "words"
    typed = sum(times for tag, times in counted.items() if TAG.fullmatch(tag) and tag != "O")
    if typed > sum(counted[tag] for tag in odd):
        row, word = next(
            (n, i) for n, tags in enumerate(rows) for i, tag in enumerate(tags) if str(tag) in odd
        )
        place = _("line {n}").format(n=lines[row] + word) if lines else _("row {n}").format(n=row + 1)
        raise InputError(
            _(
                "Most tags mark entities (B-, I-), but these do not: {tags}; the first in {place}. Mend them, or say "
                "with --tags words that each is a label of its own."
            ).format(tags=", ".join(repr(tag) for tag in odd[:SHOWN_TAGS]), place=place)
        )
    return "words"


def has_lists(table: Table, column: str) -> bool:
    """Return whether a column holds a list, if only an empty one."""
    return any(isinstance(row[column], list) for row in table.rows)


def lists(table: Table, column: str) -> list[list[Any]]:
    """Return the lists of a column, an empty one where a row has none."""
    return [row[column] if isinstance(row[column], list) else [] for row in table.rows]


def filled(table: Table, column: str) -> list[Any] | None:
    """Return the first list of a column that is not empty."""
    return next(filter(None, lists(table, column)), None)


def numbered(table: Table) -> list[str]:
    """Return the columns of CoNLL, which have numbers for names."""
    return [column for column in table.columns if column.isdigit()]


def unfit(table: Table, column: str | None) -> str:
    """Say that a table has no form that can be learnt, and what the `column` holds that is not as it should be."""
    found = _("{source} has the columns {names}").format(source=table.source, names=", ".join(table.columns))
    needed = _(
        "This task needs CoNLL (.conll) or CoNLL-U (.conllu), or JSON Lines with `tokens` and `tags`, or with `text` and "
        "`entities` (start, end, label); name other columns with --text and --label."
    )
    if not any(has_lists(table, name) for name in table.columns):
        found += ", " + _("and none of them holds lists")
        needed += " " + _(
            "If each row is a word, write CoNLL: word, tab and tag a line, a blank line after each sentence, no column "
            "names."
        )
    elif column is not None and (first := filled(table, column)):
        shown = repr(first[0])[:SHOWN]
        found += ", " + _("and '{label}' holds lists of {value}").format(label=column, value=shown)
    elif column is not None:
        found += ", " + _("and '{label}' holds no lists").format(label=column)
    return f"{found}. {needed}"


def _are_tokens(table: Table, column: str) -> bool:
    first = filled(table, column) or []
    return has_lists(table, column) and not any(isinstance(token, NO_TEXT) for token in first)

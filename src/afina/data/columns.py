"""Which column holds the text and which the label, by name and, where no name tells, by content."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from afina import names
from afina.core import Table
from afina.data.column_names import ALIKE, KNOWN, NAMES, OTHER, PAIRS, Role, plain
from afina.data.number import are_numbers
from afina.data.value import label_text
from afina.errors import InputError
from afina.messages import _
from afina.sample import spread
from afina.settings import flag

MAX_LABELS = 200
LOOKED_AT = 1000  # rows at most by which long texts are told from short ones


def guess(table: Table, role: Role, named: str | None = None, taken: Collection[str] = ()) -> str:
    """Return the column that holds `role`: `named` if given, else by its name, else by its content.

    `taken` are columns that serve another role and are not guessed. By content the text is the column with
    the longest strings, the label the only one with few, repeated values. Raises InputError, with the
    nearest name, where `named` is no column, and with all columns where the guess is not clear.
    """
    if named is not None:
        if named not in table.columns:
            raise InputError(names.unknown(named, list(table.columns), "columns"))
        return named
    free = [column for column in table.columns if column not in taken]
    by_name = _by_name(free, role)
    if by_name is not None:
        return by_name
    if role in ("text", "context"):
        return _text(table, free, role)
    if role in _HOLDS:
        return _one_like(table, free, role)
    raise InputError(_unclear(table, role))


def named_like(
    table: Table, role: Role, named: str | None = None, fits: Callable[[str], bool] = lambda column: True
) -> str | None:
    """Return the column that `named` or its very name says to hold `role` and that `fits`, None where there is none.

    One that is `named` need not fit.
    """
    if named is not None:
        return guess(table, role, named)
    by_plain = {plain(column): column for column in reversed(table.columns)}
    found = (by_plain[known] for known in KNOWN[role] if known in by_plain)
    return next(filter(fits, found), None)


def listed(roles: Sequence[str], word: str) -> str:
    """Return the names of the roles as people list them: `context, question or answers`."""
    *first, last = (_(NAMES[role]) for role in roles)
    return f"{', '.join(first)} {word} {last}" if first else last


def guess_pair(
    table: Table, first: str | None, second: str | None, taken: Collection[str] = ()
) -> tuple[str, str]:
    """Return the columns of the two texts of a pair: those named, else by their names, else by content.

    Of names alike (text1 and text2, label1 and label2 …) those count first that hold texts. By content they are the
    only two columns of texts, in file order. Raises InputError as `guess` does.
    """
    given = [guess(table, "text", named) for named in (first, second) if named is not None]
    if first is not None and second is not None:
        return given[0], given[1]

    def fits(a: str, b: str) -> bool:
        return first in (None, a) and second in (None, b)

    free = [column for column in table.columns if column not in taken]
    by_plain = {plain(column).replace("_", ""): column for column in reversed(free)}
    in_order = [plain(column).replace("_", "") for column in free]
    alike = [
        (name, name[:-1] + other) for name in in_order for end, other in ("12", "ab") if name[-1:] == end
    ]
    pairs = [(by_plain[a], by_plain[b]) for a, b in (*PAIRS, *alike) if a in by_plain and b in by_plain]
    pairs = [pair for pair in pairs if fits(*pair)]
    lengths = _lengths(table, free)
    if pairs:
        return next((pair for pair in pairs if set(pair) <= lengths.keys()), pairs[0])
    texts = [column for column in free if column in lengths and column not in given]
    if len(texts) == 2 - len(given):
        return (first or texts[0]), (second or texts[-1])
    sentence = _("It is not clear which two columns of {source} hold the texts of a pair.")
    sentence += " " + _("Name them with {flags}. There are: {all}.")
    flags = f"{flag('text')}, {flag('text_pair')}"
    said = sentence.format(source=table.source, flags=flags, all=", ".join(table.columns))
    raise InputError(" ".join([said, *_tabs(table)]))


def why(column: str, role: Role) -> str:
    """Say in a few words what `guess` went by when it chose `column` for `role`."""
    if any(_by_name([column], like) is not None for like in (role, *ALIKE.get(role, ()))):
        return _("by its name")
    if column.isdigit():  # CoNLL's columns have numbers, not names
        return _("the first column of words") if role == "text" else _("the last column")
    name = plain(column)
    numbered = re.fullmatch(r".*([12]|_[ab])", name)
    if role == "text_pair" and (numbered or any(name.replace("_", "") in pair for pair in PAIRS)):
        return _("by its name")
    if role in ("text", "text_pair", "context", "source"):
        return _("it holds the longest texts")
    return _("it holds few different values")


def _by_name(columns: Sequence[str], role: Role) -> str | None:
    by_plain = {plain(column): column for column in reversed(columns)}
    for known in KNOWN[role]:
        if known in by_plain:
            return by_plain[known]
    # Then a name with such a word at its end or beginning: `review_text`, `texto limpio`, `CustomerMessage`.
    words = {column: plain(re.sub(r"([a-z])([A-Z])", r"\1_\2", column)).split("_") for column in columns}
    words = {column: parts for column, parts in words.items() if not OTHER.intersection(parts)}
    for place in (-1, 0):
        for known in KNOWN[role]:
            for column, parts in words.items():
                if parts[place] == known:
                    return column
    return None


def _lengths(table: Table, columns: Sequence[str]) -> dict[str, float]:
    """Return the mean length of each column that holds texts of several words."""
    sample = [table.rows[place] for place in spread(len(table.rows), LOOKED_AT)]
    lengths = {}
    for column in _without_others(columns):
        values = [row[column] for row in sample if isinstance(row[column], str) and row[column].strip()]
        if sum(len(value.split()) > 1 for value in values) > 0.3 * len(sample):
            lengths[column] = sum(map(len, values)) / len(sample)
    return lengths


def _text(table: Table, columns: Sequence[str], role: Role) -> str:
    lengths = _lengths(table, columns)
    if not lengths:
        raise InputError(_unclear(table, role))
    return max(lengths, key=lambda column: lengths[column])


def _one_like(table: Table, columns: Sequence[str], role: Role) -> str:
    """Return the only column whose values can be labels, lists of labels or numbers."""
    text = _by_name(columns, "text")
    likely = [column for column in _without_others(columns) if column != text]
    likely = [column for column in likely if _HOLDS[role]([row[column] for row in table.rows])]
    if len(likely) != 1:
        raise InputError(_unclear(table, role))
    return likely[0]


def _without_others(columns: Sequence[str]) -> list[str]:
    return [column for column in columns if not OTHER.intersection(plain(column).split("_"))]


def _few_values(values: list[Any]) -> bool:
    if any(isinstance(value, (list, dict)) for value in values):
        return False
    labels = [label for label in map(label_text, values) if label is not None]
    distinct = len(set(labels))
    return 2 <= distinct <= min(MAX_LABELS, len(labels) / 2) and max(map(len, labels)) <= 100


def _lists(values: list[Any]) -> bool:
    return any(isinstance(value, list) for value in values)


def likely_task(table: Table) -> str | None:
    """Return the task that a table is for, where its form alone tells that it is not one label a text."""
    first = {column.lower(): value for column, value in (table.rows[0] if table.rows else {}).items()}
    names = first.keys()
    if any(isinstance(first.get(name), list) for name in ("messages", "conversations")):
        return "chat"
    words = len(first) > 1 and all(isinstance(value, list) for value in first.values())
    if (
        words
        or {"text", "entities"} <= names
        or ("tokens" in names and names & {"tags", "ner_tags", "pos_tags"})
    ):
        return "token_labels"
    return "extractive_qa" if {"context", "question", "answers"} <= names else None


_HOLDS: dict[Role, Callable[[list[Any]], bool]] = {
    "label": _few_values,
    "labels": _lists,
    "number": are_numbers,
}


def _unclear(table: Table, role: Role) -> str:
    sentences = {
        "text": _("It is not clear which column of {source} holds the text."),
        "label": _("It is not clear which column of {source} holds the label."),
        "context": _("It is not clear which column of {source} holds the context."),
        "question": _("It is not clear which column of {source} holds the question."),
        "answers": _("It is not clear which column of {source} holds the answers."),
        "labels": _(
            "It is not clear which column of {source} holds the labels (columns of 0 and 1 are named with commas: "
            "--label a,b,c)."
        ),
        "number": _("It is not clear which column of {source} holds the number to be learnt."),
        "prompt": _(
            "It is not clear which column of {source} holds the conversation, which is named with --messages, or what "
            "the user says."
        ),
        "completion": _(
            "It is not clear which column of {source} holds the reply; a whole conversation is named with --messages."
        ),
        "source": _("It is not clear which column of {source} holds the text to write from."),
        "target": _("It is not clear which column of {source} holds the text to be written."),
    }
    sentence = sentences[role] + " " + _("Name it with {flag}. There are: {all}.")
    field = "label" if role in ALIKE["label"] else role
    said = sentence.format(source=table.source, flag=flag(field), all=", ".join(table.columns))
    return " ".join([said, *_tabs(table)])


def _tabs(table: Table) -> list[str]:
    """Say so where the only column holds a tab in every row, as lines of two columns that were read as texts."""
    if len(table.columns) > 1 or not all("\t" in str(row[table.columns[0]]) for row in table.rows):
        return []
    return [_("Every text holds a tab: where tabs part columns, give the file the ending .tsv.")]

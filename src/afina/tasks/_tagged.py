"""Rows whose words have tags, or whose text has entities, as they come out of CoNLL, CoNLL-U and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import field_validator

from afina.core import Row, Table, Task, mended
from afina.errors import InputError
from afina.messages import N_, _
from afina.scoring import entities as spans_of
from afina.settings import setting

SHOWN_TAGS = 5
SHOWN = 60  # characters of a wrong value in a message


class Tagged(Task):
    """A task over words that have tags: of entities, scored whole, or each of its own.

    A cleaned row is `text`, `words` [[start, end]] and `entities` [[start, end, label]] in characters, whatever form
    these came in, or, where each word counts by itself, `tags`.
    """

    text: str | None = setting(None, N_("Column that holds the text (default: guessed and said)."))
    label: str | None = setting(None, N_("Column that holds the label (default: guessed and said)."))
    tags: Literal["auto", "entities", "words"] = setting(
        "auto",
        N_(
            "What tags mark: entities, scored whole, or each word by itself (auto: entities where they begin with B- or I-)."
        ),
    )
    overlaps: Literal["error", "longest"] = setting(
        "error", N_("Entities that overlap are an error, or only the longest is kept.")
    )
    kind: Literal["", "entities", "words"] = setting("", N_("What the tags mark."), found=True)

    @field_validator("text", "label", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value  # a column of CoNLL

    def choose_columns(self, table: Table) -> Self:
        from afina.data.columns import guess, named_like
        from afina.data.spans import is_entities

        numbered = _numbered(table)
        label = named_like(table, "tags", self.label) or (numbered[-1] if len(numbered) > 1 else None)
        values = [row[label] or [] for row in table.rows] if label else []
        first = next(filter(None, values), None)
        if label is None or not isinstance(first, list):
            raise InputError(_unfit(table, label))
        if is_entities(first):
            text = guess(table, "text", self.text, taken=[label])
            return self.replace(text=text, label=label, kind="entities")
        tokens = named_like(table, "tokens", self.text) or (numbered[0] if numbered else None)
        if tokens == label:
            raise InputError(
                _(
                    "Column '{column}' cannot be both text and label. Name two with --text and --label."
                ).format(column=tokens)
            )
        if tokens is None or not any(isinstance(row[tokens], list) for row in table.rows):
            raise InputError(_unfit(table, label))
        return self.replace(text=tokens, label=label, kind=self.kind or self._kind(values, table.lines))

    def choose_inputs(self, table: Table) -> Self:
        """Return a copy that knows the column of tokens, of texts where there is none."""
        from afina.data.columns import guess, named_like

        tokens = named_like(table, "tokens", self.text) or next(iter(_numbered(table)), None)
        if tokens is None or not any(isinstance(row[tokens], list) for row in table.rows):
            return self.replace(text=guess(table, "text", self.text))
        return self.replace(text=tokens)

    def clean(self, row: Row) -> Row | None:
        from afina.data.columns import text_of
        from afina.data.spans import entities, is_entities, words

        value, text = row.get(self.label or "label"), row.get(self.text or "text")
        asked = self.ask(row if isinstance(text, list) else text_of(text) or "")
        if value is None or not asked["text"].strip():
            return None
        if isinstance(value, list) and "words" not in asked:
            if not is_entities(value):
                raise InputError(
                    _("column '{column}' holds no entities: {value}.").format(
                        column=self.label, value=str(value)[:SHOWN]
                    )
                )
            found = entities(value, asked["text"], keep_longest=self.overlaps == "longest")
            return asked | {"words": words(asked["text"]), "entities": found}
        tags = _tags(value, len(asked.get("words", ())), self.label)
        if self.kind == "words":
            return asked | {"tags": tags}
        return asked | {"entities": on_text(spans_of.chunks(tags), asked["words"])}

    def ask(self, given: Any) -> Row:
        """Return the text and, of a row of tokens, where its words lie; `predict` finds the words of a text itself."""
        from afina.data.spans import located

        row = given if isinstance(given, Mapping) else {"text": given}
        tokens = row.get(self.text, row.get("text"))
        if not isinstance(tokens, list):
            return {name: mended(text) for name, text in super().ask(given).items()}
        written = row.get("text")
        text, places = located(
            ["" if token is None else mended(str(token)) for token in tokens],
            mended(written) if isinstance(written, str) else None,
        )
        return {"text": text, "words": places}

    def remarks(self, raw: Sequence[Row], cleaned: Sequence[Row]) -> list[str]:
        if self.kind != "entities":
            return []
        notes = []
        values = [row.get(self.label or "label") for row in raw]
        tagged = [
            value for value in values if isinstance(value, list) and value and isinstance(value[0], str)
        ]
        count, iob1 = spans_of.irregular(tagged) if self._kind(tagged) == "entities" else (0, False)
        if iob1:
            notes.append(_("The tags are IOB1 (an entity begins with I-); they were turned into IOB2."))
        elif count:
            notes.append(_("Entities that do not begin with B- and were mended: {n}.").format(n=count))
        dropped = sum(map(len, (value for value in values if isinstance(value, list)))) if not tagged else 0
        dropped -= sum(len(row["entities"]) for row in cleaned) if not tagged else 0
        if dropped:
            notes.append(
                _("Entities that repeat or overlap a longer one and were left out: {n}.").format(n=dropped)
            )
        inside = sum(_within_words(row) for row in cleaned)
        if inside:
            notes.append(
                _(
                    "Entities that begin or end within a word, where the model cannot find their limits: {n}."
                ).format(n=inside)
            )
        return notes

    def strata(self, rows: Sequence[Row]) -> list[str | None]:
        """Keep rows with and without entities in proportion: their labels are too many combinations."""
        return [str(bool(row["entities"])) if self.kind == "entities" else None for row in rows]

    def counted(self, row: Row) -> list[str]:
        return [one[2] for one in row["entities"]] if self.kind == "entities" else row["tags"]

    def key(self, row: Row) -> Any:
        return row["text"]

    def _kind(self, rows: Sequence[list[Any]], lines: Sequence[int] = ()) -> str:
        """Return what the tags mark; `lines` are those of the file in which the rows begin, a word a line."""
        from afina.data.conll import TAG

        if self.tags != "auto":
            return self.tags
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

    def _words(self, row: Row) -> list[list[int]]:
        from afina.data.spans import words

        return row["words"] if "words" in row else words(row["text"])

    def _written(self, row: Row) -> list[str]:
        return [row["text"][start:end] for start, end in self._words(row)]

    def _gold(self, row: Row) -> list[str]:
        """Return the true tag of each word, none where the row has none."""
        if "entities" in row:
            return spans_of.tags(row["words"], row["entities"])
        return row.get("tags", [])


def _tags(value: Any, words: int, column: str | None) -> list[str]:
    """Return a row's tags as texts; InputError where they are not one a word."""
    from afina.data.columns import label_text

    if not isinstance(value, list):
        raise InputError(
            _("column '{column}' holds {value}, no list of tags.").format(
                column=column, value=str(value)[:SHOWN]
            )
        )
    if len(value) != words:
        raise InputError(
            _("there are {words} tokens but {tags} tags in column '{column}'; each token needs one.").format(
                words=words, tags=len(value), column=column
            )
        )
    found = [label_text(tag) for tag in value]
    if None in found:
        raise InputError(_("token {n} has no tag.").format(n=found.index(None) + 1))
    return [tag for tag in found if tag is not None]


def on_text(chunks: Iterable[tuple[int, int, str]], words: Sequence[Sequence[int]]) -> list[list[Any]]:
    """Return entities [start, end, label] in characters of those in words."""
    return [[words[first][0], words[end - 1][1], label] for first, end, label in chunks]


def _within_words(row: Row) -> int:
    """Return how many entities of a row begin or end where no word does."""
    starts, ends = ({place[i] for place in row["words"]} for i in (0, 1))
    return sum(start not in starts or end not in ends for start, end, _label in row["entities"])


def _numbered(table: Table) -> list[str]:
    """Return the columns of CoNLL, which have numbers for names."""
    return [column for column in table.columns if column.isdigit()]


def _unfit(table: Table, label: str | None) -> str:
    found = _("{source} has the columns {names}").format(source=table.source, names=", ".join(table.columns))
    if label is not None:
        found += ", " + _("and '{label}' holds no lists").format(label=label)
    return (
        found
        + ". "
        + _(
            "This task needs CoNLL (.conll) or CoNLL-U (.conllu), or JSON Lines with `tokens` and `tags`, or with `text` and "
            "`entities` (start, end, label); name other columns with --text and --label."
        )
    )

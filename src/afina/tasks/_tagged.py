"""Rows whose words have tags, or whose text has entities, as they come out of CoNLL, CoNLL-U and JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import field_validator

from afina.core import Row, Table, Task, mended
from afina.errors import InputError
from afina.messages import N_, _
from afina.scoring import entities as spans_of
from afina.settings import setting
from afina.tasks._tag_columns import (
    SHOWN,
    are_entities,
    filled,
    has_lists,
    lists,
    marked,
    tags_of,
    tokens_of,
    unfit,
)
from afina.tasks._tagged_tokens import checked, entities_of_words, is_blank, placed, tags_of_words


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
        from afina.data.columns import named_like

        words = (self.kind or self.tags) == "words"
        # The column of training may hold something else here.
        tokens = tokens_of(table, self.text) or (tokens_of(table, None) if self.kind else None)
        label = tags_of(table, self.label, tokens, words=words)
        if label is None or not has_lists(table, label):
            raise InputError(unfit(table, label))
        if are_entities(table, label, tokens):
            if words:
                sentence = _(
                    "This task labels words one by one, but column '{column}' of {source} holds entities. Give a file with "
                    "a tag for each token, or name the column of tags with --label."
                )
                raise InputError(sentence.format(column=label, source=table.source))
            return self.replace(text=self._text(table, [label]), label=label, kind="entities")
        if label in (tokens, self.text):
            raise InputError(
                _(
                    "Column '{column}' cannot be both text and label. Name two with --text and --label."
                ).format(column=label)
            )
        if tokens is None:
            named = named_like(table, "tokens", self.text)
            raise InputError(unfit(table, named if named and filled(table, named) else label))
        kind = self.kind or self._marked(lists(table, label), table.lines)
        return self.replace(text=tokens, label=label, kind=kind)

    def choose_inputs(self, table: Table) -> Self:
        """Return a copy that knows the column of tokens, of texts where there is none."""
        return self.replace(text=tokens_of(table, self.text) or self._text(table))

    def clean(self, row: Row) -> Row | None:
        from afina.data.spans import entities, is_entities, words
        from afina.data.value import text_of

        value, text = row.get(self.label or "label"), row.get(self.text or "text")
        asked = self.ask(row if isinstance(text, list) else text_of(text) or "")
        if value is None or not asked["text"].strip():
            return None
        if isinstance(value, list) and "words" not in asked and self.kind != "words":
            if not is_entities(value):
                raise InputError(
                    _("column '{column}' holds no entities: {value}.").format(
                        column=self.label, value=str(value)[:SHOWN]
                    )
                )
            found = entities(value, asked["text"], keep_longest=self.overlaps == "longest")
            return asked | {"words": words(asked["text"]), "entities": found}
        tokens = text if isinstance(text, list) else []
        tags = checked(value, tokens, self.label)
        if not tags:
            return None
        if self.kind == "words":
            return asked | {"tags": tags_of_words(tags, tokens)}
        return asked | {"entities": on_text(entities_of_words(tags, tokens), asked["words"])}

    def ask(self, given: Any) -> Row:
        """Return the text and, of a row of tokens, where its words lie; `predict` finds the words of a text itself.

        Tokens that are empty or blank are no words. InputError where a token is no text.
        """
        row = given if isinstance(given, Mapping) else {"text": given}
        tokens = row.get(self.text, row.get("text"))
        if not isinstance(tokens, list):
            return {name: mended(text) for name, text in super().ask(given).items()}
        return placed(tokens, row.get("text"))

    def remarks(self, raw: Sequence[Row], cleaned: Sequence[Row]) -> list[str]:
        notes = []
        texts = [row.get(self.text or "text") for row in raw]
        blank = sum(is_blank(token) for text in texts if isinstance(text, list) for token in text)
        if blank:
            notes.append(_("Tokens that are empty or blank, left out with their tags: {n}.").format(n=blank))
        if self.kind != "entities":
            return notes
        values = [row.get(self.label or "label") for row in raw]
        tagged = [
            value for value in values if isinstance(value, list) and value and isinstance(value[0], str)
        ]
        count, iob1 = spans_of.irregular(tagged) if self._marked(tagged) == "entities" else (0, False)
        if iob1:
            notes.append(_("The tags are IOB1 (an entity begins with I-); they were turned into IOB2."))
        elif count:
            notes.append(_("Entities that do not begin with B- and were mended: {n}.").format(n=count))
        given = sum(len(value) for value in values if isinstance(value, list))
        dropped = 0 if tagged else given - sum(len(row["entities"]) for row in cleaned)
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

    def _marked(self, rows: Sequence[list[Any]], lines: Sequence[int] = ()) -> str:
        return marked(rows, lines) if self.tags == "auto" else self.tags

    def _text(self, table: Table, taken: Collection[str] = ()) -> str:
        """Return the column of texts; that of training is not it where it holds lists in this table."""
        from afina.data.columns import guess

        lists = self.kind and self.text in table.columns and has_lists(table, self.text)
        return guess(table, "text", None if lists else self.text, taken=taken)

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


def on_text(chunks: Iterable[tuple[int, int, str]], words: Sequence[Sequence[int]]) -> list[list[Any]]:
    """Return entities [start, end, label] in characters of those in words."""
    return [[words[first][0], words[end - 1][1], label] for first, end, label in chunks]


def _within_words(row: Row) -> int:
    """Return how many entities of a row begin or end where no word does."""
    starts, ends = ({place[i] for place in row["words"]} for i in (0, 1))
    return sum(start not in starts or end not in ends for start, end, _label in row["entities"])

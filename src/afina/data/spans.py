"""Where words and entities lie in a text; places are characters (Unicode code points) from 0, ends not counted."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from afina.data.value import label_text
from afina.errors import InputError
from afina.messages import _

Span = list[int]  # [start, end]
Entity = list[Any]  # [start, end, label]: a list, since rows are kept as JSON
LABELS = (
    "label",
    "type",
    "tag",
    "entity_group",
    "entity",
    "etiqueta",
    "tipo",
    "labels",
)  # keys that name an entity's kind; Label Studio's `labels` is a list
PLACES = (
    ("start", "end"),
    ("start_offset", "end_offset"),
)  # keys of an entity's limits; the second are Doccano's


def words(text: str) -> list[Span]:
    """Return the words of a text: letters and digits with their accents, whole numbers, other signs one by one."""
    return [[found.start(), found.end()] for found in _word().finditer(text)]


@cache
def _word() -> re.Pattern[str]:
    # Accents that are characters of their own are no \w, but belong to their letter; so do signs that are not seen
    # (joiners, soft hyphens, control characters) between two letters, while elsewhere they are no word.
    marks = unseen = ""
    for sign in map(chr, range(0x20000)):
        kind = unicodedata.category(sign)
        if kind[0] == "M":
            marks += re.escape(sign)
        elif kind in ("Cc", "Cf"):
            unseen += re.escape(sign)
    number = rf"\d+(?:[.,:/]\d+)+(?![\w{marks}])"
    return re.compile(rf"{number}|\w(?:[\w{marks}{unseen}]*[\w{marks}])?|[^\w\s{unseen}][{marks}]*")


def located(tokens: Sequence[str], text: str | None) -> tuple[str, list[Span]]:
    """Return the text that the tokens come from and their places: `text` where it holds them all, else joined."""
    if text:
        found: list[Span] = []
        place = 0
        for token in tokens:
            start = text.find(token, place)
            if start < 0 or text[place:start].strip():
                break
            place = start + len(token)
            found.append([start, place])
        else:
            return text, found
    ends, place = [], 0
    for token in tokens:
        ends.append([place, place + len(token)])
        place += len(token) + 1
    return " ".join(tokens), ends


def is_entities(value: Any) -> bool:
    """Return whether a value is a list of entities ({start, end, label} or [start, end, label])."""
    return isinstance(value, list) and all(
        _limits(one) is not None if isinstance(one, Mapping) else isinstance(one, list) for one in value
    )


def entities(value: Any, text: str, *, keep_longest: bool = False) -> list[Entity]:
    """Return the entities of a row in the order of the text, blanks at their edges left out.

    InputError where one is out of the text, has no label, is not the text that it says it is, or overlaps another;
    with `keep_longest` the shorter of two that overlap is left out instead.
    """
    found: list[Entity] = []
    for number, one in enumerate(value, 1):
        entity = _entity(one, number, text)
        if entity not in found:
            found.append(entity)
    found.sort(key=lambda entity: (entity[0], -entity[1]))
    if keep_longest:
        kept: list[Entity] = []
        for entity in sorted(found, key=lambda entity: entity[0] - entity[1]):
            if all(entity[1] <= other[0] or other[1] <= entity[0] for other in kept):
                kept.append(entity)
        return sorted(kept)
    for one, other in pairwise(found):
        if other[0] < one[1]:
            raise InputError(
                _(
                    "the entities {first} and {second} overlap, but a word can have one label only. Leave one out, or "
                    "add --overlaps longest to keep the longest."
                ).format(first=_named(one, text), second=_named(other, text))
            )
    return found


def _entity(one: Any, number: int, text: str) -> Entity:
    said = None
    if isinstance(one, Mapping):
        start, end = _limits(one) or (None, None)
        said = one.get("text")
        label = _only(next((one[key] for key in LABELS if one.get(key) is not None), None), number)
    elif isinstance(one, list | tuple) and len(one) == 3:
        start, end, label = one
    else:
        start = end = label = None
    start, end, label = _whole(start), _whole(end), label_text(label)
    if start is None or end is None or label is None:
        raise InputError(
            _("entity {n} is {entity}, not {form}.").format(
                n=number, entity=str(one)[:100], form='{"start": 0, "end": 6, "label": "LOC"}'
            )
        )
    if not 0 <= start < end <= len(text):
        raise InputError(
            _(
                "entity {n} goes from {start} to {end}, but must lie within the text, which has {length} characters, "
                "and hold at least one."
            ).format(n=number, start=start, end=end, length=len(text))
        )
    inner = text[start:end]
    if isinstance(said, str) and said.split() != inner.split():
        raise InputError(
            _(
                "entity {n} is said to be '{said}', but the text from {start} to {end} is '{found}'. Places count "
                "characters from 0, not bytes."
            ).format(n=number, said=said, start=start, end=end, found=inner)
        )
    if not inner.strip():
        raise InputError(
            _("entity {n} ({start} to {end}) holds blanks only.").format(n=number, start=start, end=end)
        )
    start += len(inner) - len(inner.lstrip())
    return [start, start + len(inner.strip()), label]


def _limits(entity: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Return what an entity says of its start and its end, None where it lacks one."""
    return next(((entity[a], entity[b]) for a, b in PLACES if a in entity and b in entity), None)


def _only(label: Any, number: int) -> Any:
    """Return the one label of a list; InputError where there are several."""
    if not isinstance(label, list):
        return label
    if len(label) > 1:
        labels = ", ".join(map(str, label))
        raise InputError(
            _("entity {n} has several labels ({labels}), but can have one only.").format(
                n=number, labels=labels
            )
        )
    return label[0] if label else None


def _whole(value: Any) -> int | None:
    """Return a place as an integer; one missing value makes pandas write the others as 3.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _named(entity: Entity, text: str) -> str:
    start, end, label = entity
    return f"'{text[start:end]}' [{label}] ({start}–{end})"

"""Entities out of tags, and their figures: counted whole, as the scripts of CoNLL-2000 to 2003 count them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from afina.core import Difference, Scores
from afina.scoring import ratios

OUTSIDE = "O"
ALIASES = {"L": "E", "U": "S", "M": "I"}  # BILOU and BMES call them otherwise
Span = Sequence[Any]  # (start, end, label)


def prefix(tag: str) -> str:
    """Return B, I, E, S or O: where in an entity the word of this tag is."""
    return ALIASES.get(tag[:1], tag[:1]) if tag != OUTSIDE else OUTSIDE


def chunks(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return the entities (first word, word after the last, type) that a row's tags mark.

    One reading serves IOB1, IOB2 and BIOES and mends what fits none of them: an entity begins at B- and S-, and at
    any other tag after O, E-, S- or another type (Tjong Kim Sang and De Meulder, 2003, their conlleval script). Tags
    without a prefix mark entities by being equal.
    """
    found: list[tuple[int, int, str]] = []
    start, kind, before = 0, "", OUTSIDE
    for i, tag in enumerate([*tags, OUTSIDE]):
        place, type_ = (prefix(tag), tag[2:]) if tag == OUTSIDE or tag[1:2] == "-" else ("I", tag)
        begins = place != OUTSIDE and (place in "BS" or before in "OES" or type_ != kind)
        if before != OUTSIDE and (begins or place == OUTSIDE):
            found.append((start, i, kind))
        if begins:
            start = i
        kind, before = type_, place
    return found


def irregular(rows: Iterable[Sequence[str]]) -> tuple[int, bool]:
    """Return how many entities begin without B- or S-, and whether all do that IOB1 lets begin so (B- is rare in it)."""
    count, iob1 = 0, True
    for tags in rows:
        before = None
        for start, end, kind in chunks(tags):
            begins = prefix(tags[start])
            touching = before == (start, kind)
            count += begins in "IE"
            iob1 &= begins == "B" if touching else begins == "I"
            before = (end, kind)
    return count, iob1 and count > 0


def tags(words: Sequence[Sequence[int]], spans: Iterable[Span]) -> list[str]:
    """Return IOB2 tags of words [start, end] for entities in order; a word belongs to the first that it touches."""
    found, i = [OUTSIDE] * len(words), 0
    for start, end, label in spans:
        while i < len(words) and words[i][1] <= start:
            i += 1
        begins = "B-"
        while i < len(words) and words[i][0] < end:
            found[i] = begins + label
            begins, i = "I-", i + 1
    return found


def in_words(spans: Iterable[Mapping[str, Any]]) -> str:
    """Return spans with `text` and `label` as a person reads them: Madrid [LOC]; ONU [ORG]."""
    return "; ".join(f"{span['text']} [{span['label']}]" for span in spans)


def score(gold: Sequence[Iterable[Span]], told: Sequence[Iterable[Span]], labels: Sequence[str]) -> Scores:
    """Return micro-averaged F1, precision and recall of the entities with intervals over rows, and figures by type.

    An entity is right where start, end and label are. `labels` are the types that training knew; those that only
    the gold has are named under `unseen`. Empty rows and types give 0 where there is nothing to divide by.
    """
    pairs = [(_set(one), _set(other)) for one, other in zip(gold, told, strict=True)]
    right, of_gold, said = (np.array(column, float) for column in zip(*map(_counts, pairs), strict=True))
    every = [*labels, *sorted({span[2] for pair in pairs for spans in pair for span in spans} - set(labels))]
    return Scores(
        {
            "entity_f1": ratios.f1(right, of_gold, said),
            "entity_precision": ratios.share(right, said),
            "entity_recall": ratios.share(right, of_gold),
        },
        {
            "unit": "entities",
            "per_class": {label: _of_type(pairs, label) for label in every},
            "faults": _faults(pairs),
            "unseen": every[len(labels) :],
        },
    )


def f1(gold: Sequence[Iterable[Span]], told: Sequence[Iterable[Span]]) -> float:
    """Return micro-F1 alone."""
    right, of_gold, said = (sum(column) for column in zip(*map(_counts, _pairs(gold, told)), strict=True))
    return 2 * right / max(of_gold + said, 1)


def difference(
    gold: Sequence[Iterable[Span]], a: Sequence[Iterable[Span]], b: Sequence[Iterable[Span]]
) -> Difference:
    """Return the paired difference of entity F1 between two systems on the same rows."""
    sides = []
    for told in (a, b):
        right, of_gold, said = (
            np.array(column, float) for column in zip(*map(_counts, _pairs(gold, told)), strict=True)
        )
        sides.append((2 * right, of_gold + said))
    return ratios.difference("entity_f1", *sides)


def _pairs(gold: Sequence[Iterable[Span]], told: Sequence[Iterable[Span]]) -> list[tuple[set, set]]:
    return [(_set(one), _set(other)) for one, other in zip(gold, told, strict=True)]


def _set(spans: Iterable[Span]) -> set[tuple[Any, ...]]:
    return {tuple(span) for span in spans}


def _counts(pair: tuple[set, set]) -> tuple[int, int, int]:
    gold, told = pair
    return len(gold & told), len(gold), len(told)


def _of_type(pairs: Sequence[tuple[set, set]], label: str) -> dict[str, float]:
    right = of_gold = said = 0
    for gold, told in pairs:
        gold, told = ({span for span in spans if span[2] == label} for spans in (gold, told))
        right, of_gold, said = right + len(gold & told), of_gold + len(gold), said + len(told)
    return {
        "precision": right / max(said, 1),
        "recall": right / max(of_gold, 1),
        "f1": 2 * right / max(of_gold + said, 1),
        "n": of_gold,
        "said": said,
    }


def _faults(pairs: Sequence[tuple[set, set]]) -> dict[str, int]:
    """Sort what is not right: the label alone, the limits alone, both, an entity not found, one that is none."""
    found = dict.fromkeys(("label", "limits", "both", "missed", "invented"), 0)
    for gold, told in pairs:
        left, wrong = sorted(gold - told), sorted(told - gold)
        for start, end, label in wrong:
            touching = [other for other in left if other[0] < end and start < other[1]]
            if not touching:
                found["invented"] += 1
                continue
            same_place = [other for other in touching if other[:2] == (start, end)]
            same_label = [other for other in touching if other[2] == label]
            found["label" if same_place else "limits" if same_label else "both"] += 1
            left.remove((same_place or same_label or touching)[0])
        found["missed"] += len(left)
    return found


def words(gold: Sequence[Sequence[str]], told: Sequence[Sequence[str]], labels: Sequence[str]) -> Scores:
    """Return accuracy and macro-F1 of single words' tags, with intervals over rows, and figures by tag."""
    from afina.scoring import confusion
    from afina.scoring.classification import per_class

    flat_gold, flat_told = ([tag for row in rows for tag in row] for rows in (gold, told))
    every, counts = confusion.count(flat_gold, flat_told, labels)
    right = np.array([sum(a == b for a, b in zip(*row, strict=True)) for row in zip(gold, told, strict=True)])
    place = {label: i for i, label in enumerate(every)}
    cells = [
        ([place[tag] for tag in one], [place[tag] for tag in other])
        for one, other in zip(gold, told, strict=True)
    ]
    macro = ratios.of_confusion("macro_f1", counts, cells)
    return Scores(
        {"accuracy": ratios.share(right, np.array([len(row) for row in gold])), "macro_f1": macro},
        {
            "unit": "words",
            "per_class": per_class(confusion.Margins.of(counts), every),
            "confusion": {"labels": every, "counts": counts.tolist()},
            "unseen": every[len(labels) :],
        },
    )


def words_difference(
    gold: Sequence[Sequence[str]], a: Sequence[Sequence[str]], b: Sequence[Sequence[str]]
) -> Difference:
    """Return the paired difference of the words' accuracy between two systems on the same rows."""
    whole = np.array([len(row) for row in gold], float)
    sides = [
        (np.array([sum(map(str.__eq__, *row)) for row in zip(gold, told, strict=True)], float), whole)
        for told in (a, b)
    ]
    return ratios.difference("accuracy", *sides)

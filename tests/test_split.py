"""Parts share no row, keep the classes' shares, and are the same on every machine."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from afina.core import Table
from afina.data.read import read
from afina.data.split import by_column, fingerprint, split
from afina.errors import InputError

FIRST_OF_TEST = ["frase 7", "frase 20", "frase 21"]
FINGERPRINT = "40a6879e16399992c7b119b6ed0df7e5db0d353164b8bc37a780d16caaa0fcf4"
DATA = Path(__file__).parents[2] / "shared" / "data"


def rows(count, labels=("a", "b"), start=0):
    return [{"text": f"frase {i}", "label": labels[i % len(labels)]} for i in range(start, start + count)]


def cut(train, validation=None, test=None, seed=1):
    splits = split(
        train, validation, test, key=lambda row: row["text"], group=lambda row: row["label"], seed=seed
    )
    texts = [{row["text"] for row in part} for part in (splits.train, splits.validation, splits.test)]
    assert not any(a & b for a, b in combinations(texts, 2))
    return splits


def sizes(splits):
    return len(splits.train), len(splits.validation), len(splits.test)


def labels(part):
    return Counter(row["label"] for row in part)


def test_own_split_keeps_shares_order_and_rows():
    data = rows(200, ["a", "a", "a", "b"])
    splits = cut(data)
    assert sizes(splits) == (140, 30, 30)
    assert [labels(part)["b"] for part in (splits.train, splits.validation, splits.test)] == [36, 7, 7]
    for part in (splits.train, splits.validation, splits.test):
        assert part == [row for row in data if row in part]
    assert len(splits.train + splits.validation + splits.test) == 200


def test_the_draw_depends_on_the_seed_and_not_on_the_order():
    data = rows(60)
    first = cut(data)
    assert cut(data) == first
    assert {row["text"] for row in cut(data[::-1]).test} == {row["text"] for row in first.test}
    assert {row["text"] for row in cut(data, seed=2).test} != {row["text"] for row in first.test}
    # Written down once: another machine or version must draw the same rows.
    assert [row["text"] for row in first.test][:3] == FIRST_OF_TEST
    assert first.fingerprint == FINGERPRINT


def test_many_small_classes_add_up_and_are_in_every_part():
    splits = cut(rows(770, [str(i) for i in range(77)]))
    assert all(len(labels(part)) == 77 for part in (splits.train, splits.validation, splits.test))
    assert sizes(splits) == (538, 116, 116)


def test_small_classes():
    data = [*rows(8, ["a"]), *rows(3, ["b"], 8), *rows(2, ["c"], 11), *rows(1, ["d"], 13)]
    splits = cut(data)
    assert labels(splits.train) == {"a": 6, "b": 1, "c": 2, "d": 1}
    assert labels(splits.validation) == labels(splits.test) == {"a": 1, "b": 1}


def test_duplicates_stay_together_and_are_counted():
    data = rows(40)
    splits = cut([*data, *data[:6], *[dict(data[0]) for _i in range(30)]])
    assert sum(sizes(splits)) == 76
    assert "one part: 36" in " ".join(splits.notes)
    assert min(sizes(splits)) >= 9
    three = [row for row in rows(3, ["a"]) for _copy in range(2)]
    assert sizes(cut([*three, *rows(9, ["b"], 3)])) == (9, 3, 3)


def test_only_a_test_part_given():
    data = rows(100)
    splits = cut(data, test=[*data[:5], *rows(20, start=100)])
    assert len(splits.test) == 25
    assert sizes(splits)[:2] == (81, 14)
    assert "left out: 5" in splits.notes[0]


def test_only_a_validation_part_given():
    splits = cut(rows(20), validation=rows(10, start=15))
    assert sizes(splits) == (15, 10, 0)


def test_all_parts_given_the_test_is_never_touched():
    test = rows(10, start=25)
    splits = cut(rows(20), rows(10, start=18), [*test, test[0]])
    assert splits.test == [*test, test[0]]
    assert sizes(splits) == (18, 7, 11)
    assert [note.rsplit(" ", 1)[1] for note in splits.notes] == ["3.", "2."]


def test_contradictions_are_counted():
    splits = cut([*rows(30), {"text": "frase 0", "label": "b"}])
    assert "more than one label: 1" in splits.notes[0]


def test_too_little_to_split():
    with pytest.raises(InputError, match="only 9"):
        cut(rows(9))
    with pytest.raises(InputError, match="only 9"):
        cut(rows(5), test=rows(4, start=5))
    assert min(sizes(cut(rows(10)))) >= 1
    with pytest.raises(InputError, match="held out"):
        cut(rows(12, [str(i) for i in range(6)]))
    with pytest.raises(InputError, match="held out"):
        cut(rows(1) * 20)
    with pytest.raises(InputError, match="Every training row"):
        cut(rows(20), test=rows(20))
    with pytest.raises(InputError, match="Every validation row"):
        cut(rows(20), rows(5, start=20), rows(10, start=20))
    with pytest.raises(InputError, match="to train on"):
        cut([], rows(10), rows(10, start=10))


def test_a_part_without_usable_rows_counts_as_not_given():
    splits = cut(rows(20), rows(10, start=20), [])
    assert sizes(splits) == (20, 10, 0)
    assert "test part" in splits.notes[0]


def test_without_classes():
    splits = split(rows(100), None, None, key=lambda row: row["text"], group=lambda row: None, seed=3)
    assert sizes(splits) == (70, 15, 15)


def test_by_column():
    data = [{"text": "x", "Conjunto": part} for part in ("Train", "dev", "prueba", "entrenamiento", "TEST")]
    train, validation, test = by_column(Table(data, ("text", "Conjunto"), "t.csv"))
    assert (train, validation, test) == ([data[0], data[3]], [data[1]], [data[2], data[4]])
    assert by_column(Table(data[:2], ("text", "Conjunto"), "t.csv")) == ([data[0]], [data[1]], None)
    # Nothing to go by: no such column, one part only, other values.
    assert by_column(Table([{"text": "train"}], ("text",), "t.csv")) is None
    assert by_column(Table(data[:1], ("text", "Conjunto"), "t.csv")) is None
    assert by_column(Table([{"set": "3"}, {"set": "4"}], ("set",), "t.csv")) is None
    with pytest.raises(InputError, match="'trian'"):
        by_column(Table([{"split": "train"}, {"split": "trian"}, {"split": "test"}], ("split",), "t.csv"))
    with pytest.raises(InputError, match="no row as train"):
        by_column(Table([{"split": "test"}], ("split",), "t.csv"))


def test_the_fingerprint_names_content_order_and_part():
    a, b = {"text": "á", "label": 1}, {"label": 2, "text": "\ud83d"}
    prints = [fingerprint(*parts) for parts in ([[a, b], []], [[b, a], []], [[a], [b]], [[a], []])]
    assert len(set(prints)) == 4
    assert fingerprint([{"label": 1, "text": "á"}]) == fingerprint([a])


def test_a_real_leak_is_closed():
    if not (DATA / "trec").exists():
        pytest.skip("the shared data sets are not on this machine")
    train, test = (read(DATA / "trec" / f"{part}.csv").rows for part in ("train", "test"))
    splits = cut(train, test=test)
    assert splits.test == test
    assert "left out: 10." in " ".join(splits.notes)
    assert len(splits.train) + len(splits.validation) == len(train) - 10

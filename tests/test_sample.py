"""Some rows out of many are of every kind, in whatever order the rows stand."""

from collections import Counter
from types import SimpleNamespace

import pytest

from afina.core import Splits
from afina.sample import spread
from afina.train import bundle
from afina.verbs import _describe


def test_few_rows_are_all_taken_in_order() -> None:
    assert spread(3, 3) == spread(3, 200) == (0, 1, 2)
    assert spread(0, 5) == spread(5, 0) == ()


@pytest.mark.parametrize("count, most", [(1839, 200), (201, 200), (100_000, 300)])
def test_each_stretch_gives_one_row(count: int, most: int) -> None:
    places = spread(count, most)
    assert [place * most // count for place in places] == pytest.approx(range(most), abs=1)
    assert len(set(places)) == most and sorted(places) == list(places)


@pytest.mark.parametrize("kinds", [2, 3, 4, 9])
def test_kinds_that_take_turns_are_all_there(kinds: int) -> None:
    counted = Counter(place % kinds for place in spread(1800, 200))
    assert len(counted) == kinds and min(counted.values()) >= 200 / kinds / 2


def test_scoring_in_mid_training_sees_every_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,800 rows whose three labels take turns: every ninth row would be of one label."""
    watched: list[list[str]] = []

    def watch(_glances: object, gold: list[dict[str, str]]) -> tuple[str, float]:
        watched.append([row["label"] for row in gold])
        return "macro_f1", 0.5

    monkeypatch.setattr(bundle, "glances_and_loss", lambda *_asked: ([], 1.0))
    rows = [{"label": label} for _time in range(600) for label in ("no", "yes", "maybe")]
    task = SimpleNamespace(direction=1, watch=watch)
    trained = SimpleNamespace(task=task, tokenizer=None, micro_batch_tokens=1)
    parts = Splits(train=rows, validation=rows[:900], test=[], fingerprint="")
    _describe.evaluation(trained, parts, [rows, rows[:900]])(None)  # type: ignore[arg-type]
    train, validation = watched
    assert len(train) == 200 and min(Counter(train).values()) > 40
    assert len(validation) == 900

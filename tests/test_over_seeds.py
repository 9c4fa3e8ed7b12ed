"""Comparing systems over rows and seeds: no winner where there is none, one where there is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import f1_score

from afina.core import Row
from afina.scoring.over_seeds import compare, interval, system

SHARES = [0.7, 0.15, 0.1, 0.05]


def accuracy(answers: Sequence[Any], rows: Sequence[Row]) -> tuple[str, float]:
    return "accuracy", float(np.mean([a == row["label"] for a, row in zip(answers, rows, strict=True)]))


def macro_f1(answers: Sequence[Any], rows: Sequence[Row]) -> tuple[str, float]:
    gold = [row["label"] for row in rows]
    return "macro_f1", float(f1_score(gold, answers, average="macro", zero_division=0, labels=range(4)))


def trained(rng: np.random.Generator, gold: np.ndarray, right: float, seeds: int) -> list[list[int]]:
    """Answers of one method: each seed has a skill of its own, and rows that are hard for all."""
    hard = rng.random(len(gold)) < 0.3
    found = []
    for _ in range(seeds):
        skill = np.clip(right + rng.normal(0, 0.02), 0, 1)
        chance = np.where(hard, skill - 0.2, skill + 0.2 * 0.3 / 0.7)
        wrong = rng.choice(4, len(gold), p=SHARES)
        found.append(np.where(rng.random(len(gold)) < chance, gold, wrong).tolist())
    return found


def shown(seed: int, n: int, gap: float) -> float:
    """Whether a difference between two methods with `gap` in skill is shown on `n` rows, three seeds each."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(4, n, p=SHARES)
    rows = [{"label": int(label)} for label in gold]
    systems = {
        name: system([accuracy] * 3, trained(rng, gold, 0.7 + more, 3), rows)
        for name, more in (("a", gap), ("b", 0.0))
    }
    (pair,) = compare(systems, "accuracy")
    return pair.difference.shown


@pytest.mark.parametrize("n", [100, 400])
def test_a_against_a_has_a_winner_in_7_percent_at_most(n: int) -> None:
    assert np.mean([shown(seed, n, 0.0) for seed in range(150)]) <= 0.07


def test_a_true_difference_is_shown() -> None:
    assert np.mean([shown(seed, 400, 0.15) for seed in range(40)]) > 0.8


def test_pseudo_values_of_a_mean_are_its_rows() -> None:
    """For accuracy with a group a row the jackknife is the plain standard error."""
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 80)
    rows = [{"label": int(label)} for label in gold]
    told = np.where(rng.random(80) < 0.8, gold, 1 - gold)
    one = system([accuracy], [told.tolist()], rows)
    right = (told == gold).astype(float)
    assert sorted(one.pseudo) == pytest.approx(sorted(right))
    low, high = interval(one, [one], "accuracy") or (0.0, 0.0)
    half = student.ppf(0.975, 79) * right.std(ddof=1) / 80**0.5
    assert (low, high) == pytest.approx((right.mean() - half, right.mean() + half))


def test_holm_and_direction() -> None:
    rng = np.random.default_rng(1)
    gold = rng.integers(0, 4, 200)
    rows = [{"label": int(label)} for label in gold]
    systems = {
        name: system([macro_f1], [np.where(rng.random(200) < skill, gold, (gold + 1) % 4).tolist()], rows)
        for name, skill in (("good", 0.9), ("bad", 0.5), ("worse", 0.45))
    }
    pairs = {(pair.a, pair.b): pair.difference for pair in compare(systems, "macro_f1")}
    assert pairs["good", "bad"].shown and pairs["good", "bad"].value > 0
    turned = {(pair.a, pair.b): pair.difference for pair in compare(systems, "macro_f1", -1)}
    assert turned["good", "bad"].value == -pairs["good", "bad"].value
    alone = {
        name: compare({"good": systems["good"], name: systems[name]}, "macro_f1")[0].difference.p
        for name in ("bad", "worse")
    }
    assert pairs["good", "bad"].p >= alone["bad"]


def test_the_same_answers_differ_in_nothing() -> None:
    rows: list[Row] = [{"label": i % 4} for i in range(50)]
    one = system([accuracy], [[0] * 50], rows)
    (pair,) = compare({"a": one, "b": one}, "accuracy")
    assert pair.difference.value == 0 and pair.difference.p == 1 and not pair.difference.shown
    assert interval(system([accuracy], [[0] * 20], rows[:20]), [], "accuracy") is None


def test_an_interval_ends_where_its_metric_does() -> None:
    rows = [{"label": int(place > 0)} for place in range(40)]
    one = system([accuracy], [[1] * 40], rows)
    low, high = interval(one, [one], "accuracy") or (0.0, 0.0)
    assert 0.9 < low < 0.975 < high == 1.0
    wider = interval(one, [one], "loss")
    assert wider and wider[1] > 1.0

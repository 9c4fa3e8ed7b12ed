"""Comparing systems over rows and seeds: no winner where there is none, one where there is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student
from sklearn.metrics import f1_score

from afina.core import Row
from afina.scoring.over_seeds import System, compare, interval, system
from afina.tasks.classification import Classification

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
    low, high = interval(one, [one], "accuracy", (one.mean, one.mean)) or (0.0, 0.0)
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
    assert interval(one, [one], "accuracy", None) is None, "scoring refuses one too"
    alone = system([accuracy], [[0]], rows[:1])
    (pair,) = compare({"a": alone, "b": system([accuracy], [[1]], rows[:1])}, "accuracy")
    assert pair.difference == ("accuracy", 1.0, -1.0, 1.0, 1.0), "one row shows nothing"


def test_a_difference_without_spread_is_no_certainty() -> None:
    rows: list[Row] = [{"label": 0}] * 40
    right, wrong = (system([accuracy] * 3, [[label] * 40] * 3, rows) for label in (0, 1))
    (pair,) = compare({"right": right, "wrong": wrong}, "accuracy")
    assert 0 < pair.difference.p < 1e-6 and 0.9 < pair.difference.low < pair.difference.high == 1.0
    same = system([accuracy] * 3, [[0] * 40] * 3, rows)
    (pair,) = compare({"right": right, "same": same}, "accuracy")
    assert pair.difference.low < 0 < pair.difference.high and not pair.difference.shown


@pytest.mark.parametrize(("texts", "questions"), [(2, 30), (5, 40), (10, 20), (20, 15)])
def test_rows_that_are_alike_count_as_what_they_are(texts: int, questions: int) -> None:
    """Many questions about each of a few texts, which one model or the other understands as a whole."""
    about = np.repeat(np.arange(texts), questions)
    rows: list[Row] = [{"label": 1}] * len(about)

    def winner(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        systems = {
            name: system(
                [accuracy], [(rng.random(len(about)) < rng.beta(1, 1, texts)[about]).astype(int).tolist()],
                rows, [[text] for text in about.tolist()],
            )
            for name in "ab"
        }  # fmt: skip
        return compare(systems, "accuracy")[0].difference.shown

    assert np.mean([winner(seed) for seed in range(800)]) <= 0.07


def test_names_join_rows_into_one_unit() -> None:
    """The rows of a person, the questions about a text, and whatever these two join, are left out together."""
    rows: list[Row] = [{"label": 1}] * 6
    one = system([accuracy], [[1, 1, 0, 0, 1, 0]], rows, [["x"], ["x", "a"], ["a"], ["y"], [], ["y"]])
    assert len(one.pseudo) == 3


def test_a_single_seed_varies_as_much_as_others_have_shown() -> None:
    """A method of which one run is there, beside others with three: its seed is drawn all the same."""

    def winner(seed: int, *, trained: bool) -> bool:
        rng = np.random.default_rng(seed)

        def drawn(times: int) -> System:
            right = [rng.random(1000) < 0.8 + rng.normal(0, 0.04) for _seed in range(times)]
            values = np.array([each.mean() for each in right])
            return System(values, np.mean(right, 0), 1000, trained=trained or times > 1)

        one, three, *others = (drawn(times) for times in (1, 3, 3, 3, 3))
        every = {"one": one, "three": three} | {str(i): each for i, each in enumerate(others)}
        gap = compare(every, "accuracy")[0].difference
        return gap.low > 0 or gap.high < 0

    assert np.mean([winner(seed, trained=True) for seed in range(300)]) <= 0.07
    assert np.mean([winner(seed, trained=False) for seed in range(300)]) > 0.15


@pytest.mark.parametrize("shares", [[0.25] * 4, SHARES])
def test_intervals_hold_the_truth_with_few_rows_and_high_scores(shares: list[float]) -> None:
    """The jackknife alone covers 83 to 87 % of forty rows of which 95 % are right."""
    task, right = Classification(labels=("a", "b", "c", "d")), 0.95
    table = np.diag(np.array(shares) * right) + np.outer(shares, shares) * (1 - np.eye(4)) * (
        (1 - right) / (1 - np.array(shares))[:, None]
    )
    true = macro(table)
    rng, held = np.random.default_rng(3), []
    for _draw in range(120):
        pairs = [divmod(place, 4) for place in rng.choice(16, 40, p=table.ravel())]
        rows: list[Row] = [{"label": task.labels[gold]} for gold, _said in pairs]
        answers = [np.eye(4)[said].tolist() for _gold, said in pairs]
        score = next(iter(task.score(answers, rows).values.values()))
        if score.low is not None and score.high is not None:
            one = system([task.main], [answers], rows)
            low, high = interval(one, [one], "macro_f1", (score.low, score.high)) or (0.0, 0.0)
            held.append(low <= true <= high)
    assert len(held) > 60 and np.mean(held) > 0.92


def macro(table: np.ndarray) -> float:
    return float(np.mean(2 * np.diag(table) / (table.sum(0) + table.sum(1))))


def test_a_label_that_no_row_has_counts_in_both_figures_alike() -> None:
    task = Classification(labels=("a", "b", "c"))
    rows: list[Row] = [{"label": "ab"[place % 2]} for place in range(40)]
    answers = [[1.0, 0.0, 0.0] if row["label"] == "a" else [0.0, 1.0, 0.0] for row in rows]
    score = next(iter(task.score(answers, rows).values.values()))
    assert task.main(answers, rows) == ("macro_f1", score.value) == ("macro_f1", pytest.approx(2 / 3))
    assert task.watch(answers, rows)[1] == 1.0, "a sample of rows need not hold every label"


def test_an_interval_ends_where_its_metric_does() -> None:
    rows = [{"label": int(place > 0)} for place in range(40)]
    one = system([accuracy], [[1] * 40], rows)
    low, high = interval(one, [one], "accuracy", (0.9, 1.0)) or (0.0, 0.0)
    assert 0.85 < low < 0.975 < high == 1.0
    wider = interval(one, [one], "loss", (0.9, 1.0))
    assert wider and wider[1] > 1.0

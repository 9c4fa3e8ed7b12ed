"""Figures of label sets and of numbers against scikit-learn's and scipy's, their edges and their comparisons."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from afina.errors import InputError
from afina.scoring import baselines, features, label_sets, regression

FIGURES = ["micro_f1", "macro_f1", "samples_f1", "micro_precision", "micro_recall", "subset_accuracy"]


def sets(true: np.ndarray, labels: list[str]) -> list[list[str]]:
    return [[labels[i] for i in np.flatnonzero(row)] for row in true]


@pytest.mark.parametrize("k", [1, 2, 5, 28])
@pytest.mark.parametrize("seed", range(4))
def test_figures_of_label_sets_are_those_of_scikit_learn(k: int, seed: int) -> None:
    rng = np.random.default_rng([seed, k])
    labels = [f"etiqueta ñ{i:02}" for i in range(k)]
    true = rng.random((int(rng.integers(1, 300)), k)) < rng.random(k) * rng.choice([0.1, 0.9])
    said = np.where(rng.random(true.shape) < rng.random(), true, rng.random(true.shape) < 0.2)
    found = label_sets.score(sets(true, labels), said, labels)
    assert list(found.values) == FIGURES
    expected = {
        "samples_f1": np.mean([sk.f1_score(t, s, zero_division=1) for t, s in zip(true, said, strict=True)]),
        "subset_accuracy": (true == said).all(1).mean(),
    }
    for name, average in (("micro", "micro"), ("macro", "macro")):
        p, r, f, _ = sk.precision_recall_fscore_support(
            true, said, average=average if k > 1 else "binary", zero_division=0
        )
        expected |= {f"{name}_f1": f, f"{name}_precision": p, f"{name}_recall": r}
    for name in FIGURES:
        assert found.values[name].value == pytest.approx(expected[name], abs=1e-12), name
        value, low, high, n = found.values[name]
        assert n == len(true)
        assert low is None or 0 <= low <= value <= high <= 1, name


def test_a_row_without_labels_that_was_given_none_is_right() -> None:
    found = label_sets.score([[], ["a"]], np.array([[False, False], [True, False]]), ["a", "b"]).values
    assert found["samples_f1"].value == found["subset_accuracy"].value == 1.0
    assert found["macro_f1"].value == 0.5  # nobody has b


def test_a_label_that_training_never_saw_is_an_error_and_is_named() -> None:
    found = label_sets.score([["a", "ñ"], ["b"]], np.array([[True, False], [False, True]]), ["a", "b"])
    assert found.details["unseen"] == ["ñ"] and found.details["per_class"]["ñ"]["n"] == 1
    assert found.values["micro_recall"].value == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="no row to score"):
        label_sets.score([], np.zeros((0, 2)), ["a", "b"])


def test_the_shared_threshold_is_the_best_there_is() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        true = rng.random((20, 3)) < 0.3
        told = np.round(rng.random((20, 3)) * 0.5 + true * 0.3, 1)  # many ties
        found = label_sets.micro_f1(true, told >= label_sets.shared_threshold(true, told))
        assert found == pytest.approx(
            max(label_sets.micro_f1(true, told >= at) for at in np.arange(0.0, 1.0, 0.05))
        )
    assert label_sets.shared_threshold(np.zeros((3, 2), bool), np.ones((3, 2))) == 0.5


def test_sets_that_differ_are_told_apart_both_ways() -> None:
    rng = np.random.default_rng(1)
    true = rng.random((200, 4)) < 0.4
    good, bad = (np.where(rng.random(true.shape) < share, true, ~true) for share in (0.9, 0.7))
    found, back = label_sets.difference(true, good, bad), label_sets.difference(true, bad, good)
    assert found.shown and found.value > 0 and found.low < found.value < found.high
    assert (back.value, back.p) == (pytest.approx(-found.value), found.p)
    same = label_sets.difference(true, good, good)
    assert (same.value, same.p, same.shown) == (0.0, 1.0, False)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_figures_of_numbers_are_those_of_scipy_and_scikit_learn(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    gold = rng.gamma(2, 2, int(rng.integers(3, 300)))
    told = gold * rng.normal(1, 0.3) + rng.normal(size=len(gold))
    if ties:
        gold, told = np.round(gold / 2), np.round(told)
    found = regression.score(gold.tolist(), told.tolist()).values
    assert list(found) == ["spearman", "pearson", "rmse", "mae"]
    assert found["spearman"].value == pytest.approx(stats.spearmanr(told, gold)[0], abs=1e-12)
    assert found["pearson"].value == pytest.approx(stats.pearsonr(told, gold)[0], abs=1e-12)
    assert found["rmse"].value == pytest.approx(sk.root_mean_squared_error(gold, told))
    assert found["mae"].value == pytest.approx(sk.mean_absolute_error(gold, told))
    for value, low, high, _n in found.values():
        assert low is None or low < value < high
    assert regression.rank_correlation(gold, told) == found["spearman"].value


def test_the_influences_are_those_of_leaving_a_row_out() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 6, 200) + rng.normal(size=200)
    y = np.round(x + rng.normal(size=200))
    for figure, of_scipy in ((regression.spearman, stats.spearmanr), (regression.pearson, stats.pearsonr)):
        value, influence = figure(x, y)
        without = np.array([of_scipy(np.delete(x, i), np.delete(y, i))[0] for i in range(200)])
        assert influence.sum() == pytest.approx(0, abs=1e-9)
        assert influence == pytest.approx(value - without, abs=4e-4)


def test_constant_and_broken_answers() -> None:
    constant = regression.score([1.0, 2.0, 3.0] * 20, [2.0] * 60).values
    assert constant["spearman"][:3] == constant["pearson"][:3] == (0.0, None, None)
    assert regression.score([1.0] * 30, [1.0] * 30).values["rmse"][:3] == (0.0, None, None)
    with pytest.raises(InputError, match="1 of 2 rows is no number"):
        regression.score([1.0, 2.0], [1.0, float("nan")])
    with pytest.raises(InputError, match="no row"):
        regression.score([], [])
    few = regression.score([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    assert all(figure.low is None for figure in few.values.values())


def test_numbers_that_differ_are_told_apart_both_ways() -> None:
    rng = np.random.default_rng(2)
    gold = rng.normal(size=150)
    good, bad = gold + rng.normal(size=150) * 0.3, 10 * (gold + rng.normal(size=150) * 2)
    found, back = regression.difference(gold, good, bad), regression.difference(gold, bad, good)
    assert found.shown and found.value > 0
    assert (back.value, back.p) == (pytest.approx(-found.value), pytest.approx(found.p, abs=0.01))
    assert not regression.difference(gold, good, good).shown
    assert not regression.difference(gold[:5], good[:5], bad[:5]).shown


SHARES = {"3 labels": [0.4, 0.3, 0.3], "6, uneven": [0.5, 0.3, 0.2, 0.15, 0.1, 0.08]}


def draw_sets(
    shares: list[float], quality: float, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Return who has and who is given which label [n, k]; labels go together, and some rows are harder."""
    together = rng.normal(size=(n, 1)) * 0.3**0.5 + rng.normal(size=(n, len(shares))) * 0.7**0.5
    true = together > stats.norm.ppf(1 - np.asarray(shares))
    hard = 0.7 * (rng.normal(size=(n, 1)) + rng.normal(size=true.shape))
    return true, true * quality * 2 + hard > 1


def draw_numbers(quality: float, n: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Return gold numbers from 0 to 5 in fifths, many at the ends, and answers within the same bounds."""
    exact = rng.beta(0.7, 0.6, n) * 5
    noise = rng.normal(size=n) * 2 * np.sqrt(1 - quality**2)
    return np.round(exact * 5) / 5, np.clip(2.5 + (exact - 2.5) * quality + noise, 0, 5)


@pytest.mark.parametrize("n", [40, 100, 400])
@pytest.mark.parametrize("shares", SHARES)
def test_intervals_of_label_sets_hold_the_truth(shares: str, n: int) -> None:
    """When written, over 200 samples a cell: 0.91 to 0.99 in every cell and for every figure."""
    rng = np.random.default_rng(n)
    labels = [f"l{i}" for i in range(len(SHARES[shares]))]
    for quality in (0.8, 2.0):
        true, said = draw_sets(SHARES[shares], quality, 200_000, rng)
        exact = {
            name: figure.value
            for name, figure in label_sets.score(sets(true, labels), said, labels).values.items()
        }
        held: dict[str, list[bool]] = {name: [] for name in exact}
        for _ in range(100):
            some, told = draw_sets(SHARES[shares], quality, n, rng)
            for name, figure in label_sets.score(sets(some, labels), told, labels).values.items():
                if figure.low is not None and figure.high is not None:
                    held[name].append(figure.low <= exact[name] <= figure.high)
        for name, hits in held.items():
            assert len(hits) < 30 or np.mean(hits) > 0.86, (name, quality, np.mean(hits))


@pytest.mark.parametrize("n", [25, 100, 400])
@pytest.mark.parametrize("quality", [0.4, 0.8, 0.95])
def test_intervals_of_numbers_hold_the_truth(quality: float, n: int) -> None:
    """When written, over 300 samples a cell: 0.92 to 0.99 for numbers like these and for normal ones."""
    rng = np.random.default_rng(n)
    exact = regression.score(*draw_numbers(quality, 200_000, rng)).values
    held: dict[str, list[bool]] = {name: [] for name in exact}
    for _ in range(150):
        for name, figure in regression.score(*draw_numbers(quality, n, rng)).values.items():
            if figure.low is not None and figure.high is not None:
                held[name].append(figure.low <= exact[name].value <= figure.high)
    assert len(held["spearman"]) == 150 and (len(held["rmse"]) > 0) == (n >= regression.ROWS_OF_ERRORS)
    for name, hits in held.items():
        assert len(hits) < 30 or np.mean(hits) > 0.88, (name, np.mean(hits))


def test_equal_systems_are_seldom_told_apart() -> None:
    rng = np.random.default_rng(0)
    shown = {"sets": 0, "numbers": 0}
    for _ in range(60):
        true, said = draw_sets(SHARES["6, uneven"], 1.3, 100, rng)
        other = true * 2.6 + 0.7 * (rng.normal(size=(100, 1)) + rng.normal(size=true.shape)) > 1
        shown["sets"] += label_sets.difference(true, said, other).shown
        gold = rng.integers(0, 6, 80).astype(float)
        a, b = (gold + rng.normal(size=80) * 2 for _system in "ab")
        shown["numbers"] += regression.difference(gold, a, 3 * b).shown
    assert max(shown.values()) <= 6, shown


SHORT = ["muy bueno", "muy malo", "bueno y barato", "malo y caro", "barato", "caro"] * 8
TRUE = np.array([["bueno" in text, "malo" in text, "caro" in text] for text in SHORT])


def test_the_linear_model_of_label_sets_learns() -> None:
    found = features.of_texts(SHORT, ["un coche bueno", "un coche malo y caro"])
    assert found is not None
    told = baselines.one_vs_rest(found[0], TRUE, found[1])
    assert told.tolist() == [[1, 0, 0], [0, 1, 1]]
    assert baselines.most_frequent(TRUE, 2).shape == (2, 3)
    alone = baselines.one_vs_rest(found[0], np.column_stack([TRUE[:, 0], np.ones(48, bool)]), found[1])
    assert alone.tolist() == [[1, 1], [0, 1]]


def test_the_linear_model_of_numbers_learns_and_keeps_its_bounds() -> None:
    gold = (TRUE @ [2.0, -2.0, -1.0]).tolist()
    found = features.of_texts(SHORT, ["un coche bueno", "malo y caro"])
    assert found is not None
    high, low = baselines.ridge(found[0], gold, found[1])
    assert high > 0.5 and low < -1.5
    assert baselines.ridge(found[0], gold, found[1], (-1.0, 1.0)).min() == -1.0


def test_pairs_that_share_words_are_alike() -> None:
    first = [f"el perro {i} come pan" for i in range(30)]
    second = [first[i] if i % 2 else f"una casa {i} azul" for i in range(30)]
    found = features.of_pairs(
        (first, second), (["el gato duerme"] * 2, ["el gato duerme", "hay tres libros"])
    )
    assert found is not None
    told = baselines.logistic(found[0], ["sí" if i % 2 else "no" for i in range(30)], found[1], ["no", "sí"])
    assert told.argmax(1).tolist() == [1, 0]
    assert features.of_pairs((["!"], ["?"]), (["a"], ["b"])) is None

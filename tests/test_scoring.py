"""Figures against scikit-learn's, their edges, and the paired comparison of two systems."""

import numpy as np
import pytest
from sklearn import metrics as sk

from afina.core import Scores
from afina.errors import InputError
from afina.scoring import intervals
from afina.scoring.classification import macro_f1, score
from afina.scoring.confusion import METRICS, Margins, count
from afina.scoring.paired import decision, difference

NAMES = [
    "macro_f1",
    "accuracy",
    "weighted_f1",
    "macro_precision",
    "macro_recall",
    "weighted_precision",
    "weighted_recall",
    "mcc",
]


def one_hot(predicted: list[str], labels: list[str]) -> np.ndarray:
    return np.asarray([[float(label == told) for label in labels] for told in predicted]).reshape(
        -1, len(labels)
    )


def scored(gold: list[str], predicted: list[str], labels: list[str], positive: str | None = None) -> Scores:
    return score(gold, one_hot(predicted, labels), labels, positive)


@pytest.mark.parametrize("k", [2, 3, 4, 7, 77])
@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_scikit_learn(k: int, seed: int) -> None:
    rng = np.random.default_rng([seed, k])
    labels = [f"etiqueta ñ{i}" for i in range(k)]
    n = int(rng.integers(1, 400))
    weights = rng.dirichlet(np.ones(k))
    gold = [labels[i] for i in rng.choice(k, n, p=weights)]
    right = rng.random(n) < rng.random()
    told = [g if r else labels[rng.integers(k)] for g, r in zip(gold, right, strict=True)]
    found = scored(gold, told, labels)
    assert list(found.values)[:8] == NAMES
    expected = {"accuracy": sk.accuracy_score(gold, told), "mcc": sk.matthews_corrcoef(gold, told)}
    for average in ("macro", "weighted"):
        p, r, f, _ = sk.precision_recall_fscore_support(
            gold, told, labels=labels, average=average, zero_division=0
        )
        expected |= {f"{average}_precision": p, f"{average}_recall": r, f"{average}_f1": f}
    for name, value in expected.items():
        assert found.values[name].value == pytest.approx(value, abs=1e-12), name
    matrix = sk.confusion_matrix(gold, told, labels=labels)
    assert found.details["confusion"] == {"labels": labels, "counts": matrix.tolist()}
    each = sk.precision_recall_fscore_support(gold, told, labels=labels, zero_division=0)
    for label, p, r, f, support in zip(labels, *each, strict=True):
        figures = found.details["per_class"][label]
        assert [figures[name] for name in ("precision", "recall", "f1", "n")] == pytest.approx(
            [p, r, f, support]
        )
    assert found.details["unseen"] == []
    assert macro_f1(gold, told, labels) == found.values["macro_f1"].value


def test_every_interval_holds_its_value() -> None:
    rng = np.random.default_rng(0)
    seen = dict.fromkeys(NAMES, 0)
    for _ in range(600):
        k = int(rng.integers(2, 9))
        counts = rng.multinomial(
            rng.integers(1, 600), rng.dirichlet(np.full(k * k, rng.choice([0.02, 0.3, 2])))
        ).reshape(k, k)
        counts += np.diag(rng.integers(0, 30, k))
        for name, found in intervals.intervals(counts).items():
            if found:
                seen[name] += 1
                value = float(METRICS[name](Margins.of(counts)))
                assert (-1 if name == "mcc" else 0) <= found[0] <= value <= found[1] <= 1, (name, counts)
                assert found[1] - found[0] > 0, (name, counts)
    assert min(seen.values()) > 50


def test_nothing_right() -> None:
    wrong = scored(["a"] * 20 + ["b"] * 20, ["b"] * 20 + ["a"] * 20, ["a", "b"]).values
    for name in NAMES:
        value, low, high, n = wrong[name]
        assert value == low == (-1.0 if name == "mcc" else 0.0), name
        assert n == 40 and low < high < 0.2, (name, high)


def test_no_interval_where_rows_are_too_few() -> None:
    labels = ["a", "b", "c"]
    few = scored(["a", "b", "c"] * 7, ["a", "b", "c"] * 7, labels).values
    assert few["macro_f1"][:3] == (1.0, None, None)
    assert few["accuracy"].low == pytest.approx(21 / (21 + intervals.Z**2))
    enough = scored(["a", "b", "c"] * 8, ["a", "b", "c"] * 8, labels).values
    assert enough["macro_f1"].low is not None and 0.7 < enough["macro_f1"].low < 1 == enough["macro_f1"].high
    rare = ["a"] * 60 + ["b"] * 30 + ["c"] * 7
    values = scored(rare, rare, labels).values
    assert values["mcc"].low is None and values["macro_recall"].low is not None
    one_missing = scored(["a", "b"] * 20, ["a", "b"] * 20, labels).values
    assert one_missing["macro_f1"][:3] == (pytest.approx(2 / 3), None, None)
    assert one_missing["accuracy"].low is not None


def test_positive_label() -> None:
    gold = ["sí"] * 10 + ["no"] * 30
    told = ["sí"] * 6 + ["no"] * 4 + ["sí"] * 3 + ["no"] * 27
    found = scored(gold, told, ["no", "sí"])
    assert list(found.values)[8:] == ["positive_precision", "positive_recall", "positive_f1"]
    assert found.details["positive"] == "sí"
    precision, recall, f1 = list(found.values.values())[8:]
    assert (precision.value, precision.n) == (pytest.approx(6 / 9), 9)
    assert (recall.value, recall.n) == (0.6, 10)
    assert (f1.value, f1.n) == (pytest.approx(12 / 19), 13)
    # Wilson's interval of 6 of 10, as in his paper's formula.
    assert recall[1:3] == (pytest.approx(0.3127, abs=1e-4), pytest.approx(0.8318, abs=1e-4))
    other = scored(gold, told, ["no", "sí"], positive="no").values["positive_recall"]
    assert (other.value, other.n) == (0.9, 30)
    with pytest.raises(InputError, match=r"no label 'si'\. There are: no, sí\."):
        scored(gold, told, ["no", "sí"], positive="si")
    assert len(scored(gold, told, ["no", "sí", "quizá"]).values) == 8


def test_positive_label_that_never_occurs() -> None:
    values = scored(["no"] * 20, ["no"] * 20, ["no", "sí"]).values
    for name in ("positive_precision", "positive_recall", "positive_f1"):
        assert values[name] == (0.0, None, None, 0)
    assert values["mcc"].value == 0.0


def test_gold_label_that_training_never_saw() -> None:
    gold, told = ["a"] * 10 + ["ñandú"] * 5 + ["b"] * 10, ["a"] * 10 + ["b"] * 5 + ["b"] * 10
    found = scored(gold, told, ["a", "b"])
    assert found.details["unseen"] == ["ñandú"]
    assert found.details["confusion"]["counts"] == [[10, 0, 0], [0, 10, 0], [0, 5, 0]]
    assert found.values["accuracy"].value == 0.8
    assert found.values["macro_f1"].value == pytest.approx(
        sk.f1_score(gold, told, average="macro", zero_division=0)
    )
    assert found.details["per_class"]["ñandú"]["n"] == 5
    assert found.values["positive_recall"].n == 10


def test_few_rows_and_none() -> None:
    one = scored(["a"], ["a"], ["a", "b"]).values
    assert one["accuracy"].value == 1.0 and 0 < one["accuracy"].low < 0.25 and one["accuracy"].n == 1
    assert one["macro_f1"] == (0.5, None, None, 1)
    for empty in (np.zeros((0, 2)), np.zeros(0)):
        with pytest.raises(InputError, match="no row to score"):
            score([], empty, ["a", "b"])
    with pytest.raises(InputError, match="no row to compare"):
        difference("macro_f1", [], [], [], ["a", "b"])
    with pytest.raises(ValueError, match="probabilities"):
        score(["a", "b"], np.ones((2, 3)), ["a", "b"])
    with pytest.raises(InputError, match="1 of 2 rows is no number"):
        score(["a", "b"], np.array([[0.5, 0.5], [np.nan, 0.5]]), ["a", "b"])


def test_count_puts_unknown_labels_last() -> None:
    labels, counts = count(["z", "a", "y"], ["a", "a", "x"], ["b", "a"])
    assert labels == ["b", "a", "x", "y", "z"]
    assert counts.sum() == 3 and counts[4, 1] == counts[1, 1] == counts[3, 2] == 1


def test_derivatives_are_those_of_accuracy_and_macro_recall() -> None:
    counts = np.array([[30.0, 10.0], [5.0, 15.0]])
    first, second = intervals.derivatives(METRICS["macro_recall"], counts)
    assert first == pytest.approx(
        np.array([[10 / 40**2, -30 / 40**2], [-15 / 20**2, 5 / 20**2]]) / 2, rel=1e-4
    )
    assert second[0, 1] == pytest.approx(30 / 40**3, rel=1e-3)
    first, _ = intervals.derivatives(METRICS["accuracy"], counts)
    assert first == pytest.approx(np.array([[15, -45], [-45, 15]]) / 60**2, rel=1e-4)


def test_many_rows_give_the_interval_of_the_delta_method() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([[9000, 600, 400], [700, 5000, 300], [100, 200, 1700]])
    draws = rng.multinomial(counts.sum(), counts.ravel() / counts.sum(), 20_000).reshape(-1, 3, 3)
    for name, found in intervals.intervals(counts).items():
        low, high = np.quantile(METRICS[name](Margins.of(draws)), [0.025, 0.975])
        assert found == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4)), name


def answers(n: int, quality: float, labels: list[str], seed: int) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    gold = [labels[i] for i in rng.integers(len(labels), size=n)]
    return gold, [g if rng.random() < quality else labels[rng.integers(len(labels))] for g in gold]


@pytest.mark.parametrize("metric", NAMES)
def test_difference_is_antisymmetric_and_finds_what_is_there(metric: str) -> None:
    labels = ["uno", "dos", "tres"]
    gold, good = answers(300, 0.9, labels, 1)
    bad = [
        g if keep < 0.5 else labels[0]
        for g, keep in zip(gold, np.random.default_rng(2).random(300), strict=True)
    ]
    found = difference(metric, gold, good, bad, labels)
    back = difference(metric, gold, bad, good, labels)
    assert found.metric == metric and found.p < 0.001 and decision(found) == "better"
    assert decision(back) == "worse"
    assert found.value == pytest.approx(-back.value) and found.p == pytest.approx(back.p, abs=0.002)
    assert (found.low, found.high) == (pytest.approx(-back.high), pytest.approx(-back.low))
    values = [scored(gold, told, labels).values[metric].value for told in (good, bad)]
    assert found.value == pytest.approx(values[0] - values[1])
    assert found.low < found.value < found.high
    assert difference(metric, gold, good, bad, labels) == found


@pytest.mark.parametrize("metric", NAMES)
def test_equal_answers_show_nothing(metric: str) -> None:
    gold, told = answers(50, 0.8, ["a", "b"], 3)
    found = difference(metric, gold, told, told, ["a", "b"])
    assert found.value == 0.0 and found.p == 1.0 and found.low < 0 < found.high
    assert decision(found) == "no difference shown"
    one = difference(metric, ["a"], ["a"], ["b"], ["a", "b"])
    assert decision(one) == "no difference shown" and -2 <= one.low <= one.value <= one.high <= 2


def test_mcnemar_by_hand() -> None:
    # Of 40 rows 9 are right by `a` alone and 1 by `b` alone: mid-p = 2 (1 + 10) / 2^10 - 10 / 2^10.
    gold = ["x"] * 40
    a, b = ["x"] * 39 + ["y"], ["x"] * 30 + ["y"] * 9 + ["x"]
    found = difference("accuracy", gold, a, b, ["x", "y"])
    assert found.value == pytest.approx(0.2)
    assert found.p == pytest.approx(12 / 1024)
    # (9 + 1) and (1 + 1) of 40 + 2: 0.1905 -+ 1.96 sqrt((0.2857 - 0.1905^2) / 42) = 0.1905 -+ 0.1510
    assert (found.low, found.high) == (pytest.approx(0.0395, abs=2e-4), pytest.approx(0.3415, abs=2e-4))


def test_randomisation_against_all_assignments() -> None:
    """With ten rows on which the answers differ, all 1,024 changes of sides can be looked at."""
    labels = ["a", "b", "c"]
    gold, one = answers(30, 0.8, labels, 5)
    other = [labels[(labels.index(told) + 1) % 3] if i % 3 == 0 else told for i, told in enumerate(one)]
    found = difference("macro_f1", gold, one, other, labels)
    differ = [i for i in range(30) if one[i] != other[i]]
    as_far = 0
    for choice in range(2 ** len(differ)):
        x, y = list(one), list(other)
        for bit, row in enumerate(differ):
            if choice >> bit & 1:
                x[row], y[row] = y[row], x[row]
        as_far += abs(macro_f1(gold, x, labels) - macro_f1(gold, y, labels)) >= abs(found.value) - 1e-12
    assert found.p == pytest.approx(as_far / 2 ** len(differ), abs=0.02)


def test_unknown_metric() -> None:
    with pytest.raises(InputError, match="no metric 'f1'"):
        difference("f1", ["a"], ["a"], ["a"], ["a", "b"])

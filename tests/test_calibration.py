"""The calibration error: by hand, beside scikit-learn, and how much of it is chance."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from afina.scoring.calibration import calibration_error, of_label_sets, of_labels
from afina.tasks.classification import Classification
from afina.tasks.multi_label import MultiLabel
from afina.tasks.regression import Regression


def test_by_hand() -> None:
    """Forty rows, two bins of twenty: 0.6 said and 15 of 20 right, 0.9 said and 16 of 20 right."""
    said = [0.6] * 20 + [0.9] * 20
    right = [1] * 15 + [0] * 5 + [1] * 16 + [0] * 4
    assert calibration_error(said, right) == pytest.approx((20 * 0.15 + 20 * 0.1) / 40)
    assert calibration_error(said[::-1], right[::-1]) == pytest.approx(0.125)


def test_equal_probabilities_are_one_bin() -> None:
    """A constant answer that is right as often as it says is perfect, whatever the order of the rows."""
    right = np.random.default_rng(0).permutation([1] * 300 + [0] * 100)
    assert calibration_error([0.75] * 400, right) == pytest.approx(0)


def test_as_scikit_learn_does_it() -> None:
    """Without ties its bins of equal mass are ours; it leaves the average over bins to the reader."""
    draw = np.random.default_rng(1)
    said = draw.random(600)
    true = draw.random(600) < said**2
    shares, means = calibration_curve(true, said, n_bins=15, strategy="quantile")
    assert calibration_error(said, true) == pytest.approx(float(np.mean(abs(shares - means))))


@pytest.mark.parametrize(("rows", "chance"), [(100, 0.07), (1000, 0.04)])
def test_the_bias_is_what_the_report_says(rows: int, chance: float) -> None:
    draw = np.random.default_rng(2)
    found = []
    for _ in range(200):
        said = np.clip(draw.beta(8, 2, rows), 0.5, 1)
        found.append(calibration_error(said, draw.random(rows) < said))
    assert round(float(np.mean(found)), 2) == chance


def test_labels_and_label_sets() -> None:
    answers = [[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]
    # Said 0.8, 0.6 and 0.7; right, right, and a label that training never saw: one bin, 0.7 against 2/3.
    assert of_labels(answers, ["a", "b", "c"], ["a", "b"]) == pytest.approx(0.7 - 2 / 3)
    true = np.array([[True, False], [True, False]])
    assert of_label_sets([[0.9, 0.1], [0.7, 0.5]], true) == pytest.approx((0.2 + 0.3) / 2)


def test_a_task_tells_it_where_its_answers_are_probabilities() -> None:
    rows = [{"text": "x", "label": "a"}] * 4
    answers = [[0.5, 0.5]] * 4
    assert Classification(labels=("a", "b")).calibration(answers, rows) == pytest.approx(0.5)
    sets = [{"text": "x", "label": ["a"]}] * 4
    assert MultiLabel(labels=("a", "b")).calibration(answers, sets) == pytest.approx(0.5)
    assert Regression().calibration([0.5], [{"text": "x", "label": 0.5}]) is None

"""How far probabilities are from the shares of right answers that they promise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 15
FEWEST = 20  # rows a bin: with fewer each bin's share of right answers is mostly chance


def calibration_error(probabilities: Sequence[float] | np.ndarray, came_true: Any) -> float:
    """Return the expected calibration error (Guo et al. 2017) of `probabilities` [n] of things that came true or not.

    That is the gap between mean probability and share come true, averaged over bins by their rows. Bins hold equally
    many rows (Nguyen & O'Connor 2015), at most 15 and at least 20 rows each; equal probabilities share a bin. This
    plug-in estimate is biased upwards (Roelofs et al. 2022): each bin's chance counts as a gap, so that a perfectly
    calibrated model of 80 % accuracy shows about 0.07 with 100 rows and 0.04 with 1000.
    """
    said, true = np.asarray(probabilities, float), np.asarray(came_true, float)
    bins = max(1, min(BINS, len(said) // FEWEST))
    edges = np.quantile(said, np.linspace(0, 1, bins + 1)[1:-1])
    place = np.searchsorted(edges, said)
    gaps = [abs(float((said - true)[place == each].sum())) for each in range(bins)]
    return sum(gaps) / len(said)


def of_labels(probabilities: Any, gold: Sequence[str], labels: Sequence[str]) -> float:
    """Return the error of the probability [n, k] of each row's likeliest label; a gold label not in `labels` is missed."""
    said = np.asarray(probabilities, float)
    told = said.argmax(1)
    return calibration_error(said.max(1), [labels[i] == each for i, each in zip(told, gold, strict=True)])


def of_label_sets(probabilities: Any, true: np.ndarray) -> float:
    """Return the mean over labels of the error of each label's own probability [n, k]; `true` is boolean [n, k]."""
    said = np.asarray(probabilities, float).reshape(true.shape)
    return float(np.mean([calibration_error(said[:, k], true[:, k]) for k in range(true.shape[1])]))

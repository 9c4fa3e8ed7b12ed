"""How often the intervals that ship hold the truth, and how often equal systems are told apart, by simulation.

A population is a table of true and said class; rows are drawn from it at random, and its own figures are the
truth. Errors are `even` (all classes equally hard, any other class said) or `leaning` (rare classes harder,
frequent classes said). The fast suite runs a tenth of it or less; `make prove` runs all, and with AFINA_RECORD=1 writes
benchmarks/results/coverage.json.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afina.scoring.confusion import METRICS, Margins
from afina.scoring.intervals import f1_of_class, intervals, share
from afina.scoring.paired import difference

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "results" / "coverage.json"
COMMAND = "AFINA_RECORD=1 python -m pytest -m prove tests/test_scoring_coverage.py"
SEED = 9

CLASSES = {
    "2 balanced": [1, 1],
    "2, 90/10": [90, 10],
    "2, 95/5": [95, 5],
    "3, 60/30/10": [60, 30, 10],
    "4 balanced": [1, 1, 1, 1],
    "4, 70/15/10/5": [70, 15, 10, 5],
    "7 balanced": [1] * 7,
    "77 balanced": [1] * 77,
}
ROWS = {"2, 95/5": (100, 400), "7 balanced": (100, 400), "77 balanced": (770, 3000)}
QUALITY = (0.6, 0.8, 0.95)
ERRORS = ("even", "leaning")
# A figure whose interval is given in fewer samples than this share or number is not judged.
SHARE_GIVEN, TIMES_GIVEN = 0.1, 100


def population(shares: list[int], quality: float, errors: str) -> np.ndarray:
    """Return the share of each pair of true and said class, [k, k]."""
    gold = np.asarray(shares, float) / sum(shares)
    right = np.full(len(gold), quality)
    said = np.ones_like(gold)
    if errors == "leaning":
        right, said = quality * (gold / gold.max()) ** 0.25, gold
    wrong = np.tile(said, (len(gold), 1))
    np.fill_diagonal(wrong, 0.0)
    table = (gold * (1 - right))[:, None] * wrong / wrong.sum(1, keepdims=True)
    return table + np.diag(gold * right)


def truth(table: np.ndarray) -> dict[str, float]:
    m = Margins.of(table)
    found = {name: float(metric(m)) for name, metric in METRICS.items()}
    if len(table) == 2:
        right, gold, said = (float(part[1]) for part in m)
        found |= {
            "positive_precision": right / said,
            "positive_recall": right / gold,
            "positive_f1": 2 * right / (gold + said),
        }
    return found


def given(counts: np.ndarray) -> dict[str, tuple[float, float] | None]:
    """Return what `score` gives as intervals for this confusion matrix, the second class being positive."""
    found = intervals(counts)
    if len(counts) == 2:
        right, gold, said = (int(part[1]) for part in Margins.of(counts))
        found |= {
            "positive_precision": share(right, said),
            "positive_recall": share(right, gold),
            "positive_f1": f1_of_class(right, gold, said),
        }
    return found


def cells() -> Iterator[tuple[str, int, float, str]]:
    """Yield classes, rows, quality and kind of errors; with balanced classes the two kinds are the same."""
    for classes in CLASSES:
        for rows in ROWS.get(classes, (40, 100, 400)):
            for quality in QUALITY:
                for errors in ERRORS:
                    if errors == "even" or len(set(CLASSES[classes])) > 1:
                        yield classes, rows, quality, errors


def coverage(samples: int, chosen: list[tuple[str, int, float, str]]) -> list[dict[str, Any]]:
    """Return one cell a population and number of rows: by metric, the share given and of these those that hold."""
    found = []
    for number, (classes, rows, quality, errors) in enumerate(chosen):
        rng = np.random.default_rng([SEED, number])
        table = population(CLASSES[classes], quality, errors)
        true, k = truth(table), len(table)
        times = samples if k < 77 else max(samples // 4, 100)
        held: dict[str, list[bool]] = {name: [] for name in true}
        width: dict[str, list[float]] = {name: [] for name in true}
        for counts in rng.multinomial(rows, table.ravel(), times).reshape(-1, k, k):
            for name, interval in given(counts).items():
                if interval:
                    held[name].append(interval[0] <= true[name] <= interval[1])
                    width[name].append(interval[1] - interval[0])
        found.append(
            {
                "classes": classes,
                "rows": rows,
                "quality": quality,
                "errors": errors,
                "samples": times,
                "metrics": {
                    name: {
                        "given": len(hits) / times,
                        "coverage": round(float(np.mean(hits)), 4) if hits else None,
                        "width": round(float(np.mean(width[name])), 4) if hits else None,
                    }
                    for name, hits in held.items()
                },
            }
        )
    return found


def two_systems(
    table: np.ndarray, other: np.ndarray, rows: int, together: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the true class of each row and what two systems say, whose errors go `together` on a share of rows."""
    k = len(table)
    gold = rng.choice(k, rows, p=table.sum(1))
    luck = rng.random(rows)
    of_other = np.where(rng.random(rows) < together, luck, rng.random(rows))
    steps = [np.cumsum(t / t.sum(1, keepdims=True), 1)[gold] for t in (table, other)]
    said = [np.minimum((u[:, None] > s).sum(1), k - 1) for u, s in zip((luck, of_other), steps, strict=True)]
    return gold, *said


def pairs(samples: int, metrics: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return how often equal systems are told apart, and how often the interval of a true difference holds it."""
    found = []
    number = 0
    for classes in ("2 balanced", "4 balanced", "4, 70/15/10/5"):
        for rows in (40, 100, 400):
            for quality, worse in ((0.6, 0.6), (0.9, 0.9), (0.9, 0.8)):
                for together in (0.0, 0.7):
                    for metric in metrics:
                        number += 1
                        rng = np.random.default_rng([SEED, 1000 + number])
                        table = population(CLASSES[classes], quality, "leaning")
                        other = population(CLASSES[classes], worse, "leaning")
                        true = truth(table)[metric] - truth(other)[metric]
                        labels = [str(label) for label in range(len(table))]
                        names = np.asarray(labels)
                        shown = held = 0
                        for _ in range(samples):
                            gold, a, b = (
                                names[part].tolist()
                                for part in two_systems(table, other, rows, together, rng)
                            )
                            gap = difference(metric, gold, a, b, labels)
                            shown += gap.shown
                            held += gap.low <= true <= gap.high
                        found.append(
                            {
                                "metric": metric,
                                "classes": classes,
                                "rows": rows,
                                "quality": [quality, worse],
                                "errors_together": together,
                                "samples": samples,
                                "true_difference": round(true, 4),
                                "shown": shown / samples,
                                "coverage": held / samples,
                            }
                        )
    return found


def enough(result: dict[str, Any], cell: dict[str, Any]) -> bool:
    return result["given"] >= max(SHARE_GIVEN, TIMES_GIVEN / cell["samples"])


def flat(found: list[dict[str, Any]]) -> list[tuple[float, str]]:
    """Return (coverage, where) of every metric whose interval is given often enough."""
    return [
        (
            result["coverage"],
            f"{name}: {cell['classes']}, {cell['rows']} rows, {cell['quality']} {cell['errors']}",
        )
        for cell in found
        for name, result in cell["metrics"].items()
        if enough(result, cell)
    ]


@pytest.mark.slow
def test_coverage_in_short() -> None:
    held = flat(coverage(200, [cell for cell in cells() if cell[2] == 0.8 and cell[1] < 3000]))
    assert len(held) > 150
    # 200 samples put 1.5 % of noise on each figure; their mean has next to none.
    assert min(held)[0] > 0.88, min(held)
    assert 0.945 < np.mean([share for share, _ in held]) < 0.97


@pytest.mark.slow
def test_equal_systems_in_short() -> None:
    found = pairs(40, ("macro_f1",))
    equal = [cell["shown"] for cell in found if cell["true_difference"] == 0]
    assert np.mean(equal) < 0.05 and max(equal) < 0.15
    better = [cell for cell in found if cell["true_difference"] > 0]
    assert max(cell["shown"] for cell in better) > 0.9
    assert np.mean([cell["coverage"] for cell in found]) > 0.93


def test_a_percentile_bootstrap_is_too_narrow_with_rare_classes() -> None:
    """The simulation itself can tell: 83 % was measured for 40 rows of 70/15/10/5."""
    rng = np.random.default_rng(SEED)
    table = population(CLASSES["4, 70/15/10/5"], 0.8, "leaning")
    true, metric = truth(table)["macro_f1"], METRICS["macro_f1"]
    held = []
    for counts in rng.multinomial(40, table.ravel(), 200).reshape(-1, 4, 4):
        again = rng.multinomial(40, counts.ravel() / 40, 300).reshape(-1, 4, 4)
        low, high = np.quantile(metric(Margins.of(again)), [0.025, 0.975])
        held.append(low <= true <= high)
    assert np.mean(held) < 0.9


@pytest.mark.prove
def test_coverage_in_full() -> None:
    started = time.perf_counter()
    found = coverage(2000, list(cells()))
    gaps = pairs(500, ("macro_f1", "accuracy"))
    if os.environ.get("AFINA_RECORD") == "1":
        write_record(found, gaps, time.perf_counter() - started)
    held = sorted(flat(found))
    # 2,000 samples put half a percent of noise on each.
    assert held[0][0] > 0.915, held[:5]
    assert np.mean([share > 0.93 for share, _ in held]) > 0.95
    equal = [cell for cell in gaps if cell["true_difference"] == 0]
    assert max(cell["shown"] for cell in equal) < 0.07
    assert min(cell["coverage"] for cell in gaps) > 0.92


def write_record(found: list[dict[str, Any]], gaps: list[dict[str, Any]], seconds: float) -> None:
    by_metric: dict[str, list[float]] = {}
    for cell in found:
        for name, result in cell["metrics"].items():
            if enough(result, cell):
                by_metric.setdefault(name, []).append(result["coverage"])
    files = [ROOT / "src/afina/scoring" / name for name in ("confusion.py", "intervals.py", "paired.py")]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    record = {
        "what": "coverage of the 95 % intervals and false alarms of the paired test, by simulation",
        "command": COMMAND,
        "commit": commit.stdout.strip() if commit.returncode == 0 else None,
        "code": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "system": platform.system(),
        },
        "versions": {"python": sys.version.split()[0], **{n: version(n) for n in ("numpy", "scipy")}},
        "seconds": round(seconds),
        "seed": SEED,
        "judged": f"intervals that are given in at least {SHARE_GIVEN:.0%} of samples and {TIMES_GIVEN} times",
        "summary": {
            "coverage": {
                name: {
                    "cells": len(values),
                    "lowest": min(values),
                    "mean": round(float(np.mean(values)), 4),
                    "highest": max(values),
                    "below_0.93": sum(value < 0.93 for value in values),
                }
                for name, values in by_metric.items()
            },
            "lowest": sorted(flat(found))[:10],
            "equal_systems_shown_different": {
                metric: {
                    "cells": len(values),
                    "highest": max(values),
                    "mean": round(float(np.mean(values)), 4),
                }
                for metric in ("macro_f1", "accuracy")
                for values in [
                    [g["shown"] for g in gaps if g["metric"] == metric and g["true_difference"] == 0]
                ]
            },
            "coverage_of_difference": {
                "lowest": min(g["coverage"] for g in gaps),
                "mean": round(float(np.mean([g["coverage"] for g in gaps])), 4),
            },
        },
        "coverage": found,
        "pairs": gaps,
    }
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

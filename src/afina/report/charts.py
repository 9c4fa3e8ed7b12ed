"""From figures to what the templates draw: positions in percent, so that a chart grows with the page and its
text does not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

from afina.messages import _
from afina.messages.numbers import number
from afina.report.record import Record
from afina.sample import spread

CHARTED = (
    *("accuracy", "mcc", "weighted_f1", "positive_f1", "macro_f1", "samples_f1", "pearson"),
    *("exact_match", "rouge_l", "has_answer_f1", "entity_precision", "entity_recall"),
)
BINS = 120
DOTS = 800


class Axis(NamedTuple):
    """A scale from `low` to `high` whose ends lie at `start` and `end` per cent of the drawing."""

    low: float
    high: float
    start: float
    end: float
    step: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, count: int = 5) -> "Axis":
        """Return the scale with about `count` round ticks that holds all `values`."""
        low, high = min(values), max(values)
        step = _round_up((high - low or abs(high) or 1.0) / count)
        return cls(
            math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, start, end, step
        )

    def at(self, value: float) -> float:
        """Return where `value` lies, in per cent of the drawing."""
        width = self.high - self.low or 1.0
        return round(self.start + (value - self.low) / width * (self.end - self.start), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the place and the text of each tick."""
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        count = math.floor((self.high - self.low) / self.step + 1e-9)
        values = [self.low + i * self.step for i in range(count + 1)]
        return [(self.at(value), number(value, digits)) for value in values]


def _round_up(step: float) -> float:
    """Return the next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


@dataclass(frozen=True)
class Dot:
    """One figure of one system: its place and the ends of its interval, None where there is no interval."""

    system: str
    value: float
    x: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Dots:
    """The chart of the scores with their intervals: groups of dots, a group a metric."""

    axis: Axis
    groups: list[tuple[str, list[Dot]]]


def dots(record: Record) -> Dots | None:
    """Return the chart of the main metrics of the model and its baselines; None without scores."""
    if not record.scores:
        return None
    systems = record.systems
    main = [record.main] if record.task.direction > 0 else []  # a loss has no place on an axis of shares
    shown = list(dict.fromkeys([*main, *(m for m in CHARTED if m in record.scores)]))
    if not shown:
        return None
    groups = []
    figures = [
        (metric, [(system, found[metric]) for system, found in systems.items() if metric in found])
        for metric in shown
        if metric
    ]
    ends = [
        end
        for _metric, found in figures
        for _system, figure in found
        for end in (figure["value"], figure.get("low"), figure.get("high"))
        if end is not None
    ]
    axis = Axis.over([0.0, 1.0, *ends], 22, 88, 6)
    for metric, found in figures:
        groups.append((metric, [_dot(axis, system, figure) for system, figure in found]))
    return Dots(axis, groups)


def _dot(axis: Axis, system: str, figure: dict[str, Any]) -> Dot:
    low, high = figure.get("low"), figure.get("high")
    if low is None or high is None:
        return Dot(system, figure["value"], axis.at(figure["value"]), None, None)
    return Dot(system, figure["value"], axis.at(figure["value"]), axis.at(low), axis.at(high))


@dataclass(frozen=True)
class Line:
    """One curve: its kind (`train`, `validation` or `steps`) and its points in per cent, y from the top."""

    kind: str
    points: list[tuple[float, float]]

    @property
    def path(self) -> str:
        """The points as an SVG polyline wants them, in a box of 100 by 100."""
        return " ".join(f"{x:g},{y:g}" for x, y in self.points)


@dataclass(frozen=True)
class Curves:
    """One figure over the steps, training and validation together; `best` is where the best weights lie."""

    metric: str
    x: Axis
    y: Axis
    lines: list[Line]
    best: float | None


def curves(record: Record) -> list[Curves]:
    """Return the learning curves of the loss and of the score; none where fewer than two points are known."""
    evaluations = record.evaluations
    found = [_curves("loss", evaluations, _smooth(record.steps), record)]
    if metric := _score(record):
        found.append(_curves(metric, evaluations, [], record))
    return [curve for curve in found if curve]


def _score(record: Record) -> str | None:
    """Return the score that the evaluations followed: the main metric, or what they have beside the loss."""
    names = [name for line in record.evaluations for name in line["validation"] if name != "loss"]
    return record.main if record.main in names else (names[0] if names else None)


def _curves(
    metric: str, evaluations: list[dict[str, Any]], steps: list[tuple[float, float]], record: Record
) -> Curves | None:
    series = {"steps": steps}
    for kind in ("train", "validation"):
        pairs = [(line["step"], (line.get(kind) or {}).get(metric)) for line in evaluations]
        series[kind] = [(step, value) for step, value in pairs if _is_finite(value)]
    if max(map(len, series.values())) < 2:
        return None
    xs = [x for points in series.values() for x, _y in points]
    ys = [y for points in series.values() for _x, y in points]
    x = Axis.over([0, *xs], 9, 98)._replace(high=float(max(xs)))
    y = Axis.over([0.0, *ys] if metric == "loss" else ys, 100, 0)
    lines = [Line(kind, [(x.at(a), y.at(b)) for a, b in points]) for kind, points in series.items() if points]
    best = record.get("details", "fitting", "best_step")
    if best is None:
        best = max((line["step"] for line in evaluations if line.get("best")), default=None)
    return Curves(metric, x, y, lines, None if best is None else x.at(min(best, x.high)))


def _smooth(steps: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return the training loss in at most BINS points, each the mean over neighbouring steps."""
    points = [(line["step"], line["loss"]) for line in steps if _is_finite(line["loss"])]
    width = max(1, math.ceil(len(points) / BINS))
    bins = [points[i : i + width] for i in range(0, len(points), width)]
    return [(sum(x for x, _y in part) / len(part), sum(y for _x, y in part) / len(part)) for part in bins]


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


@dataclass(frozen=True)
class Scatter:
    """Answers against true numbers on one scale: points in per cent, y from the top."""

    x: Axis
    y: Axis
    points: list[tuple[float, float]]


def scatter(record: Record) -> Scatter | None:
    """Return the chart of at most `DOTS` answers against the true numbers; None where answers are no numbers."""
    if not record.details.get("numbers"):
        return None
    pairs = [
        (float(row["label"]), float(row["prediction"]))
        for row in record.predictions()
        if row["error"] is not None
    ]
    pairs = [pairs[place] for place in spread(len(pairs), DOTS)]
    if not pairs:
        return None
    ends = [number for pair in pairs for number in pair]
    x, y = Axis.over(ends, 9, 98), Axis.over(ends, 100, 0)
    return Scatter(x, y, [(x.at(gold), y.at(answer)) for gold, answer in pairs])


@dataclass(frozen=True)
class Cell:
    """One cell of the confusion matrix: how many rows of `true` were called `predicted`, and which share."""

    true: str
    predicted: str
    count: int
    share: float

    @property
    def right(self) -> bool:
        """Whether the cell lies on the diagonal."""
        return self.true == self.predicted


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix, a list of cells a true label, and its most frequent mistakes."""

    labels: list[str]
    rows: list[list[Cell]]
    pairs: list[Cell]


def confusion(record: Record, count: int = 15) -> Confusion | None:
    """Return the confusion matrix with its `count` most frequent mistakes; None where there is none."""
    found = record.details.get("confusion") or {}
    labels = [str(label) for label in found.get("labels") or []]
    if not labels or not found.get("counts"):
        return None
    rows = []
    for true, counts in zip(labels, found["counts"], strict=True):
        total = sum(counts)
        rows.append(
            [
                Cell(true, predicted, n, n / total if total else 0.0)
                for predicted, n in zip(labels, counts, strict=True)
            ]
        )
    wrong = [cell for row in rows for cell in row if cell.count and not cell.right]
    return Confusion(labels, rows, sorted(wrong, key=lambda cell: (-cell.count, -cell.share))[:count])


def describe(curve: Curves) -> str:
    """Return a learning curve in a sentence, for those who do not see it."""
    names = {"train": _("training"), "validation": _("validation"), "steps": _("each training step")}
    height = curve.y.high - curve.y.low
    parts = []
    for line in curve.lines:
        first, last = (curve.y.high - point[1] / 100 * height for point in (line.points[0], line.points[-1]))
        parts.append(
            _("{kind}: from {first} to {last}").format(
                kind=names[line.kind], first=number(first, 3), last=number(last, 3)
            )
        )
    return "; ".join(parts) + "."

"""The report of a comparison: one HTML page that needs nothing but itself."""

import json
import math
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from afina.messages import N_, _
from afina.messages.numbers import number
from afina.report import page
from afina.report.charts import Axis, Dot, Dots
from afina.report.lines import UNLIKE, best_first, called, decisions, groups, key, of_several, staged
from afina.report.record import task

COSTS = {
    "trained_weights": N_("Weights trained"),
    "peak_memory_mb": N_("Peak memory of training, MB"),
    "train_seconds": N_("Training time, s"),
}


class Point(NamedTuple):
    """A method in the picture of quality against cost; `best` where nothing cheaper is as good."""

    system: str
    x: float
    y: float
    best: bool


class Scatter(NamedTuple):
    """Quality against one cost, the cost on a logarithmic scale; places in per cent, y from the top."""

    title: str
    x: list[tuple[float, str]]
    y: list[tuple[float, str]]
    points: list[Point]


def write(run: Path) -> Path:
    """Write `report.html` into the comparison's folder, in the current language, and return its path."""
    result = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    lines = best_first(result["rows"], result["direction"])
    metric = next(iter(lines[0]["scores"])) if lines else None
    several = of_several(result["rows"])
    about = task(result["task"], result["task_settings"]).about()
    for line in result["rows"]:
        line["name"] = called(line, about, several=several)
    chosen = tuple(result["recommendation"].get(name) for name in ("method", "model"))
    text = (
        page.environment(html=True)
        .get_template("compare.html.j2")
        .render(
            result=result,
            lines=lines,
            failed=[line for line in result["rows"] if not line["scores"] or line["error"]],
            notes=dict.fromkeys(
                f"{line['name']}: {note}" for line in result["rows"] for note in line["notes"]
            ),
            metric=metric,
            staged=staged,
            stages=any(map(staged, lines)),
            unlike=_(UNLIKE) if len(groups(lines)) > 1 else None,
            reasons=[
                reason
                for group in groups(lines)
                for reason in _reasons(group, result["tests"], result["direction"], several)
            ],
            dots=_dots(lines, metric) if metric else None,
            scatters=[found for cost in COSTS if (found := _scatter(lines, cost, result["direction"]))],
            recommended=next(
                (line["name"] for line in lines if (line["method"], line["model"]) == chosen), None
            ),
            names={key(line, several=several): line["name"] for line in result["rows"]},
            title=run.name,
            shell=shlex.quote,
            css=(page.TEMPLATES / "report.css").read_text(encoding="utf-8"),
        )
    )
    page.save(run / "report.html", text)
    return run / "report.html"


def _reasons(
    lines: list[dict[str, Any]], tests: list[dict[str, Any]], direction: int, several: bool
) -> list[str]:
    """Say of the methods that are shown to be worse than the best one what their curves tell of the reason."""
    learnt = [line for line in lines if line["learnt"] and line["method"] != "random_weights"]
    if not learnt:
        return []
    best = learnt[0]
    shown = decisions(key(best, several=several), tests)
    others = [
        line["learnt"] | {"name": line["name"]}
        for line in learnt
        if shown.get(key(line, several=several)) == "better"
    ]
    at_best = best["learnt"]["train"]
    behind = [one for one in others if direction * (at_best - one["train"]) > 0]
    groups = {
        _(
            "Worse than {best} on the rows that they learnt from too ({score} there), so they had not learnt as much: "
            "{methods}."
        ): behind,
        _(
            "Their best weights were mostly those of the last scoring, so more epochs (--num-train-epochs) may bring them "
            "closer: {methods}."
        ): [one for one in behind if 2 * one["last"] > one["runs"]],
        _(
            "As good as {best} on the rows that they learnt from ({score} there), but not on new ones, so more epochs would "
            "not help: {methods}."
        ): [one for one in others if one not in behind],
    }
    return [
        sentence.format(
            best=best["name"],
            score=number(at_best, 3),
            methods=", ".join(f"{one['name']} ({number(one['train'], 3)})" for one in some),
        )
        for sentence, some in groups.items()
        if some
    ]


def _main(line: dict[str, Any]) -> dict[str, Any]:
    return next(iter(line["scores"].values()))


def _dots(lines: list[dict[str, Any]], metric: str) -> Dots:
    ends = [
        end for line in lines for end in (_main(line)[k] for k in ("value", "low", "high")) if end is not None
    ]
    axis = Axis.over(ends, 30, 88, 6)
    found = []
    for line in lines:
        value, low, high = (_main(line)[key] for key in ("value", "low", "high"))
        ends_at = (None, None) if low is None else (axis.at(low), axis.at(high))
        found.append(Dot(line["name"], value, axis.at(value), *ends_at))
    return Dots(axis, [(metric, found)])


def _scatter(lines: list[dict[str, Any]], cost: str, direction: int) -> Scatter | None:
    """Return the picture of quality against one cost, None where fewer than two methods have that cost."""
    shown = [line for line in lines if line[cost]]
    if len(shown) < 2:
        return None
    logs = [math.log10(line[cost]) for line in shown]
    x = Axis.over([math.floor(min(logs)), math.ceil(max(logs)) or 1], 12, 92, 4)
    y = Axis.over([_main(line)["value"] for line in shown], 92, 6, 4)
    points = []
    for line, log in zip(shown, logs, strict=True):
        value = _main(line)["value"]
        rivals = [other for other in shown if other.get("tokens") == line.get("tokens")]
        gaps = [(line[cost] - other[cost], direction * (_main(other)["value"] - value)) for other in rivals]
        beaten = any(min(gap) >= 0 and max(gap) > 0 for gap in gaps)  # no worse in either, better in one
        points.append(Point(line["name"], x.at(log), y.at(value), not beaten))
    powers = range(math.floor(min(logs)), math.ceil(max(logs)) + 1)
    return Scatter(
        _(COSTS[cost]),
        [(x.at(power), number(10.0**power, max(0, -power))) for power in powers],
        y.ticks(),
        points,
    )

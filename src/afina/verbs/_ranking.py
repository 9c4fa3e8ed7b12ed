"""From finished runs to a table, to tests between its rows, and to a recommendation that follows from both."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

from afina.core import About, Row, Task
from afina.messages import N_, _
from afina.messages.numbers import number
from afina.names import find, known
from afina.report.lines import UNDECIDED, UNLIKE, called, decisions, groups, key, of_several
from afina.report.terms import METRICS, name, only_measured, short
from afina.scoring.over_seeds import Pair, System, compare, interval, system
from afina.scoring.paired import decision
from afina.verbs import _forgetting
from afina.verbs._prepare import GROUP
from afina.verbs._trials import Done

LIMITS = {"max_memory": "peak_memory_mb", "max_size": "saved_mb", "max_latency": "latency_ms"}
Line = dict[str, Any]


class Told(NamedTuple):
    """The answers of one run, and the task as that run learnt it: thresholds are tuned run by run."""

    task: Task
    answers: Sequence[Any]


def table(
    done: Sequence[Done],
    task: Task,
    rivals: Mapping[str, Sequence[Any]],
    rows: Sequence[Row],
    tokens: Mapping[str | None, str],
) -> tuple[list[Line], list[Line]]:
    """Return the table, a line a method and model and one a baseline, and the tests between every two lines.

    `tokens` are as `_tokens.shared` returns them: losses a token are tested among lines with the same ones only.
    """
    lines: dict[str, Line] = {}
    answers: dict[str, list[Told]] = {}
    runs = _runs(done)
    made = [bare_line(group) for group in runs]
    for line, group in zip(made, runs, strict=True):
        name = key(line, several=of_several(made))
        lines[name] = line
        answers[name] = [
            Told(task.of(each.measured["task_settings"]), each.measured["answers"])
            for each in group
            if each.measured
        ]
    first = next((told[0] for told in answers.values() if told), None)
    tuned = first.task if first else task
    main = next(iter(tuned.score(first.answers, rows).values)) if first else None
    for name, found in rivals.items():
        if main and main not in tuned.score(found, rows).values:
            continue  # it writes but gives tokens no probability, so it has no place in a ranking by loss
        lines[name] = bare_line([]) | {"method": name}
        answers[name] = [Told(tuned, found)]
    clusters = [
        [name for name in (("cluster", task.cluster(row)), (GROUP, row.get(GROUP))) if name[1] is not None]
        for row in rows
    ]
    systems = {
        name: system(
            [each.task.main for each in told], [each.answers for each in told], rows, clusters,
            trained=name not in rivals,
        )
        for name, told in answers.items()
        if told
    }  # fmt: skip
    if main == "loss" and len(set(tokens.values())) > 1:
        for line in lines.values():
            line["tokens"] = tokens.get(line["model"], line["model"])
    alike: dict[str | None, dict[str, System]] = {}
    for name, one in systems.items():
        alike.setdefault(lines[name]["tokens"], {})[name] = one
    for name, one in systems.items():
        lines[name]["scores"] = _scores(answers[name], rows, one, list(alike[lines[name]["tokens"]].values()))
        lines[name]["ece"] = _calibration(answers[name], rows)
    metric = next(iter(next(iter(lines[name]["scores"] for name in systems)))) if systems else ""
    tests = [_told(pair) for group in alike.values() for pair in compare(group, metric, task.direction)]
    return list(lines.values()), tests


def _runs(done: Sequence[Done]) -> list[list[Done]]:
    """Return the runs of each method and model."""
    found: dict[tuple[str, str], list[Done]] = {}
    for each in done:
        found.setdefault((each.trial.method, each.trial.model), []).append(each)
    return list(found.values())


def bare_line(group: Sequence[Done]) -> Line:
    """Return the line of the runs of one method and model, without scores: what they have cost, and what went wrong."""
    results = [each.result for each in group if each.result]
    measured = [each.measured for each in group if each.measured]
    errors = [each.error for each in group if each.error]

    def typical(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return round(median(known), 2) if known else None

    return {
        "method": group[0].trial.method if group else None,
        "model": group[0].trial.model if group else None,
        "seeds": [each.trial.seed for each in group if each.measured],
        "scores": None,
        "learning_rate": group[0].trial.settings.get("learning_rate") if group else None,
        "trained_weights": results[0]["trained_weights"] if results else None,
        "saved_mb": typical([each["saved_mb"] for each in measured]),
        "peak_memory_mb": max((each["peak_memory_mb"] for each in results), default=None),
        "train_seconds": typical([_train_seconds(each) for each in results]),
        "latency_ms": typical([each["latency_ms"] for each in measured]),
        "ece": None,
        "tokens": None,
        "learnt": _learnt(results),
        "change": _change(group),
        "forgetting": _forgetting.typical([each["forgetting"] for each in measured]),
        "notes": list(dict.fromkeys(note for each in measured for note in each.get("notes", []))),
        "error": errors[0] if errors else None,
    }


def _learnt(results: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the mean scores of the best weights on training and validation rows, and in how many runs they came last.

    With folds each of their models is a run. None where no run was scored on the way.
    """
    runs = [run for each in results for run in each.get("folds", [each])]
    curves = [run.get("details", {}).get("fitting") or {} for run in runs]  # few shots train nothing
    curves = [curve for curve in curves if curve.get("train") is not None]
    if not curves:
        return None
    means = {part: sum(curve[part] for curve in curves) / len(curves) for part in ("train", "validation")}
    last = sum(curve["best_step"] == curve["steps"] for curve in curves)
    return means | {"last": last, "runs": len(curves)}


def _train_seconds(result: Mapping[str, Any]) -> float | None:
    """Return how long a run has trained, with its stages before."""
    runs = [result, *result.get("stages", [])]
    return None if result["seconds"]["train"] is None else sum(each["seconds"]["train"] for each in runs)


def _change(group: Sequence[Done]) -> str:
    """Return, in English, what of the model changes: nothing under a baseline that is no training."""
    method = group[0].trial.settings["method"] if group else None
    return find("methods", method).change if method in known("methods") else N_("none")


def _calibration(told: Sequence[Told], rows: Sequence[Row]) -> float | None:
    """Return the mean calibration error over seeds, None where answers are no probabilities."""
    found = [each.task.calibration(each.answers, rows) for each in told]
    known = [error for error in found if error is not None]
    return sum(known) / len(known) if known else None


def _scores(
    told: Sequence[Told], rows: Sequence[Row], one: System, every: Sequence[System]
) -> dict[str, Any]:
    """Return the mean of every metric over seeds; the main one has its interval over rows and seeds.

    The others have the mean of their runs' own limits, which tell of rows alone. `spread` is the standard
    deviation over seeds.
    """
    runs = [each.task.score(each.answers, rows).values for each in told]
    found = {}
    for place, metric in enumerate(runs[0]):
        scores = [run[metric] for run in runs]
        limits = _mean_limits(scores)
        if place == 0:
            limits = interval(one, every, metric, limits)
        values = [score.value for score in scores]
        mean = sum(values) / len(values)
        spread = (
            (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 if values[1:] else None
        )
        low, high = limits or (None, None)
        found[metric] = {"value": mean, "low": low, "high": high, "n": scores[0].n, "spread": spread}
    return found


def _mean_limits(scores: Sequence[Any]) -> tuple[float, float] | None:
    if any(score.low is None or score.high is None for score in scores):
        return None
    return sum(score.low for score in scores) / len(scores), sum(score.high for score in scores) / len(scores)


def _told(pair: Pair) -> Line:
    gap = pair.difference
    return {
        "a": pair.a, "b": pair.b, "metric": gap.metric, "difference": gap.value, "low": gap.low, "high": gap.high,
        "p": gap.p, "decision": decision(gap),
    }  # fmt: skip


def recommend(
    lines: Sequence[Line],
    tests: Sequence[Line],
    limits: Mapping[str, float | None],
    direction: int,
    about: About = About(),  # noqa: B008 (it is frozen)
) -> dict[str, Any]:
    """Return the line with the best mean among those within the limits, and why, in sentences.

    Among lines that cannot be compared there is none, and of each group it is said which is the best in it.
    """
    several = of_several(lines)
    found = groups(lines)
    tokens = {group[0].get("tokens") for group in found if any(line["model"] for line in group)}
    if len(tokens) < 2:
        # A baseline alone in other tokens, to which a chain has added some, is not what people choose from.
        alike = lines if len(found) < 2 else [line for line in lines if line.get("tokens") in tokens]
        return _best(alike, tests, limits, direction, about, several=several)
    why = [_(UNLIKE)]
    for tokens in dict.fromkeys(line["tokens"] for line in lines):
        group = [line for line in lines if line["tokens"] == tokens]
        models = ", ".join(dict.fromkeys(line["model"] for line in group if line["model"]))
        if models:
            why.append(f"{models}: {_best(group, tests, limits, direction, about, several=several)['why']}")
    return {"method": None, "model": None, "why": " ".join(why)}


def _best(
    lines: Sequence[Line],
    tests: Sequence[Line],
    limits: Mapping[str, float | None],
    direction: int,
    about: About,
    *,
    several: bool,
) -> dict[str, Any]:
    """Return the recommendation among lines that can be compared; with `several` models each is named."""
    said = partial(called, about=about, several=several)
    scored = [line for line in lines if line["scores"]]
    able = [line for line in scored if not only_measured(about, line["method"])]
    kept = [line for line in able if not _beyond(line, limits)]
    out = [said(line) for line in able if _beyond(line, limits)]
    missing = [said(line) for line in lines if not line["scores"]]
    left = [_("Beyond the limits: {names}.").format(names=", ".join(out))] if out else []
    left += [_("Without a result: {names}.").format(names=", ".join(missing))] if missing else []
    if not any(line["method"] in known("methods") for line in scored):
        why = [_("No method was measured, so there is nothing to recommend."), *left]
        return {"method": None, "model": None, "why": " ".join(why)}
    if not kept:
        why = [_("No method was measured within the limits."), *left]
        return {"method": None, "model": None, "why": " ".join(why)}
    metric = next(iter(kept[0]["scores"]))

    def good(line: Line) -> float:
        return float(direction * line["scores"][metric]["value"])

    best = max(kept, key=good)
    measured = [line for line in scored if only_measured(about, line["method"])]
    better = [line for line in measured if good(line) > good(best)]
    others = [line for line in (*kept, *measured) if line is not best]
    shown = decisions(key(best, several=several), tests)
    found = [shown.get(key(line, several=several)) for line in others]
    equals = [
        line for line, each in zip(others, found, strict=True) if each == UNDECIDED and line not in better
    ]
    why = [
        _("{method} has the best {metric} of what is within the limits: {value}.").format(
            method=said(best), metric=name(METRICS, metric), value=number(best["scores"][metric]["value"], 3)
        )
    ]
    if equals:
        why.append(
            _("No difference is shown between it and {others}.").format(others=", ".join(map(said, equals)))
        )
        why += _smaller(best, equals, said)
    elif not others:
        why.append(
            _("It is the only one within the limits, so there is nothing to compare it with.")
            if out
            else _("It is the only one with a result, so there is nothing to compare it with.")
        )
    elif set(found) == {"better"}:
        why.append(
            _("It is better than every other one within the limits, and the difference is shown.")
            if out
            else _("It is better than every other one, and the difference is shown.")
        )
    if others and {len(line["seeds"] or ()) for line in scored} - {0} == {1}:
        why.append(
            _(
                "With one seed a difference is one between these trained models, not between the methods: what other "
                "seeds would change is not known."
            )
        )
    if better:
        why.append(
            _(
                "But {names} came out better, which only measures how much was learnt: none of these has learnt enough yet."
            ).format(names=", ".join(short(about, line["method"]) for line in better))
        )
    return {"method": best["method"], "model": best["model"], "why": " ".join([*why, *left])}


def _smaller(best: Line, equals: Sequence[Line], said: Callable[[Line], str]) -> list[str]:
    """Say which of those that are not shown to be worse saves least, where that is less than half."""
    smaller = [line for line in equals if line["saved_mb"] and line["saved_mb"] < (best["saved_mb"] or 0) / 2]
    if not smaller:
        return []
    least = min(smaller, key=lambda line: line["saved_mb"])
    return [
        _("{method} saves {mb} MB instead of {more} MB.").format(
            method=said(least), mb=number(least["saved_mb"], 1), more=number(best["saved_mb"], 1)
        )
    ]


def _beyond(line: Line, limits: Mapping[str, float | None]) -> bool:
    return any(
        limits[limit] is not None and (line[figure] or 0.0) > limits[limit]  # type: ignore[operator]
        for limit, figure in LIMITS.items()
    )

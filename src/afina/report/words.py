"""What the figures mean, in sentences that a student understands."""

import json
from typing import Any, NamedTuple

from afina.messages import _
from afina.messages.numbers import number
from afina.report.numbers import interval, p_value
from afina.report.record import Record
from afina.report.terms import METRICS, capital, name, only_measured, system

FEW = 30  # rows; fewer are not spoken of by the hundred
LOWER = ("loss",)  # is better


class Verdict(NamedTuple):
    """The report's first words: `tone` is good, even, bad or none."""

    tone: str
    title: str
    text: str


def forgetting(loss: dict[str, float | None]) -> str:
    """Return the loss on neutral text before and after training."""
    return f"{number(loss['before'], 3)} → {number(loss['after'], 3)}"


def no_forgetting(line: dict[str, Any]) -> str:
    """Return why a line of a comparison tells no forgetting: there is nothing to forget, or no head to ask."""
    from_the_checkpoint = line["change"] != "none" and line["method"] != "random_weights"
    return _("not measurable") if from_the_checkpoint else "–"


def verdict(record: Record) -> Verdict:
    """Return whether the model is worth it: a baseline that wins or ties is said first."""
    if not record.scores:
        return Verdict("none", _("This run has no scores yet."), _("It was stopped, or is still under way."))
    order = list(record.systems)
    tests = sorted(
        (test for test in record.differences if test["b"] in order),
        key=lambda test: order.index(test["b"]),
    )
    for decision, tone in (("worse", "bad"), ("no difference shown", "even")):
        for test in tests:
            if test["decision"] == decision:
                rival = system(record.about, test["b"])
                title = (
                    _("A baseline wins: {baseline} is better than the model.")
                    if tone == "bad"
                    else _("No difference shown between the model and {baseline}.")
                )
                if tone == "bad" and only_measured(record.about, test["b"]):
                    advice = _(
                        "It only measures how much was learnt and cannot do the model's work: give the model more rows, "
                        "more epochs or another start."
                    )
                    return Verdict(tone, title.format(baseline=rival), f"{_measured(test)} {advice}")
                advice = (
                    _("Use the baseline, or give the model more rows, more epochs or another start.")
                    if tone == "bad"
                    else undecided(test)
                    or _("As far as these rows can tell, the cheaper one of the two is as good.")
                )
                return Verdict(tone, title.format(baseline=rival), f"{_measured(test)} {advice}")
    rivals = order[1:]
    if tests and tests[0]["b"] == rivals[0]:
        return Verdict(
            "good",
            _("The model is better than every baseline that was run."),
            f"{_nearest(record, tests[0])} {_measured(tests[0])}",
        )
    if not rivals:
        return Verdict(
            "none",
            _("No baseline was run."),
            _("So nothing says whether a simpler way would have been as good."),
        )
    best = system(record.about, rivals[0])
    if record.value(record.systems[rivals[0]]) >= record.value(record.scores):
        title = _("{baseline} scores as high as the model, or higher.").format(baseline=capital(best))
        return Verdict("bad", title, _("No paired test of the difference was recorded."))
    return Verdict(
        "none",
        _("The model scores higher than the baselines."),
        _("But no paired test was recorded that says whether by more than chance."),
    )


def difference(record: Record, test: dict[str, Any]) -> str:
    """Return one paired difference in words."""
    sentence = {
        "better": _("{model} is better than {baseline}."),
        "worse": _("{model} is worse than {baseline}."),
    }.get(test["decision"], _("Between {model} and {baseline} no difference is shown."))
    said = sentence.format(model=system(record.about, test["a"]), baseline=system(record.about, test["b"]))
    return " ".join(part for part in (capital(said), _measured(test), undecided(test)) if part)


def undecided(test: dict[str, Any]) -> str:
    """Say so where the interval leaves zero out but the test does not, which happens on few rows; empty elsewhere."""
    low, high = test.get("low"), test.get("high")
    if test["decision"] != "no difference shown" or low is None or high is None or low <= 0 <= high:
        return ""
    return _(
        "The interval leaves zero out but the test, {p}, does not agree: these rows are too few to say."
    ).format(p=p_value(test["p"]))


def _nearest(record: Record, test: dict[str, Any]) -> str:
    return _("The nearest is {baseline}.").format(baseline=system(record.about, test["b"]))


def _measured(test: dict[str, Any]) -> str:
    sentence = _("Model minus baseline: {difference} in {metric} (95 %\u00a0interval {interval}, {p}).")
    if test["metric"] in LOWER:
        sentence = _("Baseline minus model: {difference} in {metric} (95 %\u00a0interval {interval}, {p}).")
    return sentence.format(
        difference=number(test.get("difference"), 3, sign=True),
        metric=name(METRICS, test["metric"]),
        interval=interval(test.get("low"), test.get("high"), sign=True),
        p=p_value(test.get("p")),
    )


def summary(record: Record) -> list[str]:
    """Return what the model reaches, on which rows, and what to keep in mind about them."""
    if not record.scores or record.main is None:
        return []
    figure = record.scores[record.main]
    metric = capital(name(METRICS, record.main))
    if figure.get("low") is None:
        sentences = [
            _("{metric} {value} on {n} rows; too few for an interval.").format(
                metric=metric, value=number(figure["value"], 3), n=number(figure.get("n"))
            )
        ]
    else:
        sentences = [
            _("{metric} {value} on {n} rows (95 %\u00a0interval {interval}).").format(
                metric=metric,
                value=number(figure["value"], 3),
                n=number(figure.get("n")),
                interval=interval(figure["low"], figure["high"]),
            )
        ]
    accuracy = (record.scores.get("accuracy") or {}).get("value")
    if accuracy is not None:
        right = {
            "rows": _("Of 100 such rows it labels about {n} right."),
            "words": _("Of 100 words of such rows it labels about {n} right."),
        }[record.unit]
        sentences.append(right.format(n=number(100 * accuracy)))
    exact = (record.scores.get("exact_match") or {}).get("value")
    if exact is not None and record.scores["exact_match"]["n"] >= FEW:
        of_100 = _("Of 100 such questions it answers about {n} word for word.")
        if record.main in LOWER:
            of_100 = _("Of 100 such texts it writes about {n} letter for letter.")
        sentences.append(of_100.format(n=number(100 * exact)))
    if record.folds:
        sentences.append(
            _(
                "Each row was scored by the one of {k} models that had learnt from no row of its fold. The interval tells "
                "of other rows, not of other models: the {k} share most of their training rows."
            ).format(k=number(len(record.folds)))
        )
    if record.part == "validation":
        sentences.append(
            _(
                "There is no test part: these are the validation rows on which the best weights were chosen, "
                "so the figures are a little too good. Give --test for an honest score."
            )
        )
    return sentences


def stages(record: Record) -> list[str]:
    """Say what the model learnt in the stages before the run, and whether rows it is scored on were among that."""
    found = record.get("stages") or []
    if not found:
        return []
    each = [
        f"{place}. {stage['verb']}"
        + (f" {stage['task']}" if stage.get("task") else "")
        + f" ({', '.join(stage['texts']) if 'texts' in stage else stage['data']})"
        for place, stage in enumerate(found, 1)
    ]
    counts = [stage["left_out"] for stage in found]
    left_out = sum(count or 0 for count in counts)
    sentence = _("No text that it was chosen by or is scored on was among that.")
    if left_out:
        sentence = _("Texts that it was chosen by or is scored on were left out of that: {count}.")
    known = [sentence.format(count=number(left_out))] if None not in counts else []
    return [
        _("Before, it learnt in stages, each from the model that the one before had left: {stages}.").format(
            stages="; ".join(each)
        ),
        *known,
    ]


def ranked(record: Record) -> list[tuple[str, dict[str, Any]]]:
    """Return the labels with their figures, the lowest F1 first."""
    classes = record.details.get("per_class") or {}
    return sorted(classes.items(), key=lambda item: (item[1].get("f1") or 0.0, item[0]))


def weakest(record: Record, count: int = 3) -> list[str]:
    """Return the labels with the lowest F1 in words, at most `count` and never more than half of them."""
    classes = ranked(record)
    few = classes[: min(count, len(classes) // 2)]
    return [f"{label} ({number(figures.get('f1'), 2)})" for label, figures in few]


def example(record: Record) -> str | dict[str, str]:
    """Return what the model may be asked, a text or a row of texts."""
    inputs = record.task.inputs
    alone = len(inputs) == 1 or "messages" in inputs  # what a person says stands for a conversation
    return _("your text") if alone else dict.fromkeys(inputs, "…")


def call(record: Record) -> str:
    """Return the line of Python that asks transformers' pipeline, `classify`."""
    about, length = record.about, record.get("details", "data", "length", "max_length")
    given = [json.dumps(example(record), ensure_ascii=False), "truncation=True"]
    given += ([f"max_length={length}"] if length else []) + ([about.options] if about.options else [])
    return f"classify({', '.join(given)})" + (f"  # {about.reading}" if about.reading else "")


def lengths(record: Record) -> list[str]:
    """Return how long the texts are and what the model does not see of them."""
    length = record.get("details", "data", "length") or {}
    sentences = []
    if length.get("median") is not None:
        sentences.append(
            _(
                "Half of the texts have at most {median} tokens, 95 % at most {p95}; the longest has {max}."
            ).format(**{key: number(length.get(key)) for key in ("median", "p95", "max")})
        )
    if length.get("rows_in_windows"):
        sentences.append(
            _(
                "The model reads {max_length} tokens at once. Rows that were read to their end in overlapping windows: {rows}."
            ).format(max_length=number(length["max_length"]), rows=number(length["rows_in_windows"]))
        )
    elif length.get("max_length") is not None and not length.get("rows_cut"):
        sentences.append(
            _("The model reads up to {max_length} tokens, so no text was cut.").format(
                max_length=number(length["max_length"])
            )
        )
    if length.get("max_length") is not None and length.get("rows_cut"):
        sentences.append(
            _("The model reads the first {max_length} tokens. Texts that were cut: {rows}.").format(
                max_length=number(length["max_length"]), rows=number(length["rows_cut"])
            )
        )
        if length.get("tokens_cut"):
            sentences.append(
                _("Tokens that are not seen, in all: {tokens}. A larger --max-length keeps more.").format(
                    tokens=number(length["tokens_cut"])
                )
            )
    return sentences

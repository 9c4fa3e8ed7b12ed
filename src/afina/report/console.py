"""What a command prints for a person when its work is done: one function a verb; tabs part the columns."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.box import Box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from afina.core import About
from afina.messages import N_, _
from afina.messages.numbers import number
from afina.report.lines import best_first, called, of_several
from afina.report.numbers import interval, share
from afina.report.record import saved_task, task
from afina.report.terms import METRICS, name, short, system
from afina.report.words import forgetting, no_forgetting, undecided
from afina.scoring.entities import in_words

COSTS = {"trained_weights": 0, "saved_mb": 1, "peak_memory_mb": 0, "train_seconds": 1}
DISPENSABLE = ("peak_memory_mb", "saved_mb", "trained_weights", "train_seconds")  # the first one most
WIDE = 10_000  # signs, more than a terminal has
TITLES = {
    "folds": N_("Scores of all rows, each by a model that has not seen it"),
    "test": N_("Scores on the test part"),
    "validation": N_("Scores on the validation part"),
}
WHERE = {"embedded": N_("embedded"), "cache": N_("in the cache")}


def finetune(result: dict[str, Any]) -> None:
    """Print the scores beside the baselines, the verdict, and where the report lies."""
    _scores(result)
    fitting = result["details"].get("fitting") or {}
    for sentence in fitting.get("words", []):
        print(sentence)
    if "folds" in result["scores"]:
        print(
            _(
                "The folds leave no model to use. This trains one, on 70 %\u00a0of the rows: "
                "afina finetune {path}/run.toml --folds 0"
            ).format(path=result["run"])
        )
    else:
        print(_("The model: {path}/best").format(path=result["run"]))
    print(_("The report: {path}/report.html").format(path=result["run"]))


def compare(result: dict[str, Any]) -> None:
    """Print the table of a comparison, what the tests show, and the recommendation."""
    lines, words = result["rows"], task(result["task"], result["task_settings"]).about()
    metric = next((next(iter(line["scores"])) for line in lines if line["scores"]), "")
    several = of_several(lines)
    shown = [*best_first(lines, result["direction"]), *(line for line in lines if not line["scores"])]
    scores = [(line["scores"] or {}).get(metric) for line in shown]
    costs = (_("weights trained"), _("saved, MB"), _("memory, MB"), _("training, s"))
    _print(
        _(TITLES[result["part"]]),
        [
            _Column(_("method"), [called(line, words, several=several) for line in shown], words=True),
            _Column(name(METRICS, metric), [_cell(score) for score in scores]),
            _Column(_("95 %\u00a0interval"), [_range(score) if score else "–" for score in scores]),
            *(
                _Column(head, [number(line[key], digits) for line in shown], spare=DISPENSABLE.index(key) + 1)
                for head, (key, digits) in zip(costs, COSTS.items(), strict=True)
            ),
        ],
    )
    _changes(shown, words, several=several)
    for note in dict.fromkeys(note for line in lines for note in line["notes"]):
        whose = (called(line, words, several=several) for line in lines if note in line["notes"])
        print(f"{', '.join(whose)}: {note}")
    for line in lines:
        if line["error"]:
            print(f"{called(line, words, several=several)}: {line['error']}")
    print(result["recommendation"]["why"])
    print(_("The report: {path}/report.html").format(path=result["run"]))


def _changes(lines: list[dict[str, Any]], about: About, *, several: bool) -> None:
    """Print what each method changes, how far its probabilities are off, and what it forgets."""
    lines = [line for line in lines if line["scores"]]
    languages = list(dict.fromkeys(language for line in lines for language in line["forgetting"] or ()))
    forgotten = [
        _Column(
            _("forgetting") + (f", {language}" if language else ""),
            [
                forgetting(line["forgetting"][language]) if line["forgetting"] else no_forgetting(line)
                for line in lines
            ],
        )
        for language in languages or [""]
    ]
    _print(
        _("What changes, and what is forgotten"),
        [
            _Column(_("method"), [called(line, about, several=several) for line in lines], words=True),
            _Column(_("kind of change"), [_(line["change"]) for line in lines], words=True, spare=2),
            _Column(_("ECE"), [number(line["ece"], 3) for line in lines], spare=1),
            *forgotten,
        ],
    )


class _Column(NamedTuple):
    """A heading and what stands under it: `words`, which may be broken, or figures; `spare` ones fall away, 1 first."""

    head: str
    cells: list[str]
    words: bool = False
    spare: int = 0


def _print(title: str, columns: list[_Column], style: Box = box.SIMPLE, padding: int = 0) -> None:
    """Print a table without what is spare where the terminal is too narrow: no heading and no figure is ever cut."""
    console = Console()
    while True:
        table = Table(title=title, box=style, padding=(0, padding))
        for column in columns:
            if column.words:
                table.add_column(column.head, overflow="fold")
            else:  # rich would cut words in two: only the lines of a heading are broken
                head = re.sub(r" (?!%)", "\n", column.head)
                table.add_column(head, justify="right", no_wrap=True)
        for cells in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*cells)
        least = Measurement.get(console, console.options.update(width=WIDE), table).minimum
        spare = [column.spare for column in columns if column.spare]
        if least <= console.width or not spare:
            console.print(table)
            return
        columns = [column for column in columns if column.spare != min(spare)]


def evaluate(result: dict[str, Any]) -> None:
    """Print the scores of a run on other rows."""
    _scores(result)


def predict(answers: Iterable[dict[str, Any]]) -> None:
    """Print one line an input, as soon as it is there: the answer and how sure the model is, or a number as it is."""
    for answer in answers:
        told, sure = answer["prediction"], answer.get("probability", answer.get("score"))
        if isinstance(told, float):
            print(number(told, 3), flush=True)
        elif sure is None:  # a text that was written
            print(told, flush=True)
        else:
            print(_told(told), number(sure, 3), sep="\t", flush=True)


def chat(said: list[dict[str, str]]) -> None:
    """Print the replies, a line each, where they were not seen when they were given."""
    if not sys.stdin.isatty():
        for message in said:
            if message["role"] == "assistant":
                print(" ".join(message["content"].split()))


def _told(prediction: Any) -> str:
    if isinstance(prediction, list):
        return "; ".join(each if isinstance(each, str) else in_words([each]) for each in prediction) or "–"
    return prediction or _("(no answer)")


def adapt(result: dict[str, Any]) -> None:
    """Print what a pre-training prints, what the losses were before, and what was forgotten."""
    for loss, value in result["losses"]["before"].items():
        if value is not None:
            print(
                _("Held-out loss before training, {name}: {value}").format(name=loss, value=number(value, 3))
            )
    pretrain(result)
    for language, loss in result["forgetting"].items():
        print(
            _("Forgetting, loss on neutral text ({language}): {loss}").format(
                language=language, loss=forgetting(loss)
            )
        )


def pretrain(result: dict[str, Any]) -> None:
    """Print what was seen and learnt."""
    if result["share_of_peak"] > 1:
        words = _(
            "{tokens} tokens seen, {speed} tokens/s (the share of the matrix peak is unknown: the machine had less time "
            "for the product that it is measured by than for the training)."
        )
    else:
        words = _("{tokens} tokens seen, {speed} tokens/s ({share} of the matrix peak).")
    print(
        words.format(
            tokens=number(result["tokens_seen"]),
            speed=number(result["tokens_per_s"]),
            share=share(result["share_of_peak"]),
        )
    )
    if (several := result["processes"]) > 1:
        print(
            _("{n} processes, {speed} tokens/s in each.").format(
                n=several, speed=number(result["tokens_per_s"] / several)
            )
        )
    for loss, value in result["losses"]["validation"].items():
        print(_("Held-out loss, {name}: {value}").format(name=loss, value=number(value, 3)))
    print(_("The model: {path}/best").format(path=result["run"]))


def models(found: list[dict[str, Any]]) -> None:
    """Print the models, or where one was saved."""
    for model in found:
        if "folder" in model:
            print(_("{name} lies in {folder} ({mb} MB).").format(**model | {"mb": number(model["mb"], 1)}))
        else:
            languages = ", ".join(model["languages"] or ["?"])
            size, where = f"{number(model['mb'], 1)} MB", name(WHERE, model["where"])
            print(model["name"], size, languages, model["license"] or "?", where, sep="\t")


def _scores(result: dict[str, Any]) -> None:
    part = next((part for part in TITLES if result["scores"].get(part)), "validation")
    ours = result["scores"][part]
    rivals = {rival: scores[part] for rival, scores in result["baselines"].items() if scores.get(part)}
    words = (
        saved_task(Path(result["run"]), result["task"]) if result["run"] else task(result["task"], {})
    ).about()
    _print(
        _(TITLES[part]),
        [
            _Column("", [name(METRICS, metric) for metric in ours], words=True),
            _Column(_("model"), [_cell(score) for score in ours.values()]),
            _Column(_("95 %\u00a0interval"), [_range(score) for score in ours.values()]),
            *(
                _Column(
                    short(words, rival), [_cell(scores.get(metric)) for metric in ours], spare=len(rivals) - i
                )
                for i, (rival, scores) in enumerate(rivals.items())
            ),
        ],
        box.HEAVY_HEAD,
        1,
    )
    for gap in result["details"]["differences"].get(part, []):
        print(difference(words, gap))


def difference(about: About, gap: dict[str, Any]) -> str:
    """Say in plain words how the model compares with one baseline."""
    words = {
        "better": _("The model is better than {name} by {value} ({range})."),
        "worse": _("The model is worse than {name} by {value} ({range})."),
        "no difference shown": _("No difference shown between the model and {name} ({value}, {range})."),
    }
    value = number(
        gap["difference"] if gap["decision"] == "no difference shown" else abs(gap["difference"]), 3
    )
    sign = -1 if gap["decision"] == "worse" else 1
    low, high = sorted((sign * gap["low"], sign * gap["high"]))
    said = words[gap["decision"]].format(name=system(about, gap["b"]), value=value, range=interval(low, high))
    return f"{said} {undecided(gap)}".rstrip()


def _cell(score: dict[str, Any] | None) -> str:
    return number(score["value"], 3) if score else ""


def _range(score: dict[str, Any]) -> str:
    return "–" if score["low"] is None else interval(score["low"], score["high"])

"""What a run's folder says, read once; whatever is missing reads as empty."""

import csv
import json
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from afina.core import About, Task
from afina.errors import InputError
from afina.messages import _
from afina.names import find, known
from afina.train.track import read

FIGURES = ("probability", "score", "probability_of_label", "error", "loss")
NONE = "[]"  # how a cell says that a row has no labels


@dataclass(frozen=True)
class Record:
    """One run: its settings, what it recorded about itself, `scores.json` and the lines of `steps.jsonl`."""

    path: Path
    settings: dict[str, Any]
    recorded: dict[str, Any]
    results: dict[str, Any]
    lines: list[dict[str, Any]]

    @classmethod
    def of(cls, run: Path) -> "Record":
        """Read the folder; InputError where it holds no run or a file of it is broken."""
        if not any((run / name).is_file() for name in ("run.toml", "scores.json", "steps.jsonl")):
            raise InputError(
                _("{run} holds no run: there is no run.toml, scores.json or steps.jsonl.").format(run=run)
            )
        settings = _parse(run / "run.toml", tomllib.loads)
        recorded = settings.pop("recorded", None) or {}
        results = _parse(run / "scores.json", json.loads)
        return cls(run, settings, recorded, results, list(read(run / "steps.jsonl")))

    def get(self, *keys: str) -> Any:
        """Return what lies at `keys` in `scores.json`, None where any of them is missing or null."""
        found: Any = self.results
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    @property
    def part(self) -> str:
        """The rows that the figures speak of: all folds, or test, or validation where there is no test part."""
        return next((part for part in ("folds", "test") if self.get("scores", part)), "validation")

    @property
    def folds(self) -> list[dict[str, Any]]:
        """What was scored fold by fold, nothing of a run with one model."""
        return self.get("details", "by_fold") or []

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        """The model's figures on `part`, the main metric first."""
        return _known(self.get("scores", self.part))

    @property
    def main(self) -> str | None:
        """The main metric's name."""
        return next(iter(self.scores), None)

    @property
    def systems(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The figures of the model and of each baseline on `part`: the model, then the best baseline."""
        rivals = {
            name: _known(self.get("baselines", name, self.part)) for name in self.get("baselines") or {}
        }
        ranked = sorted(rivals, key=lambda name: -self.value(rivals[name]))
        return {"model": self.scores} | {name: rivals[name] for name in ranked if rivals[name]}

    def value(self, figures: dict[str, dict[str, Any]]) -> float:
        """Return how good the main metric's value among `figures` is, minus infinity where it is missing."""
        return self.task.direction * figures[self.main]["value"] if self.main in figures else float("-inf")

    @property
    def differences(self) -> list[dict[str, Any]]:
        """The paired differences on `part`, each as the model minus its rival."""
        found = self.get("details", "differences", self.part) or []
        return [_model_first(difference) for difference in found]

    @property
    def details(self) -> dict[str, Any]:
        """Per-class figures and confusion matrix on `part`."""
        return self.get("details", self.part) or {}

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The lines of `steps.jsonl` that are evaluations."""
        return [line for line in self.lines if line.get("validation")]

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The lines of `steps.jsonl` that are optimizer steps."""
        return [line for line in self.lines if line.get("loss") is not None]

    @property
    def address(self) -> str:
        """The run's folder as a person would type it."""
        return Path(self.results.get("run") or self.path).as_posix()

    @property
    def model(self) -> str | None:
        """The model that the run began from."""
        return self.results.get("model") or self.settings.get("model")

    @cached_property
    def task(self) -> Task:
        """The task that was learnt."""
        return saved_task(self.path, self.results.get("task") or str(self.settings.get("task")))

    @property
    def about(self) -> About:
        """The task's words."""
        return self.task.about()

    @property
    def unit(self) -> str:
        """What is counted label by label: rows, or the words or entities in them."""
        return self.details.get("unit") or "rows"

    @property
    def labels(self) -> list[str]:
        """The label names, in the model's order where it is known."""
        confusion = self.details.get("confusion") or {}
        return [str(label) for label in confusion.get("labels") or self.details.get("per_class") or []]

    def predictions(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of `predictions.csv`, and whether they are `right`; figures as floats, None where there is none.

        The probability may be called `score`; an empty label or prediction is the answer that there is none.
        """
        file = self.path / "predictions.csv"
        if not file.is_file():
            return
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses texts above 128 KiB
        with file.open(encoding="utf-8-sig", newline="") as stream:
            for index, row in enumerate(csv.DictReader(stream), 1):
                if row.get("label") is None or row.get("prediction") is None:
                    continue
                told = {name: "" if row[name] == NONE else row[name] for name in ("label", "prediction")}
                figures = {name: float(row[name]) if row.get(name) else None for name in FIGURES}
                figures["probability"] = (
                    figures["probability"] if row.get("probability") else figures["score"]
                )
                yield {
                    **row,
                    **told,
                    **figures,
                    "row": index,
                    "text": _read(row),
                    "question": row.get("question") or "",
                    "right": row["right"] == "True" if "right" in row else row["label"] == row["prediction"],
                }


def _read(row: dict[str, Any]) -> str:
    """Return what the model read of a row, a conversation as one turn a line."""
    if row.get("messages"):
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in json.loads(row["messages"]))
    return next((row[name] for name in ("begins", "text", "context", "source") if row.get(name)), "")


def task(name: str, settings: dict[str, Any]) -> Task:
    """Return the task of that name as it was saved; classification where there is none of that name."""
    return find("tasks", name).of(settings) if name in known("tasks") else find("tasks", "classification")()


def saved_task(run: Path, name: str) -> Task:
    """Return a run's task, `name`, as it was saved with the weights; with its defaults where none are."""
    with_it = [file for file in (run / "best", run / "folds" / "0" / "best") if file.is_dir()]
    found = _parse(with_it[0] / "afina.json", json.loads) if with_it else {}
    return task(name, found.get("task_settings") or {})


def _known(figures: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    return {
        name: found for name, found in (figures or {}).items() if found and found.get("value") is not None
    }


def _parse(file: Path, loads: Any) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # both parsers' errors and wrong UTF-8 are ValueErrors
        raise InputError(_("{file} cannot be read: {error}").format(file=file, error=error)) from None


def _model_first(difference: dict[str, Any]) -> dict[str, Any]:
    if difference.get("b") != "model":
        return difference
    turned = {"better": "worse", "worse": "better"}
    low, high, value = (difference.get(key) for key in ("low", "high", "difference"))
    return difference | {
        "a": "model",
        "b": difference["a"],
        "difference": None if value is None else -value,
        "low": None if high is None else -high,
        "high": None if low is None else -low,
        "decision": turned.get(difference["decision"], difference["decision"]),
    }

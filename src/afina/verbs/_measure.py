"""Score a trained model beside its baselines, on rows it has not learnt from."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.core import Row, Splits, Task
from afina.messages import _

if TYPE_CHECKING:
    from afina.train.bundle import Bundle


def measure(bundle: "Bundle", splits: Splits, run: Path, rivals: Path | None = None) -> dict[str, Any]:
    """Return `scores`, `baselines` and `details` by part, and write the answers to the last part into `run`.

    `rivals` is a file with the baselines' answers to the rows of all parts, which are computed where it is not there.
    """
    from afina.train.machine import return_memory

    parts = {name: rows for name, rows in (("validation", splits.validation), ("test", splits.test)) if rows}
    rows = [row for part in parts.values() for row in part]
    ours = [answer for part in parts.values() for answer in bundle.answers(part)]
    return_memory()
    told: Mapping[str, Sequence[Any]]
    if rivals and rivals.is_file():
        told = json.loads(rivals.read_text(encoding="utf-8"))
    else:
        told = bundle.task.baselines(splits.train, rows, bundle.tokenizer, bundle.max_length) if rows else {}
    found = compare(bundle.task, parts, ours, told)
    if parts:
        last = len(parts[[*parts][-1]])
        pairs = zip(rows[-last:], ours[-last:], strict=True)
        write_predictions(run / "predictions.csv", [bundle.task.line(row, answer) for row, answer in pairs])
    return found


def compare(
    task: Task, parts: dict[str, list[Row]], ours: Sequence[Any], rivals: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """Return scores with intervals, those of the rivals, and paired differences; answers lie end to end by part."""
    found: dict[str, Any] = {
        "scores": {"validation": None, "test": None},
        # The first two are promised to be there, also where a task has none such.
        "baselines": {
            name: {"validation": None, "test": None} for name in dict.fromkeys(("majority", "tfidf", *rivals))
        },
        "details": {"differences": {}},
    }
    start = 0
    for part, rows in parts.items():
        here = slice(start, start + len(rows))
        start += len(rows)
        scores = task.score(ours[here], rows)
        found["scores"][part] = {name: score._asdict() for name, score in scores.values.items()}
        found["details"][part] = scores.details | {"ece": task.calibration(ours[here], rows)}
        found["details"]["differences"][part] = []
        for name, answers in rivals.items():
            told = task.like(ours[here], answers[here])
            theirs = task.score(told, rows)
            found["baselines"][name][part] = {key: score._asdict() for key, score in theirs.values.items()}
            found["details"]["differences"][part].append(_difference(task, name, ours[here], told, rows))
    return found


def unread(found: dict[str, Any]) -> list[str]:
    """Say how many words were cut off before the model read them, where their answers were scored."""
    counts = [part.get("unread", 0) for part in found["details"].values() if isinstance(part, dict)]
    if not sum(counts):
        return []
    return [
        _("Words beyond what the model reads, which got no label and count as errors: {n}.").format(
            n=sum(counts)
        )
    ]


def main_metric(found: dict[str, Any]) -> str:
    """Return the name of the task's main metric: the first of its scores."""
    return next(iter(found["scores"]["validation"] or found["scores"]["test"]))


def write_predictions(file: Path, told: Sequence[Row]) -> None:
    """Write as CSV what the task says of each row and the answer to it."""
    from afina.train.atomic import write_text

    lines = [{name: cell(value) for name, value in line.items()} for line in told]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    write_text(file, text.getvalue())


def cell(value: Any) -> Any:
    """Return a value as a cell of a CSV: labels as `a;b`, as they are read, other lists and objects as JSON."""
    if (
        isinstance(value, list | tuple)
        and value
        and all(isinstance(each, str) and ";" not in each for each in value)
    ):
        return ";".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | tuple) else value


def _difference(
    task: Task, name: str, ours: Sequence[Any], theirs: Sequence[Any], rows: Sequence[Row]
) -> dict[str, Any]:
    from afina.scoring.paired import decision

    gap = task.difference(ours, theirs, rows)
    return {
        "a": "model",
        "b": name,
        "metric": gap.metric,
        "difference": gap.value,
        "low": gap.low,
        "high": gap.high,
        "p": gap.p,
        "decision": decision(gap),
    }

"""Small data: every row answered by the one model of several that has not seen it, and all answers scored once."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from afina.core import Task
from afina.errors import InputError
from afina.messages import _
from afina.verbs import _forgetting, _links
from afina.verbs._job import write
from afina.verbs._measure import compare, unread, write_predictions
from afina.verbs._prepare import Folded
from afina.verbs._resolve import resolved
from afina.verbs._settings import Chosen
from afina.verbs._trials import Done

if TYPE_CHECKING:
    from afina.train.run import Run

FEW = 200  # test rows below which an interval is so broad that folds are suggested
FOLDS = "folds"  # the folder of the runs, and what their pooled figures are called beside validation and test


def refuse(verb: Any) -> None:
    """Raise InputError where the settings of a verb contradict its folds."""
    fold = getattr(verb, "fold", None)
    if verb.folds == 1:
        raise InputError(_("--folds 1 leaves no rows to train on. Give 2 or more, such as --folds 5."))
    if verb.folds and (verb.validation or verb.test):
        raise InputError(
            _(
                "--folds scores every row by a model that has not seen it, so it takes no --test and no --validation. "
                "Leave them out, or leave out --folds."
            )
        )
    if fold is not None and fold >= verb.folds:
        raise InputError(
            _("--fold {fold} is none of the {k} folds, which count from 0.").format(fold=fold, k=verb.folds)
        )


def suggested(tested: int) -> list[str]:
    """Name the folds where a test part has few rows."""
    if not 0 < tested < FEW:
        return []
    return [
        _(
            "The test part has only {n} rows. --folds 5 scores all rows of the data, each by a model that has not seen it."
        ).format(n=tested)
    ]


def train(
    data: str,
    chosen: Chosen,
    folded: Folded,
    source: Path,
    run: Path,
    recorded: dict[str, Any],
    began: float,
    one: Callable[..., Any],
) -> "Run | Any":
    """Train `one` run a fold, those that are not finished yet, and score them as one."""
    import torch

    from afina.report import finetune as report
    from afina.train import folder, machine
    from afina.train.atomic import cannot_write
    from afina.train.run import Run
    from afina.train.track import say

    torch.set_num_threads(recorded.get("threads", torch.get_num_threads()))
    verb, _tokenizer = resolved(chosen, source, folded.parts[0])
    accelerator = machine.accelerator(verb.precision)
    tell = partial(say, quiet=chosen.common.quiet or not accelerator.is_main_process)
    sizes = [len(part.splits.test) for part in folded.parts]
    for sentence in folded.notes:
        tell(sentence)
    tell(
        _("{k} folds of {least} to {most} rows: {k} models, each scored on the rows of its fold.").format(
            k=len(sizes), least=min(sizes), most=max(sizes)
        )
    )
    first = chosen._replace(verb=verb.replace(fold=0))
    if verb.dry_run:
        return one(data, first, folded.parts[0], source, run, recorded, began)
    begun = [folder.is_run(run / FOLDS / str(fold)) for fold in range(len(sizes))]
    if accelerator.is_main_process:
        folder.claim(run, resume=verb.resume, overwrite=verb.overwrite)
        facts = {"data": folded.fingerprint, "model": recorded["model"]}
        write(run, {"data": data} | chosen._replace(verb=verb).flat(), facts)
    for fold, part in enumerate(folded.parts):
        place = run / FOLDS / str(fold)
        if verb.resume and (place / "scores.json").is_file():
            continue
        tell(_("Fold {fold}:").format(fold=fold))
        own = verb.replace(fold=fold, resume=verb.resume and begun[fold], overwrite=False)
        one(data, chosen._replace(verb=own), part, source, place, recorded, time.perf_counter())
    if accelerator.is_main_process:
        result = pool(run, folded)
        if verb.stage:
            result["stages"] = _links.told(verb.stage, run)
        for sentence in unread(result):
            tell(sentence)
        folder.write_json(run / "scores.json", result)
        try:
            report.write(run)
        except OSError as error:
            raise cannot_write(run, error) from None
    accelerator.wait_for_everyone()
    return Run(run)


def restated(folded: Folded, tasks: Sequence[Task], answers: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the answers to all rows in their order, in the terms of the common task; one task and list a fold."""
    return folded.in_order([own.restate(each, folded.task) for own, each in zip(tasks, answers, strict=True)])


def rivals(folded: Folded, found: Sequence[Mapping[str, Sequence[Any]]]) -> dict[str, list[Any]]:
    """Return the answers to all rows of each baseline that was `found` in all folds."""
    tasks = [part.task for part in folded.parts]
    names = [name for name in found[0] if all(name in each for each in found)]
    return {name: restated(folded, tasks, [each[name] for each in found]) for name in names}


def pool(run: Path, folded: Folded) -> dict[str, Any]:
    """Return the result of finished folds, scored as one, and write the answers to all rows into `run`."""
    from afina.train.bundle import Bundle
    from afina.train.run import Run

    results, tasks, answers, lines = [], [], [], []
    for fold, part in enumerate(folded.parts):
        trained, rows = Run(run / FOLDS / str(fold)), part.splits.test
        results.append(trained.result)
        bundle = Bundle.load(trained.path / "best")
        tasks.append(bundle.task)
        answers.append(bundle.answers(rows))
        lines.append(
            [
                bundle.task.line(row, answer) | {"fold": fold}
                for row, answer in zip(rows, answers[-1], strict=True)
            ]
        )
    ours = restated(folded, tasks, answers)
    told = [
        part.task.baselines(part.splits.train, part.splits.test, bundle.tokenizer, bundle.max_length)
        for part in folded.parts
    ]
    found = compare(folded.task, {FOLDS: folded.rows}, ours, rivals(folded, told))
    write_predictions(run / "predictions.csv", folded.in_order(lines))
    data, first = results[0]["details"]["data"], results[0]
    found["details"] |= {
        "by_fold": [
            {"fold": fold, "rows": len(part.splits.test), "score": next(iter(each["scores"]["test"].values()))["value"]}
            for fold, (part, each) in enumerate(zip(folded.parts, results, strict=True))
        ],
        "data": {
            "rows": {FOLDS: len(folded.rows)},
            "labels": {FOLDS: dict(Counter(label for row in folded.rows for label in folded.task.counted(row)))},
            "columns": data["columns"],
            "notes": folded.notes,
            "length": data["length"],
        },
        "fitting": None,
    }  # fmt: skip
    return {
        "run": str(run), **{name: first[name] for name in ("model", "task", "method")}, **found,
        **{name: _rate(results, name) for name in ("rows_per_s", "tokens_per_s", "share_of_peak")},
        "processes": first.get("processes"),
        "seconds": {
            name: round(sum(each["seconds"][name] for each in results), 2) for name in first["seconds"]
        },
        "trained_weights": first["trained_weights"],
        "peak_memory_mb": max(each["peak_memory_mb"] for each in results),
    }  # fmt: skip


def merged(done: Sequence[Done], folded: Folded) -> list[Done]:
    """Return as one what came of the folds of each method, model and seed, in order; an error where one has none.

    What a model costs is that of a typical fold, its memory that of the largest.
    """
    groups: dict[tuple[str, str, int], list[Done]] = {}
    for each in done:
        groups.setdefault((each.trial.method, each.trial.model, each.trial.seed), []).append(each)
    return [_merged(group, folded) for group in groups.values()]


def _merged(group: Sequence[Done], folded: Folded) -> Done:
    own = group[0].trial.settings
    if len({each.trial.settings.get("learning_rate") for each in group}) > 1:  # tuned fold by fold
        own = {name: value for name, value in own.items() if name != "learning_rate"}
    trial = group[0].trial._replace(settings=own)
    results = [each.result for each in group if each.result]
    measured = [each.measured for each in group if each.measured]
    if len(measured) < len(group):
        return Done(trial, None, None, next((each.error for each in group if each.error), None))
    tasks = [folded.task.of(each["task_settings"]) for each in measured]
    return Done(
        trial,
        results[0]
        | {
            "folds": results,
            "peak_memory_mb": max(each["peak_memory_mb"] for each in results),
            "seconds": {"train": _middle([each["seconds"]["train"] for each in results])},
        },
        {
            "saved_mb": _middle([each["saved_mb"] for each in measured]),
            "latency_ms": median(each["latency_ms"] for each in measured),
            "answers": restated(folded, tasks, [each["answers"] for each in measured]),
            "task_settings": folded.task.model_dump(mode="json"),
            "forgetting": _forgetting.typical([each["forgetting"] for each in measured]),
            "notes": [note for each in measured for note in each.get("notes", [])],
        },
        None,
    )


def _middle(found: Sequence[float | None]) -> float | None:
    """Return the median of what there is: a decoder that is only asked has trained and saved nothing."""
    known = [each for each in found if each is not None]
    return median(known) if known else None


def _rate(results: Sequence[Mapping[str, Any]], name: str) -> float:
    """Return the mean of a rate, each fold weighted by the time that it trained."""
    whole = sum(each["seconds"]["train"] for each in results)
    return round(sum(each[name] * each["seconds"]["train"] for each in results) / max(whole, 1e-9), 4)

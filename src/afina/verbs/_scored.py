"""The rows that every run of a comparison is scored on, and what the baselines answer to them."""

from pathlib import Path
from typing import Any, NamedTuple

from afina.core import Row, Task
from afina.errors import InputError
from afina.verbs import _folds
from afina.verbs._design import Chosen
from afina.verbs._prepare import Folded, Prepared, prepare, prepare_folds
from afina.verbs._trial import rivals_of
from afina.verbs._trials import Done


class Scored(NamedTuple):
    """The rows that every method is scored on, all and `by_fold` (one list where there are no folds), and whose task."""

    task: Task
    part: str
    rows: list[Row]
    by_fold: list[list[Row]]
    fingerprint: str
    notes: list[str]
    parts: list[Prepared]
    folded: Folded | None

    def whole(self, done: list[Done]) -> list[Done]:
        """Return what came of the runs, those of the folds of one method, model and seed as one."""
        return _folds.merged(done, self.folded) if self.folded else done

    def rivals(self, told: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
        """Return what each baseline has `told`, fold by fold, of the rows that are scored: the last ones."""
        found = [
            {name: answers[-len(rows) :] for name, answers in each.items()}
            for each, rows in zip(told, self.by_fold, strict=True)
        ]
        return _folds.rivals(self.folded, found) if self.folded else found[0]


def rows_of(data: str, chosen: Chosen) -> Scored:
    """Read and divide the rows; InputError before anything is written."""
    verb = chosen.verb
    how: dict[str, Any] = {
        "seed": verb.seed,
        "offline": chosen.common.offline,
        "group_by": verb.group_by,
    }
    if verb.folds:
        folded = prepare_folds(chosen.task, data, verb.folds, **how)
        by_fold = [each.splits.test for each in folded.parts]
        return Scored(
            folded.task,
            _folds.FOLDS,
            folded.rows,
            by_fold,
            folded.fingerprint,
            folded.notes,
            folded.parts,
            folded,
        )
    prepared = prepare(chosen.task, data, verb.validation, verb.test, **how)
    task, splits = prepared.task, prepared.splits
    part, rows = ("test", splits.test) if splits.test else ("validation", splits.validation)
    return Scored(task, part, rows, [rows], splits.fingerprint, prepared.notes, [prepared], None)


def share_rivals(chosen: Chosen, scored: Scored, runs: Path) -> dict[str, list[Any]]:
    """Return what the baselines answer to the rows that are scored, in the tokens of the first model.

    What they answer in those of each model is written for all of its runs. The stages of a chain may make tokens of
    their own, so its runs find out for themselves.
    """
    from afina.train import folder

    first: list[dict[str, list[Any]]] | None = None
    for name, source in chosen.models.items():
        chain = name in chosen.chains
        if chain and first:
            continue
        found = _rivals(source, scored, chosen.alike.get("max_length"))
        first = first or found
        for fold, told in enumerate(() if chain else found or ()):
            folder.write_json(runs / rivals_of(name, fold), told)
    return scored.rivals(first) if first else {}


def _rivals(source: Path, scored: Scored, max_length: int | None) -> list[dict[str, list[Any]]] | None:
    """Return, a fold, what each baseline answers to its validation and test rows in the tokens of one model.

    None where the model cannot be loaded, or cannot read such rows: its runs say why.
    """
    from afina.models.load import load_config, load_tokenizer, longest

    try:
        tokenizer = load_tokenizer(source)
        most = longest(load_config(source, scored.task.config()), tokenizer)
        return [
            part.task.baselines(
                part.splits.train,
                [*part.splits.validation, *part.splits.test],
                tokenizer,
                min(max_length or most, most),
            )
            for part in scored.parts
        ]
    except InputError:
        return None

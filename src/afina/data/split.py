"""Rows to training, validation and test parts that share no row.

A part is drawn by hashing the seed and each row's key, so it depends on neither the platform, the versions of
libraries nor the order of the rows. Rows of one key (exact duplicates) go together into one part and are all
kept. Of given parts the test is never touched: what repeats it leaves validation and training.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

from afina.core import Row, Splits, Table
from afina.data.columns import plain
from afina.errors import InputError
from afina.messages import _

MIN_ROWS = 10
SHARE = 0.15  # of validation, and of the test where it is drawn too
SPLIT_COLUMNS = ("split", "partition", "particion", "fold", "subset", "set", "conjunto", "part", "parte")
PARTS = {
    **dict.fromkeys(("train", "training", "entrenamiento", "entreno", "tr"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("validacion", "desarrollo", "eval", "evaluation", "evaluacion"), "validation"),
    **dict.fromkeys(("test", "testing", "prueba", "pruebas"), "test"),
}

Key = Callable[[Row], Any]
Group = Callable[[Row], str | None]
Strata = Callable[[Sequence[Row]], Sequence[str | None]]
Unit = list[int]
"""The indices of the rows that share one key."""


def split(
    train: list[Row],
    validation: list[Row] | None,
    test: list[Row] | None,
    *,
    key: Key,
    group: Group,
    seed: int,
    strata: Strata | None = None,
    together: Key | None = None,
) -> Splits:
    """Return the three parts: given ones as they are, missing ones drawn from `train`, stratified by `strata`.

    `group` is a row's gold answer, by which contradictions are counted; without `strata` it stratifies too.

    Rows of one `together` (by default of one `key`) lie on one side of what is drawn.
    Only `test` given: validation is drawn; only `validation`: there is no test; neither: 70/15/15 %. A class
    of three or more different rows is in every drawn part. Rows keep their order. `key` must be hashable and
    have a stable `repr`. Raises InputError for fewer than 10 rows and where nothing can be held out.
    """
    total = len(train) + len(validation or []) + len(test or [])
    if total < MIN_ROWS:
        sentence = _("There are only {count} usable rows. At least {least} are needed, better some hundreds.")
        raise InputError(sentence.format(count=total, least=MIN_ROWS))
    notes = []
    for name, part in ((_("validation"), validation), (_("test"), test)):
        if part is not None and not part:
            notes.append(_("The {name} part has no usable rows and counts as not given.").format(name=name))
    validation, test = validation or None, test or None
    notes += _contradictions([*train, *(validation or []), *(test or [])], key, group)
    if validation is not None and test is not None:
        validation, left_out = _without(validation, {key(row) for row in test}, key)
        if left_out:
            sentence = _("Validation rows that repeat a test row and were left out: {count}.")
            notes.append(sentence.format(count=left_out))
        if not validation:
            raise InputError(_("Every validation row is also in the test. Give other rows for one of them."))
    held_out = {key(row) for row in [*(validation or []), *(test or [])]}
    train, left_out = _without(train, held_out, key)
    if left_out:
        sentence = _("Training rows that repeat a validation or test row and were left out: {count}.")
        notes.append(sentence.format(count=left_out))
    if not train and left_out:
        raise InputError(
            _("Every training row is also in the validation or test part. Give other rows for one.")
        )
    if not train:
        raise InputError(_("There are no usable rows to train on."))
    if validation is None:
        shares = [SHARE] if test is not None else [SHARE, SHARE]
        kinds = strata(train) if strata else [group(row) for row in train]
        train, *drawn = _draw(train, shares, together or key, kinds, seed)
        validation = drawn[0]
        test = drawn[1] if test is None else test
        sentence = _("Drawn by seed {seed}: {train} rows to train, {validation} for validation.")
        if len(drawn) == 2:
            sentence = _(
                "Drawn by seed {seed}: {train} rows to train, {validation} for validation, {test} to test."
            )
        notes.append(sentence.format(seed=seed, train=len(train), validation=len(validation), test=len(test)))
        groups = {(together or key)(row) for part in (train, *drawn) for row in part}
        if together and len(groups) < len({key(row) for part in (train, *drawn) for row in part}):
            sentence = _("Rows that belong together lie on one side of the draw: {count} groups.")
            notes.append(sentence.format(count=len(groups)))
        repeats = sum(map(len, (train, *drawn))) - len({key(row) for part in (train, *drawn) for row in part})
        if repeats:
            sentence = _("Rows that repeat another, kept together in one part: {count}.")
            notes.append(sentence.format(count=repeats))
    return Splits(train, validation, test or [], fingerprint(train, validation, test or []), tuple(notes))


def by_column(table: Table) -> tuple[list[Row], list[Row] | None, list[Row] | None] | None:
    """Return the parts that a column `split` (train, dev, test, entrenamiento, prueba …) names, None without.

    A part without rows is None. Raises InputError where the column holds other values too, or no train rows.
    """
    for column in table.columns:
        if plain(column) not in SPLIT_COLUMNS:
            continue
        parts: dict[str | None, list[Row]] = defaultdict(list)
        for row in table.rows:
            parts[PARTS.get(plain(str(row[column])))].append(row)
        others = parts.pop(None, [])
        if not parts:
            continue
        if others:
            sentence = _(
                "The column '{column}' of {source} holds '{value}'. It may hold train, validation and test."
            )
            value = others[0][column]
            raise InputError(sentence.format(column=column, source=table.source, value=value))
        if "train" not in parts:
            sentence = _("The column '{column}' of {source} marks no row as train.")
            raise InputError(sentence.format(column=column, source=table.source))
        if len(parts) > 1:
            return parts["train"], parts.get("validation"), parts.get("test")
    return None


def split_column(table: Table) -> str | None:
    """Return the column by which `by_column` would split, None without."""
    for column in table.columns:
        values = {plain(str(row[column])) for row in table.rows} if plain(column) in SPLIT_COLUMNS else set()
        if len(values & PARTS.keys()) > 1:
            return column
    return None


def fingerprint(*parts: Sequence[Row]) -> str:
    """Return a sha256 that names the content of the parts and its order, the same on every machine."""
    digest = hashlib.sha256()
    for part in parts:
        for row in part:
            digest.update(json.dumps(row, sort_keys=True, default=str).encode("ascii") + b"\n")
        digest.update(b"--\n")
    return digest.hexdigest()


def _without(rows: list[Row], keys: Collection[Any], key: Key) -> tuple[list[Row], int]:
    kept = [row for row in rows if key(row) not in keys]
    return kept, len(rows) - len(kept)


def _contradictions(rows: Sequence[Row], key: Key, group: Group) -> list[str]:
    groups: dict[Any, set[str | None]] = defaultdict(set)
    for row in rows:
        groups[key(row)].add(group(row))
    count = sum(len(labels) > 1 for labels in groups.values())
    sentence = _("Texts that occur with more than one label: {count}. At best one of their labels is learnt.")
    return [sentence.format(count=count)] if count else []


def _draw(
    rows: list[Row], shares: Sequence[float], key: Key, kinds: Sequence[str | None], seed: int
) -> list[list[Row]]:
    """Return the rest and one part a share, drawn class by class."""
    units: dict[Any, Unit] = defaultdict(list)
    for index, row in enumerate(rows):
        units[key(row)].append(index)
    classes: dict[str, list[Unit]] = defaultdict(list)
    for unit_key in sorted(units, key=lambda unit_key: _lot(seed, unit_key)):
        unit = units[unit_key]
        classes[str(kinds[unit[0]])].append(unit)

    parts: list[Unit] = [[] for _part in (1.0, *shares)]
    carried = [0.0 for _share in shares]  # what rounding left over, so that many small classes add up too
    for name in sorted(classes):
        count = sum(map(len, classes[name]))
        due = [count * share + left for share, left in zip(shares, carried, strict=True)]
        dealt = _deal(classes[name], [max(1, int(wanted + 0.5)) for wanted in due])
        for part, unit in zip(parts, dealt, strict=True):
            part.extend(unit)
        # At most half a row, or one huge class of repeats would be made up for by the next class.
        carried = [
            min(0.5, max(-0.5, wanted - len(unit))) for wanted, unit in zip(due, dealt[1:], strict=True)
        ]
    if not all(parts):
        raise InputError(
            _(
                "Nothing can be held out to check the training: no class has enough different rows. Add "
                "rows, or give files of your own with --validation and --test."
            )
        )
    return [[rows[index] for index in sorted(part)] for part in parts]


def _lot(seed: int, unit_key: Any) -> bytes:
    return hashlib.sha256(f"{seed} {unit_key!r}".encode(errors="backslashreplace")).digest()


def _deal(units: Sequence[Unit], wanted: Sequence[int]) -> list[Unit]:
    """Return the rest and one part for each number of rows wanted; too few units all stay in the rest."""
    parts: list[Unit] = [[] for _part in (0, *wanted)]
    by_size = sorted(units, key=len)  # stable: units of one size keep the order they were drawn in
    first = by_size[: len(wanted)] if len(units) > len(wanted) else []
    for place, unit in enumerate(first, 1):
        parts[place].extend(unit)
    for unit in units:
        if unit in first:
            continue
        fits = [place for place, most in enumerate(wanted, 1) if len(parts[place]) + len(unit) <= most]
        parts[fits[0] if first and fits else 0].extend(unit)
    return parts

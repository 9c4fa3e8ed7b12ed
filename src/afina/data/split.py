"""Rows to training, validation and test parts that share no row, or to folds that take turns in being the test.

A part is drawn by hashing the seed and each row's key, so it depends on neither the platform, the versions of
libraries nor the order of the rows. Rows of one key (exact duplicates) go together into one part and are all
kept. Of given parts the test is never touched: what repeats it leaves validation and training.
"""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

from afina.core import Row, Splits, Table
from afina.data.column_names import plain
from afina.errors import InputError
from afina.messages import _

MIN_ROWS = 10
SHARE = 0.15  # of validation, and of the test where it is drawn too
LISTED = 20  # labels at most in one sentence
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
"""The indices of the rows that must not be parted."""


class Folds(NamedTuple):
    """By row the fold that it is in, counted from 0, and what the person should know of them."""

    places: list[int]
    notes: list[str]


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
    bond: Key | None = None,
) -> Splits:
    """Return the three parts: given ones as they are, missing ones drawn from `train`, stratified by `strata`.

    `group` is a row's gold answer, by which contradictions are counted; without `strata` it stratifies too.

    Rows of one `key`, one `together` or one `bond` (None bonds nothing) lie on one side of what is drawn. What has the
    `bond` of a row in a given part leaves the parts before it, as its copies do.
    Only `test` given: validation is drawn; only `validation`: there is no test; neither: 70/15/15 %. A class
    of three or more different rows is in every drawn part. Rows keep their order. `key` must be hashable and
    have a stable `repr`. Raises InputError for fewer than 10 rows and where nothing can be held out.
    """
    total = len(train) + len(validation or []) + len(test or [])
    if total < MIN_ROWS:
        sentence = _("Usable rows: only {count}. At least {least} are needed, better some hundreds.")
        raise InputError(sentence.format(count=total, least=MIN_ROWS))
    notes = []
    for name, part in ((_("validation"), validation), (_("test"), test)):
        if part is not None and not part:
            notes.append(_("The {name} part has no usable rows and counts as not given.").format(name=name))
    validation, test = validation or None, test or None
    notes += _contradictions([*train, *(validation or []), *(test or [])], key, group)
    if validation is not None and test is not None:
        validation, left_out = _without(validation, test, key, bond)
        if left_out:
            sentence = _("Validation rows that repeat a test row and were left out: {count}.")
            if bond:
                sentence = _("Validation rows that repeat a test row or share its group, left out: {count}.")
            notes.append(sentence.format(count=left_out))
        if not validation:
            raise InputError(_("Every validation row is also in the test. Give other rows for one of them."))
    train, left_out = _without(train, [*(validation or []), *(test or [])], key, bond)
    if left_out:
        sentence = _("Training rows that repeat a validation or test row and were left out: {count}.")
        if bond:
            sentence = _(
                "Training rows that repeat a validation or test row or share its group, left out: {count}."
            )
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
        whole = train
        units = _units(whole, key, together, bond)
        train, *drawn = _draw(whole, shares, units, kinds, seed)
        validation = drawn[0]
        test = drawn[1] if test is None else test
        sentence = _("Drawn by seed {seed}: {train} rows to train, {validation} for validation.")
        if len(drawn) == 2:
            sentence = _(
                "Drawn by seed {seed}: {train} rows to train, {validation} for validation, {test} to test."
            )
        notes.append(sentence.format(seed=seed, train=len(train), validation=len(validation), test=len(test)))
        notes += _kept_together(whole, units, key)
    return Splits(train, validation, test or [], fingerprint(train, validation, test or []), tuple(notes))


def folds(
    rows: Sequence[Row],
    k: int,
    *,
    key: Key,
    group: Group,
    seed: int,
    strata: Strata | None = None,
    together: Key | None = None,
    bond: Key | None = None,
    labels: Callable[[Row], Sequence[str]] | None = None,
) -> Folds:
    """Return for each row which of `k` folds it is in, in proportion to `strata` and to the `labels` a row counts for.

    Rows of one `key`, `together` or `bond` are in one fold; see `split`. The largest such group is placed first, then
    those of the rarest kind, each where its kinds are fewest (after Sechidis et al. 2011). Raises InputError where
    `k` is below 2 or above the number of such groups.
    """
    units = _units(rows, key, together, bond)
    if not 2 <= k <= len(units):
        raise InputError(
            _(
                "--folds is {k}, but must lie between 2 and {most}, the number of rows, or groups of rows, that may be "
                "parted."
            ).format(k=k, most=len(units))
        )
    counted = [labels(row) if labels else () for row in rows]
    drawn = strata(rows) if strata else [group(row) for row in rows]
    kinds = [{str(kind), *more} for kind, more in zip(drawn, counted, strict=True)]
    total = Counter(kind for of_row in kinds for kind in of_row)
    content = {name: Counter(kind for i in unit for kind in kinds[i]) for name, unit in units.items()}

    def turn(name: Any) -> Any:
        return -len(units[name]), min((total[kind], kind) for kind in content[name]), _lot(seed, name)

    held = [Counter[str]() for _fold in range(k)]
    sizes, places = [0] * k, [0] * len(rows)
    for name in sorted(units, key=turn):
        costs = [
            (math.fsum(n * have[kind] / total[kind] for kind, n in content[name].items()), size)
            for have, size in zip(held, sizes, strict=True)
        ]
        fold = costs.index(min(costs))
        held[fold] += content[name]
        sizes[fold] += len(units[name])
        for i in units[name]:
            places[i] = fold
    notes = _contradictions(rows, key, group) + _kept_together(rows, units, key)
    every = {label for of_row in counted for label in of_row}
    scarce = sorted(label for label in every if not all(have[label] for have in held))
    if scarce:
        sentence = _(
            "Labels that are not in every fold, having fewer rows or groups than there are folds: {labels}."
        )
        more = " …" if len(scarce) > LISTED else ""
        notes.append(sentence.format(labels=", ".join(scarce[:LISTED]) + more))
    return Folds(places, notes)


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


def _names(row: Row, *keys: Key | None) -> Iterator[Hashable]:
    """Yield what the row shares with those that it must not be parted from."""
    for place, key in enumerate(keys):
        name = key(row) if key else None
        if name is not None:
            yield place, name


def _without(rows: list[Row], others: Sequence[Row], key: Key, bond: Key | None) -> tuple[list[Row], int]:
    """Return the rows that are no copies of `others` and not bonded to them, and how many were."""
    taken = {name for row in others for name in _names(row, key, bond)}
    kept = [row for row in rows if taken.isdisjoint(_names(row, key, bond))]
    return kept, len(rows) - len(kept)


def _units(rows: Sequence[Row], key: Key, together: Key | None, bond: Key | None) -> dict[Any, Unit]:
    """Return the rows that must not be parted, by a name that does not depend on the order of the rows."""
    root = list(range(len(rows)))

    def top(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    first: dict[Hashable, int] = {}
    for i, row in enumerate(rows):
        for name in _names(row, key, together, bond):
            root[top(i)] = top(first.setdefault(name, i))
    units: dict[int, Unit] = defaultdict(list)
    for i in range(len(rows)):
        units[top(i)].append(i)
    return {min(((together or key)(rows[i]) for i in unit), key=repr): unit for unit in units.values()}


def _kept_together(rows: Sequence[Row], units: Collection[Any], key: Key) -> list[str]:
    notes, different = [], len({key(row) for row in rows})
    if len(units) < different:
        sentence = _("Rows that belong together lie on one side of the draw: {count} groups.")
        notes.append(sentence.format(count=len(units)))
    if len(rows) > different:
        sentence = _("Rows that repeat another, kept together in one part: {count}.")
        notes.append(sentence.format(count=len(rows) - different))
    return notes


def _contradictions(rows: Sequence[Row], key: Key, group: Group) -> list[str]:
    groups: dict[Any, set[str | None]] = defaultdict(set)
    for row in rows:
        groups[key(row)].add(group(row))
    count = sum(len(labels) > 1 for labels in groups.values())
    sentence = _("Texts that occur with more than one label: {count}. At best one of their labels is learnt.")
    return [sentence.format(count=count)] if count else []


def _draw(
    rows: list[Row],
    shares: Sequence[float],
    units: dict[Any, Unit],
    kinds: Sequence[str | None],
    seed: int,
) -> list[list[Row]]:
    """Return the rest and one part a share, drawn class by class."""
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

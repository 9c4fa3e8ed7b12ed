"""Data sets in the form of Hugging Face's `datasets`: saved in a folder, or by name from the Hub."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from afina.core import Row, Table
from afina.data import records
from afina.data.split import PARTS
from afina.errors import InputError, Unfinished
from afina.messages import _

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, Features

# name, owner/name, and either with the name of a configuration: nyu-mll/glue:sst2
NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[\w.+-]+)?")
ENDING = re.compile(r"\.[A-Za-z]\w*$")


def is_saved(folder: Path) -> bool:
    """Return whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def is_dataset(source: Path) -> bool:
    """Whether a text to learn from is a saved data set, or the name of one on the Hub: `owner/name:configuration`.

    A name with a file's ending, or in a folder that is there, is a file's, misspelt perhaps: nobody is asked for it.
    """
    if source.exists():
        return is_saved(source)
    name = source.as_posix()
    path = name.partition(":")[0]
    return bool(
        "/" in path and NAME.fullmatch(name) and not ENDING.search(path) and not Path(path).parent.is_dir()
    )


def saved(folder: Path, source: str) -> Table:
    """Return the rows of a saved data set. Raises InputError where files of it are missing or broken."""
    from datasets import load_from_disk

    with _whole(source):
        return _table(load_from_disk(str(folder)), source)


def fetch(name: str) -> Table:
    """Return the rows of a data set on the Hub (or, with HF_HUB_OFFLINE=1, of its copy in the cache).

    `owner/name:configuration` where it has several. Raises InputError without network, for an unknown name
    and for what `datasets` cannot read.
    """
    with _found(name):
        from datasets import load_dataset

        path, _colon, configuration = name.partition(":")
        return _table(load_dataset(path, configuration or None), name)


def texts(source: Path, column: str | None = None) -> Iterator[str]:
    """Yield the column named, else `text`, of the training part (or the first) of a data set that may be larger than memory.

    One that is saved stays on the disk, one of the Hub is read as it arrives (with HF_HUB_OFFLINE=1 from its copy in
    the cache). Raises InputError as `saved` and `fetch` do, and where there is no such column.
    """
    from datasets import config, load_dataset, load_from_disk

    name = source.as_posix()
    with _whole(name) if source.exists() else _found(name):
        path, _colon, configuration = name.partition(":")
        data: Any = (
            load_from_disk(name)
            if source.exists()
            else load_dataset(path, configuration or None, streaming=not config.HF_HUB_OFFLINE)
        )
        if isinstance(data, dict):
            data = data["train"] if "train" in data else data[next(iter(data))]
        held = data.column_names or [*next(iter(data), {column or "text": ""})]
        chosen = text_column(held, column, name)
        yield from strings((row[chosen] for row in data.select_columns([chosen])), chosen, name)


def text_column(columns: Iterable[str], named: str | None, source: str) -> str:
    """Return the column named, else `text`; InputError with those that are there where it is none of them."""
    held, column = list(columns), named or "text"
    if column not in held:
        raise InputError(
            _('{file} has no column "{column}"; its columns are {names}.').format(
                file=source, column=column, names=", ".join(held)
            )
        )
    return column


def strings(values: Iterable[Any], column: str, source: str) -> Iterator[str]:
    """Yield the texts of a column, without those that are missing or empty; InputError for other values."""
    for value in values:
        if isinstance(value, str):
            if value:
                yield value
        elif value is not None:
            raise InputError(
                _(
                    'The column "{column}" of {source} holds {value} where a text should be. Give one of strings.'
                ).format(column=column, source=source, value=repr(value)[:40])
            )


def version(source: Path) -> str:
    """Return what changes when the texts of a data set do: of one on the Hub, its commit."""
    name = source.as_posix()
    if source.exists():
        digest = hashlib.sha256()
        with _whole(name):
            for file in sorted(source.rglob("data-*.arrow")):
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()
    with _found(name):
        from datasets import load_dataset_builder

        path, _colon, configuration = name.partition(":")
        return str(load_dataset_builder(path, configuration or None).hash)


@contextmanager
def _whole(source: str) -> Iterator[None]:
    """Say in one sentence what is wrong with a saved data set."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        sentence = _("The saved data set in {source} is broken: {reason}. Save it again with save_to_disk.")
        raise InputError(sentence.format(source=source, reason=_first_line(error))) from error


@contextmanager
def _found(name: str) -> Iterator[None]:
    """Say in one sentence what is wrong with a data set of the Hub, or with the way to it."""
    if not _reachable():
        raise InputError(
            _(
                "There is no file or folder '{name}', and the Hugging Face Hub, where a data set of that "
                "name may be, cannot be reached. Give a file, or fetch the data set where there is network, "
                "save it with save_to_disk and give that folder."
            ).format(name=name)
        )
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    try:
        yield
    except DatasetNotFoundError as error:
        sentence = _(
            "There is no file or folder '{name}', and no data set of that name on the Hugging Face Hub (or "
            "it is a private one)."
        )
        raise InputError(sentence.format(name=name)) from error
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        # Among them: which configurations there are, no copy in the cache, a data set that is a script.
        sentence = _("The data set '{name}' of the Hugging Face Hub cannot be read: {reason}.")
        raise Unfinished(sentence.format(name=name, reason=_first_line(error))) from error


def with_label_names(rows: list[Row], features: Features | Mapping[str, Any]) -> list[Row]:
    """Put the names of the labels in place of their numbers; a number below 0 is no label."""
    from datasets import ClassLabel

    for column, feature in features.items():
        if isinstance(feature, ClassLabel):
            names = feature.names
            for row in rows:
                row[column] = _name(row[column], names)
        elif isinstance(getattr(feature, "feature", None), ClassLabel):
            names = feature.feature.names
            for row in rows:
                row[column] = row[column] and [_name(value, names) for value in row[column]]
    return rows


def _name(value: int | None, names: list[str]) -> str | None:
    return None if value is None or value < 0 else names[value]


def _table(data: Dataset | DatasetDict, source: str) -> Table:
    if not isinstance(data, dict):
        return records.table(with_label_names(data.to_list(), data.features), source)
    known = [part for part in data if str(part).lower() in PARTS]
    if len(data) == 1 or not known:
        first = next(iter(data))
        known = [first]
    rows: list[Row] = []
    for part in known:
        for row in with_label_names(data[part].to_list(), data[part].features):
            rows.append({**row, "split": str(part)} if len(known) > 1 else row)
    notes = []
    if others := [str(part) for part in data if part not in known]:
        sentence = _("Parts of {source} that were left out: {names}.")
        notes.append(sentence.format(source=source, names=", ".join(others)))
    return records.table(rows, source, notes)


def _reachable() -> bool:
    """Whether it is worth asking: the library itself waits half a minute where there is no network."""
    from datasets import config

    proxied = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
    if config.HF_HUB_OFFLINE or proxied:
        return True
    try:
        socket.getaddrinfo(urlsplit(config.HF_ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")

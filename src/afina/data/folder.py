"""A folder of text files by label: folder/label/*.txt, or with parts, folder/train/label/*.txt."""

from pathlib import Path

from afina.core import Row, Table
from afina.data import encoding
from afina.data.column_names import plain
from afina.data.split import PARTS
from afina.errors import InputError
from afina.messages import _


def read(folder: Path, source: str, tables: tuple[str, ...]) -> Table:
    """Return one row a file, by label and file name, with columns `text`, `label`, `file` (and `split`).

    `tables` are the endings of table files, which an unusable folder's error names. Raises InputError where
    no text file lies in a folder that names its label.
    """
    files = sorted(path for path in folder.glob("*/*.txt") if path.is_file())
    parts = sorted(path for path in folder.glob("*/*/*.txt") if path.is_file())
    if not files and parts and all(_part(path, folder) in PARTS for path in parts):
        files = parts
    if not files or any(path.with_suffix(".ann").is_file() for path in files):
        raise InputError(_unusable(folder, source, tables))
    rows: list[Row] = []
    other = []
    empty = 0
    for path in files:
        text, notes = encoding.decode(path.read_bytes(), str(path))
        if notes:
            other.append(path)
        if not text.strip():
            empty += 1
            continue
        row = {"text": text, "label": path.parent.name, "file": path.relative_to(folder).as_posix()}
        rows.append({**row, "split": _part(path, folder)} if files is parts else row)
    if not rows:
        raise InputError(_("All text files in {source} are empty.").format(source=source))
    notes = []
    if other:
        sentence = _("Files of {source} that are not UTF-8: {count} (first: {file}).")
        notes.append(sentence.format(source=source, count=len(other), file=other[0].relative_to(folder)))
    if empty:
        notes.append(
            _("Empty files of {source} that were left out: {count}.").format(source=source, count=empty)
        )
    return Table(rows, tuple(rows[0]), source, tuple(notes))


def _part(path: Path, folder: Path) -> str:
    return plain(path.relative_to(folder).parts[0])


def _unusable(folder: Path, source: str, tables: tuple[str, ...]) -> str:
    if any(folder.rglob("*.ann")):
        sentence = _(
            "{source} holds BRAT's standoff files (.ann), which are not read. Give one file of JSON Lines with `text` and "
            "`entities` (start, end, label)."
        )
        return sentence.format(source=source)
    found = sorted(path.name for path in folder.iterdir() if path.name.lower().endswith(tables))
    if found:
        sentence = _("{source} is a folder that holds tables. Name one of them: {names}.")
        return sentence.format(source=source, names=", ".join(found[:10]))
    return _(
        "The folder {source} holds no data. Give a table (CSV, JSON, Parquet), or a folder with one folder "
        "of .txt files for each label."
    ).format(source=source)

"""Ask a trained run: texts in, answers out, in the same order."""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afina.core import Table
from afina.errors import InputError
from afina.messages import N_, _, use_language
from afina.settings import Common, Settings, divide, setting


class Predict(Settings):
    """Settings of `afina predict`."""

    text: str | None = setting(
        None, N_("Column that holds the text (default: as in training, else guessed).")
    )
    output: str | None = setting(None, N_("File for the answers: the table with columns added, as CSV."))


def predict(run: str | Path, *texts: str | Path, **settings: Any) -> list[dict[str, Any]]:
    """Return one answer an input: `texts` are texts, one file of them, or `-` for standard input, a text a line.

    With `output` the answers are also written beside their rows as CSV. Raises InputError.
    """
    use_language(settings.get("lang"))
    common, own = divide(settings, Common, Predict)
    common, own = Common.of(common), Predict.of(own)
    from afina.train.run import Run

    bundle = Run(run).bundle
    table = _table(texts, offline=common.offline)
    column = _column(table, own.text, getattr(bundle.task, "text", None))
    answers = bundle.predict([str(row.get(column) or "") for row in table.rows])
    if own.output:
        write(Path(own.output), table, answers)
    return answers


def write(file: Path, table: Table, answers: Sequence[dict[str, Any]]) -> None:
    """Write the table with the answers' columns added; a column of that name that was there gets `_1` behind it."""
    from afina.train.checkpoint import write_text

    added = [name for name in answers[0] if not isinstance(answers[0][name], dict)] if answers else []
    names = {name: name if name not in table.columns else f"{name}_1" for name in added}
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*table.columns, *names.values()], extrasaction="ignore")
    writer.writeheader()
    for row, answer in zip(table.rows, answers, strict=True):
        writer.writerow(row | {names[name]: answer[name] for name in added})
    write_text(file, text.getvalue())


def _table(texts: Sequence[str | Path], *, offline: bool) -> Table:
    from afina.data.read import read

    if not texts:
        raise InputError(_("Name a text, a file, or - for standard input."))
    if len(texts) == 1 and str(texts[0]) == "-":
        lines = [line.rstrip("\r\n") for line in sys.stdin]
        return Table([{"text": line} for line in lines], ("text",), "-")
    if len(texts) == 1 and _is_file(texts[0]):
        return read(texts[0], offline=offline)
    return Table([{"text": str(text)} for text in texts], ("text",), "")


def _is_file(text: str | Path) -> bool:
    """Whether it names something on disk; a long text is no possible name, which the system calls an error."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def _column(table: Table, named: str | None, trained: str | None) -> str:
    from afina.data.columns import guess

    if table.columns == ("text",) and named is None:
        return "text"
    return guess(table, "text", named or (trained if trained in table.columns else None))

"""Which run on plain text is meant, a new one or one that goes on: its texts and its folder."""

import filecmp
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from afina.errors import InputError
from afina.messages import _
from afina.verbs._job import PASSING, may_change, passing, same, unchanged
from afina.verbs._objectives import OBJECTIVES


def as_begun(
    texts: list[str],
    settings: dict[str, Any],
    decides: tuple[str, ...],
    checked: Callable[[dict[str, Any]], Mapping[str, Any]],
) -> tuple[list[str], dict[str, Any]]:
    """Return texts and settings as the run began; one that now says otherwise is an error.

    `checked` returns flat settings as `run.toml` holds them, and raises InputError where one is wrong; it needs the
    settings, named by `decides`, that say which others there are.
    """
    from afina.train import folder
    from afina.train.run import read_settings

    if not texts and not settings.get("output_dir"):
        raise InputError(_("Name at least one text file to learn from."))
    run = folder.place(settings.get("output_dir"), texts[0] if texts else "")
    folder.check(run, resume=True, overwrite=False)
    begun = read_settings(run / "run.toml")
    begun.pop("recorded", None)
    old = begun.pop("texts", texts)
    told = checked({name: value for name, value in begun.items() if name in decides} | settings)
    unchanged(run, begun, {name: value for name, value in told.items() if name in settings})
    if texts and not same("texts", old, texts):
        raise InputError(
            _("The run in {run} began with the data {old}, not {new}.").format(
                run=run, old=", ".join(old), new=", ".join(texts)
            )
        )
    kept = {name: value for name, value in begun.items() if name not in PASSING}
    return old, kept | passing(settings) | may_change(settings)


def place(
    texts: list[Path],
    chosen: Any,
    *,
    column: str | None,
    replay: str | None = None,
    rows: str | None = None,
) -> Path:
    """Return the run's folder; InputError where it, or one of the files that are read, cannot be used.

    `column` is that of the texts and of the held-out text, and of the `rows` of a task where it is one of theirs;
    `replay` is a file of its own.
    """
    from afina.data.columns import guess
    from afina.data.plain_text import check, has_columns, streamed
    from afina.train import folder

    if not texts:
        raise InputError(_("Name at least one text file to learn from."))
    if settings := next((text for text in texts if text.suffix == ".toml"), None):
        raise InputError(
            _("{file} holds settings and no text. A run goes on with --resume and --output-dir.").format(
                file=settings
            )
        )
    of_rows = column and not any(map(has_columns, texts))  # nothing else has columns
    if of_rows and not (rows and has_columns(Path(rows))):
        raise InputError(
            _("{file} is plain text and has no columns: leave out --text.").format(file=texts[0])
        )
    read = [*texts, *([Path(chosen.validation)] if chosen.validation else [])]
    others = [Path(other) for other in (replay, rows) if other]
    for text, own in [*((text, column) for text in read), *((text, None) for text in others)]:
        if text.exists() or not chosen.resume:  # what came from the Hub need not be there any more
            check(text, own)
    if of_rows and Path(str(rows)).exists():
        guess(streamed(Path(str(rows))).beginning(), "text", column)
    if not chosen.resume:
        _check_apart(texts, chosen.validation, replay)
    run = folder.place(chosen.output_dir, str(texts[0]))
    folder.check(run, resume=chosen.resume, overwrite=chosen.overwrite)
    return run


def begins_from(run: Path, source: Path | None, chosen: Any) -> dict[str, Any]:
    """Return the hash of the weights that the run begins from, as it is recorded; nothing of a new model.

    InputError where a run is to go on and these are others now. Of a run that has recorded none, none is.
    """
    from afina.train.folder import fingerprint
    from afina.train.run import Run

    if source is None:
        return {}
    model = fingerprint(source)
    if not chosen.resume:
        return {"model": model}
    recorded = Run(run).recorded.get("model")
    if recorded not in (None, model):
        changed = _("The model {model} is not the model of the run: its weights have changed.")
        raise InputError(" ".join([changed.format(model=chosen.model), _("Start anew with --overwrite.")]))
    return {"model": recorded} if recorded else {}


def tell_columns(
    files: list[Path | str | None], column: str | None, *, quiet: bool, of_task: bool = False
) -> None:
    """Say which columns are read of those of the files that are tables, or the rows `of_task`, where they are guessed."""
    from afina.data.plain_text import column_in_words
    from afina.train.track import say

    told = [] if quiet else [Path(each) for each in files if each]
    for file in told:
        if file.is_file() and (sentence := column_in_words(file, column, of_task=of_task)):
            say(sentence, quiet)


def _check_apart(texts: list[Path], validation: str | None, replay: str | None) -> None:
    """Raise InputError where a text is named twice, or is the held-out text too, or one of both is replayed."""
    seen: set[Path] = set()
    for text in texts:
        if text.resolve() in seen:
            raise InputError(_("The text {file} is named twice: name it once.").format(file=text))
        seen.add(text.resolve())
    if other := _same(validation, texts):
        raise InputError(
            _(
                "The held-out text {file} is the training text {other} itself, so it could not tell what is "
                "learnt. Name another file with --validation, or leave it out."
            ).format(file=validation, other=other)
        )
    if other := _same(replay, [*texts, *([Path(validation)] if validation else [])]):
        raise InputError(
            _(
                "The replay text {file} is {other} itself, which the run learns from or is scored on. Name a file of "
                "general text with --replay-text."
            ).format(file=replay, other=other)
        )


def _same(named: str | None, texts: list[Path]) -> Path | None:
    """Return the first of the texts that holds what the named file holds."""
    file = Path(named or "")
    return next(
        (
            text
            for text in texts
            if file.is_file()
            and text.is_file()
            and text.stat().st_size == file.stat().st_size
            and filecmp.cmp(text, file, shallow=False)
        ),
        None,
    )


def planned(texts: list[Path], chosen: Any, run: Path, plan: str, *, quiet: bool) -> dict[str, Any]:
    """Say what would be done, the `plan` in words, and return the figures of a run that has not been.

    InputError where a run that is to go on, or that is done, has learnt from another text than the files now hold.
    """
    from afina.data.corpus import unchanged as check_unchanged
    from afina.messages.numbers import number
    from afina.train.track import say

    if chosen.resume:
        check_unchanged(texts, run / "corpus")
    files = [file for text in texts for file in ([text] if text.is_file() else text.rglob("data-*.arrow"))]
    size = sum(file.stat().st_size for file in files) / 1e6
    known = _("Text files: {files}, {size} MB.").format(files=len(texts), size=number(size, 1))
    for sentence in (
        *(
            [known] if all(text.exists() for text in texts) else []
        ),  # how large one of the Hub is, nobody knows
        plan,
        _("Nothing was trained or written (--dry-run). The run would go to {run}.").format(run=run),
    ):
        say(sentence, quiet)
    figures = dict.fromkeys(("tokens_seen", "tokens_per_s", "processes", "share_of_peak"))
    losses = dict.fromkeys(OBJECTIVES[chosen.objective].losses)
    return {"run": str(run), **figures, "losses": {"validation": losses}}


def in_tokens(chosen: Any) -> str:
    """Say how long training goes on."""
    from afina.messages.numbers import number

    return _("Training goes on for {tokens} tokens, {step} a step.").format(
        tokens=number(chosen.max_tokens), step=number(chosen.tokens_per_step)
    )

"""Which run is meant: a new one, the repeat of a `run.toml`, or one that goes on."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from afina.errors import InputError
from afina.messages import _
from afina.settings import FILES, Settings, flag
from afina.verbs._settings import Chosen, choose, from_file

if TYPE_CHECKING:
    from afina.verbs._prepare import Folded, Prepared

DRAWN_BY = {
    "seed",
    "split_seed",
    "folds",
    "fold",
    "group_by",
    "validation",
    "test",
}  # what decides which rows are where
PASSING = {"output_dir", "resume", "overwrite", "dry_run", "show_mask"}  # what a repeat does not take over
MAY_CHANGE = {
    "micro_batch_tokens",
    "activation_checkpointing",
}  # when a run goes on: what was ended for lack of memory must be able to


def job(
    data: str, settings: dict[str, Any], verb: type[Settings]
) -> tuple[str, dict[str, Any], dict[str, Any], Path]:
    """Return data, settings, what was recorded, and the run's folder: of a new run, a repeat or a resumed one."""
    from afina.train import folder

    repeats = data.endswith(".toml")
    recorded: dict[str, Any] = {}
    if repeats:
        file = Path(data)
        if settings.get("resume") and not settings.get("output_dir") and folder.is_run(file.parent):
            settings = settings | {"output_dir": str(file.parent)}
        other_rows, other_model = bool(DRAWN_BY & settings.keys()), "model" in settings
        data, settings, recorded = from_file(file, settings, partial(choose, verb=verb))
        if other_rows:
            recorded = {name: value for name, value in recorded.items() if name != "data"}
        if other_model:
            recorded = {name: value for name, value in recorded.items() if name != "model"}
    run = folder.place(
        settings.get("output_dir"),
        data,
        next_free=repeats and not (settings.get("overwrite") or settings.get("resume")),
    )
    folder.check(run, resume=bool(settings.get("resume")), overwrite=bool(settings.get("overwrite")))
    if bool(settings.get("resume")):
        data, settings, recorded = _as_begun(run, data, settings, verb)
    return data, settings, recorded, run


def _as_begun(
    run: Path, data: str, settings: dict[str, Any], verb: type[Settings]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return data and settings as the run began; a setting that now says otherwise is an error."""
    begun_data, begun, recorded = from_file(run / "run.toml", {}, partial(choose, verb=verb))
    told = choose({k: v for k, v in settings.items() if k not in PASSING}, verb).flat()
    unchanged(run, begun, {name: value for name, value in told.items() if name in settings})
    if not same("data", begun_data, data) and not data.endswith(".toml"):
        raise InputError(
            _("The run in {run} began with the data {old}, not {new}.").format(
                run=run, old=begun_data, new=data
            )
        )
    return begun_data, begun | passing(settings) | may_change(settings), recorded


def unchanged(run: Path, begun: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    """Raise InputError where a setting that is told now is not the one that the run began with."""
    for name, value in told.items():
        if name == "stage":
            _unchanged_stages(run, begun.get(name) or [], value or [])
        elif name not in PASSING | MAY_CHANGE and not same(name, begun.get(name), value):
            raise InputError(
                _(
                    "The run in {run} began with {flag} {old}, not {new}. Leave it out to resume, or start anew."
                ).format(run=run, flag=flag(name), old=begun.get(name), new=value)
            )


def same(name: str, old: Any, new: Any) -> bool:
    """Whether two values of a setting are one; files are the same where they lie in the same place."""
    if old == new or name not in FILES:
        return bool(old == new)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(same(name, *each) for each in zip(old, new, strict=True))
    return isinstance(old, str) and isinstance(new, str) and Path(old).resolve() == Path(new).resolve()


def _unchanged_stages(run: Path, begun: list[dict[str, Any]], told: list[dict[str, Any]]) -> None:
    old, new = ([str(stage.get("verb")) for stage in stages] for stages in (begun, told))
    if old != new:
        raise InputError(
            _("The run in {run} began with the stages {old}, not {new}. Start anew.").format(
                run=run, old=", ".join(old) or "–", new=", ".join(new) or "–"
            )
        )
    for number, (before, now) in enumerate(zip(begun, told, strict=True), 1):
        try:
            unchanged(run, before, now)
        except InputError as error:
            raise InputError(
                _("Stage {number} ({verb}): {error}").format(number=number, verb=now["verb"], error=error)
            ) from None


def as_recorded(
    prepared: "Prepared | Folded", source: Path, chosen: Chosen, recorded: dict[str, Any]
) -> dict[str, Any]:
    """Note that the rows or the model are not those of the run, InputError where it is to go on.

    Returns what was recorded of it, with the hash of the model that it begins from, before any stage.
    """
    from afina.train.folder import fingerprint

    model = fingerprint(source)
    changed = []
    if recorded.get("data", prepared.fingerprint) != prepared.fingerprint:
        changed.append(_("The data is not the data of the run: its rows have changed."))
    if recorded.get("model", model) != model and not chosen.verb.random_weights:
        changed.append(
            _("The model {model} is not the model of the run: its weights have changed.").format(
                model=chosen.verb.model
            )
        )
    if changed and chosen.verb.resume:
        raise InputError(" ".join([*changed, _("Start anew with --overwrite.")]))
    prepared.notes.extend(changed)
    return recorded | {"model": model}


def check_spared(run: Path, settings: Mapping[str, Any], source: Path | None) -> None:
    """Raise InputError where a file that the settings name, or the model's folder, would be removed with an old run."""
    from afina.train import folder

    if settings.get("overwrite") and not settings.get("resume"):
        folder.check_spared(run, [*_named(settings), *([source] if source else [])])


def _named(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the files that settings name, those of stages among them."""
    for name in FILES:
        value = settings.get(name)
        values = value if isinstance(value, list | tuple) else [value]
        yield from (str(each) for each in values if isinstance(each, str | PurePath))
    for stage in settings.get("stage") or []:
        yield from _named(stage)


def write(run: Path, settings: Mapping[str, Any], found: Mapping[str, Any] | None = None) -> None:
    """Write the run's `run.toml`: what it learns from, its settings, what the machine is, and what was `found` besides."""
    from afina.train import machine
    from afina.train.run import write_settings

    kept = {name: value for name, value in settings.items() if name not in PASSING}
    write_settings(run / "run.toml", kept, machine.recorded() | dict(found or {}))


def may_change(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of this call that a run may go on with instead of its own."""
    return {name: settings[name] for name in MAY_CHANGE if name in settings}


def passing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of this call alone, which no run keeps."""
    return {name: settings[name] for name in (*PASSING, "offline", "quiet", "lang") if name in settings}

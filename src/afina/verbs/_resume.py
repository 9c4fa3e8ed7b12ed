"""Whether a comparison that goes on is the one that was begun: its settings, rows, models and neutral text."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from afina.errors import InputError
from afina.messages import _
from afina.verbs._design import Chosen
from afina.verbs._forgetting import Neutral
from afina.verbs._job import passing, same, unchanged
from afina.verbs._scored import Scored
from afina.verbs._settings import from_file

MAY_CHANGE = {
    "budget",
    "runner",
    "workers",
    "max_memory",
    "max_size",
    "max_latency",
}  # when a comparison goes on


def facts(chosen: Chosen, scored: Scored, texts: Neutral) -> dict[str, Any]:
    """Return what names the rows, the models and the neutral text, for a comparison that goes on."""
    from afina.data.split import fingerprint
    from afina.train import folder

    return {
        "rows": scored.fingerprint,
        "weights": {name: folder.fingerprint(source) for name, source in chosen.models.items()},
        "neutral": fingerprint(*texts.values()),
        **({"chains": chosen.chains} if chosen.chains else {}),
    }


def as_recorded(recorded: Mapping[str, Any], facts: Mapping[str, Any], chosen: Chosen) -> None:
    """Raise InputError where finished runs are of other rows, models or neutral text; what was not recorded may be so."""
    changed = []
    if recorded.get("rows", facts["rows"]) != facts["rows"]:
        changed.append(_("The data is not the data of the run: its rows have changed."))
    for name, weights in facts["weights"].items():
        if recorded.get("weights", {}).get(name, weights) != weights:
            changed.append(
                _("The model {model} is not the model of the run: its weights have changed.").format(
                    model=chosen.begins(name)
                )
            )
    if recorded.get("neutral", facts["neutral"]) != facts["neutral"]:
        changed.append(_("The neutral text is not that of the run: it has changed."))
    if changed:
        raise InputError(" ".join([*dict.fromkeys(changed), _("Start anew with --overwrite.")]))


def as_begun(
    file: Path, data: str, settings: dict[str, Any], choose: Callable[[Mapping[str, Any]], Chosen]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return data and settings as the comparison began, and what was recorded; only its limits may be others now."""
    place = file.parent
    begun_data, begun, recorded = from_file(file, {}, choose)
    if choose(begun).chains != recorded.get("chains", {}):
        raise InputError(
            _("The stages are not those that the comparison in {run} began with. Start anew.").format(
                run=place
            )
        )
    told = {
        name: value
        for name, value in choose({"task": begun["task"], "models": begun["models"]} | settings)
        .flat()
        .items()
        if name in settings
    }
    unchanged(place, begun, {name: value for name, value in told.items() if name not in MAY_CHANGE})
    if not same("data", begun_data, data):
        unchanged(place, {"data": begun_data}, {"data": data})
    limits = {name: told[name] for name in MAY_CHANGE if name in told}
    return begun_data, begun | passing(settings) | limits, recorded

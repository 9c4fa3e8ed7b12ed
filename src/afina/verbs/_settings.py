"""From what a person wrote (flags, keywords, a `run.toml`) to checked settings, a task and a method."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from afina.core import SMALL, Method, Task
from afina.errors import InputError
from afina.messages import _, use_language
from afina.names import find, known
from afina.settings import Common, Settings, divide, knobs


class Chosen(NamedTuple):
    """The settings of one verb, shared out to those they belong to."""

    common: Common
    verb: Any
    task: Task
    method: Method

    def flat(self) -> dict[str, Any]:
        """Return all of them under their flat names, as `run.toml` holds them."""
        values = self.verb.model_dump(mode="json")
        for owner in (self.task, self.method):
            values |= {name: owner.model_dump(mode="json")[name] for name in knobs(type(owner))}
        return values


def begin(settings: Mapping[str, Any]) -> None:
    """Speak the language that is asked for and, if asked, close the network: what every verb does first."""
    use_language(settings.get("lang"))
    if settings.get("offline"):
        os.environ["HF_HUB_OFFLINE"] = "1"
        if "huggingface_hub" in sys.modules:  # it reads the variable only when it is imported
            sys.modules["huggingface_hub"].constants.HF_HUB_OFFLINE = True
        if "datasets" in sys.modules:
            sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def choose(settings: Mapping[str, Any], verb: type[Settings], kind: type[Task] | None = None) -> Chosen:
    """Check flat settings; a task or method may be a name or an object of one's own.

    `kind` is the task of a verb that has no setting for it.
    """
    given = dict(settings)
    task, method = _object(given, "task", Task), _object(given, "method", Method)
    task_class = (
        type(task) if task else kind or find("tasks", given.get("task", verb.model_fields["task"].default))
    )
    method_class = (
        type(method) if method else find("methods", given.get("method", verb.model_fields["method"].default))
    )
    _not_of_another(given, verb, task_class, method_class)
    common, own, task_knobs, method_knobs = divide(given, Common, verb, task_class, method_class)
    return Chosen(
        Common.of(common),
        verb.of(own),
        (task.replace(**task_knobs) if task else task_class.of(task_knobs)),
        (method.replace(**method_knobs) if method else method_class.of(method_knobs)),
    )


# Of small models with random weights, for all tasks, searched with `full`: benchmarks/LOG.md.
FRESH_RATE = 5e-4


def preset_rate(task: Task, method: Method, width: int, *, random_weights: bool = False) -> float:
    """Return the learning rate where the person names none: the method's preset, in a small model by the task's pace.

    At what suits pre-trained weights random ones may learn nothing at all where the task is hard.
    """
    rate: float = method.presets(width)["learning_rate"]
    if width > SMALL:
        return rate
    return min(rate, FRESH_RATE) if random_weights else rate * task.pace


def model_for(task: str, named: str | None) -> str:
    """Return the model that is named, else the embedded one of the task; InputError where there is none."""
    model: str | None = named or find("tasks", task).embedded
    if model is None:
        raise InputError(
            _(
                "No model for task '{task}' ships with afina. Name one: a folder, or a name of the Hub."
            ).format(task=task)
        )
    return model


def from_file(
    file: Path, settings: Mapping[str, Any], check: Callable[[Mapping[str, Any]], Any]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the data, the settings and what was recorded of a `run.toml`, with `settings` laid over it.

    Raises InputError, which names the file, where `check` refuses the settings in it.
    """
    from afina.train.run import read_settings
    from afina.verbs._links import lifted

    try:
        held = lifted(read_settings(file))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    recorded = held.pop("recorded", {})
    own = {name: value for name, value in held.items() if name != "data"}
    held |= settings
    data = held.pop("data", None)
    if not isinstance(recorded, dict):
        raise InputError(_("{file}: [recorded] must be a table, or not be there.").format(file=file))
    if data is None and "objective" in held:
        verb = "adapt" if "method" in held else "pretrain"
        raise InputError(
            _(
                "{file} is of a training on plain text, which is repeated by afina {verb} and its texts."
            ).format(file=file, verb=verb)
        )
    if not isinstance(data, str):
        raise InputError(_('{file} does not say which data to use: add data = "file.csv".').format(file=file))
    threads = recorded.get("threads", 1)
    if not isinstance(threads, int) or threads < 1:
        raise InputError(
            _("{file}: {name} is {value!r}, but must be {wanted}.").format(
                file=file, name="threads", value=threads, wanted=_("a whole number")
            )
        )
    try:
        check(own)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    return data, held, recorded


def _object(given: dict[str, Any], kind: str, expected: type[Settings]) -> Any:
    """Take a task or method object out of the settings and leave its name there."""
    value = given.get(kind)
    if value is None or isinstance(value, str):
        return None
    if not isinstance(value, expected):
        raise InputError(
            _("Setting '{name}' is {value!r}, but must be {wanted}.").format(
                name=kind, value=value, wanted=_("a name")
            )
        )
    given[kind] = type(value).__module__.rpartition(".")[2]
    return value


def _not_of_another(given: Mapping[str, Any], *own: type[Settings]) -> None:
    """A setting that only another task or method has is no spelling mistake: say whose it is."""
    owners: tuple[type[Settings], ...] = (Common, *own)
    names = {name for owner in owners for name in knobs(owner)}
    for name in given:
        if name in names:
            continue
        others = [
            one
            for folder in ("tasks", "methods")
            for one in known(folder)
            if name in knobs(find(folder, one))
        ]
        if others:
            raise InputError(
                _("Setting '{name}' is one of {owners}, which is not what was chosen here.").format(
                    name=name, owners=", ".join(others)
                )
            )

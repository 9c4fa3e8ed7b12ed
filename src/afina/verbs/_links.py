"""What is said of the stages before a run: what each learns from, in which order, in which folder, and what came of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from afina.errors import InputError
from afina.messages import _
from afina.names import find, unknown
from afina.settings import Common
from afina.train.aside import STAGES
from afina.verbs._job import PASSING

LEARNS_FROM = {"adapt": "texts", "finetune": "data"}
# What is said for the chain as a whole, if at all.
ONCE = {*PASSING, *Common.model_fields, "model", "random_weights", "folds", "fold", "stage"}
TOLD = ("task", "method", "scores", "losses", "tokens_seen", "trained_weights", "forgetting", "seconds")


class Link(NamedTuple):
    """One stage: what was said of it, its run, and how far that is."""

    number: int
    verb: str
    settings: dict[str, Any]
    run: Path
    begun: bool
    done: bool

    @property
    def source(self) -> Any:
        """What it learns from: a file, or a list of texts."""
        return self.settings[LEARNS_FROM[self.verb]]

    @property
    def own(self) -> dict[str, Any]:
        """Its settings without what it learns from."""
        return {name: value for name, value in self.settings.items() if name != LEARNS_FROM[self.verb]}

    @property
    def task(self) -> str:
        """The name of the task that it learns, of a fine-tuning."""
        return str(self.settings.get("task", "classification"))

    @property
    def in_words(self) -> str:
        """What it does, to be read by a person."""
        if self.verb == "adapt":
            return f"{self.verb} ({', '.join(self.source)})"
        return f"{self.verb} {self.task} ({self.source})"


def lifted(held: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a file whose last stage, where it is the run itself, is laid over the others.

    It is the run where it learns from the run's data, or where nothing else says which data that is. Raises InputError
    where the two contradict each other.
    """
    stages = held.get("stage")
    if "recorded" in held or not (isinstance(stages, list) and stages and isinstance(stages[-1], dict)):
        return dict(held)  # what afina has written needs no reading between the lines
    last = {name: value for name, value in stages[-1].items() if name != "verb"}
    same = "data" not in held or last.get("data", held["data"]) == held["data"]
    if stages[-1].get("verb") != "finetune" or not same:
        return dict(held)
    for name, value in last.items():
        if held.get(name, value) != value:
            raise InputError(
                _(
                    "The last stage is the run itself, but '{name}' is {a!r} there and {b!r} above the stages. Say it once."
                ).format(name=name, a=value, b=held[name])
            )
    rest = {name: value for name, value in held.items() if name != "stage"}
    return rest | last | ({"stage": stages[:-1]} if stages[1:] else {})


def read(file: Path) -> dict[str, Any]:
    """Return the stages that a file holds and the model that they begin from, None where it names none.

    Its data and other settings, if any, are those of a run and not of its stages. Raises InputError without stages.
    """
    from afina.train.run import read_settings

    held = lifted(read_settings(file))
    if not held.get("stage"):
        raise InputError(
            _("{file} holds no stages before the run: add a [[stage]] with its verb.").format(file=file)
        )
    return {"model": held.get("model"), "stage": held["stage"]}


def told(stages: Sequence[Mapping[str, Any]], run: Path) -> list[dict[str, Any]]:
    """Return what came of each stage: its verb, its run, what it learnt from, its scores; None where it has none yet."""
    import json

    from afina.verbs._folds import FOLDS

    if run.parent.name == FOLDS and not (run / STAGES).is_dir():
        run = run.parent.parent  # all folds begin from what the same stages have left
    found = []
    for link in of(stages, run, resume=True):
        file = link.run / "scores.json"
        result = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        left_out = result.get("left_out", (result.get("details") or {}).get("data", {}).get("left_out"))
        found.append(
            {"verb": link.verb, "run": str(link.run), LEARNS_FROM[link.verb]: link.source}
            | {name: result.get(name) for name in TOLD if name in result or not result}
            | {"left_out": left_out}
        )
    return found


def of(stages: Sequence[Mapping[str, Any]], run: Path, resume: bool) -> list[Link]:
    """Return the stages with their runs; InputError where one does not say what it must."""
    from afina.train.folder import is_run

    found = []
    for number, said in enumerate(stages, 1):
        verb = str(said.get("verb", "?"))
        settings = {
            name: _plain(value) for name, value in said.items() if name != "verb" and value is not None
        }
        place = run / STAGES / f"{number}-{verb}"
        begun = resume and is_run(place)
        link = Link(number, verb, settings, place, begun, begun and (place / "scores.json").is_file())
        with numbered(link):
            if verb not in LEARNS_FROM:
                raise InputError(
                    unknown(verb, list(LEARNS_FROM), "stages")
                    if "verb" in said
                    else _('It does not say what is done: add verb = "adapt" or verb = "finetune".')
                )
            _check_said(link)
        found.append(link)
    return found


@contextmanager
def numbered(link: Link) -> Iterator[None]:
    """Say which stage it is that something is wrong with."""
    try:
        yield
    except InputError as error:
        raise InputError(
            _("Stage {number} ({verb}): {error}").format(number=link.number, verb=link.verb, error=error)
        ) from None


def check_order(link: Link, links: Sequence[Link]) -> None:
    """Raise InputError where a stage is to learn plain text with a model that a task has left without its head."""
    from afina.verbs._objectives import OBJECTIVES

    before = links[link.number - 2] if link.number > 1 else None
    if link.verb != "adapt" or before is None or before.verb == "adapt":
        return
    if find("tasks", before.task).head not in {objective.task.head for objective in OBJECTIVES.values()}:
        raise InputError(
            _(
                "Stage {before} learns {task}, after which the model cannot guess words any more. Adapt first, then "
                "fine-tune."
            ).format(before=before.number, task=before.task)
        )


def _plain(value: Any) -> Any:
    """Return what stands in a file for a value from Python."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, PurePath) else value


def _check_said(link: Link) -> None:
    """Raise InputError where a stage does not say what it learns from, or says what is not its own."""
    name = LEARNS_FROM[link.verb]
    value = link.settings.get(name)
    if link.verb == "finetune" and (not isinstance(value, str) or not value or value.endswith(".toml")):
        raise InputError(_('It does not say which data to use: add data = "file.csv".'))
    if link.verb == "adapt" and not (
        isinstance(value, list) and value and all(isinstance(text, str) for text in value)
    ):
        raise InputError(_('It does not say which texts to use: add texts = ["file.txt"].'))
    for name in link.own:
        if name in ONCE:
            raise InputError(
                _("'{name}' is said for the whole chain, above the stages, and not for one of them.").format(
                    name=name
                )
            )
    for name in ("task", "method"):
        if not isinstance(link.settings.get(name, ""), str):
            raise InputError(
                _("Setting '{name}' is {value!r}, but must be {wanted}.").format(
                    name=name, value=link.settings[name], wanted=_("a name")
                )
            )

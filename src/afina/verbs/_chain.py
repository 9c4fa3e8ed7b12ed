"""Stages before a run: adapt to a field, learn an intermediate task, and only then the run's own (sequential fine-tuning).

Gururangan et al. (2020) adapt before fine-tuning, Phang et al. (2018) put a task with much data before one with little.
Each stage is a run of its verb in a folder of its own, and begins from the model that the stage before has left.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from afina.core import Task
from afina.data.unseen import Unseen
from afina.errors import InputError
from afina.messages import _
from afina.names import find, unknown
from afina.settings import Common
from afina.train.folder import STAGES
from afina.verbs._job import PASSING

if TYPE_CHECKING:
    from afina.verbs._prepare import Folded, Prepared
    from afina.verbs._settings import Chosen

LEFT = "left"  # in that of a fine-tuning: its model as the next stage takes it
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


@dataclass(frozen=True)
class _Chain:
    """The stages of one run, its settings and task, and the rows that no stage may learn."""

    links: list[Link]
    run: "Chosen"
    task: Task
    unseen: Unseen

    def call(self, link: Link, model: str, **how: Any) -> Any:
        """Carry out one stage from `model`, as the command of its verb would; one that has begun knows its own."""
        from afina.verbs.adapt import adapt
        from afina.verbs.finetune import finetune

        verb = self.run.verb
        begins = {} if link.begun else {"seed": verb.seed, "model": model}
        place = {
            "output_dir": link.run,
            "resume": link.begun,
            "overwrite": verb.overwrite and not verb.resume,
        }
        passing = self.run.common.model_dump() | place
        settings = begins | link.own | passing | how
        with _numbered(link):
            if link.verb == "adapt":
                return adapt(*link.source, unseen=self.unseen, **settings)
            return finetune(link.source, unseen=self.unseen, **settings)

    def after(self, link: Link) -> Task | None:
        """Return the task that is learnt next, the run's own after the last stage; None where it is plain text."""
        if link.number == len(self.links):
            return self.task
        following = self.links[link.number]
        return None if following.verb == "adapt" else self.learnt(following)

    def learnt(self, link: Link) -> Task:
        """Return the task of a fine-tuning with the labels of its rows."""
        from afina.verbs._settings import choose
        from afina.verbs.finetune import Finetune, rows_of

        chosen = choose({"seed": self.run.verb.seed} | link.own, Finetune)
        return rows_of(link.source, chosen, self.unseen).task

    def check_reach(self, link: Link, source: Path) -> None:
        """Raise InputError where nothing that a fine-tuning learns would reach the next stage."""
        from afina.models.load import load, load_tokenizer
        from afina.verbs._settings import choose
        from afina.verbs.adapt import reach
        from afina.verbs.finetune import Finetune

        chosen = choose(link.own, Finetune)
        name = chosen.verb.method
        try:
            body, _words = reach(load(source, chosen.task.head), load_tokenizer(source), chosen.method)
        except InputError as error:
            raise InputError(
                _(
                    "Method '{method}' leaves no model that the next stage could begin from: {reason} Choose full, or a "
                    "method that can be merged, such as lora."
                ).format(method=name, reason=error)
            ) from None
        if not body and not _alike(self.learnt(link), self.after(link)):
            raise InputError(
                _(
                    "Method '{method}' leaves the model's body as it is, and its head is dropped, so nothing of this stage "
                    "would reach the next. Choose full, or a method such as lora."
                ).format(method=name)
            )


def carry_out(
    data: str,
    chosen: "Chosen",
    prepared: "Prepared | Folded",
    source: Path,
    run: Path,
    recorded: Mapping[str, Any],
) -> tuple["Chosen", Path]:
    """Carry out the stages before a run, those that are not done yet, and return how and from which model it goes on.

    Every stage is tried without training first: an InputError, with the stage's number, comes before anything is
    written. `prepared` are the run's rows: those that it is scored on no stage may learn.
    """
    import torch

    from afina.train import folder, machine
    from afina.train.run import Run, write_settings
    from afina.train.track import say
    from afina.verbs._prepare import Prepared

    verb, quiet = chosen.verb, chosen.common.quiet
    if verb.random_weights:
        raise InputError(
            _("--random-weights would throw away what the stages have learnt. Leave one of them out.")
        )
    links = _links(verb.stage, run, verb.resume)
    judging = prepared.judging
    if verb.folds and isinstance(
        prepared, Prepared
    ):  # one fold alone: the others score the rows that it learns
        judging = [*prepared.splits.train, *judging]
    unseen = Unseen(prepared.task.key(row) for row in judging)
    chain = _Chain(links, chosen, prepared.task, unseen)
    accelerator = machine.accelerator(verb.precision)
    main = accelerator.is_main_process
    tell = partial(say, quiet=quiet or not main)
    said = [
        _("Stage {number} of {all}: {what}.").format(number=number, all=len(links) + 1, what=what)
        for number, what in enumerate([*(link.in_words for link in links), _("the run itself")], 1)
    ]
    for link in links:
        if verb.dry_run:
            tell(said[link.number - 1])
        with _numbered(link):
            _check_order(link, links)
        # The model that the run begins from has the shape of what the stage will begin from.
        chain.call(link, verb.model, dry_run=True, quiet=quiet or not verb.dry_run)
    for link in links:
        if link.verb == "finetune":
            with _numbered(link):
                chain.check_reach(link, source)
    if verb.dry_run:
        tell(said[-1])
        return chosen, source
    torch.set_num_threads(recorded.get("threads", torch.get_num_threads()))
    if main:
        folder.claim(run, resume=verb.resume, overwrite=verb.overwrite)
        facts = machine.recorded() | {"data": prepared.fingerprint, "model": recorded["model"]}
        kept = {name: value for name, value in chosen.flat().items() if name not in PASSING}
        write_settings(run / "run.toml", {"data": data} | kept, facts)
    accelerator.wait_for_everyone()
    model, place = verb.model, source
    for link in links:
        if not link.done:
            tell(said[link.number - 1])
            chain.call(link, model)
        left = link.run / ("best" if link.verb == "adapt" else LEFT)
        if main and not left.is_dir():
            tell(_leave(link, chain.after(link), place))
        accelerator.wait_for_everyone()
        model, place = str(left), left
    tell(said[-1])
    # As each has decided what was open, so that a repeat does the same.
    resolved = [
        {"verb": link.verb}
        | {name: value for name, value in Run(link.run).settings.items() if name not in ONCE}
        for link in links
    ]
    return chosen._replace(verb=verb.replace(stage=resolved, resume=True, overwrite=False)), place


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
    for link in _links(stages, run, resume=True):
        file = link.run / "scores.json"
        result = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        left_out = result.get("left_out", (result.get("details") or {}).get("data", {}).get("left_out"))
        found.append(
            {"verb": link.verb, "run": str(link.run), LEARNS_FROM[link.verb]: link.source}
            | {name: result.get(name) for name in TOLD if name in result or not result}
            | {"left_out": left_out}
        )
    return found


def _links(stages: Sequence[Mapping[str, Any]], run: Path, resume: bool) -> list[Link]:
    """Return the stages with their runs; InputError where one does not say what it must."""
    from afina.train.folder import is_run

    links = []
    for number, said in enumerate(stages, 1):
        verb = str(said.get("verb", "?"))
        settings = {
            name: _plain(value) for name, value in said.items() if name != "verb" and value is not None
        }
        place = run / STAGES / f"{number}-{verb}"
        begun = resume and is_run(place)
        link = Link(number, verb, settings, place, begun, begun and (place / "scores.json").is_file())
        with _numbered(link):
            if verb not in LEARNS_FROM:
                raise InputError(
                    unknown(verb, list(LEARNS_FROM), "stages")
                    if "verb" in said
                    else _('It does not say what is done: add verb = "adapt" or verb = "finetune".')
                )
            _check_said(link)
        links.append(link)
    return links


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


def _check_order(link: Link, links: Sequence[Link]) -> None:
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


def _leave(link: Link, after: Task | None, source: Path) -> str:
    """Write a fine-tuned model as the next stage takes it, what a method adds merged, and say what was dropped.

    A head of the same kind and labels as the next stage's goes on with it; so does one over the vocabulary, which the
    model was pre-trained with. Any other would be taken for the next one's where it happens to have its size.
    """
    from afina.models.load import load_tokenizer
    from afina.models.parts import answers_in_words, backbone
    from afina.train.atomic import replaced
    from afina.train.bundle import Bundle

    bundle = Bundle.load(link.run / "best")
    task, model = bundle.task, bundle.method.merge(bundle.model)
    kept = _alike(task, after) or answers_in_words(model)
    left: Any = model if kept else model.get_submodule(backbone(model))
    with replaced(link.run / LEFT) as new:
        left.save_pretrained(new)
        load_tokenizer(source).save_pretrained(new)  # the run's own reads no more than its longest row
    sentence = _("Stage {number} leaves its model with its head for the next.")
    if not kept:
        sentence = _("Stage {number} leaves the body of its model; its head, for {task}, is dropped.")
    return sentence.format(number=link.number, task=link.task)


def _alike(task: Task, after: Task | None) -> bool:
    """Whether the head of a task is that of the one after it: of one kind, for the same labels or on the same scale."""
    if after is None or after.head != task.head or after.config() != task.config():
        return False
    learnt = (
        {name: getattr(one, name, None) for name in ("bounds", "centre", "scale")} for one in (task, after)
    )
    return operator.eq(*learnt)


@contextmanager
def _numbered(link: Link) -> Iterator[None]:
    """Say which stage it is that something is wrong with."""
    try:
        yield
    except InputError as error:
        raise InputError(
            _("Stage {number} ({verb}): {error}").format(number=link.number, verb=link.verb, error=error)
        ) from None

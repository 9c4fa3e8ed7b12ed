"""Stages before a run: adapt to a field, learn an intermediate task, and only then the run's own (sequential fine-tuning).

Gururangan et al. (2020) adapt before fine-tuning, Phang et al. (2018) put a task with much data before one with little.
Each stage is a run of its verb in a folder of its own, and begins from the model that the stage before has left.
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.core import Task
from afina.data.unseen import Unseen
from afina.errors import InputError
from afina.messages import _
from afina.verbs import _links
from afina.verbs._job import PASSING
from afina.verbs._links import ONCE, Link, check_order, numbered

if TYPE_CHECKING:
    from afina.verbs._prepare import Folded, Prepared
    from afina.verbs._settings import Chosen

LEFT = "left"  # in that of a fine-tuning: its model as the next stage takes it


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
        with numbered(link):
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
    links = _links.of(verb.stage, run, verb.resume)
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
        with numbered(link):
            check_order(link, links)
        # The model that the run begins from has the shape of what the stage will begin from.
        chain.call(link, verb.model, dry_run=True, quiet=quiet or not verb.dry_run)
    for link in links:
        if link.verb == "finetune":
            with numbered(link):
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

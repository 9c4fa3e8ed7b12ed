"""Measure on a person's own rows which method, and which model, is right for them."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from afina.errors import InputError
from afina.messages import N_, _
from afina.messages.numbers import number
from afina.models.find import find as find_model
from afina.names import find, known
from afina.settings import Common, Training, divide, setting
from afina.train.aside import until_stepped
from afina.train.lock import until_done
from afina.verbs import (
    _design,
    _folds,
    _forgetting,
    _links,
    _planned,
    _ranking,
    _resume,
    _scored,
    _trials,
    _tuning,
)
from afina.verbs._design import Chosen
from afina.verbs._job import check_spared
from afina.verbs._runners import RUNNERS, Runner
from afina.verbs._settings import begin, from_file, model_for
from afina.verbs._trial import NEUTRAL, ROWS

FILE, RUNS = "compare.toml", "runs"
UNITS = {"s": 1, "min": 60, "h": 3600}


class Compare(Training):
    """Settings of `afina compare`; those of training and of the task hold for every run alike."""

    task: str = setting("classification", N_("What is learnt."))
    methods: str = setting("all", N_("Methods to compare, with commas and no blanks, or all."))
    models: str | None = setting(
        None,
        N_(
            "Models to compare, with commas and no blanks (default: the task's embedded one); a file with stages stands for "
            "the model that they leave."
        ),
    )
    seeds: int = setting(3, N_("Runs of each method, each with a seed of its own."), ge=1, le=100)
    tune: Literal["none", "small"] = setting(
        "none", N_("small: choose among three learning rates for each method, on the validation rows.")
    )
    budget: str | None = setting(
        None, N_("Begin no run after this time, such as 30min or 2h (default: no limit).")
    )
    runner: Literal["local", "ray"] = setting(
        "local",
        N_("What carries out the runs: local, this machine; ray, a Ray cluster that is there already."),
    )
    workers: int = setting(
        1,
        N_("Runs that share the threads of a machine at the same time, each in a process of its own."),
        ge=1,
    )
    max_memory: float | None = setting(None, N_("Most memory that training may take, in MB."), gt=0)
    max_size: float | None = setting(None, N_("Most disk that what is saved may take, in MB."), gt=0)
    max_latency: float | None = setting(None, N_("Longest time for one answer, in milliseconds."), gt=0)
    neutral: str | None = setting(
        None,
        N_(
            "Text, one sentence a line, on which forgetting is measured (default: Spanish and English sentences "
            "that ship with afina)."
        ),
    )
    validation: str | None = setting(None, N_("File with the validation rows."))
    test: str | None = setting(None, N_("File with the test rows."))
    group_by: str | None = setting(
        None,
        N_("Column whose rows of one value (author, patient, document) stay on one side of every split."),
    )
    folds: int = setting(
        0, N_("Train so many models, each row scored by the one that has not seen it (0: one model)."), ge=0
    )
    output_dir: str | None = setting(
        None, N_("Folder of the comparison (default: runs/<file name>-compare).")
    )
    resume: bool = setting(False, N_("Go on with the comparison that the folder holds."))
    overwrite: bool = setting(False, N_("Replace the comparison that the folder holds."))
    dry_run: bool = setting(False, N_("Check data and settings, say what would be done, and stop."))


@until_done()
@until_stepped()
def compare(data: str | Path, **settings: Any) -> dict[str, Any]:
    """Train every method several times on the same rows and return what INTERFACE names.

    Each run is a process of its own and a folder under `runs/`; one that fails is a row that says so. Raises
    InputError before anything is trained where the data or a setting is wrong, and Interrupted when stopped:
    `resume=True` goes on with what is missing.
    """
    began = time.perf_counter()
    begin(settings)
    data = str(data)
    if data.endswith(".toml"):
        data, settings, _recorded = from_file(Path(data), settings, choose)
    from afina.report import compare as report
    from afina.train import folder, machine
    from afina.train.run import write_settings
    from afina.train.track import say

    place = _place(settings.get("output_dir"), data)
    folder.check(place, resume=bool(settings.get("resume")), overwrite=bool(settings.get("overwrite")))
    recorded: dict[str, Any] = {}
    if settings.get("resume"):
        data, settings, recorded = _resume.as_begun(place / FILE, data, settings, choose)
    chosen = choose(settings)
    verb, quiet = chosen.verb, chosen.common.quiet
    now = time.time()
    until = now + seconds(verb.budget) if verb.budget else None
    searched = now + _tuning.SHARE * seconds(verb.budget) if verb.budget else None
    runner = RUNNERS[verb.runner](verb.workers, place)
    scored = _scored.rows_of(data, chosen)
    texts = _forgetting.neutral(verb.neutral)
    facts = _resume.facts(chosen, scored, texts)
    _resume.as_recorded(recorded, facts, chosen)
    for name, chain in chosen.chains.items():
        _try(data, chosen, name, chain, place / RUNS)
    stages = [stage for chain in chosen.chains.values() for stage in chain["stage"]]
    for source in chosen.models.values():
        check_spared(place, {"data": data, "stage": stages} | verb.model_dump(), source)
    tell = partial(say, quiet=quiet)
    if verb.dry_run:
        for sentence in [*scored.notes, *_design.once(chosen)]:
            tell(sentence)
        lines = _planned.planned(data, chosen, scored, tell)
        return _result(place, chosen, scored, lines) | {"tests": [], "recommendation": None, "seconds": None}
    folder.claim(place, resume=verb.resume, overwrite=verb.overwrite)
    write_settings(place / FILE, {"data": data} | chosen.flat(), machine.recorded() | facts)
    result = _measured(data, chosen, scored, place, runner, until, searched, texts, tell)
    result["seconds"] = round(time.perf_counter() - began, 1)
    folder.write_json(place / "scores.json", result)
    report.write(place)
    return result


def _measured(
    data: str, chosen: Chosen, scored: _scored.Scored, place: Path, runner: Runner, until: float | None,
    searched: float | None, texts: _forgetting.Neutral, tell: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """Carry out every run and return what came of them, but for the time that it took.

    None begins after `until`, none of the search of learning rates after `searched` (on the clock of `time.time`).
    """
    from afina.train import aside, folder

    verb = chosen.verb
    (place / RUNS).mkdir(exist_ok=True)
    folder.write_json(place / RUNS / ROWS, scored.by_fold)
    before = {chosen.begins(name): _before(source, texts) for name, source in chosen.models.items()}
    folder.write_json(place / RUNS / NEUTRAL, {"texts": texts, "before": before})
    for sentence in [*scored.notes, *_design.once(chosen), *(_design.cost(chosen) if verb.folds else [])]:
        tell(sentence)
    rivals = _scored.share_rivals(chosen, scored, place / RUNS)
    carry_out = partial(
        _trials.carry_out, data=data, alike=chosen.alike, folder=place / RUNS,
        runner=runner, tell=tell, first=aside.stepped,
    )  # fmt: skip
    search = partial(carry_out, until=searched, late=_tuning.LATE)
    tuned, untried = _tuning.tune(chosen, scored.task.direction, search) if verb.tune == "small" else ({}, {})
    done = carry_out(
        [
            _trials.trial(
                method, model, verb.seed + i, own | tuned.get((method, model, fold), {}),
                whose=chosen.mark(model), fold=fold,
            )
            for i in range(verb.seeds)  # seed by seed: a budget that ends early leaves every method its share
            for model in chosen.models
            for method, own in chosen.ways(scored.task, model).items()
            for fold in chosen.folds
        ],
        until=until,
    )  # fmt: skip
    lines, tests = _ranking.table(
        scored.whole(done), scored.task, rivals, scored.rows, _design.tokens_of(chosen)
    )
    for line in lines:
        line["notes"] += untried.get((line["method"], line["model"]), [])
    if not verb.folds and scored.part == "test":
        for sentence in _folds.suggested(len(scored.rows)):
            tell(sentence)
    found = _ranking.recommend(lines, tests, verb.model_dump(), scored.task.direction, scored.task.about())
    found["why"] = " ".join([found["why"], *_ended(verb.budget, done)])
    return _result(place, chosen, scored, lines) | {"tests": tests, "recommendation": found}


def _ended(budget: str | None, done: Sequence[_trials.Done]) -> list[str]:
    """Say where the budget ended, if it did before the last run."""
    late = sum(each.error == _(_trials.LATE) for each in done)
    if not late:
        return []
    return [
        _(
            "The budget of {budget} was used up when {n} of the {all} runs had been begun; a larger --budget with --resume "
            "makes the others."
        ).format(budget=budget, n=number(len(done) - late), all=number(len(done)))
    ]


def _result(
    place: Path, chosen: Chosen, scored: _scored.Scored, lines: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what is told of every comparison, without what follows from its scores."""
    return {
        "run": str(place),
        "task": chosen.verb.task,
        "task_settings": scored.task.model_dump(mode="json"),
        "part": scored.part,
        "folds": chosen.verb.folds,
        "direction": scored.task.direction,
        "rows": lines,
    }


def choose(settings: Mapping[str, Any]) -> Chosen:
    """Check flat settings; the knobs of a method go to the runs of that method alone."""
    task_class = find("tasks", settings.get("task", Compare.model_fields["task"].default))
    named = str(settings.get("methods", "all"))
    methods = known("methods") if named == "all" else named.split(",")
    for name in methods:
        if methods.count(name) > 1:
            raise InputError(_("{name} is named twice.").format(name=name))
    classes = [find("methods", name) for name in methods]
    common, own, task_knobs, *method_knobs = divide(settings, Common, Compare, task_class, *classes)
    for cls, values in zip(classes, method_knobs, strict=True):
        cls.of(values)  # a wrong knob is found before the first run
    verb = Compare.of(own)
    _folds.refuse(verb)
    verb = verb.replace(models=model_for(verb.task, verb.models))
    wanted = verb.models.split(",")
    chains = {name: _stages(name, verb.task) for name in wanted if name.endswith(".toml")}
    models = {
        name: find_model(
            chains[name]["model"] if name in chains else name, offline=bool(common.get("offline"))
        )
        for name in wanted
    }
    for i, name in enumerate(wanted):
        twins = (other for other in wanted[:i] if {other, name}.isdisjoint(chains) or other == name)
        if any(models[other] == models[name] for other in twins):
            raise InputError(_("{name} is named twice.").format(name=name))
    alike = (
        {name: getattr(verb, name) for name in Training.model_fields if name in own}
        | {"task": verb.task, "validation": verb.validation, "test": verb.test, "split_seed": verb.seed}
        | {"folds": verb.folds, "group_by": verb.group_by}
        | task_knobs
        | common
        | {"quiet": True}
    )
    return Chosen(
        Common.of(common),
        verb,
        task_class.of(task_knobs),
        dict(zip(methods, method_knobs, strict=True)),
        models,
        alike,
        {name: value for values in (task_knobs, *method_knobs) for name, value in values.items()},
        chains,
    )


def _stages(file: str, task: str) -> dict[str, Any]:
    """Return the stages in a file, and the model that they begin from."""
    chain = _links.read(Path(file))
    return chain | {"model": model_for(task, chain["model"])}


def _try(data: str, chosen: Chosen, name: str, chain: Mapping[str, Any], runs: Path) -> None:
    """Raise InputError where a chain could not be trained, before anything is."""
    from afina.verbs.finetune import finetune

    try:
        finetune(data, **chosen.alike, **chain, output_dir=runs / "tried", dry_run=True)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _before(source: Path, texts: _forgetting.Neutral) -> dict[str, float] | None:
    """Return the losses of the model in `source` on neutral text, None where it cannot be loaded: its runs say why."""
    try:
        return _forgetting.before(source, texts)
    except InputError:
        return None


def _place(output_dir: str | None, data: str) -> Path:
    from afina.train import folder

    if output_dir:
        return Path(output_dir)
    run = folder.place(None, data)
    return run.with_name(run.name + "-compare")


def seconds(budget: str) -> float:
    """Return a time such as 90s, 30min or 2h in seconds; InputError where it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h)", budget)
    if not found:
        raise InputError(
            _("Setting '{name}' is {value!r}, but must be {wanted}.").format(
                name="budget", value=budget, wanted=_("a time such as 90s, 30min or 2h")
            )
        )
    return float(found[1]) * UNITS[found[2]]

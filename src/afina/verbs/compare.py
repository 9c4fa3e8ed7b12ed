"""Measure on a person's own rows which method, and which model, is right for them."""

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from afina.core import Row, Task
from afina.errors import InputError
from afina.messages import N_, _
from afina.models.find import alike, writes
from afina.models.find import find as find_model
from afina.names import find, known
from afina.settings import Common, Training, divide, setting
from afina.verbs import _chain, _folds, _forgetting, _ranking, _tokens, _trials
from afina.verbs._job import passing, same, unchanged
from afina.verbs._prepare import Folded, Prepared, prepare, prepare_folds
from afina.verbs._runners import RUNNERS
from afina.verbs._settings import begin, from_file, model_for, preset_rate
from afina.verbs._trial import FEW_SHOT, NEUTRAL, ROWS, rivals_of

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


PASSING = {"output_dir", "resume", "overwrite"}  # what a repeat does not take over


MAY_CHANGE = {
    "budget",
    "runner",
    "workers",
    "max_memory",
    "max_size",
    "max_latency",
}  # when a comparison goes on


class Chosen(NamedTuple):
    """The settings, checked: the knobs of each method, what every run is told alike, all knobs that were set.

    `models` are the folders of the models by name; of a file with stages, that which its `chains` begin from.
    """

    common: Common
    verb: Compare
    task: Task
    methods: dict[str, dict[str, Any]]
    models: dict[str, Path]
    alike: dict[str, Any]
    knobs: dict[str, Any]
    chains: dict[str, dict[str, Any]]

    def flat(self) -> dict[str, Any]:
        """Return the settings under their flat names, as `compare.toml` holds them."""
        return self.verb.model_dump(mode="json", exclude=PASSING) | self.knobs

    @property
    def folds(self) -> list[int | None]:
        """The folds that are trained, None in place of one where there are none."""
        return [*range(self.verb.folds)] or [None]

    def begins(self, model: str) -> str:
        """Return the model that runs begin from under this name."""
        return str(self.chains[model]["model"] if model in self.chains else model)

    def ways(self, task: Task, model: str) -> dict[str, dict[str, Any]]:
        """Return what is trained on a model, or asked, with the settings of its own: methods and baselines.

        Of models that differ in their weights alone the first has the random ones for all of them.
        """
        if chain := self.chains.get(model):
            return {method: own | chain for method, own in self.methods.items()}
        baselines = _baselines(task, self.models[model])
        if self.twin(model):
            del baselines[_trials.RANDOM]
        return self.methods | baselines

    def twin(self, model: str) -> str | None:
        """Return the first model named before this one that differs from it in its weights alone."""
        before = list(self.models)[: list(self.models).index(model)]
        return next(
            (
                name
                for name in before
                if name not in self.chains and alike(self.models[name], self.models[model])
            ),
            None,
        )

    @property
    def several(self) -> bool:
        """Whether a run must say which model it is of."""
        return len(self.models) > 1


class Scored(NamedTuple):
    """The rows that every method is scored on, all and `by_fold` (one list where there are no folds), and whose task."""

    task: Task
    part: str
    rows: list[Row]
    by_fold: list[list[Row]]
    fingerprint: str
    notes: list[str]
    parts: list[Prepared]
    folded: Folded | None

    def whole(self, done: list[_trials.Done]) -> list[_trials.Done]:
        """Return what came of the runs, those of the folds of one method, model and seed as one."""
        return _folds.merged(done, self.folded) if self.folded else done

    def rivals(self, told: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
        """Return what each baseline has `told`, fold by fold, of the rows that are scored: the last ones."""
        found = [
            {name: answers[-len(rows) :] for name, answers in each.items()}
            for each, rows in zip(told, self.by_fold, strict=True)
        ]
        return _folds.rivals(self.folded, found) if self.folded else found[0]


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
        data, settings, recorded = _as_begun(place, data, settings)
    chosen = choose(settings)
    verb, quiet = chosen.verb, chosen.common.quiet
    until = time.time() + seconds(verb.budget) if verb.budget else None
    runner = RUNNERS[verb.runner](verb.workers, place)
    scored = _scored(data, chosen)
    texts = _forgetting.neutral(verb.neutral)
    facts = _facts(chosen, scored, texts)
    _as_recorded(recorded, facts, chosen)
    for name, chain in chosen.chains.items():
        _try(data, chosen, name, chain, place / RUNS)
    folder.claim(place, resume=verb.resume, overwrite=verb.overwrite)
    write_settings(place / FILE, {"data": data} | chosen.flat(), machine.recorded() | facts)
    (place / RUNS).mkdir(exist_ok=True)
    folder.write_json(place / RUNS / ROWS, scored.by_fold)
    before = {chosen.begins(name): _before(source, texts) for name, source in chosen.models.items()}
    folder.write_json(place / RUNS / NEUTRAL, {"texts": texts, "before": before})
    tell = partial(say, quiet=quiet)
    for sentence in [*scored.notes, *_once(chosen), *(_cost(chosen) if verb.folds else [])]:
        tell(sentence)
    rivals = _share_rivals(chosen, scored, place / RUNS)
    carry_out = partial(
        _trials.carry_out, data=data, alike=chosen.alike, folder=place / RUNS,
        runner=runner, until=until, tell=tell,
    )  # fmt: skip
    tuned, untried = _tune(chosen, scored.task.direction, carry_out) if verb.tune == "small" else ({}, {})
    done = carry_out(
        [
            _trials.trial(
                method, model, verb.seed + i, own | tuned.get((method, model, fold), {}),
                several=chosen.several, fold=fold,
            )
            for i in range(verb.seeds)  # seed by seed: a budget that ends early leaves every method its share
            for model in chosen.models
            for method, own in chosen.ways(scored.task, model).items()
            for fold in chosen.folds
        ]
    )  # fmt: skip
    lines, tests = _ranking.table(scored.whole(done), scored.task, rivals, scored.rows, _tokens_of(chosen))
    for line in lines:
        line["notes"] += untried.get((line["method"], line["model"]), [])
    if not verb.folds and scored.part == "test":
        for sentence in _folds.suggested(len(scored.rows)):
            tell(sentence)
    result = {
        "run": str(place),
        "task": verb.task,
        "task_settings": scored.task.model_dump(mode="json"),
        "part": scored.part,
        "folds": verb.folds,
        "direction": scored.task.direction,
        "rows": lines,
        "tests": tests,
        "recommendation": _ranking.recommend(
            lines, tests, verb.model_dump(), scored.task.direction, scored.task.about()
        ),
        "seconds": round(time.perf_counter() - began, 1),
    }
    folder.write_json(place / "scores.json", result)
    report.write(place)
    return result


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
    chain = _chain.read(Path(file))
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


def _share_rivals(chosen: Chosen, scored: Scored, runs: Path) -> dict[str, list[Any]]:
    """Return what the baselines answer to the rows that are scored, in the tokens of the first model.

    What they answer in those of each model is written for all of its runs. The stages of a chain may make tokens of
    their own, so its runs find out for themselves.
    """
    from afina.train import folder

    first: list[dict[str, list[Any]]] | None = None
    for name, source in chosen.models.items():
        chain = name in chosen.chains
        if chain and first:
            continue
        found = _rivals(source, scored, chosen.alike.get("max_length"))
        first = first or found
        for fold, told in enumerate(() if chain else found or ()):
            folder.write_json(runs / rivals_of(name, fold), told)
    return scored.rivals(first) if first else {}


def _rivals(source: Path, scored: Scored, max_length: int | None) -> list[dict[str, list[Any]]] | None:
    """Return, a fold, what each baseline answers to its validation and test rows in the tokens of one model.

    None where the model cannot be loaded, or cannot read such rows: its runs say why.
    """
    from afina.models.load import load_config, load_tokenizer, longest

    try:
        tokenizer = load_tokenizer(source)
        most = longest(load_config(source, scored.task.config()), tokenizer)
        return [
            part.task.baselines(
                part.splits.train,
                [*part.splits.validation, *part.splits.test],
                tokenizer,
                min(max_length or most, most),
            )
            for part in scored.parts
        ]
    except InputError:
        return None


def _baselines(task: Task, source: Path) -> dict[str, dict[str, Any]]:
    """Return the baselines that are runs of the model in `source`: of a decoder also what it answers untrained."""
    from afina.verbs._in_context import answers_with_a_label

    asked = writes(source) and answers_with_a_label(task)
    return {name: {} for name in _trials.BASELINES if asked or name != FEW_SHOT}


def _scored(data: str, chosen: Chosen) -> Scored:
    """Read and divide the rows; InputError before anything is written."""
    verb = chosen.verb
    how: dict[str, Any] = {
        "seed": verb.seed,
        "offline": chosen.common.offline,
        "group_by": verb.group_by,
    }
    if verb.folds:
        folded = prepare_folds(chosen.task, data, verb.folds, **how)
        by_fold = [each.splits.test for each in folded.parts]
        return Scored(
            folded.task,
            _folds.FOLDS,
            folded.rows,
            by_fold,
            folded.fingerprint,
            folded.notes,
            folded.parts,
            folded,
        )
    prepared = prepare(chosen.task, data, verb.validation, verb.test, **how)
    task, splits = prepared.task, prepared.splits
    part, rows = ("test", splits.test) if splits.test else ("validation", splits.validation)
    return Scored(task, part, rows, [rows], splits.fingerprint, prepared.notes, [prepared], None)


def _tokens_of(chosen: Chosen) -> dict[str | None, str]:
    """Return for each model the first one that has its tokens; tokens that a chain adds are its own."""
    own = [
        name
        for name, chain in chosen.chains.items()
        if any(stage.get("add_tokens") for stage in chain["stage"])
    ]
    return _tokens.shared(chosen.models, own, template=chosen.verb.task == "chat")


def _once(chosen: Chosen) -> list[str]:
    """Say which models share their random weights."""
    twins = {name: chosen.twin(name) for name in chosen.models if name not in chosen.chains}
    return [
        _("{model} differs from {first} in its weights alone: random ones are trained once for both.").format(
            model=name, first=first
        )
        for name, first in twins.items()
        if first
    ]


def _cost(chosen: Chosen) -> list[str]:
    """Say how many runs the folds make of it."""
    ways = sum(len(chosen.ways(chosen.task, model)) for model in chosen.models)
    folds = chosen.verb.folds
    runs = ways * chosen.verb.seeds * folds
    if chosen.verb.tune == "small":
        runs += len(chosen.models) * len(chosen.methods) * len(_trials.FACTORS) * folds
    return [_("{n} runs will be made: {folds} for each method, model and seed.").format(n=runs, folds=folds)]


def _place(output_dir: str | None, data: str) -> Path:
    from afina.train import folder

    if output_dir:
        return Path(output_dir)
    run = folder.place(None, data)
    return run.with_name(run.name + "-compare")


def _facts(chosen: Chosen, scored: Scored, texts: _forgetting.Neutral) -> dict[str, Any]:
    """Return what names the rows, the models and the neutral text, for a comparison that goes on."""
    from afina.data.split import fingerprint
    from afina.train import folder

    return {
        "rows": scored.fingerprint,
        "weights": {name: folder.fingerprint(source) for name, source in chosen.models.items()},
        "neutral": fingerprint(*texts.values()),
        **({"chains": chosen.chains} if chosen.chains else {}),
    }


def _as_recorded(recorded: Mapping[str, Any], facts: Mapping[str, Any], chosen: Chosen) -> None:
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


def _as_begun(place: Path, data: str, settings: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return data and settings as the comparison began, and what was recorded; only its limits may be others now."""
    begun_data, begun, recorded = from_file(place / FILE, {}, choose)
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


def _tune(
    chosen: Chosen, direction: int, carry_out: Callable[[list[_trials.Trial]], list[_trials.Done]]
) -> tuple[dict[tuple[str, str, int | None], dict[str, Any]], dict[tuple[str, str], list[str]]]:
    """Return the best of three learning rates for each method, model and fold, by one seed's validation score.

    A fold has a rate of its own, for the validation rows of the others are rows that it is scored on. Returned beside
    them is what to say of the methods and models of which some run of the search gave no result.
    """
    from afina.models.load import load_config

    found: dict[tuple[str, str, int | None], tuple[float, float]] = {}
    wanted = []
    for model, source in chosen.models.items():
        width = load_config(source).hidden_size
        for method, own in chosen.methods.items():
            preset = preset_rate(chosen.task, find("methods", method).of(own), width)
            wanted += [
                _trials.trial(
                    method, model, chosen.verb.seed,
                    own | chosen.chains.get(model, {}) | {"learning_rate": factor * preset},
                    several=chosen.several, mark=f"rate-{factor:g}", fold=fold,
                )
                for factor in _trials.FACTORS
                for fold in chosen.folds
            ]  # fmt: skip
    every = carry_out(wanted)
    for done in every:
        if done.result:
            score = next(iter(done.result["scores"]["validation"].values()))["value"] * direction
            key = (done.trial.method, done.trial.model, done.trial.settings.get("fold"))
            found[key] = max(found.get(key, (-math.inf, 0.0)), (score, done.trial.settings["learning_rate"]))
    return {key: {"learning_rate": rate} for key, (_score, rate) in found.items()}, _untried(every)


def _untried(every: Sequence[_trials.Done]) -> dict[tuple[str, str], list[str]]:
    """Say of each method and model how many runs of its search gave no result, and why."""
    groups: dict[tuple[str, str], list[_trials.Done]] = {}
    for done in every:
        groups.setdefault((done.trial.method, done.trial.model), []).append(done)
    found = {}
    for key, group in groups.items():
        lost = [done for done in group if not done.result]
        reasons = " ".join(dict.fromkeys(done.error or _("no run was finished") for done in lost))
        if len(lost) == len(group):
            found[key] = [
                _(
                    "No run of its search gave a result, so its learning rate is the one without a search: {reasons}"
                ).format(reasons=reasons)
            ]
        elif lost:
            found[key] = [
                _(
                    "{n} of the {all} runs of its search gave no result, so its learning rate was chosen among fewer: "
                    "{reasons}"
                ).format(n=len(lost), all=len(group), reasons=reasons)
            ]
    return found


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

"""The design of a comparison: which methods and baselines are run on which models, and what every run is told alike."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from afina.core import Task
from afina.messages import _
from afina.models.find import alike, writes
from afina.settings import Common
from afina.verbs import _tokens
from afina.verbs._job import PASSING
from afina.verbs._trial import FEW_SHOT
from afina.verbs._trials import BASELINES, RANDOM
from afina.verbs._tuning import FACTORS

if TYPE_CHECKING:
    from afina.verbs.compare import Compare


class Chosen(NamedTuple):
    """The settings, checked: the knobs of each method, what every run is told alike, all knobs that were set.

    `models` are the folders of the models by name; of a file with stages, that which its `chains` begin from.
    """

    common: Common
    verb: "Compare"
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
            del baselines[RANDOM]
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

    def mark(self, model: str) -> str | None:
        """Return what tells a model's runs from those of another one in their names, None where there is one alone."""
        if len(self.models) == 1:
            return None
        marks = [name.strip("/").replace("/", "_") for name in self.models]
        place = list(self.models).index(model)
        alike = marks[:place].count(marks[place])
        return f"{marks[place]}-{alike + 1}" if alike else marks[place]


def _baselines(task: Task, source: Path) -> dict[str, dict[str, Any]]:
    """Return the baselines that are runs of the model in `source`: of a decoder also what it answers untrained."""
    from afina.verbs._in_context import answers_with_a_label

    asked = writes(source) and answers_with_a_label(task)
    return {name: {} for name in BASELINES if asked or name != FEW_SHOT}


def tokens_of(chosen: Chosen) -> dict[str | None, str]:
    """Return for each model the first one that has its tokens; tokens that a chain adds are its own."""
    own = [
        name
        for name, chain in chosen.chains.items()
        if any(stage.get("add_tokens") for stage in chain["stage"])
    ]
    return _tokens.shared(chosen.models, own, template=chosen.verb.task == "chat")


def once(chosen: Chosen) -> list[str]:
    """Say which models share their random weights."""
    twins = {name: chosen.twin(name) for name in chosen.models if name not in chosen.chains}
    return [
        _("{model} differs from {first} in its weights alone: random ones are trained once for both.").format(
            model=name, first=first
        )
        for name, first in twins.items()
        if first
    ]


def cost(chosen: Chosen) -> list[str]:
    """Say how many runs the folds make of it."""
    ways = sum(len(chosen.ways(chosen.task, model)) for model in chosen.models)
    folds = chosen.verb.folds
    runs = ways * chosen.verb.seeds * folds
    if chosen.verb.tune == "small":
        runs += len(chosen.models) * len(chosen.methods) * len(FACTORS) * folds
    return [_("{n} runs will be made: {folds} for each method, model and seed.").format(n=runs, folds=folds)]

"""A small search of the learning rate, for each method on each model, before they are compared."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from afina.messages import _
from afina.names import find
from afina.verbs._settings import preset_rate
from afina.verbs._trials import Done, Trial, trial

if TYPE_CHECKING:
    from afina.verbs._design import Chosen

FACTORS = (0.3, 1.0, 3.0)  # on the preset learning rate


def tune(
    chosen: "Chosen", direction: int, carry_out: Callable[[list[Trial]], list[Done]]
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
                trial(
                    method, model, chosen.verb.seed,
                    own | chosen.chains.get(model, {}) | {"learning_rate": factor * preset},
                    several=chosen.several, mark=f"rate-{factor:g}", fold=fold,
                )
                for factor in FACTORS
                for fold in chosen.folds
            ]  # fmt: skip
    every = carry_out(wanted)
    for done in every:
        if done.result:
            score = next(iter(done.result["scores"]["validation"].values()))["value"] * direction
            key = (done.trial.method, done.trial.model, done.trial.settings.get("fold"))
            found[key] = max(found.get(key, (-math.inf, 0.0)), (score, done.trial.settings["learning_rate"]))
    return {key: {"learning_rate": rate} for key, (_score, rate) in found.items()}, _untried(every)


def _untried(every: Sequence[Done]) -> dict[tuple[str, str], list[str]]:
    """Say of each method and model how many runs of its search gave no result, and why."""
    groups: dict[tuple[str, str], list[Done]] = {}
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

"""A small search of the learning rate, for each method on each model, before they are compared."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from afina.messages import N_, _
from afina.names import find
from afina.verbs._settings import preset_rate
from afina.verbs._trials import Done, Trial, trial

if TYPE_CHECKING:
    from afina.verbs._design import Chosen

FACTORS = (0.3, 1.0, 3.0)  # on the learning rate that is named, or the preset
SHARE = 0.5  # of the budget: what is left measures the methods
LATE = N_("not begun: the half of the budget that a search may take was used up")


def tune(
    chosen: "Chosen", direction: int, carry_out: Callable[[list[Trial]], list[Done]]
) -> tuple[dict[tuple[str, str, int | None], dict[str, Any]], dict[tuple[str, str], list[str]]]:
    """Return the best of three learning rates for each method, model and fold, by one seed's validation score.

    Of rates that score alike the one that is nearest to that of before is taken: a search that tells nothing apart is no
    reason to leave it. A fold has a rate of its own, for the validation rows of the others are rows that it is scored
    on. All methods try one rate before any tries the next, so that a budget that ends early leaves none behind by more
    than one. Returned beside them is what to say of those of which some run of the search gave no result.
    """
    from afina.models.load import load_config

    found: dict[tuple[str, str, int | None], tuple[float, float, float]] = {}
    wanted, near = [], {factor: -abs(math.log(factor)) for factor in FACTORS}
    for model, source in chosen.models.items():
        width = load_config(source).hidden_size
        for method, own in chosen.methods.items():
            usual = chosen.verb.learning_rate or preset_rate(
                chosen.task, find("methods", method).of(own), width
            )
            for factor in FACTORS:
                rate = {"learning_rate": factor * usual}
                wanted += [
                    (
                        factor,
                        trial(
                            method, model, chosen.verb.seed, own | chosen.chains.get(model, {}) | rate,
                            whose=chosen.mark(model), mark=f"rate-{factor:g}", fold=fold,
                        ),
                    )
                    for fold in chosen.folds
                ]  # fmt: skip
    wanted.sort(key=lambda pair: -near[pair[0]])  # the rate without a search first
    every = carry_out([each for _factor, each in wanted])
    for (factor, _trial), done in zip(wanted, every, strict=True):
        if done.result:
            score = next(iter(done.result["scores"]["validation"].values()))["value"] * direction
            key = (done.trial.method, done.trial.model, done.trial.settings.get("fold"))
            one = score, near[factor], float(done.trial.settings["learning_rate"])
            found[key] = max(found.get(key, one), one)
    return {key: {"learning_rate": rate} for key, (_score, _near, rate) in found.items()}, _untried(every)


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

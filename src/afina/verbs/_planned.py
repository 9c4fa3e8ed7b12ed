"""What a comparison will take, before any of it is trained: each method says so of itself, by a few steps that are tried."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from afina.errors import Interrupted
from afina.messages import _
from afina.messages.numbers import number
from afina.verbs import _ranking, _trials
from afina.verbs._design import Chosen
from afina.verbs._runners import local
from afina.verbs._scored import Scored
from afina.verbs._trial import FEW_SHOT
from afina.verbs._tuning import FACTORS


def planned(data: str, chosen: Chosen, scored: Scored, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return a line a method and model with what one run of it will take here, and say so; nothing is written or trained.

    Memory and seconds stand under the names of what a comparison measures, without the stages of a chain; what only
    training can tell is None. Raises Interrupted.
    """
    verb = chosen.verb
    trials = [
        _trials.trial(
            method, model, verb.seed, own | {"dry_run": True}, whose=chosen.mark(model), fold=chosen.folds[0]
        )
        for model in chosen.models
        for method, own in chosen.ways(scored.task, model).items()
        if method != FEW_SHOT
    ]
    runner = local(verb.workers, Path())
    try:
        with tempfile.TemporaryDirectory() as place:
            done = _trials.carry_out(
                trials,
                data,
                chosen.alike,
                Path(place),
                runner=runner,
                until=None,
                tell=lambda _sentence: None,
            )
    except Interrupted:  # nothing was begun that could be gone on with
        raise Interrupted(_("Interrupted.")) from None
    shown = sum(FEW_SHOT in chosen.ways(scored.task, model) for model in chosen.models)
    lines, seconds, runs = [], 0.0, shown * len(chosen.folds) * verb.seeds
    for each in done:
        line = _ranking.bare_line([each])
        searched = verb.tune == "small" and each.trial.method in chosen.methods
        times = len(chosen.folds) * (verb.seeds + (len(FACTORS) if searched else 0))
        runs += times
        name = f"{each.trial.method}, {each.trial.model}" if len(chosen.models) > 1 else each.trial.method
        if each.result is None:
            tell(f"{name}: {each.error}")
        else:
            foretold = each.result["details"]["forecast"]
            line |= {"peak_memory_mb": foretold["memory_mb"], "train_seconds": foretold["seconds"]}
            seconds += times * foretold["seconds"]
            tell(
                _("{name}: {weights} weights are trained, in about {seconds} s and {memory} MB a run.").format(
                    name=name, weights=number(line["trained_weights"]),
                    seconds=number(foretold["seconds"], 1), memory=number(foretold["memory_mb"]),
                )
            )  # fmt: skip
        lines.append(line)
    tell(
        _(
            "{runs} runs would be made, which train for about {seconds} s in all; scoring and stages before are not counted."
        ).format(runs=runs, seconds=number(seconds / runner.at_once))
    )
    return lines

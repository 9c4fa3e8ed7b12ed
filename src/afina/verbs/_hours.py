"""A budget in hours as one in tokens: measured once, before training, so that schedule and rows end on time."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from afina.errors import InputError
from afina.messages import _
from afina.messages.numbers import number

FOREVER = 10**12  # tokens, of which --hours takes a part
EVALUATIONS, CHECKPOINTS = 20, 100  # of a run, where nothing else is asked
TRIED = 0.02  # of the time goes into steps that are only timed: what else the machine does comes and goes
MOMENTS = 3  # a checkpoint holds the weights and two numbers of AdamW for each


class Costs(NamedTuple):
    """Seconds: of a step of each phase, of an evaluation, of a checkpoint, and those that are left for all."""

    steps: tuple[float, ...]
    evaluation: float
    checkpoint: float
    left: float

    def of(self, steps: Sequence[int], chosen: Any) -> float:
        """Return what a run of so many steps by phase takes, evaluations and checkpoints included."""
        total = sum(steps)
        evaluations = -(-total // every(chosen.eval_steps, total, EVALUATIONS)) + 1  # one more at the end
        checkpoints = -(-total // every(chosen.save_steps, total, CHECKPOINTS))
        training = sum(n * seconds for n, seconds in zip(steps, self.steps, strict=True))
        return training + evaluations * self.evaluation + checkpoints * self.checkpoint


def every(asked: int | None, total: int, times: int) -> int:
    """Return after how many steps something is due that is to happen so many times."""
    return asked or max(1, total // times)


def fitted(costs: Costs, steps: Sequence[int], chosen: Any) -> float:
    """Return the share of `steps` by phase that fits into the time that is left; InputError where none does."""
    none, all_ = 0.0, 1.0
    while all_ - none > 1e-6 * all_:
        share = (none + all_) / 2
        fits = costs.of(shared(steps, share), chosen) <= costs.left
        none, all_ = (share, all_) if fits else (none, share)
    if sum(shared(steps, none)) < 1:
        first = costs.of([1, *[0] * (len(steps) - 1)], chosen)
        over = first - costs.left + chosen.hours * 3600
        raise InputError(
            _(
                "--hours {hours} is too short: when the text is read {left} seconds are left, but one step with its "
                "evaluation and its checkpoint takes about {first}. Give at least {least}."
            ).format(
                hours=chosen.hours,
                left=max(0, round(costs.left)),
                first=number(first, 1),
                least=round(1.2 * over / 3600 + 5e-5, 4),
            )
        )
    return none


def plan(costs: Costs, phases: Sequence[Any], chosen: Any) -> dict[str, Any]:
    """Return what is recorded of the plan: the steps of every phase; InputError where the time is too short."""
    steps = [most for _sources, most in phases]
    return {"planned_steps": shared(steps, fitted(costs, steps, chosen))}


def recorded(run: Path) -> dict[str, Any]:
    """Return the plan that a run began with, empty where it had none yet."""
    from afina.train.run import read_settings

    found = read_settings(run / "run.toml").get("recorded", {})
    return {name: found[name] for name in ("planned_steps",) if name in found}


def shared(steps: Sequence[int], share: float) -> list[int]:
    """Return so much of the steps of every phase."""
    return [round(n * share) for n in steps]


def measured(
    accelerator: Any,
    model: Any,
    task: Any,
    chosen: Any,
    phases: Sequence[Any],
    collate: Callable[[list], Any],
    evaluate: Callable[[Any], Any],
    run: Path,
    until: float,
) -> Costs:
    """Return what a few steps of each phase, an evaluation and a checkpoint take; no weight is changed.

    `until` is when the run is to end, by `time.perf_counter`. All processes must take part, and are told the same.
    """
    from functools import partial

    import torch

    from afina.batching.plan import batches
    from afina.methods.full import Full
    from afina.train.forecast import TIMED, forecast
    from afina.train.sophia import EVERY

    def told(seconds: float) -> float:
        mine = torch.tensor(seconds, dtype=torch.float64, device=accelerator.device)
        return float(accelerator.reduce(mine, "mean"))

    left, steps = told(until - time.perf_counter()), []
    for [(rows, plan)], _steps in phases:
        made = partial(batches, plan, rows, collate)
        some = plan.steps_per_epoch  # within one pass, so that no other order is drawn meanwhile
        tried = partial(forecast, accelerator, model, Full(), task.loss, made, plan, some)
        a_step = told(tried().seconds) / some
        more = min(int(TRIED * left / len(phases) / a_step), some)
        a_step = a_step if more <= TIMED else told(tried(timed=more).seconds) / some
        if chosen.optimizer == "sophia":
            a_step += (
                told(_estimate(accelerator, model, task, chosen.curvature, next(iter(made(0, 1))))) / EVERY
            )
        steps.append(a_step)
    began = time.perf_counter()
    evaluate(model)
    scored = time.perf_counter()
    if accelerator.is_main_process:
        _save(model, run / "trial")
    evaluation, saved = told(scored - began), told(MOMENTS * (time.perf_counter() - scored))
    return Costs(tuple(steps), evaluation, saved, told(until - time.perf_counter()))


def _estimate(accelerator: Any, model: Any, task: Any, kind: Any, micro: list[Any]) -> float:
    """Return the seconds of one estimate of the curvature on a step's batches."""
    from afina.train.curvature import observer
    from afina.train.loop import Objective
    from afina.train.optimizer import sophia

    objective = Objective(model, task.loss).train()
    observe: Any = observer(accelerator, objective, sophia(model, 0.0, 0.0, kind), 0, task.drawn)
    began = time.perf_counter()
    observe(0, micro, {name: sum(batch.counts[name] for batch in micro) for name in micro[0].counts})
    return time.perf_counter() - began


def _save(model: Any, place: Path) -> None:
    from afina.train import checkpoint
    from afina.train.optimizer import adamw

    names = {name for name, _weight in model.named_parameters()}
    checkpoint.save(place, model, names, adamw(model, 0.0, 0.0, 0.999), {})
    shutil.rmtree(place)

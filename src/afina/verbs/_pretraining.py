"""Training on plain text, from the first step to the last, and what it has cost."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from afina.messages import _
from afina.verbs import _hours
from afina.verbs._corpus import Part
from afina.verbs._held_out import evaluation, losses
from afina.verbs._phases import Phase, between

RATES = {"adamw": 1e-3, "sophia": 3e-4}  # peaks, where none is named


def learn(
    accelerator: Any, model: Any, method: Any, task: Any, tokenizer: Any, phases: list[Phase], held: Part,
    chosen: Any, run: Path, *, began: float, quiet: bool, rehearsal: Any = None,
) -> Any:  # fmt: skip
    """Train the model through the phases, keep its best state in `best/`, and return how it went.

    Where the phases have replay, `rehearsal` says what is learnt from it. What a method has put into the model is merged there, in a copy, so that it is an ordinary model of its kind.
    """
    import copy

    from afina.messages.numbers import number
    from afina.train.atomic import replaced
    from afina.train.fit import Budget, fit
    from afina.train.track import say
    from afina.train.work import Work

    total = min(sum(steps for _sources, steps in phases), chosen.max_steps or 10**12)
    if chosen.warmup_steps >= total and chosen.warmup_steps >= 1:
        say(
            _(
                "The learning rate never reaches its peak: training has {steps} steps, --warmup-steps is {warmup}."
            ).format(steps=number(total), warmup=number(chosen.warmup_steps)),
            quiet,
        )

    def keep(model: Any) -> None:
        with replaced(run / "best") as new:
            whole = model if method.whole else method.merge(copy.deepcopy(model))
            whole.save_pretrained(new)
            tokenizer.save_pretrained(new)

    budget = Budget(
        steps=total,
        learning_rate=chosen.learning_rate or RATES[chosen.optimizer],
        seed=chosen.seed,
        warmup_steps=chosen.warmup_steps,
        lr_scheduler_type=chosen.lr_scheduler_type,
        weight_decay=chosen.weight_decay,
        max_grad_norm=chosen.max_grad_norm,
        spike_guard=chosen.spike_guard,
        optimizer=chosen.optimizer,
        curvature=chosen.curvature,
        adam_beta2=0.98,
        eval_steps=_hours.every(chosen.eval_steps, total, _hours.EVALUATIONS),
        save_steps=_hours.every(chosen.save_steps, total, _hours.CHECKPOINTS),
    )
    return fit(
        accelerator,
        model,
        method,
        (rehearsal or task).loss,
        partial(between, phases, partial(task.collate, tokenizer=tokenizer)),
        budget,
        run,
        steps_per_epoch=phases[0][0][0][1].steps_per_epoch,
        evaluate=evaluation(task, tokenizer, held, chosen),
        keep_best=keep,
        resume=chosen.resume,
        quiet=quiet,
        drawn=(rehearsal or task).drawn,
        work=Work,
        began=began,
    )


def figures(progress: Any, scores: Mapping[str, Any], chosen: Any, run: Path, began: float) -> dict[str, Any]:
    """Return what a run is said to have cost and learnt; `scores` are those of held-out text."""
    from afina.train import machine

    speed = progress.tokens / max(progress.seconds, 1e-9)
    peak = machine.matrix_peak(chosen.precision) * machine.processes()
    return {
        "run": str(run),
        "tokens_seen": progress.tokens,
        "tokens_per_s": round(speed, 1),
        "processes": machine.processes(),
        "share_of_peak": progress.share_of(peak),
        "losses": {"validation": losses(chosen, scores)},
        "scores": {"validation": scores},
        "skipped_steps": progress.guard.skipped,
        "seconds": {"train": round(progress.seconds, 1), "total": round(time.perf_counter() - began, 1)},
    }

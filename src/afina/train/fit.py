"""One training from start to end around the loop: stages, evaluation, the best weights, stopping, resuming."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import nn

from afina.core import Batch, Curvature, Loss, Method, Schedule, Stage, Step
from afina.errors import InputError, Interrupted
from afina.messages import _
from afina.messages.numbers import number
from afina.train import aside, checkpoint, machine, memory
from afina.train.curvature import Drawn, observer
from afina.train.frozen import Readings, keeping
from afina.train.guard import Guard
from afina.train.interrupt import Stop, asked_to_stop
from afina.train.loop import Objective, steps
from afina.train.optimizer import adamw, rate, sophia
from afina.train.store import Kept
from afina.train.track import Bar, Log, peak_memory_mb
from afina.train.work import Work


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long and how hard one training goes; `eval_steps` and `save_steps` of 0 mean only at the end.

    With `spike_guard` a step whose loss or gradient lies far above those before it is skipped.
    """

    steps: int
    learning_rate: float
    seed: int = 0
    warmup_steps: float = 0.1
    lr_scheduler_type: Schedule = "linear"
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    adam_beta2: float = 0.999
    eval_steps: int = 0
    save_steps: int = 0
    patience: int = 0
    spike_guard: bool = False
    optimizer: Literal["adamw", "sophia"] = "adamw"
    curvature: Curvature = "gnb"


@dataclass
class Progress:
    """What a restart must know beside weights and optimizer: `step` of the whole run, `best` score and when."""

    step: int = 0
    best: list[float] | None = None
    best_step: int = 0
    bad: int = 0
    stopped: bool = False
    tokens: int = 0
    rows: int = 0
    seconds: float = 0.0
    flop: float = 0.0  # useful ones, each stage's by what it trains and computes
    peak_memory_mb: float = 0.0  # of whichever process of the run took most
    total: float = 0.0  # seconds of all that was done up to the checkpoint, beside training too
    kept: int = 0  # rows that pass the frozen blocks of the stage once and for all
    micro_batch_tokens: int | None = None  # since a step ran out of memory; None: as many as the plan says
    guard: Guard = field(default_factory=Guard)

    def share_of(self, peak: float) -> float:
        """Return which share of `peak`, FLOP a second, the useful ones came to."""
        return round(self.flop / max(self.seconds, 1e-9) / peak, 4)

    def most_memory(self) -> None:
        """Note what memory this process has taken, where no process before it has taken more."""
        self.peak_memory_mb = max(self.peak_memory_mb, peak_memory_mb())


Batches = Callable[[int, int, int | None], Iterable[list[Batch]]]
Evaluate = Callable[[nn.Module], tuple[list[float], dict[str, Any]]]


def fit(
    accelerator: Accelerator,
    model: nn.Module,
    method: Method,
    loss: Callable[[nn.Module, Batch], Loss],
    batches: Batches,
    budget: Budget,
    run: Path,
    *,
    steps_per_epoch: int,
    evaluate: Evaluate | None = None,
    keep_best: Callable[[nn.Module], None] | None = None,
    readings: Readings | None = None,
    resume: bool = False,
    quiet: bool = False,
    drawn: Drawn | None = None,
    work: Callable[[nn.Module], Work] | None = None,
    began: float | None = None,
) -> Progress:
    """Train `model` to the end of the budget and return how it went.

    `batches(start, stop, most)` yields the micro-batches of each step, of at most `most` tokens where that is not None:
    a step that runs out of memory is taken again with half as many, and all steps after it have no more. `evaluate`
    returns a score (more is better; the first number counts, the next break ties) and what to log; `keep_best` writes
    the weights of the best score so far. With `readings` what frozen blocks give is computed once, and how that goes is
    told. `run/last` holds the state to resume from. `drawn` gives a batch with answers drawn from the model's own, which
    Sophia's estimate `gnb` is made of. With `work` the useful arithmetic of each stage is counted. `began` is when all
    of it did, by `time.perf_counter`, see `checkpoint.began`. Raises Interrupted after Ctrl-C, when the state is safe,
    and InputError where the loss is no number.
    """
    saved = checkpoint.progress(run / "last") if resume else None
    progress = Progress(**saved | {"guard": Guard(**saved.get("guard", {}))}) if saved else Progress()
    model.to(accelerator.device)
    machine.plain_attention(model, accelerator)
    if saved:
        checkpoint.load_weights(run / "last", model)
    stages = method.stages(model)
    first = accelerator.is_main_process
    with Bar(budget.steps, quiet or not first, progress.step) as bar, asked_to_stop() as stop:
        log = Log(run / "steps.jsonl", progress.step if saved else None) if first else None
        watch = _Watch(
            accelerator, model, _trained(stages, model), batches, budget, run, progress, steps_per_epoch,
            evaluate, keep_best, log, bar, spans(stages, budget.steps)[-1][1],
            time.perf_counter() if began is None else began,
        )  # fmt: skip
        for stage, start, end in spans(stages, budget.steps):
            if progress.step >= end or progress.stopped:
                continue
            unfreeze(model, stage)
            peak = budget.learning_rate * stage.learning_rate_factor
            optimizer = _optimizer(model, peak, budget, stage)
            if saved and progress.step > start:
                checkpoint.load_optimizer(run / "last", model, optimizer)
            objective = accelerator.prepare(Objective(model, loss))
            reads = time.perf_counter()
            # Of the whole stage, so that a resumed run goes the same way.
            passes = (end - start) / steps_per_epoch
            done = work(model) if work else None
            between = partial(watch.reading, readings, optimizer, stop)
            with keeping(accelerator, model, stage, readings, passes, run, between=between) as kept:
                watch.has_read(readings, kept, done, time.perf_counter() - reads)
                for step in steps(
                    accelerator,
                    objective,
                    optimizer,
                    partial(_rate_in_stage, budget, stage, start, end),
                    watch.batches_of(progress.step, end),
                    max_grad_norm=budget.max_grad_norm,
                    seed=budget.seed,
                    start=progress.step,
                    skips=progress.guard.skips if budget.spike_guard else None,
                    observe=observer(accelerator, objective, optimizer, budget.seed, drawn),
                    smaller=watch.smaller,
                ):
                    progress.flop += done(step, kept.taken()) if done else 0.0
                    watch.after(step, optimizer, stop.asked)
                    if progress.stopped:
                        break
            accelerator.free_memory()
    if keep_best and progress.best is None and first:
        keep_best(model)
    accelerator.wait_for_everyone()
    progress.most_memory()
    return progress


@dataclass
class _Watch:
    """What happens around every step: it is cut, told, now and then scored and saved, and the end is seen."""

    accelerator: Accelerator
    model: nn.Module
    trained: frozenset[str]
    batches: Batches
    budget: Budget
    run: Path
    progress: Progress
    steps_per_epoch: int
    evaluate: Evaluate | None
    keep_best: Callable[[nn.Module], None] | None
    log: Log | None
    bar: Bar
    last_stage: int  # the step after which it begins
    began: float

    def batches_of(self, start: int, stop: int) -> Iterator[list[Batch]]:
        """Yield the micro-batches of each step [start, stop), as small as has been found to fit by then."""
        for index in range(start, stop):
            yield from self.batches(index, index + 1, self.progress.micro_batch_tokens)

    def reading(
        self, readings: Readings | None, optimizer: torch.optim.Optimizer, stop: Stop, tokens: int
    ) -> None:
        """Tell how many tokens the frozen blocks have read, and stop there where that is asked for."""
        if readings and not tokens:
            self.bar.say(
                _("What the frozen blocks give is computed once, now, and kept: {tokens} tokens.").format(
                    tokens=number(readings.tokens)
                )
            )
        if readings:
            self.bar.read(tokens / max(readings.tokens, 1))
        if stop.asked:
            self._save(optimizer)
            raise _stopped(self.progress.step)

    def has_read(self, readings: Readings | None, kept: Kept, work: Work | None, seconds: float) -> None:
        """Count what the reading has cost, or say why there was no room for it."""
        self.progress.kept = kept.rows
        self.progress.seconds += seconds
        self.bar.took(seconds)
        if work and readings and kept.rows:
            self.progress.flop += work.reading(readings.tokens, readings.rows)
        if kept.why:
            self.bar.say(kept.why)

    def smaller(self, index: int, micro: list[Batch]) -> list[Batch]:
        """Return the micro-batches of a step that ran out of memory anew, and have those after it cut like it."""
        cut = partial(self.batches, index, index + 1)
        micro, most = memory.smaller(micro, cut)
        self.progress.micro_batch_tokens = most
        if self.log:
            self.log.write({"step": index + 1, "micro_batch_tokens": most})
        self.bar.say(
            _(
                "Step {step} ran out of memory and is taken again: from here on at most {tokens} tokens go through the "
                "model at once (--micro-batch-tokens), which takes longer; what is learnt is the same but for rounding and other draws of dropout."
            ).format(step=index + 1, tokens=most)
        )
        return micro

    def after(self, step: Step, optimizer: torch.optim.Optimizer, asked_here: bool) -> None:
        progress, budget = self.progress, self.budget
        progress.step = step.index
        progress.tokens += step.tokens
        progress.rows += step.rows
        progress.seconds += step.seconds
        if not step.skipped:
            _finite(step)
        aside.stepped()
        self._write({name: _plain(value) for name, value in asdict(step).items() if name != "index"})
        self.bar.step(step)
        if step.skipped:
            self.bar.say(
                _(
                    "Step {step} was skipped: its loss {loss} or the length of its gradient {norm} lies far above those "
                    "before it."
                ).format(step=step.index, loss=number(step.loss, 3), norm=number(step.grad_norm, 3))
            )
        if self.evaluate and _due(step.index, budget.eval_steps, budget.steps):
            self._score(self.evaluate)
        asked = _any(self.accelerator, asked_here)
        if asked or progress.stopped or _due(step.index, budget.save_steps, budget.steps):
            self._save(optimizer)
            self.accelerator.wait_for_everyone()
        if asked and not progress.stopped and step.index < budget.steps:
            raise _stopped(step.index)

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        self.progress.most_memory()
        self.progress.total = time.perf_counter() - self.began
        if self.log:
            checkpoint.save(self.run / "last", self.model, self.trained, optimizer, asdict(self.progress))

    def _score(self, evaluate: Evaluate) -> None:
        progress = self.progress
        score, found = evaluate(self.model)
        better = progress.best is None or score > progress.best
        # What a stage before the last has not thawed yet may still bring a better score.
        progress.bad = 0 if better or progress.step <= self.last_stage else progress.bad + 1
        if better:
            progress.best, progress.best_step = score, progress.step
            if self.keep_best and self.log:
                self.keep_best(self.model)
        self._write(found | {"best": better})
        progress.stopped = bool(self.budget.patience) and progress.bad >= self.budget.patience

    def _write(self, line: dict[str, Any]) -> None:
        if self.log:
            step = self.progress.step
            self.log.write({"step": step, "epoch": round(step / self.steps_per_epoch, 4)} | line)


def _stopped(step: int) -> Interrupted:
    return Interrupted(
        _("Stopped after step {step}; everything is kept. Go on with --resume.").format(step=step)
    )


def _optimizer(model: nn.Module, peak: float, budget: Budget, stage: Stage) -> torch.optim.Optimizer:
    if budget.optimizer == "sophia":
        return sophia(model, peak, budget.weight_decay, budget.curvature, stage.rates)
    return adamw(model, peak, budget.weight_decay, budget.adam_beta2, stage.rates)


def _rate_in_stage(budget: Budget, stage: Stage, start: int, end: int, index: int) -> float:
    schedule = stage.lr_scheduler_type or budget.lr_scheduler_type
    return rate(index - start, end - start, budget.warmup_steps, schedule)


def spans(stages: list[Stage], total: int) -> list[tuple[Stage, int, int]]:
    """Return each stage with its first step and the step it ends before; the last one ends with the budget."""
    ends = [round(sum(stage.share for stage in stages[: i + 1]) * total) for i in range(len(stages))]
    ends[-1] = total
    return list(zip(stages, [0, *ends[:-1]], ends, strict=True))


def _trained(stages: list[Stage], model: nn.Module) -> frozenset[str]:
    """Return the names of the weights that any stage trains: a later stage must find those of the earlier ones."""
    names = (name for name, _weight in model.named_parameters())
    return frozenset(
        name for name in names if any(stage.trainable is None or name in stage.trainable for stage in stages)
    )


def unfreeze(model: nn.Module, stage: Stage) -> None:
    """Let the weights of the stage train, and no others."""
    for name, weight in model.named_parameters():
        weight.requires_grad_(stage.trainable is None or name in stage.trainable)


def _finite(step: Step) -> None:
    """A gradient that is no number has spoilt the weights already, one step before the loss tells."""
    if not (math.isfinite(step.loss) and math.isfinite(step.grad_norm)):
        raise InputError(
            _("The loss is no number any more in step {step}. Try a lower --learning-rate.").format(
                step=step.index
            )
        )


def _plain(value: Any) -> Any:
    """Return a figure for JSON, which has no infinity: None for what is no number, in a step that was skipped."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _any(accelerator: Accelerator, asked: bool) -> bool:
    """Whether any process was asked to stop: all must leave the loop after the same step."""
    if accelerator.num_processes == 1:
        return asked
    return bool(accelerator.reduce(torch.tensor(float(asked), device=accelerator.device), "sum").item())


def _due(step: int, every: int, end: int) -> bool:
    return step == end or (bool(every) and step % every == 0)

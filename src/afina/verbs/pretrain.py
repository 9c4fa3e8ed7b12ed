"""Pre-train a model from nothing on plain text: a BERT (Devlin et al. 2019) or a GPT (Radford et al. 2018)."""

import time
from pathlib import Path
from typing import Any, Literal

from afina.core import Curvature
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import Common, Optimisation, divide, setting
from afina.tasks.causal_lm import CausalLm
from afina.tasks.masked_lm import MaskedLm
from afina.verbs._job import PASSING, passing, unchanged
from afina.verbs._settings import begin

RATES = {"adamw": 1e-3, "sophia": 3e-4}  # peaks, where none is named


class Pretrain(Optimisation):
    """Settings of `afina pretrain`."""

    objective: Literal["mlm", "clm"] = setting(
        "mlm", N_("What is learnt: mlm (BERT: hidden words), clm (GPT: the next word).")
    )
    shape: Literal["tiny", "mini", "small", "medium", "base"] = setting(
        "mini", N_("Size of the model, by name.")
    )
    model: str | None = setting(
        None, N_("Model whose weights and tokenizer to go on from (default: a new one of --shape).")
    )
    tokenizer: str | None = setting(
        None, N_("Folder of a tokenizer to use (default: one is trained on the text).")
    )
    vocab_size: int = setting(16384, N_("Tokens of a tokenizer that is trained."), ge=200)
    validation: str | None = setting(None, N_("File of held-out text (default: 1 %\u00a0of the documents)."))
    tokens_per_step: int = setting(16384, N_("Tokens of one optimizer step, over all processes."), ge=128)
    max_tokens: int | None = setting(
        None,
        N_("Tokens to train on, repeats counted (default: 40 million, or what --hours allows)."),
        ge=1000,
    )
    hours: float | None = setting(
        None,
        N_(
            "Hours that all of it may take, instead of --max-tokens: schedule and rows are planned to end then."
        ),
        gt=0,
    )
    short_length: int = setting(128, N_("Row length of the first part of the training."), ge=16)
    short_share: float = setting(0.9, N_("Share of the tokens that are learnt in short rows."), ge=0, le=1)
    lr_scheduler_type: Literal["linear", "cosine", "warmup_stable_decay"] = setting(
        "linear", N_("How the learning rate falls after its rise.")
    )
    optimizer: Literal["adamw", "sophia"] = setting(
        "adamw", N_("What moves the weights: adamw, or sophia, which measures the curvature every ten steps.")
    )
    curvature: Curvature = setting(
        "gnb",
        N_("How sophia measures it: gnb (Gauss-Newton-Bartlett) or hutchinson, which takes longer."),
    )
    spike_guard: bool = setting(
        True, N_("Skip a step whose loss or gradient lies far above those before it, as a bad batch's does.")
    )
    initialisation: Literal["random", "informed"] = setting(
        "informed", N_("random: noise, as in the paper; informed: counted word vectors and local attention.")
    )
    output_dir: str | None = setting(None, N_("Folder of the run (default: runs/<file name>)."))
    resume: bool = setting(False, N_("Go on with the run that the folder holds."))
    overwrite: bool = setting(False, N_("Replace the run that the folder holds."))
    dry_run: bool = setting(False, N_("Check data and settings, say what would be done, and stop."))


def pretrain(*texts: str | Path, **settings: Any) -> dict[str, Any]:
    """Train a tokenizer and a language model on text files, and return what INTERFACE names.

    `texts` are files with a blank line between documents, JSONL or Parquet. Raises InputError before anything
    is written where a file or a setting is wrong, and Interrupted when stopped; `resume=True` goes on. With
    `dry_run=True` nothing is trained or written, and what only training can tell is None.
    """
    begin(settings)
    files = [str(text) for text in texts]
    if settings.get("resume"):
        files, settings = _as_begun(files, settings)
    kind = _task(settings)
    common, chosen, knobs = divide(settings, Common, Pretrain, kind)
    return _run([Path(text) for text in files], Common.of(common), Pretrain.of(chosen), kind.of(knobs))


def _task(settings: dict[str, Any]) -> type[MaskedLm] | type[CausalLm]:
    """Return the task of the objective that is asked for."""
    from afina.verbs._objectives import OBJECTIVES

    asked = {"objective": settings["objective"]} if "objective" in settings else {}
    return OBJECTIVES[Pretrain.of(asked).objective].task


def _as_begun(texts: list[str], settings: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return texts and settings as the run began; one that now says otherwise is an error."""
    from afina.train import folder
    from afina.train.run import read_settings

    if not texts and not settings.get("output_dir"):
        raise InputError(_("Name at least one text file to learn from."))
    run = folder.place(settings.get("output_dir"), texts[0] if texts else "")
    folder.check(run, resume=True, overwrite=False)
    begun = read_settings(run / "run.toml")
    begun.pop("recorded", None)
    old = begun.pop("texts", texts)
    kind = _task(begun | settings)
    _common, chosen, knobs = divide(settings, Common, Pretrain, kind)
    told = Pretrain.of(chosen).model_dump(mode="json") | kind.of(knobs).model_dump(mode="json")
    unchanged(run, begun, {name: value for name, value in told.items() if name in settings})
    if texts and [Path(text) for text in texts] != [Path(text) for text in old]:
        raise InputError(
            _("The run in {run} began with the data {old}, not {new}.").format(
                run=run, old=", ".join(old), new=", ".join(texts)
            )
        )
    kept = {name: value for name, value in begun.items() if name not in PASSING}
    return old, kept | passing(settings)


def _run(texts: list[Path], common: Common, chosen: Pretrain, task: MaskedLm | CausalLm) -> dict[str, Any]:
    from contextlib import nullcontext
    from functools import partial

    from afina.data.corpus import check
    from afina.train import folder
    from afina.verbs import _pretraining as parts
    from afina.verbs._objectives import OBJECTIVES

    began = time.perf_counter()
    if not texts:
        raise InputError(_("Name at least one text file to learn from."))
    if chosen.hours and chosen.max_tokens:
        raise InputError(_("--hours and --max-tokens are two ways to say how long: give one of them."))
    if not (chosen.hours or chosen.max_tokens):
        chosen = chosen.replace(max_tokens=parts.TOKENS)
    for text in [*texts, *([Path(chosen.validation)] if chosen.validation else [])]:
        check(text)
    source = parts.source(chosen, offline=common.offline)
    run = folder.place(chosen.output_dir, str(texts[0]))
    folder.check(run, resume=chosen.resume, overwrite=chosen.overwrite)
    if chosen.dry_run:
        return parts.planned(texts, chosen, run, quiet=common.quiet)

    import torch

    from afina.methods.full import Full
    from afina.train import machine
    from afina.train.atomic import replaced
    from afina.train.fit import Budget, fit
    from afina.train.run import write_settings
    from afina.verbs import _hours

    fresh = not run.exists()
    accelerator = machine.accelerator(chosen.precision)
    main = accelerator.is_main_process
    with accelerator.main_process_first():  # the others find what the first has made
        # Learning a tokenizer reads all of the text: what is wrong in it is found before the folder is touched.
        made = run / "tokenizer" if chosen.resume or not main else None
        tokenizer = parts.tokenizer(texts, chosen, source, made)
        begun = folder.begun(run, resume=chosen.resume, overwrite=chosen.overwrite) if main else nullcontext()
        with begun:
            if main and not (source or chosen.tokenizer):
                tokenizer = parts.kept(tokenizer, run / "tokenizer")
            train, held = parts.corpora(texts, chosen, tokenizer, run)
            planned = _hours.recorded(run) if chosen.resume else {}
            phases = parts.phases(
                chosen, train, tokenizer, accelerator.num_processes, accelerator.process_index
            )
    if main:
        kept = (
            {"texts": [str(text) for text in texts]}
            | chosen.model_dump(mode="json", exclude=PASSING)
            | task.model_dump(mode="json")
        )
        write_settings(run / "run.toml", kept, machine.recorded() | planned)
    torch.manual_seed(chosen.seed)
    model = parts.start(chosen, source, tokenizer, train[0])
    collate = partial(task.collate, tokenizer=tokenizer)

    def evaluate(model: torch.nn.Module) -> tuple[list[float], dict[str, Any]]:
        scores = parts.held_out(model, task, tokenizer, held, chosen)
        return [-next(iter(scores.values()))["value"]], {
            "validation": {name: each["value"] for name, each in scores.items()}
        }

    def keep(model: torch.nn.Module) -> None:
        with replaced(run / "best") as new:
            Full().save(model, new, None)
            tokenizer.save_pretrained(new)

    if chosen.hours:
        with folder.unless_refused(run, new=fresh and main):
            if not planned:
                costs = _hours.measured(
                    accelerator,
                    model,
                    task,
                    chosen,
                    phases,
                    collate,
                    evaluate,
                    run,
                    began + 3600 * chosen.hours,
                )
                planned = _hours.plan(costs, phases, chosen)
                if main:
                    write_settings(run / "run.toml", kept, machine.recorded() | planned)
        phases = [
            (rows, plan, steps)
            for (rows, plan, _most), steps in zip(phases, planned["planned_steps"], strict=True)
        ]
    total = min(sum(steps for _windows, _plan, steps in phases), chosen.max_steps or 10**12)
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
    progress = fit(
        accelerator,
        model,
        Full(),
        task.loss,
        partial(parts.between, phases, collate),
        budget,
        run,
        steps_per_epoch=phases[0][1].steps_per_epoch,
        evaluate=evaluate,
        keep_best=keep,
        resume=chosen.resume,
        quiet=common.quiet,
        drawn=task.drawn,
    )
    peak = machine.matrix_peak(chosen.precision)
    speed = progress.tokens / max(progress.seconds, 1e-9)
    scores = parts.held_out(model, task, tokenizer, held, chosen)
    result = {
        "run": str(run),
        "tokens_seen": progress.tokens,
        "tokens_per_s": round(speed, 1),
        "share_of_peak": round(speed * machine.flop_per_token(model, chosen.short_length) / peak, 4),
        "losses": {
            "validation": {
                name: scores[name]["value"] if name in scores else None
                for name in OBJECTIVES[chosen.objective].losses
            }
        },
        "scores": {"validation": scores},
        "skipped_steps": progress.guard.skipped,
        "seconds": {"train": round(progress.seconds, 1), "total": round(time.perf_counter() - began, 1)},
    }
    if accelerator.is_main_process:
        folder.write_json(run / "scores.json", result)
    accelerator.wait_for_everyone()
    return result

"""Pre-train a model from nothing on plain text: a BERT (Devlin et al. 2019) or a GPT (Radford et al. 2018)."""

import time
from pathlib import Path
from typing import Any, Literal

from afina.errors import InputError
from afina.messages import N_, _
from afina.messages.numbers import number
from afina.settings import Common, Reading, divide, setting
from afina.tasks.causal_lm import CausalLm
from afina.tasks.masked_lm import MaskedLm
from afina.train.aside import until_stepped
from afina.train.lock import until_done
from afina.verbs import (
    _corpus,
    _held_out,
    _hours,
    _initial_model,
    _phases,
    _pretraining,
    _text_job,
    _tokenizer,
)
from afina.verbs._job import check_spared, write
from afina.verbs._objectives import OBJECTIVES
from afina.verbs._resolve import check_recomputing
from afina.verbs._settings import begin

TOKENS = 40_000_000  # to train on, where nothing else is said


class Pretrain(Reading):
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
    initialisation: Literal["random", "informed"] = setting(
        "informed", N_("random: noise, as in the paper; informed: counted word vectors and local attention.")
    )


@until_done()
@until_stepped()
def pretrain(*texts: str | Path, **settings: Any) -> dict[str, Any]:
    """Train a tokenizer and a language model on text files, and return what INTERFACE names.

    `texts` are files with a blank line between documents, JSONL, Parquet, or tables, of which `text` names the column.
    Raises InputError before anything is written where a file or a setting is wrong, and Interrupted when stopped;
    `resume=True` goes on. With `dry_run=True` nothing is trained or written, and what only training can tell is None.
    """
    begin(settings)
    files = [str(text) for text in texts]
    if settings.get("resume"):
        files, settings = _text_job.as_begun(files, settings, ("objective",), _checked)
    kind = _task(settings)
    common, chosen, knobs = divide(settings, Common, Pretrain, kind)
    return _run([Path(text) for text in files], Common.of(common), Pretrain.of(chosen), kind.of(knobs))


def _task(settings: dict[str, Any]) -> type[MaskedLm] | type[CausalLm]:
    """Return the task of the objective that is asked for."""
    asked = {"objective": settings["objective"]} if "objective" in settings else {}
    return OBJECTIVES[Pretrain.of(asked).objective].task


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    kind = _task(settings)
    _common, chosen, knobs = divide(settings, Common, Pretrain, kind)
    return Pretrain.of(chosen).model_dump(mode="json") | kind.of(knobs).model_dump(mode="json")


def _run(texts: list[Path], common: Common, chosen: Pretrain, task: MaskedLm | CausalLm) -> dict[str, Any]:
    from functools import partial

    began = time.perf_counter()
    if chosen.hours and chosen.max_tokens:
        raise InputError(_("--hours and --max-tokens are two ways to say how long: give one of them."))
    if not (chosen.hours or chosen.max_tokens):
        chosen = chosen.replace(max_tokens=TOKENS)
    if chosen.objective == "clm" and chosen.dropout and not chosen.model:
        raise InputError(
            _("--dropout changes nothing in a new model of --objective clm, which has none: leave it out.")
        )
    read = {"texts": [str(text) for text in texts]}
    run = _text_job.place(texts, chosen, column=task.text)
    source = _initial_model.source(chosen, offline=common.offline)
    check_spared(run, read | chosen.model_dump(), source)
    began_from = _text_job.begins_from(run, source, chosen)
    check_recomputing(chosen, source)
    asked = "nsp" in task.model_fields_set
    task = _initial_model.pairing(task, source, chosen.model, asked=asked, quiet=common.quiet)
    taken = _tokenizer.taken(texts, chosen, source, task.text)
    _text_job.tell_columns([*texts, chosen.validation], task.text, quiet=common.quiet)
    if chosen.dry_run:
        plan = _in_hours(chosen) if chosen.hours else _text_job.in_tokens(chosen)
        return _text_job.planned(texts, chosen, run, plan, quiet=common.quiet)

    import torch

    from afina.methods.full import Full
    from afina.models.load import load
    from afina.models.recompute import recompute
    from afina.train import checkpoint, folder, machine

    accelerator = machine.accelerator(chosen.precision)
    main = accelerator.is_main_process
    settings = read | chosen.model_dump(mode="json") | task.model_dump(mode="json")
    with accelerator.main_process_first():  # the others find what the first has made
        # Learning a tokenizer reads all of the text: what is wrong in it is found before the folder is touched.
        made = run / "tokenizer" if chosen.resume or not main else None
        tokenizer = taken or _tokenizer.tokenizer(texts, chosen, made, task.text)
        chosen = _initial_model.within(chosen, source, tokenizer)
        planned = _hours.recorded(run) if chosen.resume else {}
        if main:  # written first of all, so that a run that is killed while it reads can be gone on with
            folder.claim(run, resume=chosen.resume, overwrite=chosen.overwrite)
            write(run, settings, began_from | planned)
        if main and not (taken or (made and made.is_dir())):
            tokenizer = _tokenizer.kept(tokenizer, run / "tokenizer")
        train, held = _corpus.corpora(texts, chosen, tokenizer, run, column=task.text)
        _corpus.check_pairs(train, held, task, quiet=common.quiet)
        phases = _phases.phases(
            chosen,
            train,
            tokenizer,
            accelerator.num_processes,
            accelerator.process_index,
            tokens=chosen.max_tokens or _hours.FOREVER,
        )
    _corpus.tell(train, held, quiet=common.quiet)
    torch.manual_seed(chosen.seed)
    model = _initial_model.start(chosen, task, source, tokenizer, train, run)
    if chosen.activation_checkpointing:
        recompute(model)
    if chosen.hours:
        if not planned:
            costs = _hours.measured(
                accelerator,
                model,
                task,
                chosen,
                phases,
                partial(task.collate, tokenizer=tokenizer),
                _held_out.evaluation(task, tokenizer, held, chosen),
                run,
                began + 3600 * chosen.hours,
            )
            planned = _hours.plan(costs, phases, chosen)
            if main:
                write(run, settings, began_from | planned)
        phases = [
            (sources, steps) for (sources, _most), steps in zip(phases, planned["planned_steps"], strict=True)
        ]
    began = checkpoint.began(run, chosen.resume, began)
    progress = _pretraining.learn(
        accelerator,
        model,
        Full(),
        task,
        tokenizer,
        phases,
        held,
        chosen,
        run,
        began=began,
        quiet=common.quiet,
    )
    best: Any = load(run / "best", _initial_model.head(task, run / "best")).to(accelerator.device)
    scores = _held_out.held_out(best, task, tokenizer, held, chosen)
    result = _pretraining.figures(progress, scores, chosen, run, began)
    if main:
        folder.write_json(run / "scores.json", result)
    accelerator.wait_for_everyone()
    return result


def _in_hours(chosen: Pretrain) -> str:
    return _("Training goes on for {hours} hours, reading included, {step} tokens a step.").format(
        hours=number(chosen.hours, 2), step=number(chosen.tokens_per_step)
    )

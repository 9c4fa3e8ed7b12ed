"""Fine-tune a model on a person's own rows: a file in; a trained, measured, reusable model out."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.data.unseen import Unseen
from afina.errors import InputError
from afina.messages import N_, _
from afina.models.find import find as find_model
from afina.settings import MICRO_BATCH_TOKENS, Training, setting
from afina.train.aside import until_stepped
from afina.train.lock import until_done
from afina.verbs import _chain, _folds, _links
from afina.verbs._describe import (
    check_learnable,
    evaluation,
    fewer_in_words,
    forecast_in_words,
    labels_in_words,
    mask_in_words,
    one_way,
    plan_in_words,
    readings,
    scored,
    summary,
    trained_weights,
)
from afina.verbs._job import as_recorded, check_spared, job, write
from afina.verbs._located import located
from afina.verbs._measure import main_metric, measure, unread
from afina.verbs._prepare import Folded, Prepared, lengths, prepare, prepare_folds
from afina.verbs._resolve import budget, check_model, check_recomputing, resolved
from afina.verbs._settings import Chosen, begin, choose, model_for

if TYPE_CHECKING:
    from torch import nn

    from afina.train.run import Run


class Finetune(Training):
    """Settings of `afina finetune`; the knobs of the task and the method come beside them."""

    task: str = setting("classification", N_("What is learnt."))
    method: str = setting("full", N_("How the model may change."))
    model: str | None = setting(
        None,
        N_(
            "An embedded model, a folder, or a model of the Hugging Face Hub (default: the task's embedded one)."
        ),
    )
    random_weights: bool = setting(
        False, N_("The model's shape with fresh weights: what does pre-training bring?")
    )
    validation: str | None = setting(None, N_("File with the validation rows."))
    test: str | None = setting(None, N_("File with the test rows."))
    split_seed: int | None = setting(
        None, N_("Seed of the split alone (default: --seed)."), ge=0, le=2**32 - 1
    )
    group_by: str | None = setting(
        None,
        N_("Column whose rows of one value (author, patient, document) stay on one side of every split."),
    )
    folds: int = setting(
        0, N_("Train so many models, each row scored by the one that has not seen it (0: one model)."), ge=0
    )
    fold: int | None = setting(
        None, N_("Train only this one of --folds, counted from 0, and score its rows."), ge=0
    )
    output_dir: str | None = setting(None, N_("Folder of the run (default: runs/<file name>)."))
    resume: bool = setting(False, N_("Go on with the run that the folder holds."))
    overwrite: bool = setting(False, N_("Replace the run that the folder holds."))
    show_mask: bool = setting(
        False, N_("Print which tokens of the first training rows are learnt: each in ⟦ ⟧.")
    )
    dry_run: bool = setting(False, N_("Check data and settings, say what would be done, and stop."))
    stage: list[dict[str, Any]] | None = setting(
        None,
        N_(
            "What the model learns before, in order: a table for each stage, with its verb (adapt or finetune), its texts "
            "or data, and settings of that verb."
        ),
        in_file=True,
    )


class Resolved(Finetune):
    """The settings when the method's preset, the data and the model have decided what was open."""

    model: str
    learning_rate: float
    num_train_epochs: float
    train_batch_size: int
    max_length: int
    early_stopping_patience: int


@until_done()
@until_stepped()
def finetune(
    data: str | Path,
    *,
    unseen: Unseen | None = None,
    rivals: Path | None = None,
    **settings: Any,
) -> "Run | Any":
    """Fine-tune a model on `data` (a table, a folder of texts, a dataset, or a `run.toml` to repeat).

    Settings are named as the flags, with underscores, and include the knobs of the task and the method. Returns
    the run; with `dry_run=True` nothing is trained or written, and the keys of a run's result are returned, with
    None for what only training can tell. With `folds=k` the run is one of k runs, whose answers to the rows that each
    has not seen are scored together, under `folds`; it has no model of its own. With `stage` (a list of settings, each
    with its `verb`) the model learns in stages before. Rows that are `unseen`, which a later training will be scored
    on, are left out. `rivals` is a JSON file with what the task's baselines answer to the validation and test rows of
    one run; where it is not there they are computed. Raises InputError before anything is written where the data or a setting is wrong, and Interrupted
    when stopped: `resume=True` goes on.
    """
    began = time.perf_counter()
    begin(settings)
    data, settings, recorded, run = job(str(data), settings, Finetune)
    chosen = choose(settings, Finetune)
    if getattr(chosen.task, "packing", False) and not chosen.method.packs:
        raise InputError(
            _(
                "Method '{method}' puts something in front of every text, so it cannot go with --packing."
            ).format(method=chosen.verb.method)
        )
    model = model_for(chosen.verb.task, chosen.verb.model)
    chosen = chosen._replace(verb=chosen.verb.replace(model=model))
    if chosen.verb.random_weights and not chosen.method.whole:
        raise InputError(
            _(
                "Method '{method}' keeps only what it adds to a model's weights, so it cannot go with --random-weights."
            ).format(method=chosen.verb.method)
        )
    _folds.refuse(chosen.verb)
    source = find_model(model, offline=chosen.common.offline)
    check_spared(run, {"data": data} | chosen.verb.model_dump(), source)
    check_recomputing(chosen.verb, source)
    prepared = rows_of(data, chosen, unseen)
    recorded = as_recorded(prepared, source, chosen, recorded)
    if chosen.verb.stage:
        chosen, source = _chain.carry_out(data, chosen, prepared, source, run, recorded)
        began = time.perf_counter()  # what the stages took is told of each
    if isinstance(prepared, Folded):
        return _folds.train(data, chosen, prepared, source, run, recorded, began, _train)
    return _train(data, chosen, prepared, source, run, recorded, began, rivals)


def rows_of(data: str, chosen: Chosen, unseen: Unseen | None = None) -> Prepared | Folded:
    """Return the rows that are trained and scored on, without those that are `unseen`."""
    verb = chosen.verb
    rows: dict[str, Any] = {
        "seed": verb.seed if verb.split_seed is None else verb.split_seed,
        "offline": chosen.common.offline,
        "group_by": verb.group_by,
    }
    if verb.folds and verb.fold is None:
        return prepare_folds(chosen.task, data, verb.folds, **rows)
    return prepare(
        chosen.task, data, verb.validation, verb.test, **rows, folds=verb.folds, fold=verb.fold, unseen=unseen
    )


def _train(
    data: str,
    chosen: Chosen,
    prepared: Prepared,
    source: Path,
    run: Path,
    recorded: dict[str, Any],
    began: float,
    rivals: Path | None = None,
) -> "Run | Any":
    """Encode, build, fit, score and report."""
    import torch

    from afina.batching.plan import Plan, batches
    from afina.models.load import load
    from afina.models.parts import begin
    from afina.models.recompute import recompute
    from afina.report import card
    from afina.report import finetune as report
    from afina.train import checkpoint, folder, machine
    from afina.train.atomic import cannot_write, replaced
    from afina.train.bundle import Base, Bundle
    from afina.train.fit import fit
    from afina.train.fitting import judge
    from afina.train.forecast import WORTH, fitting, forecast
    from afina.train.run import Run
    from afina.train.track import read, say
    from afina.train.work import Work

    task, method, splits, quiet = prepared.task, chosen.method, prepared.splits, chosen.common.quiet
    torch.set_num_threads(recorded.get("threads", torch.get_num_threads()))
    verb, tokenizer = resolved(chosen, source, prepared)
    with located(task, data, verb.validation, verb.test, offline=chosen.common.offline):
        encoded = [
            task.encode(rows, tokenizer, verb.max_length) for rows in (splits.train, splits.validation)
        ]
        tested = task.encode(splits.test, tokenizer, verb.max_length) if splits.test else []
    every = [*splits.train, *splits.validation, *splits.test]
    length = lengths(task, every, [*encoded[0], *encoded[1], *tested], tokenizer, verb.max_length)
    about_data = summary(prepared, length)
    about_data["notes"] += one_way(task, source)
    pieces = [piece for row in encoded[0] for piece in task.pieces(row)]
    base = Base.of(str(source) if verb.stage else verb.model, source)
    accelerator = machine.accelerator(verb.precision)
    plan = Plan(
        [task.length(piece) for piece in pieces], verb.train_batch_size,
        verb.micro_batch_tokens or MICRO_BATCH_TOKENS,
        verb.seed, accelerator.num_processes, accelerator.process_index,
    )  # fmt: skip
    total = verb.max_steps or max(1, round(verb.num_train_epochs * plan.steps_per_epoch))
    torch.manual_seed(verb.seed)
    model = load(source, task.head, task.config(), random_weights=verb.random_weights, dropout=verb.dropout)
    check_model(task, model)
    begin(model, task.prior(splits.train))
    model = method.modify(model, tokenizer)
    if not verb.slow:
        method.quicken(model)
    if verb.activation_checkpointing:
        recompute(model)
    trained = trained_weights(model, method)
    if accelerator.is_main_process:
        plan_words = plan_in_words(splits, verb, total, trained, length["mean"])
        for sentence in about_data["notes"] + labels_in_words(task, about_data) + plan_words:
            say(sentence, quiet)
    parts = {_("training"): encoded[0], _("validation"): encoded[1], _("test"): tested}
    nothing = [] if verb.show_mask else check_learnable(task, parts)
    if accelerator.is_main_process:
        for sentence in nothing:
            say(sentence, quiet)
    if verb.show_mask and accelerator.is_main_process:
        for sentence in mask_in_words(task, tokenizer, encoded[0]):
            say(sentence)
    collate = partial(task.collate, tokenizer=tokenizer)
    batches_of = partial(batches, plan, pieces, collate)
    if verb.micro_batch_tokens is None:
        # What goes on takes what it began with, or its end would not be the same bit by bit.
        usual, begun = plan.micro_tokens, recorded.get("micro_batch_tokens") if verb.resume else None
        some = begun or fitting(accelerator, model, method, task.loss, batches_of, plan)
        plan = replace(plan, micro_tokens=some)
        batches_of = partial(batches, plan, pieces, collate)
        if some < usual:
            say(fewer_in_words(some, usual), quiet)
    bundle = Bundle(model, tokenizer, task, method, verb.max_length, 2 * plan.micro_tokens, base)
    held = [piece for row in encoded[1] for piece in task.pieces(row)]
    given = None if verb.slow else readings(bundle, [*pieces, *held])
    foretold = None
    if verb.dry_run or (total >= WORTH and not verb.resume):
        foretold = forecast(
            accelerator, model, method, task.loss, batches_of, plan, total,
            readings=given, run=run, score=partial(bundle.glance, encoded[1]),
        )  # fmt: skip
        if accelerator.is_main_process:
            say(forecast_in_words(foretold), quiet)
    if verb.dry_run:
        say(
            _("Nothing was trained or written (--dry-run). The run would go to {run}.").format(run=run), quiet
        )
        return _not_run(run, verb, about_data, trained, total, foretold)
    if accelerator.is_main_process:
        folder.claim(run, resume=verb.resume, overwrite=verb.overwrite)
        facts = {
            "data": splits.fingerprint,
            "model": recorded["model"],
            "steps": total,
            "micro_batch_tokens": plan.micro_tokens,
        }
        write(run, {"data": data} | chosen._replace(verb=verb).flat(), facts)
    accelerator.wait_for_everyone()
    prepared_at = time.perf_counter()
    began_at = checkpoint.began(run, verb.resume, began)

    def keep_best(_model: "nn.Module") -> None:
        with replaced(run / "best") as new:
            bundle.save(new)

    peak = machine.matrix_peak(verb.precision)
    progress = fit(
        accelerator,
        model,
        method,
        task.loss,
        batches_of,
        budget(verb, total, plan.steps_per_epoch, sum(scored(splits))),
        run,
        steps_per_epoch=plan.steps_per_epoch,
        evaluate=evaluation(bundle, splits, encoded) if splits.validation else None,
        keep_best=keep_best,
        readings=given,
        resume=verb.resume,
        quiet=quiet,
        work=Work,
        began=began_at,
    )
    machine.return_memory()
    trained_at = time.perf_counter()
    if accelerator.is_main_process:
        peak = max(peak, machine.matrix_peak(verb.precision)) * machine.processes()
        best = Bundle.load(run / "best")
        if splits.validation:
            best = best.tune(splits.validation, run / "best")
        found = measure(best, splits, run, rivals)
        for sentence in unread(found) + ([] if verb.folds else _folds.suggested(len(splits.test))):
            say(sentence, quiet)
        evaluations = [line for line in read(run / "steps.jsonl") if "validation" in line]
        found["details"] |= {
            "data": about_data,
            "forecast": foretold._asdict() if foretold else None,
            "micro_batch_tokens": progress.micro_batch_tokens or plan.micro_tokens,
            "fitting": judge(evaluations, main_metric(found), total, task.direction) if evaluations else None,
        }
        speed = progress.tokens / max(progress.seconds, 1e-9)
        result = {
            "run": str(run), "model": verb.model, "task": verb.task, "method": verb.method, **found,
            "rows_per_s": round(progress.rows / max(progress.seconds, 1e-9), 2),
            "tokens_per_s": round(speed, 1),
            "processes": machine.processes(),
            "share_of_peak": progress.share_of(peak),
            "seconds": {
                "prepare": round(prepared_at - began, 2),
                "train": round(progress.seconds, 2),
                "evaluate": round(time.perf_counter() - trained_at, 2),
                "total": round(time.perf_counter() - began_at, 2),
            },
            "trained_weights": trained,
            # The baselines, learnt later in this process, are not the method's cost.
            "peak_memory_mb": progress.peak_memory_mb,
        }  # fmt: skip
        if verb.stage:
            result["stages"] = _links.told(verb.stage, run)
        folder.write_json(run / "scores.json", result)
        try:
            report.write(run)
            card.write(run, run / "best")
        except OSError as error:
            raise cannot_write(run, error) from None
    accelerator.wait_for_everyone()
    return Run(run)


def _not_run(
    run: Path, verb: Resolved, about_data: dict[str, Any], trained: int, steps: int, foretold: Any
) -> dict[str, Any]:
    """Return the result of a run that was only planned."""
    parts = {"validation": None, "test": None}
    return {
        "run": str(run), "model": verb.model, "task": verb.task, "method": verb.method,
        "scores": parts, "baselines": {"majority": parts, "tfidf": parts},
        "details": {"data": about_data, "steps": steps, "forecast": foretold._asdict()},
        **dict.fromkeys(("rows_per_s", "tokens_per_s", "processes", "share_of_peak")),
        "seconds": dict.fromkeys(("prepare", "train", "evaluate", "total")),
        "trained_weights": trained,
        "peak_memory_mb": None,
        **({"stages": _links.told(verb.stage, run)} if verb.stage else {}),
    }  # fmt: skip

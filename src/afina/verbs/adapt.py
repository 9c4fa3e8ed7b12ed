"""Train a model on with the text of a field or of a task (Gururangan et al. 2020), before it is fine-tuned."""

import time
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from afina.core import Method
from afina.data.unseen import Unseen
from afina.errors import InputError
from afina.messages import N_, _
from afina.messages.numbers import number
from afina.settings import Reading, setting
from afina.train.aside import until_stepped
from afina.train.lock import until_done
from afina.verbs import _corpus, _held_out, _initial_model, _phases, _pretraining, _text_job, _tokenizer
from afina.verbs._describe import trained_weights
from afina.verbs._domain import in_words, nearness
from afina.verbs._forgetting import LANGUAGES
from afina.verbs._job import check_spared, write
from afina.verbs._objectives import OBJECTIVES
from afina.verbs._resolve import check_length, check_recomputing
from afina.verbs._settings import Chosen, begin, choose, preset_rate

if TYPE_CHECKING:
    from afina.train.bundle import Bundle

PASSES = 3  # over the text, where no number of tokens is given


class Adapt(Reading):
    """Settings of `afina adapt`; the knobs of masked words and of the method come beside them."""

    model: str | None = setting(None, N_("Model to train on: an embedded one, a folder, or one of the Hub."))
    method: str = setting("full", N_("How the model may change; what a method adds is merged at the end."))
    tokens_per_step: int = setting(4096, N_("Tokens of one optimizer step, over all processes."), ge=128)
    max_tokens: int | None = setting(
        None,
        N_("Tokens to train on, repeats and replay counted (default: three passes over the text)."),
        ge=1000,
    )
    add_tokens: int = setting(
        0, N_("Frequent words of the text, cut to pieces so far, that become tokens of their own."), ge=0
    )
    replay: float = setting(
        0.0, N_("Share of the tokens that come from --replay-text, against forgetting."), ge=0, le=0.9
    )
    replay_text: str | None = setting(
        None, N_("File of general text, like that which the model has learnt from.")
    )
    task_data: str | None = setting(
        None, N_("File with rows of the task to come: is the text like them? Only their words are looked at.")
    )
    objective: Literal["mlm", "clm"] | None = setting(
        None, N_("What is learnt: that which the model's kind has learnt."), found=True
    )


@until_done()
@until_stepped()
def adapt(*texts: str | Path, unseen: Unseen | None = None, **settings: Any) -> dict[str, Any]:
    """Train the language model `model` on with text files, and return what INTERFACE names.

    `texts` are files with a blank line between documents, JSONL, Parquet, or tables of rows, of which `text` names the
    column; an encoder guesses hidden words, a decoder the next one. Says before it trains whether the text is like `task_data`, and at the end what has
    been forgotten: the loss on neutral text. Raises InputError before anything is written where a file or a setting is
    wrong, and Interrupted when stopped; `resume=True` goes on. With `dry_run=True` nothing is trained or written, and
    what only training can tell is None. Paragraphs and sentences that are `unseen`, rows that a later training will be
    scored on, are not learnt.
    """
    begin(settings)
    files = [str(text) for text in texts]
    if settings.get("resume"):
        files, settings = _text_job.as_begun(
            files, settings, ("model", "method"), lambda given: _chosen(given)[0].flat()
        )
    chosen, source = _chosen(settings)
    return _run([Path(text) for text in files], chosen, source, unseen)


def _chosen(settings: dict[str, Any]) -> tuple[Chosen, Path]:
    """Return the checked settings and the model's folder, which decides what is learnt."""
    from afina.models.find import find, writes

    given = {name: value for name, value in settings.items() if name != "objective"}
    if not given.get("model"):
        raise InputError(_("Name the model to adapt with --model."))
    source = find(str(given["model"]), offline=bool(given.get("offline")))
    objective = "clm" if writes(source) else "mlm"
    chosen = choose(given, Adapt, OBJECTIVES[objective].task)
    quiet = chosen.common.quiet
    task = _initial_model.pairing(chosen.task, source, given["model"], asked="nsp" in given, quiet=quiet)
    chosen = chosen._replace(task=task)
    return chosen._replace(verb=chosen.verb.replace(objective=objective)), source


def _run(texts: list[Path], chosen: Chosen, source: Path, unseen: Unseen | None) -> dict[str, Any]:
    from afina.models.vocabulary import broken_words, check, extended, grow
    from afina.train.track import say
    from afina.verbs._forgetting import before, forgetting, language_model, neutral

    began = time.perf_counter()
    common, verb, task, method = chosen
    if bool(verb.replay) != bool(verb.replay_text):
        raise InputError(
            _(
                "--replay and --replay-text belong together: name a share of the tokens and a file of general text, "
                "such as --replay 0.1 --replay-text general.txt."
            )
        )
    column = getattr(task, "text", None)
    read = {"texts": [str(text) for text in texts]}
    run = _text_job.place(texts, verb, column=column, replay=verb.replay_text, rows=verb.task_data)
    check_spared(run, read | verb.model_dump(), source)
    began_from = _text_job.begins_from(run, source, verb)
    _text_job.tell_columns([*texts, verb.validation], column, quiet=common.quiet)
    _text_job.tell_columns([verb.replay_text], None, quiet=common.quiet)
    _text_job.tell_columns([verb.task_data], column, quiet=common.quiet, of_task=True)
    _initial_model.check_kind(source, verb.model)
    check_recomputing(verb, source)
    own = language_model(source)
    if own is None:
        raise InputError(
            _(
                "{model} brings no head over a vocabulary, so it cannot learn from plain text. Choose a language model "
                "as it was pre-trained: an encoder (BERT) or a decoder (GPT)."
            ).format(model=verb.model)
        )
    verb = _resolved(verb, own, method)
    _check_method(verb, own, method)
    shorter = tokenizer = own.tokenizer
    replayed = [Path(verb.replay_text)] if verb.replay_text else []
    _tokenizer.check_fit(texts, tokenizer, verb, verb.model, column)
    _tokenizer.check_fit(replayed, tokenizer, verb, verb.model)
    if not verb.resume:
        _corpus.check_replay(replayed, task)
    near = nearness(texts, Path(verb.task_data), column) if verb.task_data else None
    if near:
        say(in_words(near, verb.task_data), common.quiet)
    words = []
    if verb.add_tokens and not (verb.resume and (run / "tokenizer").is_dir()):
        words = broken_words(_tokenizer.texts_of(texts, column), tokenizer, verb.add_tokens)
        say(_listed(words, tokenizer), common.quiet)
    if verb.dry_run:
        plan = _text_job.in_tokens(verb) if verb.max_tokens else _in_passes(verb)
        planned = _text_job.planned(texts, verb, run, plan, quiet=common.quiet)
        return planned | {"forgetting": dict.fromkeys(LANGUAGES), "domain": near and near._asdict()}

    import torch

    from afina.methods.full import Full
    from afina.models.load import load, read_tokenizer
    from afina.models.recompute import recompute
    from afina.train import checkpoint, folder, machine
    from afina.train.rehearsal import Rehearsal

    accelerator = machine.accelerator(verb.precision)
    main = accelerator.is_main_process
    with accelerator.main_process_first():  # the others find what the first has made
        if main:  # written first of all, so that a run that is killed while it reads can be gone on with
            folder.claim(run, resume=verb.resume, overwrite=verb.overwrite)
            write(run, read | chosen._replace(verb=verb).flat(), began_from)
        if words and main:
            tokenizer = _tokenizer.kept(extended(tokenizer, words), run / "tokenizer")
            check(tokenizer, words, source)
        elif verb.add_tokens:
            tokenizer = read_tokenizer(run / "tokenizer")
        train, held = _corpus.corpora(texts, verb, tokenizer, run, unseen, column)
        _corpus.check_pairs(train, held, task, quiet=common.quiet)
        replay = (
            _corpus.encoded(replayed, tokenizer, run / "replay", begun=verb.resume, unseen=unseen)
            if verb.replay
            else None
        )
        verb = verb.replace(max_tokens=verb.max_tokens or _passes(train, verb))
        phases = _phases.phases(
            verb,
            train,
            tokenizer,
            accelerator.num_processes,
            accelerator.process_index,
            tokens=verb.max_tokens,
            replay=replay,
        )
    _corpus.tell(train, held, quiet=common.quiet)
    left_out = sum(part[0].facts.get("unseen", 0) for part in (train, *([replay] if replay else [])))
    if left_out:
        say(
            _("Paragraphs and sentences that the run will be scored on, left out here: {count}.").format(
                count=left_out
            ),
            common.quiet or not main,
        )
    if main:
        write(run, read | chosen._replace(verb=verb).flat(), began_from)
    if replay:
        _phases.check_replay(phases, verb.replay, quiet=common.quiet)
    head = _initial_model.head(task, source)
    torch.manual_seed(verb.seed)
    model = grow(load(source, head, dropout=verb.dropout or 0.0), shorter, tokenizer)
    machine.plain_attention(model, accelerator)  # of the copy too
    rehearsal = Rehearsal.of(task, model, accelerator.device) if replay else None
    model = method.modify(model, tokenizer).to(accelerator.device)
    method.quicken(model)
    if verb.activation_checkpointing:
        recompute(model)
    texts_apart = neutral(None)
    known = before(source, texts_apart, grown=model if len(tokenizer) > len(shorter) else None)
    first = _held_out.held_out(model, task, tokenizer, held, verb)
    say(_before(_held_out.losses(verb, first), known), common.quiet or not main)
    began = checkpoint.began(run, verb.resume, began)
    progress = _pretraining.learn(
        accelerator,
        model,
        method,
        task,
        tokenizer,
        phases,
        held,
        verb,
        run,
        began=began,
        quiet=common.quiet,
        rehearsal=rehearsal,
    )
    best: Any = load(run / "best", head).to(accelerator.device)
    result = _pretraining.figures(
        progress, _held_out.held_out(best, task, tokenizer, held, verb), verb, run, began
    )
    result["losses"]["before"] = _held_out.losses(verb, first)
    if main and (worse := _worse(result["losses"])):
        say(worse, common.quiet)
    result |= {
        "model": verb.model,
        "method": verb.method,
        "trained_weights": trained_weights(model, method),
        "forgetting": forgetting(best, Full(), source, texts_apart, known),
        "domain": near and near._asdict(),
        "added_tokens": len(tokenizer) - len(shorter),
        "left_out": left_out,
    }
    if main:
        folder.write_json(run / "scores.json", result)
    accelerator.wait_for_everyone()
    return result


def _resolved(verb: Adapt, own: "Bundle", method: Method) -> Any:
    """Return the settings when the model and the method's preset have decided what was open."""
    check_length(verb, own.max_length)
    length = verb.max_length or min(512, own.max_length)
    config: Any = own.model.config
    rate = preset_rate(own.task, method, config.hidden_size)
    if (
        verb.optimizer == "sophia"
    ):  # of the presets, which are AdamW's, the share that pre-training takes of its own
        rate *= _pretraining.RATES["sophia"] / _pretraining.RATES["adamw"]
    return verb.replace(
        max_length=length,
        short_length=min(verb.short_length, length),
        learning_rate=verb.learning_rate or rate,
    )


def _check_method(verb: Adapt, own: "Bundle", method: Method) -> None:
    """Raise InputError where the method leaves no model that a fine-tuning could begin with."""
    try:
        body, learnt = reach(own.model, own.tokenizer, method)
    except InputError as error:
        raise InputError(
            _(
                "Method '{method}' cannot adapt {model}: {reason} Choose full, or a method that can be merged, such as "
                "lora."
            ).format(method=verb.method, model=verb.model, reason=error)
        ) from None
    if not body:
        raise InputError(
            _(
                "Method '{method}' leaves the model's body as it is, so nothing of the text would reach a fine-tuning. "
                "Choose full, or a method such as lora."
            ).format(method=verb.method)
        )
    if verb.add_tokens and not learnt:
        raise InputError(
            _(
                "Method '{method}' leaves the word vectors as they are, so those of new tokens would learn nothing. Use "
                "--method full with --add-tokens."
            ).format(method=verb.method)
        )


def reach(base: Any, tokenizer: Any, method: Method) -> tuple[bool, bool]:
    """Return whether the method trains anything in the body of a model, and its word vectors.

    Raises InputError where what it adds cannot be merged. The model is changed in place.
    """
    from afina.models.parts import inside

    model: Any = method.modify(base, tokenizer)
    words = model.get_input_embeddings().weight
    name = next(name for name, weight in model.named_parameters() if weight is words)
    stages = method.stages(model)
    learnt = any(stage.trainable is None or name in stage.trainable for stage in stages)
    body = any(
        stage.trainable is None or any(inside(model, each) for each in stage.trainable) for stage in stages
    )
    method.merge(model)
    return body, learnt


def _passes(part: _corpus.Part, verb: Adapt) -> int:
    """Return the tokens of PASSES passes over the text, replay on top; InputError where it is too little text."""
    tokens = part[0].facts["tokens"]
    if tokens < verb.tokens_per_step:
        raise InputError(
            _(
                "The text has {tokens} tokens, fewer than one step of --tokens-per-step {step}: too little to adapt a "
                "model. Give more text, or name --max-tokens and smaller steps."
            ).format(tokens=tokens, step=verb.tokens_per_step)
        )
    return max(1000, round(_phases.passes(verb, part, PASSES) / (1 - verb.replay)))


def _in_passes(verb: Adapt) -> str:
    return _("Training goes over the text {passes} times, {step} tokens a step.").format(
        passes=PASSES, step=number(verb.tokens_per_step)
    )


def _listed(words: list[str], tokenizer: Any) -> str:
    decoder = tokenizer.backend_tokenizer.decoder
    shown = ", ".join(decoder.decode([word]).strip() for word in words[:10])
    return _("{n} words become tokens of their own: {words}.").format(
        n=len(words), words=shown + (" …" if len(words) > 10 else "")
    )


def _worse(losses: dict[str, dict[str, float | None]]) -> str | None:
    """Say so where the text is guessed worse than before training."""
    name, before = next((name, loss) for name, loss in losses["before"].items() if loss is not None)
    after = losses["validation"][name]
    if after is None or after <= before:
        return None
    return _(
        "Adapting has made the model worse on held-out text: its loss was {before} and is {after}. Take a lower "
        "--learning-rate or more text, or stay with the model as it was."
    ).format(before=number(before, 2), after=number(after, 2))


def _before(losses: dict[str, float | None], known: dict[str, float] | None) -> str:
    name, loss = next(iter(losses.items()))
    neutral = ", ".join(f"{language} {number(value, 2)}" for language, value in (known or {}).items())
    return _(
        "Before training, the model's loss ({name}) is {loss} a token on held-out text, perplexity {perplexity}; on "
        "neutral text: {neutral}."
    ).format(name=name, loss=number(loss, 2), perplexity=number(exp(loss or 0), 1), neutral=neutral)

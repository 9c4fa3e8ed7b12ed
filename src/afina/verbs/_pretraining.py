"""What training on plain text is made of: its tokenizer, its text, its start, its phases, its held-out score."""

import filecmp
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from afina.core import Batch
from afina.data.unseen import Unseen
from afina.errors import InputError, Unfinished
from afina.messages import _
from afina.settings import MICRO_BATCH_TOKENS
from afina.tasks.masked_lm import MaskedLm
from afina.verbs import _hours
from afina.verbs._domain import check_tokenizer
from afina.verbs._job import PASSING, passing, same, unchanged
from afina.verbs._objectives import OBJECTIVES

Part = tuple[Any, Any]  # a corpus, and which of its documents (None: all)
# Of each source of a step's rows, these, of one length, and their plan; and the steps that they are followed for.
Phase = tuple[list[tuple[Any, Any]], int]


RATES = {"adamw": 1e-3, "sophia": 3e-4}  # peaks, where none is named
TOKENS = 40_000_000  # to train on, where nothing else is said
FOREVER = 10**12  # tokens, of which --hours takes a part
TOKENIZER_CHARACTERS = 100_000_000  # of more text a tokenizer learns the same words from a part
SCORED = 1500  # rows of held-out text at most, spread evenly
UNEVEN = 0.1  # by so much rounding to whole rows may change a step's replay
MISSED = 0.2  # of the share of replay that was asked for: more is said


def as_begun(
    texts: list[str],
    settings: dict[str, Any],
    decides: tuple[str, ...],
    checked: Callable[[dict[str, Any]], Mapping[str, Any]],
) -> tuple[list[str], dict[str, Any]]:
    """Return texts and settings as the run began; one that now says otherwise is an error.

    `checked` returns flat settings as `run.toml` holds them, and raises InputError where one is wrong; it needs the
    settings, named by `decides`, that say which others there are.
    """
    from afina.train import folder
    from afina.train.run import read_settings

    if not texts and not settings.get("output_dir"):
        raise InputError(_("Name at least one text file to learn from."))
    run = folder.place(settings.get("output_dir"), texts[0] if texts else "")
    folder.check(run, resume=True, overwrite=False)
    begun = read_settings(run / "run.toml")
    begun.pop("recorded", None)
    old = begun.pop("texts", texts)
    told = checked({name: value for name, value in begun.items() if name in decides} | settings)
    unchanged(run, begun, {name: value for name, value in told.items() if name in settings})
    if texts and not same("texts", old, texts):
        raise InputError(
            _("The run in {run} began with the data {old}, not {new}.").format(
                run=run, old=", ".join(old), new=", ".join(texts)
            )
        )
    kept = {name: value for name, value in begun.items() if name not in PASSING}
    return old, kept | passing(settings)


def place(texts: list[Path], chosen: Any, *others: str | None) -> Path:
    """Return the run's folder; InputError where a text, or one of `others`, or the folder cannot be used."""
    from afina.data.plain_text import check
    from afina.train import folder

    if not texts:
        raise InputError(_("Name at least one text file to learn from."))
    if settings := next((text for text in texts if text.suffix == ".toml"), None):
        raise InputError(
            _("{file} holds settings and no text. A run goes on with --resume and --output-dir.").format(
                file=settings
            )
        )
    for text in [*texts, *(Path(other) for other in others if other)]:
        if text.exists() or not chosen.resume:  # what came from the Hub need not be there any more
            check(text)
    if not chosen.resume:
        _check_apart(texts, chosen.validation)
    run = folder.place(chosen.output_dir, str(texts[0]))
    folder.check(run, resume=chosen.resume, overwrite=chosen.overwrite)
    return run


def _check_apart(texts: list[Path], validation: str | None) -> None:
    """Raise InputError where a text is named twice, or one of them is the held-out text."""
    seen: set[Path] = set()
    for text in texts:
        if text.resolve() in seen:
            raise InputError(_("The text {file} is named twice: name it once.").format(file=text))
        seen.add(text.resolve())
    held = Path(validation or "")
    alike = [text for text in texts if held.is_file() and text.is_file()]
    for text in alike:
        if text.stat().st_size == held.stat().st_size and filecmp.cmp(text, held, shallow=False):
            raise InputError(
                _(
                    "The held-out text {file} is the training text {other} itself, so it could not tell what is "
                    "learnt. Name another file with --validation, or leave it out."
                ).format(file=held, other=text)
            )


def write(
    texts: list[Path], run: Path, settings: Mapping[str, Any], found: Mapping[str, Any] | None = None
) -> None:
    """Write the run's `run.toml`: its texts, its settings, what the machine is, and what was `found` besides."""
    from afina.train import machine
    from afina.train.run import write_settings

    kept = {name: value for name, value in settings.items() if name not in PASSING}
    recorded = machine.recorded() | dict(found or {})
    write_settings(run / "run.toml", {"texts": [str(text) for text in texts]} | kept, recorded)


def planned(texts: list[Path], chosen: Any, run: Path, plan: str, *, quiet: bool) -> dict[str, Any]:
    """Say what would be done, the `plan` in words, and return the figures of a run that has not been.

    InputError where a run that is to go on, or that is done, has learnt from another text than the files now hold.
    """
    from afina.data.corpus import unchanged as check_unchanged
    from afina.messages.numbers import number
    from afina.train.track import say

    if chosen.resume:
        check_unchanged(texts, run / "corpus")
    files = [file for text in texts for file in ([text] if text.is_file() else text.rglob("data-*.arrow"))]
    size = sum(file.stat().st_size for file in files) / 1e6
    known = _("Text files: {files}, {size} MB.").format(files=len(texts), size=number(size, 1))
    for sentence in (
        *(
            [known] if all(text.exists() for text in texts) else []
        ),  # how large one of the Hub is, nobody knows
        plan,
        _("Nothing was trained or written (--dry-run). The run would go to {run}.").format(run=run),
    ):
        say(sentence, quiet)
    figures = dict.fromkeys(("tokens_seen", "tokens_per_s", "share_of_peak"))
    losses = dict.fromkeys(OBJECTIVES[chosen.objective].losses)
    return {"run": str(run), **figures, "losses": {"validation": losses}}


def in_tokens(chosen: Any) -> str:
    """Say how long training goes on."""
    from afina.messages.numbers import number

    return _("Training goes on for {tokens} tokens, {step} a step.").format(
        tokens=number(chosen.max_tokens), step=number(chosen.tokens_per_step)
    )


def source(chosen: Any, *, offline: bool) -> Path | None:
    """Return the folder of the model to go on from, None for a new one."""
    from afina.models.find import find, writes

    if not chosen.model:
        return None
    if chosen.tokenizer:
        raise InputError(_("--model brings its own tokenizer: leave out --tokenizer."))
    folder = find(chosen.model, offline=offline)
    if writes(folder) != (chosen.objective == "clm"):
        raise InputError(
            _(
                "{model} cannot go on with --objective {objective}: clm is for decoders, mlm for encoders."
            ).format(model=chosen.model, objective=chosen.objective)
        )
    return folder


def taken(texts: list[Path], chosen: Any, source: Path | None) -> Any | None:
    """Return the tokenizer of the model or the one that is named, None for one to be learnt.

    InputError where it does not fit the objective or the text.
    """
    from afina.models.load import load_tokenizer, read_tokenizer

    if not (source or chosen.tokenizer):
        return None
    if not source and not Path(chosen.tokenizer).is_dir():
        raise InputError(_("There is no tokenizer folder {folder}.").format(folder=chosen.tokenizer))
    found = load_tokenizer(source) if source else read_tokenizer(Path(chosen.tokenizer))
    check_fit(texts, found, chosen, chosen.model or chosen.tokenizer)
    return found


def check_fit(texts: list[Path], tokenizer: Any, chosen: Any, name: str) -> None:
    """Raise InputError where the tokenizer lacks a token that the objective needs, or knows too little of the text."""
    lacking = [each for each in OBJECTIVES[chosen.objective].needs if getattr(tokenizer, each) is None]
    if lacking:
        raise InputError(
            _(
                "The tokenizer of {model} does not fit: {objective} needs tokens that it lacks ({tokens}). Choose "
                "another, or train one with afina pretrain."
            ).format(model=name, objective=chosen.objective, tokens=", ".join(lacking))
        )
    # Of a run that goes on, what came from the Hub need not be there.
    if not chosen.resume or all(text.exists() for text in texts):
        check_tokenizer(texts, tokenizer, name)


def tokenizer(texts: list[Path], chosen: Any, made: Path | None) -> Any:
    """Take the tokenizer in the folder `made`, or train one."""
    from afina.models.load import read_tokenizer

    if made and made.is_dir():
        return read_tokenizer(made)
    return OBJECTIVES[chosen.objective].tokenizer(sample_of(texts), chosen.vocab_size)


def texts_of(files: list[Path]) -> Iterator[str]:
    """Yield the documents of all files, a paragraph a line."""
    from afina.data.plain_text import documents

    return ("\n".join(paragraphs) for file in files for paragraphs in documents(file))


def sample_of(files: list[Path], most: int = TOKENIZER_CHARACTERS) -> Iterator[str]:
    """Yield what `texts_of` does or, of more than `most` characters, paragraphs drawn from all of it: about so many.

    The text is read twice, the first time to count it; the same is drawn every time.
    """
    import random

    share = most / max(1, sum(map(len, texts_of(files))))
    if share >= 1:
        yield from texts_of(files)
        return
    draw = random.Random(0)
    for text in texts_of(files):
        if some := [paragraph for paragraph in text.split("\n") if draw.random() < share]:
            yield "\n".join(some)


def kept(tokenizer: Any, folder: Path) -> Any:
    """Return the tokenizer as it is when it is read back from `folder`, where it is written."""
    from afina.models.load import read_tokenizer
    from afina.train.atomic import replaced

    with replaced(folder) as new:
        tokenizer.save_pretrained(new)
    return read_tokenizer(folder)


def corpora(
    texts: list[Path], chosen: Any, tokenizer: Any, run: Path, unseen: Unseen | None = None
) -> tuple[Part, Part]:
    """Return the text to learn from, without what is `unseen`, and the held-out text.

    Without a file of its own the latter is 1 % of the documents, ten if it can be.
    """
    import numpy as np

    train, _all = encoded(texts, tokenizer, run / "corpus", begun=chosen.resume, unseen=unseen)
    if chosen.validation:
        held_out = encoded([Path(chosen.validation)], tokenizer, run / "held_out", begun=chosen.resume)
        return (train, None), held_out
    held = np.zeros(len(train), dtype=bool)
    held[:: max(2, min(100, len(train) // 10))] = True
    if len(train) < 4:
        raise InputError(
            _("Documents in the text (parts between blank lines): {n}, too few to hold some out.").format(
                n=len(train)
            )
            + " "
            + _(
                "Put a blank line between documents, give JSONL with a document in the field text of each line, or name "
                "a file of held-out text with --validation."
            )
        )
    return (train, ~held), (train, held)


def check_pairs(train: Part, held: Part, task: Any, *, quiet: bool) -> None:
    """Raise InputError where next sentences cannot be learnt from one document, and say where they cannot be scored."""
    from afina.train.track import say

    if not getattr(task, "nsp", False):
        return
    if documents(train) < 2:
        raise InputError(
            _(
                "The text is one document (parts between blank lines), but half of the pairs for next sentences need "
                "another. Give more documents, or leave pairs out with --no-nsp."
            )
        )
    if documents(held) < 2:
        say(_("The held-out text is one document, so next sentences (nsp) have no figures."), quiet)


def documents(part: Part) -> int:
    """Return how many documents are in a part."""
    corpus, chosen = part
    return len(corpus) if chosen is None else int(chosen.sum())


def encoded(
    texts: list[Path], tokenizer: Any, folder: Path, *, begun: bool, unseen: Unseen | None = None
) -> Part:
    """Return the whole of the texts but what is `unseen`, encoded into `folder`.

    Unfinished where that cannot be written, InputError where it holds another text than the run has `begun` with.
    """
    from afina.data.corpus import Corpus
    from afina.train.atomic import cannot_write

    try:
        return Corpus.build(texts, tokenizer, folder, begun=begun, unseen=unseen), None
    except OSError as error:
        raise Unfinished(str(cannot_write(folder, error))) from None


def pairing(task: Any, source: Path | None, model: str | None, *, asked: bool, quiet: bool) -> Any:
    """Return the task, without next sentences where the model brings no head for them and nobody has `asked` for it.

    InputError where they are asked for and the model is of a kind that has none.
    """
    from afina.models.find import pairs
    from afina.train.track import say

    if source is None or not getattr(task, "nsp", False) or pairs(source):
        return task
    if not asked:
        say(
            _("{model} has no head for next sentences, so they are not learnt (--no-nsp).").format(
                model=model
            ),
            quiet,
        )
        return task.replace(nsp=False)
    if not _may_pair(source):
        raise InputError(
            _("{model} is of a kind without a head for next sentences: leave out --nsp.").format(model=model)
        )
    return task


def _may_pair(source: Path) -> bool:
    """Whether a head for next sentences can be drawn, as for a BERT that was saved without its own."""
    import torch
    from transformers import AutoModelForPreTraining

    from afina.models.heads import NEXT_SENTENCE
    from afina.models.load import load_config

    config = load_config(source)
    if type(config) not in AutoModelForPreTraining._model_mapping:
        return False
    with torch.device("meta"):
        return NEXT_SENTENCE in dict(AutoModelForPreTraining.from_config(config).named_modules())


def head(task: Any, source: Path) -> str:
    """Return the class of model to train: BERT's head for sentences is kept, and drawn only where it is asked for."""
    from afina.models.find import pairs

    without = task.head == MaskedLm.head and not (task.nsp or pairs(source))
    return "AutoModelForMaskedLM" if without else task.head


def start(chosen: Any, task: Any, source: Path | None, tokenizer: Any, text: Part, run: Path) -> Any:
    """Return the model as it is before the first step: that of `source`, or a new one.

    What a new one begins with is counted from the documents of `text` that are learnt from; not so where the `run` goes
    on from weights of its own.
    """
    from afina.models.load import load
    from afina.train import checkpoint

    objective = OBJECTIVES[chosen.objective]
    if not source:
        goes_on = chosen.resume and checkpoint.progress(run / "last") is not None
        return objective.build(chosen, tokenizer, None if goes_on else text)
    return load(source, head(task, source), dropout=chosen.dropout or 0.0)


def within(chosen: Any, source: Path | None, tokenizer: Any) -> Any:
    """Return the settings with rows that the model of `source` can take; InputError where longer ones are asked for.

    A new model takes rows of any length.
    """
    from afina.models.load import load_config, longest

    length = chosen.max_length or 512
    if source:
        most = longest(load_config(source), tokenizer)
        check_length(chosen, most)
        length = min(length, most)
    return chosen.replace(max_length=length, short_length=min(chosen.short_length, length))


def check_length(chosen: Any, most: int) -> None:
    """Raise InputError where longer rows are asked for than the model reads."""
    if (chosen.max_length or 0) > most:
        raise InputError(
            _("--max-length {length} is more than the {most} tokens that the model reads.").format(
                length=chosen.max_length, most=most
            )
        )


def phases(
    chosen: Any,
    part: Part,
    tokenizer: Any,
    world: int,
    rank: int,
    *,
    tokens: int,
    replay: Part | None = None,
) -> list[Phase]:
    """Return what is read in short rows and then in long ones, `tokens` of both; each step has its share of `replay`.

    The share is one of tokens, `chosen.replay`; each text is read in an order of its own, to its end and anew. Where
    whole rows would miss it in every step, replay comes in only some of them, or is more than a step of its own plan.
    """
    from afina.batching.plan import Paced, Plan
    from afina.batching.windows import Windows

    objective = OBJECTIVES[chosen.objective]
    full, phases = chosen.max_length or 512, []
    shares = [(part, 1.0)] if replay is None else [(part, 1 - chosen.replay), (replay, chosen.replay)]
    for length, share, seed in (
        (chosen.short_length, chosen.short_share, chosen.seed),
        (full, 1 - chosen.short_share, chosen.seed + 1),
    ):
        sources: list[tuple[Any, Any]] = []
        size = 0.0
        for place, ((corpus, documents), weight) in enumerate(shares):
            windows = Windows(corpus, length - objective.special, documents, objective.special, full)
            lengths = windows.lengths()
            total = sum(lengths)
            # Replay is a share of what a step really has, which is less where the text is small.
            wanted = size * weight / (1 - weight) if place else weight * chosen.tokens_per_step
            rows = max(1, round(wanted * len(lengths) / total))
            # The masks of two texts are drawn apart: their plans must not share a seed.
            plan = Plan(
                lengths, rows, chosen.micro_batch_tokens or MICRO_BATCH_TOKENS, seed + 2 * place, world, rank
            )
            step = total / plan.steps_per_epoch
            uneven = place and abs(wanted / step - 1) > UNEVEN
            sources.append(
                (objective.rows(windows, tokenizer), Paced(plan, wanted / step) if uneven else plan)
            )
            size += wanted if uneven else step
        steps = round(share * tokens / size)
        if steps:
            phases.append((sources, steps))
    # Of a small text a step is less than was asked for, and has the tokens all the same.
    if not phases or 2 * tokens < chosen.tokens_per_step:
        raise InputError(
            _("--max-tokens {tokens} is too few for one step of --tokens-per-step {step}.").format(
                tokens=tokens, step=chosen.tokens_per_step
            )
        )
    return phases


def replayed(phases: list[Phase]) -> float:
    """Return the share of the tokens that is replay."""
    seen = [0.0, 0.0]
    for sources, steps in phases:
        for place, (_rows, plan) in enumerate(sources):
            seen[place] += plan.tokens(steps)
    return seen[1] / sum(seen)


def check_replay(phases: list[Phase], asked: float, *, quiet: bool) -> None:
    """Say so where so few steps are taken that whole rows cannot make up the share of replay that was asked for."""
    from afina.messages.numbers import number
    from afina.train.track import say

    share = replayed(phases)
    if abs(share - asked) > MISSED * asked:
        say(
            _(
                "Of the tokens {share} %\u00a0are replay instead of {asked} %: with so few steps, whole rows come no nearer."
            ).format(share=number(100 * share, 1), asked=number(100 * asked, 1)),
            quiet,
        )


def learn(
    accelerator: Any, model: Any, method: Any, task: Any, tokenizer: Any, phases: list[Phase], held: Part,
    chosen: Any, run: Path, *, quiet: bool,
) -> Any:  # fmt: skip
    """Train the model through the phases, keep its best state in `best/`, and return how it went.

    What a method has put into the model is merged there, in a copy, so that it is an ordinary model of its kind.
    """
    import copy

    from afina.messages.numbers import number
    from afina.train.atomic import replaced
    from afina.train.fit import Budget, fit
    from afina.train.track import say

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
        task.loss,
        partial(between, phases, partial(task.collate, tokenizer=tokenizer)),
        budget,
        run,
        steps_per_epoch=phases[0][0][0][1].steps_per_epoch,
        evaluate=evaluation(task, tokenizer, held, chosen),
        keep_best=keep,
        resume=chosen.resume,
        quiet=quiet,
        drawn=task.drawn,
    )


def evaluation(task: Any, tokenizer: Any, held: Part, chosen: Any) -> Callable[[Any], Any]:
    """Return what scores the model in mid-training, on some of the held-out text.

    Twenty such scorings read at most a third of what is trained on, or they would take the longest in a short run.
    """
    rows = max(100, min(SCORED, (chosen.max_tokens or FOREVER) // (60 * chosen.short_length)))

    def evaluate(model: Any) -> tuple[list[float], dict[str, Any]]:
        found = held_out(model, task, tokenizer, held, chosen, rows)
        values = {name: each["value"] for name, each in found.items()}
        return [-next(iter(values.values()))], {"validation": values}

    return evaluate


def figures(
    progress: Any, model: Any, scores: Mapping[str, Any], chosen: Any, run: Path, began: float
) -> dict[str, Any]:
    """Return what a run is said to have cost and learnt; `scores` are those of held-out text."""
    from afina.train import machine

    speed = progress.tokens / max(progress.seconds, 1e-9)
    peak = machine.matrix_peak(chosen.precision) * machine.processes()
    return {
        "run": str(run),
        "tokens_seen": progress.tokens,
        "tokens_per_s": round(speed, 1),
        "share_of_peak": round(speed * machine.flop_per_token(model, chosen.short_length) / peak, 4),
        "losses": {"validation": losses(chosen, scores)},
        "scores": {"validation": scores},
        "skipped_steps": progress.guard.skipped,
        "seconds": {"train": round(progress.seconds, 1), "total": round(time.perf_counter() - began, 1)},
    }


def losses(chosen: Any, scores: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the losses of the objective alone, None for what the model does not learn."""
    names = OBJECTIVES[chosen.objective].losses
    return {name: scores[name]["value"] if name in scores else None for name in names}


def held_out(
    model: Any, task: Any, tokenizer: Any, part: Part, chosen: Any, most: int = SCORED
) -> dict[str, Any]:
    """Score the model on held-out text, with masks and pairs that are the same every time, the main figure first.

    The figures are those of short rows; `…_long` is the main one in rows as long as the model reads.
    """
    objective, full = OBJECTIVES[chosen.objective], chosen.max_length or 512
    found = _read(model, task, tokenizer, part, objective, chosen.short_length, most)
    if full > chosen.short_length:
        rows = max(10, most * chosen.short_length // (4 * full))
        name, figure = next(iter(_read(model, task, tokenizer, part, objective, full, rows).items()))
        found[f"{name}_long"] = figure
    return found


def _read(
    model: Any, task: Any, tokenizer: Any, part: Part, objective: Any, length: int, most: int
) -> dict[str, Any]:
    """Score the model on `most` rows of `length` tokens."""
    import torch

    from afina.batching.plan import by_tokens, generator
    from afina.batching.windows import Windows

    windows = Windows(part[0], length - objective.special, part[1], objective.special)
    lengths, encoded = windows.lengths(), objective.rows(windows, tokenizer)
    order = sorted(range(0, len(windows), max(1, len(windows) // most)), key=lambda row: -lengths[row])
    answers: list[Any] = []
    model.eval()
    with torch.no_grad():
        for rows in by_tokens(order, lengths, 8192):
            batch: Batch = task.collate([(encoded[row], generator(0, 0, row)) for row in rows], tokenizer)
            answers += task.glance(model, batch.to(model.device))
    return {name: score._asdict() for name, score in objective.scores(answers, task).items()}


def between(
    phases: list[Phase], collate: Callable[[list], Batch], start: int, stop: int, most: int | None = None
) -> Iterator[list[Batch]]:
    """Yield the batches of the steps [start, stop), of `most` tokens at most: the phases one after another.

    Each has steps of its own.
    """
    from afina.batching.plan import batches

    done = 0
    for sources, steps in phases:
        first, last = max(start - done, 0), min(stop - done, steps)
        if first < last:
            drawn = (batches(plan, rows, collate, first, last, most) for rows, plan in sources)
            for parts in zip(*drawn, strict=True):
                yield [batch for part in parts for batch in part]
        done += steps

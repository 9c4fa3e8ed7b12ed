"""What pre-training is made of: its tokenizer, its text, its start, its phases, its held-out score."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from afina.core import Batch
from afina.errors import InputError
from afina.messages import _
from afina.verbs._objectives import OBJECTIVES

Part = tuple[Any, Any]  # a corpus, and which of its documents (None: all)
Phase = tuple[Any, Any, int]  # rows of one length, their plan, and the steps it is followed for
TOKENS = 40_000_000  # to train on, where nothing else is said
FOREVER = 10**12  # tokens, of which --hours takes a part


def planned(texts: list[Path], chosen: Any, run: Path, *, quiet: bool) -> dict[str, Any]:
    """Say what would be done, and return the figures of a run that has not been."""
    from afina.messages.numbers import number
    from afina.train.track import say

    size = sum(text.stat().st_size for text in texts) / 1e6
    for sentence in (
        _("Text files: {files}, {size} MB.").format(files=len(texts), size=number(size, 1)),
        _("Training goes on for {hours} hours, reading included, {step} tokens a step.").format(
            hours=number(chosen.hours, 2), step=number(chosen.tokens_per_step)
        )
        if chosen.hours
        else _("Training goes on for {tokens} tokens, {step} a step.").format(
            tokens=number(chosen.max_tokens), step=number(chosen.tokens_per_step)
        ),
        _("Nothing was trained or written (--dry-run). The run would go to {run}.").format(run=run),
    ):
        say(sentence, quiet)
    figures = dict.fromkeys(("tokens_seen", "tokens_per_s", "share_of_peak"))
    losses = dict.fromkeys(OBJECTIVES[chosen.objective].losses)
    return {"run": str(run), **figures, "losses": {"validation": losses}}


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


def tokenizer(texts: list[Path], chosen: Any, source: Path | None, made: Path | None) -> Any:
    """Take the tokenizer of the model, the one that is named, the one in the folder `made`, or train one."""
    from afina.data.corpus import documents
    from afina.models.load import load_tokenizer, read_tokenizer

    if source:
        return load_tokenizer(source)
    if chosen.tokenizer:
        if not Path(chosen.tokenizer).is_dir():
            raise InputError(_("There is no tokenizer folder {folder}.").format(folder=chosen.tokenizer))
        return read_tokenizer(Path(chosen.tokenizer))
    if made and made.is_dir():
        return read_tokenizer(made)
    texts_of = ("\n".join(paragraphs) for text in texts for paragraphs in documents(text))
    return OBJECTIVES[chosen.objective].tokenizer(texts_of, chosen.vocab_size)


def kept(tokenizer: Any, folder: Path) -> Any:
    """Return the tokenizer as it is when it is read back from `folder`, where it is written."""
    from afina.models.load import read_tokenizer
    from afina.train.atomic import replaced

    with replaced(folder) as new:
        tokenizer.save_pretrained(new)
    return read_tokenizer(folder)


def corpora(texts: list[Path], chosen: Any, tokenizer: Any, run: Path) -> tuple[Part, Part]:
    """Return the text to learn from and the held-out text; without a file of its own, 1 % of the documents."""
    import numpy as np

    from afina.data.corpus import Corpus
    from afina.train.atomic import cannot_write

    try:
        train = Corpus.build(texts, tokenizer, run / "corpus")
        if chosen.validation:
            return (train, None), (Corpus.build([Path(chosen.validation)], tokenizer, run / "held_out"), None)
    except OSError as error:
        raise cannot_write(run / "corpus", error) from None
    held = np.zeros(len(train), dtype=bool)
    held[:: max(2, min(100, len(train) // 2))] = True
    if len(train) < 4:
        raise InputError(
            _("The text has {n} documents (parts between blank lines), too few to hold some out.").format(
                n=len(train)
            )
            + " "
            + _("Name a file of held-out text with --validation.")
        )
    return (train, ~held), (train, held)


def start(chosen: Any, source: Path | None, tokenizer: Any, corpus: Any) -> Any:
    """Return the model as it is before the first step: that of `source`, or a new one."""
    from afina.models.load import load

    objective = OBJECTIVES[chosen.objective]
    if source:
        model: Any = load(source, objective.task.head, dropout=chosen.dropout or 0.0)
        most = model.config.max_position_embeddings
        if (chosen.max_length or 0) > most:
            raise InputError(
                _("--max-length {length} is more than the {most} tokens that the model reads.").format(
                    length=chosen.max_length, most=most
                )
            )
        return model
    return objective.build(chosen, tokenizer, corpus)


def phases(chosen: Any, part: Part, tokenizer: Any, world: int, rank: int) -> list[Phase]:
    """Return (rows, plan, steps) for the short rows and for the long ones."""
    from afina.batching.plan import Plan
    from afina.batching.windows import Windows

    objective = OBJECTIVES[chosen.objective]
    full, phases = chosen.max_length or 512, []
    tokens = FOREVER if chosen.hours else chosen.max_tokens
    for length, share, seed in (
        (chosen.short_length, chosen.short_share, chosen.seed),
        (full, 1 - chosen.short_share, chosen.seed + 1),
    ):
        windows = Windows(part[0], length - objective.special, part[1], objective.special)
        lengths = windows.lengths()
        mean = sum(lengths) / len(lengths)
        rows = max(1, round(chosen.tokens_per_step / mean))
        plan = Plan(lengths, rows, chosen.micro_batch_tokens, seed, world, rank)
        steps = round(share * tokens / (rows * mean))
        if steps:
            phases.append((objective.rows(windows, tokenizer), plan, steps))
    if not phases:
        raise InputError(
            _("--max-tokens {tokens} is too few for one step of --tokens-per-step {step}.").format(
                tokens=tokens, step=chosen.tokens_per_step
            )
        )
    return phases


def held_out(model: Any, task: Any, tokenizer: Any, part: Part, chosen: Any) -> dict[str, Any]:
    """Score the model on held-out text, with masks and pairs that are the same every time, the main figure first."""
    import torch

    from afina.batching.plan import by_tokens, generator
    from afina.batching.windows import Windows

    objective = OBJECTIVES[chosen.objective]
    windows = Windows(part[0], chosen.short_length - objective.special, part[1], objective.special)
    lengths, encoded = windows.lengths(), objective.rows(windows, tokenizer)
    order = sorted(range(0, len(windows), max(1, len(windows) // 1500)), key=lambda row: -lengths[row])
    answers: list[Any] = []
    model.eval()
    with torch.no_grad():
        for rows in by_tokens(order, lengths, 8192):
            batch: Batch = task.collate([(encoded[row], generator(0, 0, row)) for row in rows], tokenizer)
            answers += task.glance(model, batch.to(model.device))
    return {name: score._asdict() for name, score in objective.scores(answers, task).items()}


def between(
    phases: list[Phase], collate: Callable[[list], Batch], start: int, stop: int
) -> Iterator[list[Batch]]:
    """Yield the batches of the steps [start, stop): the phases one after another, each with steps of its own."""
    from afina.batching.plan import batches

    done = 0
    for encoded, plan, steps in phases:
        first, last = max(start - done, 0), min(stop - done, steps)
        if first < last:
            yield from batches(plan, encoded, collate, first, last)
        done += steps

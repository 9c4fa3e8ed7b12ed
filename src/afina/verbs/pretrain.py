"""Pre-train a BERT from nothing on plain text: masked words and next sentences (Devlin et al. 2019)."""

import json
import time
from pathlib import Path
from typing import Any, Literal

from afina.core import Batch
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import Common, Training, divide, setting
from afina.tasks.masked_lm import MaskedLm
from afina.verbs._settings import begin

COUNTED = 16_000_000  # tokens that counted word vectors are made from

Part = tuple[Any, Any]  # a corpus, and which of its documents (None: all)


class Pretrain(Training):
    """Settings of `afina pretrain`."""

    objective: Literal["mlm"] = setting("mlm", N_("What is learnt: mlm (BERT)."))
    shape: Literal["tiny", "mini", "small", "medium", "base"] = setting(
        "mini", N_("Size of the model, by name.")
    )
    tokenizer: str | None = setting(
        None, N_("Folder of a tokenizer to use (default: one is trained on the text).")
    )
    vocab_size: int = setting(16384, N_("Tokens of a tokenizer that is trained."), ge=200)
    validation: str | None = setting(None, N_("File of held-out text (default: 1 %\u00a0of the documents)."))
    tokens_per_step: int = setting(16384, N_("Tokens of one optimizer step, over all processes."), ge=128)
    max_tokens: int = setting(40_000_000, N_("Tokens to train on, repeats counted."), ge=1000)
    short_length: int = setting(128, N_("Row length of the first part of the training."), ge=16)
    short_share: float = setting(0.9, N_("Share of the tokens that are learnt in short rows."), ge=0, le=1)
    lr_scheduler_type: Literal["linear", "cosine", "warmup_stable_decay"] = setting(
        "linear", N_("How the learning rate falls after its rise.")
    )
    initialisation: Literal["random", "informed"] = setting(
        "informed", N_("random: noise, as in the paper; informed: counted word vectors and local attention.")
    )
    output_dir: str | None = setting(None, N_("Folder of the run (default: runs/<file name>)."))
    resume: bool = setting(False, N_("Go on with the run that the folder holds."))
    overwrite: bool = setting(False, N_("Replace the run that the folder holds."))


def pretrain(*texts: str | Path, **settings: Any) -> dict[str, Any]:
    """Train a tokenizer and a masked language model on text files, and return what INTERFACE names.

    `texts` are files with a blank line between documents, JSONL or Parquet. Raises InputError before anything
    is written where a file or a setting is wrong, and Interrupted when stopped; `resume=True` goes on.
    """
    begin(settings)
    common, chosen, knobs = divide(settings, Common, Pretrain, MaskedLm)
    return _run([Path(text) for text in texts], Common.of(common), Pretrain.of(chosen), MaskedLm.of(knobs))


def _run(texts: list[Path], common: Common, chosen: Pretrain, task: MaskedLm) -> dict[str, Any]:
    from functools import partial
    from itertools import chain

    import torch
    from transformers import logging as transformers_logging

    from afina.batching.plan import batches
    from afina.methods.full import Full
    from afina.models.build import bert
    from afina.train import folder, machine
    from afina.train.fit import Budget, fit

    began = time.perf_counter()
    if not texts:
        raise InputError(_("Name at least one text file to learn from."))
    for text in [*texts, *([Path(chosen.validation)] if chosen.validation else [])]:
        if not text.is_file():
            raise InputError(_("There is no file {file}.").format(file=text))
    run = folder.place(chosen.output_dir, str(texts[0]))
    folder.claim(run, resume=chosen.resume, overwrite=chosen.overwrite)
    transformers_logging.disable_progress_bar()
    tokenizer = _tokenizer(texts, chosen, run)
    train, held = _corpora(texts, chosen, tokenizer, run)
    torch.manual_seed(chosen.seed)
    model = bert(chosen.shape, len(tokenizer), dropout=chosen.dropout or 0.0)
    if chosen.initialisation == "informed":
        _inform(model, train[0])
    accelerator = machine.accelerator(chosen.precision)
    phases = _phases(chosen, train, accelerator.num_processes, accelerator.process_index)
    total = sum(steps for _w, _p, steps in phases)

    def steps_between(start: int, stop: int) -> Any:
        """Short rows first, then long ones: each phase counts its own steps from 0."""
        parts, done = [], 0
        for windows, plan, steps in phases:
            first, last = max(start - done, 0), min(stop - done, steps)
            if first < last:
                parts.append(batches(plan, windows, partial(task.collate, tokenizer=tokenizer), first, last))
            done += steps
        return chain.from_iterable(parts)

    def evaluate(model: torch.nn.Module) -> tuple[list[float], dict[str, Any]]:
        scores = _held_out(model, task, tokenizer, held, chosen)
        return [-scores["mlm"]["value"]], {
            "validation": {name: score["value"] for name, score in scores.items()}
        }

    def keep(model: torch.nn.Module) -> None:
        Full().save(model, run / "best")
        tokenizer.save_pretrained(run / "best")

    budget = Budget(
        steps=total,
        learning_rate=chosen.learning_rate or 1e-3,
        seed=chosen.seed,
        warmup_steps=chosen.warmup_steps,
        lr_scheduler_type=chosen.lr_scheduler_type,
        weight_decay=chosen.weight_decay,
        max_grad_norm=chosen.max_grad_norm,
        adam_beta2=0.98,
        eval_steps=chosen.eval_steps or max(1, total // 20),
        save_steps=chosen.save_steps or max(1, total // 100),
    )
    progress = fit(
        accelerator,
        model,
        Full(),
        task.loss,
        steps_between,
        budget,
        run,
        steps_per_epoch=phases[0][1].steps_per_epoch,
        evaluate=evaluate,
        keep_best=keep,
        resume=chosen.resume,
        quiet=common.quiet,
    )
    peak = machine.matrix_peak(chosen.precision)
    speed = progress.tokens / max(progress.seconds, 1e-9)
    scores = _held_out(model, task, tokenizer, held, chosen)
    result = {
        "run": str(run),
        "tokens_seen": progress.tokens,
        "tokens_per_s": round(speed, 1),
        "share_of_peak": round(speed * machine.flop_per_token(model, chosen.short_length) / peak, 4),
        "losses": {"validation": {name: scores[name]["value"] for name in ("mlm", "nsp") if name in scores}},
        "scores": {"validation": scores},
        "seconds": {"train": round(progress.seconds, 1), "total": round(time.perf_counter() - began, 1)},
    }
    (run / "scores.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def _tokenizer(texts: list[Path], chosen: Pretrain, run: Path) -> Any:
    """Take the tokenizer that is named or lies in the run, or train one on the texts."""
    from transformers import AutoTokenizer

    from afina.data.corpus import documents
    from afina.models.wordpiece import train_wordpiece

    folder = Path(chosen.tokenizer) if chosen.tokenizer else run / "tokenizer"
    if not folder.is_dir():
        if chosen.tokenizer:
            raise InputError(_("There is no tokenizer folder {folder}.").format(folder=folder))
        texts_of = ("\n".join(paragraphs) for text in texts for paragraphs in documents(text))
        train_wordpiece(texts_of, chosen.vocab_size).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def _corpora(texts: list[Path], chosen: Pretrain, tokenizer: Any, run: Path) -> tuple[Part, Part]:
    """Return the text to learn from and the held-out text; without a file of its own, 1 % of the documents."""
    import numpy as np

    from afina.data.corpus import Corpus

    train = Corpus.build(texts, tokenizer, run / "corpus")
    if chosen.validation:
        return (train, None), (Corpus.build([Path(chosen.validation)], tokenizer, run / "held_out"), None)
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


def _inform(model: Any, corpus: Any) -> None:
    """Give a fresh model counted word vectors, as long as the random ones, log frequencies and local attention."""
    import torch

    from afina.models.cooccurrence import embeddings, log_frequencies
    from afina.models.start import mimetic

    weight, bias = model.bert.embeddings.word_embeddings.weight, model.cls.predictions.bias
    vectors = torch.from_numpy(embeddings(corpus.tokens[:COUNTED], *weight.shape))
    seen = vectors.norm(dim=1) > 0
    with torch.no_grad():
        weight[seen] = vectors[seen].to(weight.dtype) * weight.std() * weight.shape[1] ** 0.5
        bias.copy_(torch.from_numpy(log_frequencies(corpus.tokens[:COUNTED], len(bias))))
    mimetic(model)


def _phases(chosen: Pretrain, part: Part, world: int, rank: int) -> list[tuple[Any, Any, int]]:
    """Return (windows, plan, steps) for the short rows and for the long ones."""
    from afina.batching.plan import Plan
    from afina.batching.windows import Windows

    full, phases = chosen.max_length or 512, []
    for length, share, seed in (
        (chosen.short_length, chosen.short_share, chosen.seed),
        (full, 1 - chosen.short_share, chosen.seed + 1),
    ):
        windows = Windows(part[0], length - 3, part[1])
        lengths = windows.lengths()
        mean = sum(lengths) / len(lengths)
        rows = max(1, round(chosen.tokens_per_step / mean))
        plan = Plan(lengths, rows, chosen.micro_batch_tokens, seed, world, rank)
        steps = round(share * chosen.max_tokens / (rows * mean))
        if steps:
            phases.append((windows, plan, steps))
    return phases


def _held_out(model: Any, task: MaskedLm, tokenizer: Any, part: Part, chosen: Pretrain) -> dict[str, Any]:
    """Score the model on held-out text, with masks and pairs that are the same every time."""
    import torch

    from afina.batching.plan import by_tokens, generator
    from afina.batching.windows import Windows

    windows = Windows(part[0], chosen.short_length - 3, part[1])
    lengths = windows.lengths()
    order = sorted(range(0, len(windows), max(1, len(windows) // 1500)), key=lambda row: -lengths[row])
    answers: list[Any] = []
    model.eval()
    with torch.no_grad():
        for rows in by_tokens(order, lengths, 8192):
            batch: Batch = task.collate([(windows[row], generator(0, 0, row)) for row in rows], tokenizer)
            answers += task.answer(model, batch)
    return {name: score._asdict() for name, score in task.score(answers, []).values.items()}

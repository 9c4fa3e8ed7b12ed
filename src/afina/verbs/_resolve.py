"""What a person left open, decided by the method's preset, the data or the model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.errors import InputError
from afina.messages import _
from afina.verbs._prepare import Prepared
from afina.verbs._settings import Chosen, preset_rate

if TYPE_CHECKING:
    from afina.verbs.finetune import Finetune, Resolved


def resolved(chosen: Chosen, source: Path, prepared: Prepared) -> tuple["Resolved", Any]:
    """Return the settings with every open one decided, and the tokenizer; InputError where rows may not be so long."""
    from afina.data.split import SHARE
    from afina.models.load import load_config, load_tokenizer, longest

    tokenizer, config = load_tokenizer(source), load_config(source, prepared.task.config())
    limit = longest(config, tokenizer)
    check_length(chosen.verb, limit)
    parts = prepared.splits
    rows = len(parts.train)
    if k := chosen.verb.folds:  # within a few rows the same in each, and all are to train alike
        every = rows + len(parts.validation) + len(parts.test)
        rows = round(every * (1 - 1 / k) * (1 - SHARE))
    return _resolve(chosen, config.hidden_size, rows, limit), tokenizer


def _resolve(chosen: Chosen, width: int, rows: int, limit: int) -> "Resolved":
    """Return the settings with every open one decided by the method's preset, the data or the model."""
    from afina.verbs.finetune import Resolved

    verb: Finetune = chosen.verb
    preset = chosen.method.presets(width)
    batch = verb.train_batch_size or preset.get("train_batch_size") or (16 if rows < 2000 else 32)
    steps = max(1, -(-rows // batch))
    # About 600 steps: small sets need many passes, large ones few.
    epochs = verb.num_train_epochs or preset.get("num_train_epochs") or min(20, max(3, -(-600 // steps)))
    return Resolved.of(
        verb.model_dump()
        | {
            "learning_rate": verb.learning_rate
            or preset_rate(chosen.task, chosen.method, width, random_weights=verb.random_weights),
            "train_batch_size": batch,
            "num_train_epochs": epochs,
            "max_length": min(verb.max_length or limit, limit),
            "early_stopping_patience": verb.early_stopping_patience or max(3, round(epochs / 3)),
        }
    )


def budget(verb: "Resolved", total: int, steps_per_epoch: int, scored_rows: int) -> Any:
    """Return what the loop may spend: an evaluation an epoch, and in a short training ten, or fewer if they cost much.

    A row that is scored costs a third of one that is learnt from, so that as many rows are a third of the training.
    """
    from afina.train.fit import Budget

    as_many = total * verb.train_batch_size // max(scored_rows, 1)
    often = verb.eval_steps or max(1, min(steps_per_epoch, total // min(10, max(4, as_many))))
    return Budget(
        steps=total,
        learning_rate=verb.learning_rate,
        seed=verb.seed,
        warmup_steps=verb.warmup_steps,
        weight_decay=verb.weight_decay,
        max_grad_norm=verb.max_grad_norm,
        eval_steps=often,
        save_steps=verb.save_steps or often,
        patience=verb.early_stopping_patience,
    )


def check_model(task: Any, model: Any) -> None:
    """Raise InputError where a loaded model cannot learn what the task is set to: words, or texts in one row."""
    from afina.batching.pack import reads_apart
    from afina.models.heads import vocabulary_modules

    if task.writes:
        vocabulary_modules(model)
    if getattr(task, "packing", False) and not reads_apart(model):
        raise InputError(
            _(
                "A model of the kind '{kind}' does not keep packed texts apart, so each would be learnt with those before "
                "it in sight. Leave out --packing."
            ).format(kind=model.config.model_type)
        )


def check_recomputing(verb: Any, source: Path | None) -> None:
    """Raise InputError where activation checkpointing is asked for of a model that has none; a new one always has."""
    if verb.activation_checkpointing and source:
        from afina.models.recompute import check

        check(source)


def check_length(chosen: Any, most: int) -> None:
    """Raise InputError where longer rows are asked for than the model reads."""
    if (chosen.max_length or 0) > most:
        raise InputError(
            _("--max-length {length} is more than the {most} tokens that the model reads.").format(
                length=chosen.max_length, most=most
            )
        )

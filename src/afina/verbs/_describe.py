"""What is said of a fine-tuning before and while it runs: its data, its plan, its curves."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afina.core import Row, Splits, Task
from afina.errors import InputError
from afina.messages import _
from afina.messages.numbers import number, plain
from afina.sample import spread
from afina.verbs._prepare import Prepared, long_rows

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from afina.train.bundle import Bundle

MARKING = ("AutoModelForTokenClassification", "AutoModelForQuestionAnswering")
SHOWN = 3  # rows whose tokens are printed
LONGEST = 8  # tokens of one character
UNKNOWN = "\ufffd"  # what decoding makes of a part of a character
TRIED = 16  # rows by which it is seen whether every epoch reads the same
LISTED = 20  # names at most in one sentence
# Rows at most that are scored in mid-training; the scores at the end are over all rows.
WATCHED = 1000  # of the validation part, by which weights are chosen
SEEN = 200  # of the training part, which only tell whether they are learnt by heart


def trained_weights(model: "nn.Module", method: Any) -> int:
    """Return how many weights at least one stage of the method trains."""
    stages = method.stages(model)
    return sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if any(stage.trainable is None or name in stage.trainable for stage in stages)
    )


def summary(prepared: Prepared, length: dict[str, Any]) -> dict[str, Any]:
    """Return what the report says of the data."""
    task, parts = prepared.task, prepared.splits
    notes = [*prepared.notes, *long_rows(length)]
    named = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    labels = {
        name: dict(Counter(label for row in rows for label in task.counted(row)))
        for name, rows in named.items()
    }
    for name, word in (("validation", _("validation")), ("test", _("test"))):
        unmeasured = sorted(labels["train"].keys() - labels[name].keys())
        if named[name] and unmeasured and _in_macro_figures(task, labels["train"]):
            notes.append(
                _(
                    "Labels without a row in the {part} part, where they lower macro figures: {labels}."
                ).format(part=word, labels=_listed(unmeasured))
            )
    return {
        "rows": {name: len(rows) for name, rows in named.items()},
        "labels": labels,
        "columns": {
            role: columns[0] if len(columns) == 1 else list(columns)
            for role, columns in task.columns().items()
        },
        "left_out": prepared.left_out,
        "notes": notes,
        "length": length,
    }


def one_way(task: Task, model: "Path") -> list[str]:
    """Say so where words are to be marked by a model that reads each without those behind it."""
    from afina.models.find import writes

    if not (writes(model) and task.head in MARKING):
        return []
    return [
        _(
            "This model is a decoder, which reads each word without those that follow: for marking words an encoder is "
            "usually better."
        )
    ]


def labels_in_words(task: Any, about_data: dict[str, Any]) -> list[str]:
    """Name the labels of the training rows, so that one that is none (`NaN`, another spelling) is seen."""
    found = about_data["labels"]["train"]
    if not found:
        return []
    by_rows = [f"{label} ({n})" for label, n in sorted(found.items(), key=lambda each: (-each[1], each[0]))]
    return [_("Labels ({n}): {labels}.").format(n=len(found), labels=_listed(by_rows))]


def _in_macro_figures(task: Any, counted: dict[str, int]) -> bool:
    """Whether what is counted are the very labels that the model gives, and its figures a mean over."""
    return counted.keys() <= set(getattr(task, "labels", ()))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (" …" if len(names) > LISTED else "")


def scored(splits: Splits) -> tuple[int, int]:
    """Return how many training and validation rows are scored each time in mid-training."""
    validation = min(WATCHED, len(splits.validation))
    return min(SEEN, validation, len(splits.train)), validation


def evaluation(bundle: "Bundle", splits: Splits, encoded: list[list[Row]]) -> Callable[["nn.Module"], Any]:
    """Return what scores the model in mid-training, on a fixed choice of validation and of training rows."""
    from afina.train.bundle import by_row, glances_and_loss

    task, tokenizer, tokens = bundle.task, bundle.tokenizer, bundle.micro_batch_tokens
    parts = {}
    for name, most, rows, own in zip(
        ("train", "validation"), scored(splits), (splits.train, splits.validation), encoded, strict=True
    ):
        some = spread(len(rows), most)
        parts[name] = [own[place] for place in some], [rows[place] for place in some]

    def evaluate(model: "nn.Module") -> tuple[list[float], dict[str, Any]]:
        found = {}
        for name, (rows, gold) in parts.items():
            if task.direction < 0:  # what is watched is the loss itself, and a glance holds it
                metric, value = task.watch(by_row(model, task, tokenizer, rows, tokens, task.glance), gold)
                found[name] = {"loss": value, metric: value}
            else:
                glances, loss = glances_and_loss(model, task, tokenizer, rows, tokens)
                metric, value = task.watch(glances, gold)
                found[name] = {"loss": loss, metric: value}
        return [found["validation"][metric] * task.direction, -found["validation"]["loss"]], found

    return evaluate


def readings(bundle: "Bundle", rows: Sequence[Row]) -> Any:
    """Return all that a training reads in every epoch, the encoded rows to learn from and those to choose by.

    None where the task draws anew what each epoch reads of a row, such as words that are hidden.
    """
    import torch

    from afina.batching.plan import generator
    from afina.train.bundle import in_batches
    from afina.train.frozen import Readings

    one, other = (
        bundle.task.collate(
            [(row, generator(0, epoch, place)) for place, row in enumerate(rows[:TRIED])], bundle.tokenizer
        ).tensors.get("input_ids")
        for epoch in (0, 1)
    )
    if one is None or other is None or not torch.equal(one, other):
        return None
    asked = bundle.task, bundle.tokenizer, rows, bundle.micro_batch_tokens, bundle.model
    tokens = sum(bundle.task.length(row) for row in rows)
    return Readings(lambda: (batch for _places, batch in in_batches(*asked)), tokens, len(rows))


def check_learnable(task: Task, encoded: Mapping[str, Sequence[Row]]) -> list[str]:
    """Say how many rows of each part have no token that is learnt; InputError where a part has no other rows.

    Of texts to be written only: a word whose tag was never learnt is scored, as an error.
    """
    if not task.writes:
        return []
    said = []
    for part, rows in encoded.items():
        tokens = [found for row in rows if (found := task.learnt(row)) is not None]
        empty = sum(not any(known for window in row for _token, known in window) for row in tokens)
        if tokens and empty == len(tokens):
            raise InputError(
                _(
                    "No row of the {part} part has a token that is learnt: the replies lie beyond --max-length, or the "
                    "model's chat template leaves them out. Look at them with --show-mask --dry-run."
                ).format(part=part)
            )
        if empty:
            said.append(
                _(
                    "Rows of the {part} part without a token that is learnt, which count for nothing: {n}."
                ).format(n=empty, part=part)
            )
    return said


def fewer_in_words(tokens: int, usual: int) -> str:
    """Say that fewer tokens go through the model at once than usual."""
    return _(
        "Not all memory that {usual} tokens at once would take is free, so {tokens} go through the model "
        "(--micro-batch-tokens), which takes longer; what is learnt is the same but for rounding and other draws of dropout."
    ).format(usual=usual, tokens=tokens)


def forecast_in_words(foretold: Any) -> str:
    """Say how long all steps will take and how much memory."""
    from afina.report.numbers import duration

    return _(
        "By a few steps that were tried, the whole training takes about {time} without evaluations, and {memory} MB of memory."
    ).format(time=duration(foretold.seconds), memory=number(foretold.memory_mb))


def mask_in_words(task: Task, tokenizer: Any, encoded: Sequence[Row]) -> list[str]:
    """Return the first rows token by token, each that is learnt in brackets; InputError where none ever is."""
    shown = []
    for place, row in enumerate(encoded[:SHOWN], 1):
        windows = task.learnt(row)
        if windows is None:
            raise InputError(_("This task learns no tokens of a text, so --show-mask has nothing to show."))
        lines = [_("Row {number}, what is learnt in ⟦ ⟧:").format(number=place)]
        for nth, tokens in enumerate(windows, 1):
            if nth > 1:
                lines.append(
                    _("Window {nth}, which may begin with tokens of the one before:").format(nth=nth)
                )
            # Where a text is not written each piece stands for itself, a word or ## a part of one.
            pieces = _stretches(tokenizer, tokens) if task.writes else _pieces(tokenizer, tokens)
            marked = (f"⟦{piece}⟧" if known else piece for piece, known in pieces)
            lines.append(("" if task.writes else " ").join(marked))
        shown.append("\n".join(lines))
    return shown


def _pieces(tokenizer: Any, tokens: Sequence[tuple[int, bool]]) -> Iterator[tuple[str, bool]]:
    """Yield each token as it stands in the vocabulary's spelling."""
    for token, known in tokens:
        yield str(tokenizer.decode([token]) or tokenizer.convert_ids_to_tokens(token)), known


def _stretches(tokenizer: Any, tokens: Sequence[tuple[int, bool]]) -> Iterator[tuple[str, bool]]:
    """Yield each token as what it adds to the text; those that only together are a character, as one.

    Where of these one is learnt and another is not, or some lie in another window, each is shown as in the vocabulary.
    """
    before: list[int] = []
    parts: list[tuple[int, bool]] = []
    for token, known in tokens:
        whole = UNKNOWN not in tokenizer.decode([token])
        if whole or len(parts) == LONGEST:
            yield from _signs(tokenizer, parts)
            before, parts = ([] if parts else before), []
        if whole:
            yield _added(tokenizer, before, token), known
            before = [token]
            continue
        parts.append((token, known))
        ids = [part for part, _known in parts]
        if UNKNOWN not in (text := str(tokenizer.decode(ids))):
            yield from (
                [(text, known)] if len({each for _part, each in parts}) == 1 else _signs(tokenizer, parts)
            )
            before, parts = ids, []
    yield from _signs(tokenizer, parts)


def _signs(tokenizer: Any, parts: Sequence[tuple[int, bool]]) -> Iterator[tuple[str, bool]]:
    for token, known in parts:
        yield str(tokenizer.convert_ids_to_tokens(token)), known


def _added(tokenizer: Any, before: list[int], token: int) -> str:
    """Return what a token adds to those before: alone, some tokenizers drop the blank that begins a word."""
    first, both = (
        str(tokenizer.decode(ids, clean_up_tokenization_spaces=False)) for ids in (before, [*before, token])
    )
    behind = both.removeprefix(first) if both.startswith(first) else str(tokenizer.decode([token]))
    return behind or str(tokenizer.convert_ids_to_tokens(token))


def plan_in_words(splits: Splits, verb: Any, steps: int, trained: int, mean: float) -> list[str]:
    return [
        _(
            "{train} rows to train on, {validation} to validate, {test} to test; {tokens} tokens a row."
        ).format(
            train=len(splits.train),
            validation=len(splits.validation),
            test=len(splits.test),
            tokens=number(mean),
        ),
        _(
            "{weights} weights are trained for at most {steps} steps of {rows} rows, learning rate {rate}."
        ).format(
            weights=number(trained), steps=steps, rows=verb.train_batch_size, rate=plain(verb.learning_rate)
        ),
    ]

"""How well a language model reads held-out text, in mid-training and at the end."""

from collections.abc import Callable, Mapping
from typing import Any

from afina.core import Batch
from afina.sample import spread
from afina.verbs._corpus import Part
from afina.verbs._hours import FOREVER
from afina.verbs._objectives import OBJECTIVES

SCORED = 1500  # rows of held-out text at most, drawn from all over it


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
    order = sorted(spread(len(windows), most), key=lambda row: -lengths[row])
    answers: list[Any] = []
    model.eval()
    with torch.no_grad():
        for rows in by_tokens(order, lengths, 8192):
            batch: Batch = task.collate([(encoded[row], generator(0, 0, row)) for row in rows], tokenizer)
            answers += task.glance(model, batch.to(model.device))
    return {name: score._asdict() for name, score in objective.scores(answers, task).items()}

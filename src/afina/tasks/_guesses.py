"""How well hidden tokens and next sentences were guessed: numbers row by row, and the figures that they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from afina.core import Batch, Difference, Scores
from afina.tasks._masks import IGNORED

if TYPE_CHECKING:
    from torch import Tensor


def judged(logits: Tensor, gold: Tensor) -> Tensor:
    """Return the loss of each token and whether the likeliest is right [places, 2]; `logits` [places, vocabulary]."""
    import torch

    from afina.models.heads import surprise

    return torch.stack([surprise(logits, gold), (logits.argmax(-1) == gold).float()], 1)


def by_row(batch: Batch, words: Tensor, next_: Tensor | None) -> list[list[float]]:
    """Return, a row, the summed loss, the number of guesses and of right ones, for words and for NSP.

    `words` [places, 2] is what `judged` says of the hidden tokens, `next_` [rows, 2] are logits.
    """
    import torch
    from torch.nn.functional import cross_entropy

    losses, right = words.T
    row_of = (batch.tensors["labels"] != IGNORED).nonzero()[:, 0]
    columns = [losses, torch.ones_like(losses), right]
    none = torch.zeros(len(batch.tensors["next"]), device=losses.device)
    sums = [none.index_add(0, row_of, column) for column in columns]
    if next_ is not None:
        known = batch.tensors["next"] != IGNORED
        target = batch.tensors["next"]
        sums.append(cross_entropy(next_.float(), target, reduction="none", ignore_index=IGNORED))
        sums += [known.float(), ((next_.argmax(-1) == target) & known).float()]
    return torch.stack(sums, 1).tolist()


def score(answers: Sequence[Any]) -> Scores:
    """Return the mean loss a hidden token (lower is better), its accuracy, and the same for NSP."""
    import numpy as np

    from afina.scoring.language import ratio

    table = np.asarray(answers, dtype=float)
    values = {
        "loss": ratio(table[:, 0], table[:, 1]),
        "mlm": ratio(table[:, 0], table[:, 1]),
        "mlm_accuracy": ratio(table[:, 2], table[:, 1]),
    }
    if table.shape[1] > 3 and table[:, 4].sum():
        values["nsp"] = ratio(table[:, 3], table[:, 4])
        values["nsp_accuracy"] = ratio(table[:, 5], table[:, 4])
    return Scores(values)


def difference(a: Sequence[Any], b: Sequence[Any]) -> Difference:
    """Return the paired difference of the mean loss a hidden token."""
    import numpy as np

    from afina.scoring import language

    ours, theirs = (np.asarray(answers, dtype=float) for answers in (a, b))
    return language.difference(ours[:, 0], theirs[:, 0], ours[:, 1])

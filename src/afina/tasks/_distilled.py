"""What a language model learns from another one instead of from the text (Hinton et al. 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afina.core import Batch, Loss, Term
from afina.tasks._bag_of_words import bag_loss
from afina.tasks._masks import IGNORED

if TYPE_CHECKING:
    from torch import nn


def distilled_guesses(task: Any, model: nn.Module, teacher: nn.Module, batch: Batch) -> Loss:
    """Return how far a model's guesses of hidden tokens and next sentences are from the teacher's.

    What the teacher has learnt nothing of is learnt from the text: bags of words, and next sentences where the head for
    them was drawn.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from afina.models.heads import NEXT_SENTENCE, divergence, guessed, taught_by

    with torch.no_grad():
        _hidden, known, _gold, follows = task.states(teacher, batch)
    hidden, chosen, _gold, next_ = task.states(model, batch)
    terms = {"mlm": Term(guessed(model, chosen, known, taught_by(teacher)).sum())}
    if next_ is not None:
        asked = batch.tensors["next"] != IGNORED
        said = next_[asked].float()
        if any(name.startswith(NEXT_SENTENCE) for name in getattr(teacher, "drawn", ())):
            nsp = cross_entropy(said, batch.tensors["next"][asked], reduction="sum")
        else:
            nsp = divergence(said, follows[asked].float()).sum()
        terms["nsp"] = Term(nsp, task.nsp_weight)
    if task.bow_weight:
        terms["bow"] = Term(bag_loss(model, hidden, batch.tensors["bag"]), task.bow_weight)
    return terms


def distilled_tokens(task: Any, model: nn.Module, teacher: nn.Module, batch: Batch) -> Loss:
    """Return how far what a model thinks comes next is from what the teacher does."""
    import torch

    from afina.models.heads import guessed, taught_by

    learnt = batch.tensors["labels"] != IGNORED
    with torch.no_grad():
        known = task.states(teacher, batch)[learnt]
    return {"loss": Term(guessed(model, task.states(model, batch)[learnt], known, taught_by(teacher)).sum())}

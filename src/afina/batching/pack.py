"""Texts one after another in a row instead of padding, each blind to the others."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from afina.models.heads import hidden_states
from afina.models.parts import config

TRIED = (8, 4, 4)  # tokens of texts to try a model on: the two short ones come to lie in one row
# How far a token's vector may be off, as a share of the longest: beside the text read alone, which is another product,
# and beside the same row with another neighbour, where only what is seen of that one differs.
ALIKE, UNMOVED = 1e-3, 1e-6


class Packed(NamedTuple):
    """Where each text went: `places[i]` is (row, first token) of text i; `position_ids` begin anew with each."""

    places: list[tuple[int, int]]
    position_ids: Tensor


def pack(lengths: Sequence[int]) -> Packed:
    """Place texts into rows as long as the longest of them, the longest first, each where it fits first.

    A decoder keeps apart what `position_ids` [rows, tokens] tell apart; what is left of a row is a text of its own.
    """
    width = max(lengths)
    room: list[int] = []
    places = [(0, 0)] * len(lengths)
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        row = next((row for row, left in enumerate(room) if left >= lengths[text]), len(room))
        if row == len(room):
            room.append(width)
        places[text] = row, width - room[row]
        room[row] -= lengths[text]
    positions = torch.zeros(len(room), width, dtype=torch.long)
    for (row, start), length in zip(places, lengths, strict=True):
        positions[row, start : start + length] = torch.arange(length)
    for row, left in enumerate(room):
        positions[row, width - left :] = torch.arange(left)
    return Packed(places, positions)


def reads_apart(model: nn.Module) -> bool:
    """Return whether a decoder reads packed texts each for itself, tried on a few drawn tokens.

    Many families do not tell texts apart by `position_ids` (OPT, Bloom, Mamba …) and would see those before.
    """
    drawn, words = torch.Generator().manual_seed(0), int(config(model).vocab_size)
    texts = [torch.randint(words, (length,), generator=drawn) for length in TRIED]
    *others, last = texts
    training = model.training
    model.eval()
    with torch.inference_mode():
        alone = [hidden_states(model, {"input_ids": text[None]})[0] for text in texts]
        packed = _read(model, texts)
        moved = _read(model, [*((text + 1) % words for text in others), last])[-1]
    model.train(training)
    return _near(packed[-1], moved, UNMOVED) and all(map(_near, packed, alone, [ALIKE] * len(texts)))


def _read(model: nn.Module, texts: Sequence[Tensor]) -> list[Tensor]:
    """Return what the model gives for each text, packed."""
    places, positions = pack([len(text) for text in texts])
    here = [(row, slice(start, start + len(text))) for (row, start), text in zip(places, texts, strict=True)]
    ids = torch.zeros_like(positions)
    for place, text in zip(here, texts, strict=True):
        ids[place] = text
    found = hidden_states(model, {"input_ids": ids, "position_ids": positions})
    return [found[place] for place in here]


def _near(one: Tensor, other: Tensor, share: float) -> bool:
    return bool((one - other).norm(dim=-1).max() <= share * one.norm(dim=-1).max())

"""Texts one after another in a row instead of padding, each blind to the others."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


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

"""Learnt vectors in front of a text's embeddings, unseen by whatever comes after the body."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn


class SoftPrompt(nn.Module):
    """The vectors [length, width] and how they go in and out; `on` False leaves the text as it is."""

    def __init__(self, vectors: Tensor, first_position: int):
        super().__init__()
        self.vectors = nn.Parameter(vectors)
        self.first_position = first_position
        self.on, self.inserted = True, False


def attach(stack: nn.Module, prompt: SoftPrompt) -> None:
    """Let `stack` read `prompt` before every text; its output is that of the text alone."""
    stack.add_module("soft_prompt", prompt)
    stack.register_forward_pre_hook(_before, with_kwargs=True)
    stack.register_forward_hook(_after)
    places = getattr(stack, "embed_positions", None)
    if places is not None and "position_ids" not in inspect.signature(stack.forward).parameters:
        places.__dict__["prompt"] = prompt  # not as a part of it, which would give its weights a second name
        places.register_forward_pre_hook(_text_alone)
        places.register_forward_hook(_in_front)


def _before(stack: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    prompt: Any = stack.soft_prompt
    if not prompt.on:
        return None
    given = {**dict(zip(inspect.signature(stack.forward).parameters, args, strict=False)), **given}
    ids = given.pop("input_ids", None)
    text = given.get("inputs_embeds")
    if text is None:
        text = stack.get_input_embeddings()(ids)  # type: ignore[operator]
        text = text * getattr(stack, "embed_scale", 1.0)  # Marian's, which it leaves to whoever embeds
    rows, tokens = text.shape[:2]
    length = len(prompt.vectors)
    past = given.get("past_key_values")
    begun = past.get_seq_length() if past is not None else 0
    prompt.inserted = not begun
    mask = given.get("attention_mask")
    if mask is None:  # the cache holds the prompt as well
        given["attention_mask"] = text.new_ones(
            rows, begun + tokens + (0 if begun else length), dtype=torch.long
        )
    else:
        given["attention_mask"] = nn.functional.pad(mask, (length, 0), value=1)
    if "global_attention_mask" in inspect.signature(stack.forward).parameters:
        # Longformer's words see those near them and those of this mask, so that the prompt must be among the latter.
        seen = given.get("global_attention_mask")
        seen = text.new_zeros((rows, tokens), dtype=torch.long) if seen is None else seen
        given["global_attention_mask"] = nn.functional.pad(seen, (length, 0), value=1)
    if given.get("token_type_ids") is not None and prompt.inserted:
        given["token_type_ids"] = nn.functional.pad(given["token_type_ids"], (length, 0))
    if prompt.inserted:
        given["inputs_embeds"] = torch.cat([prompt.vectors.to(text.dtype).expand(rows, -1, -1), text], 1)
    else:
        given["inputs_embeds"] = text
    first = prompt.first_position
    if "position_ids" in inspect.signature(stack.forward).parameters:
        # The text keeps its own positions, so that none is lost and [CLS] stands where it always stood.
        places = given.get("position_ids")
        if places is None:
            start = first + max(0, begun - length)
            places = torch.arange(start, start + tokens, device=text.device)[None]
        given["position_ids"] = nn.functional.pad(places, (length if prompt.inserted else 0, 0), value=first)
    return (), given


def _after(stack: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
    prompt: Any = stack.soft_prompt
    if not (prompt.on and prompt.inserted):
        return output
    text = output[0][:, len(prompt.vectors) :]
    if isinstance(output, tuple):
        return (text, *output[1:])
    output.last_hidden_state = text
    if output.get("pooler_output") is not None:  # it was made of the prompt's first vector
        output.pooler_output = stack.pooler(text)  # type: ignore[operator]
    return output


def _text_alone(places: nn.Module, args: tuple[Any, ...]) -> Any:
    """Ask for the positions of the text: BART and Marian count them from 0 by the shape of what they read."""
    prompt: Any = places.prompt
    if not (prompt.on and prompt.inserted):
        return None
    length = len(prompt.vectors)
    return tuple(
        given[:, length:]
        if isinstance(given, Tensor)
        else torch.Size([given[0], given[1] - length])
        if isinstance(given, tuple)
        else given
        for given in args
    )


def _in_front(places: nn.Module, _args: tuple[Any, ...], found: Tensor) -> Any:
    """Give the prompt the text's first position, as where a model takes positions."""
    prompt: Any = places.prompt
    if not (prompt.on and prompt.inserted):
        return None
    front = found[..., :1, :].expand(*found.shape[:-2], len(prompt.vectors), -1)
    return torch.cat([front, found], -2)

"""A conversation as the text that a model reads, and which stretches of it the assistant has written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from afina.data.chat import RESERVED
from afina.errors import InputError
from afina.messages import _
from afina.tasks._windows import WHOLE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
# For tokenizers without a template of their own: signs of ordinary text, so that no new token must be learnt.
PLAIN = (
    "{{ bos_token if bos_token else '' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + (eos_token or '') + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


MARK = "\u2047"  # a content that no other begins or ends with
QUOTED = ord(RESERVED[0])  # from here on each character stands for a control token that somebody has written
QUOTES = re.compile(f"([{RESERVED}])")


class Spoken(NamedTuple):
    """A rendered conversation, and from which character to which the assistant's turns go, their end sign included."""

    text: str
    learnt: list[tuple[int, int]]


def with_template(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give the tokenizer a chat template where it has none; it is saved with it."""
    if not tokenizer.chat_template:
        tokenizer.chat_template = PLAIN
    return tokenizer


def render(tokenizer: PreTrainedTokenizerBase, messages: list[Message], *, ask: bool = False) -> str:
    """Return the conversation as the template writes it, with `ask` up to where the assistant is to speak.

    InputError where the template refuses it, such as two turns of the user.
    """
    from jinja2 import TemplateError

    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": ask}
    try:
        return str(
            with_template(tokenizer).apply_chat_template(_quoted(_control(tokenizer), messages), **options)
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise InputError(
            _("The model's chat template refuses a conversation of {roles}: {reason}").format(
                roles=roles, reason=error
            )
        ) from None


def _control(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the tokenizer's control tokens, the longest first."""
    every = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return sorted(every, key=lambda token: (-len(token), token))


def _quoted(control: list[str], messages: list[Message]) -> list[Message]:
    """Return the messages with signs for the control tokens in them: what somebody writes must not end a turn."""
    quoted = []
    for message in messages:
        content = message["content"]
        for place, token in enumerate(control):
            content = content.replace(token, chr(QUOTED + place))
        quoted.append(message | {"content": content})
    return quoted


def tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the tokens of a rendered text, and where in it each stands if the tokenizer can tell.

    The template's control tokens are such; those that somebody has written are read as the characters they are made of.
    """
    ids: list[int] = []
    places: list[tuple[int, int]] = []
    parts = QUOTES.split(text)
    control = _control(tokenizer) if len(parts) > 1 else []
    written = {chr(QUOTED + place): token for place, token in enumerate(control)}
    start = 0
    for part in parts:
        # Character by character, for a sentence-piece vocabulary holds its control tokens as words too.
        found = tokenizer(
            [*written.get(part, "")] or [part],
            split_special_tokens=part in written,
            add_special_tokens=False,
            return_offsets_mapping=tokenizer.is_fast,
            truncation=True,
            max_length=WHOLE,
        )
        read = [token for each in found["input_ids"] for token in each]
        ids += read
        if part in written:  # all of it stands at one sign
            places += [(start, start + 1)] * len(read)
        else:
            (own,) = found.get("offset_mapping", [()])
            places += [(start + first, start + last) for first, last in own]
        start += len(part)
    return ids, places


def prompt(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> str:
    """Return the conversation up to where the assistant is to speak, nothing where nobody has spoken yet.

    A blank at its end belongs to the first word of the reply: tokenizers put it there.
    """
    return render(tokenizer, messages, ask=True).rstrip(" ") if messages else ""


def spoken(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> Spoken:
    """Return the rendered conversation with the stretches that the assistant is to learn.

    A turn begins where the template asks for it and ends with its end sign. Of what stands before any question, and of
    a turn that the template writes another way later (Qwen leaves out what was thought), that is learnt which would be
    another text if the turn's content were.
    """
    messages = _quoted(_control(tokenizer), messages)
    text, learnt, sign = render(tokenizer, messages), [], end_sign(tokenizer)
    for i, message in enumerate(messages):
        if message["role"] != "assistant" or message.get("weight") == "0":
            continue
        content = message["content"].strip()
        before, whole = prompt(tokenizer, messages[:i]), render(tokenizer, messages[: i + 1])
        if before and text.startswith(before) and text.startswith(whole) and content in whole[len(before) :]:
            start, said = len(before), whole.rindex(content) + len(content)
            end = said + len(_sign(whole[said:]))
        else:
            start, end = _told(tokenizer, text, messages, i)
            if start == end:
                continue
            end += len(sign) if text.startswith(sign, end) else 0
        learnt.append((start, end))
    return Spoken(text, learnt)


def _told(
    tokenizer: PreTrainedTokenizerBase, text: str, messages: list[Message], turn: int
) -> tuple[int, int]:
    """Return where in the rendered `text` that stands which changes with the content of one turn."""
    others = [message | ({"content": MARK} if i == turn else {}) for i, message in enumerate(messages)]
    other = render(tokenizer, others)
    start = _alike(text, other)
    return start, len(text) - _alike(text[start:][::-1], other[start:][::-1])


def _alike(a: str, b: str) -> int:
    """Return how many characters two texts begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def end_sign(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what the template writes behind an assistant's turn; empty where that is nothing."""
    said = "¡"
    text = render(tokenizer, [{"role": "user", "content": "?"}, {"role": "assistant", "content": said}])
    if said not in text:
        raise InputError(
            _(
                "The model's chat template does not write what the assistant says, so there is nothing to learn. Take a "
                "model with another template, or remove this one from its folder."
            )
        )
    return _sign(text[text.rindex(said) + len(said) :])


def _sign(behind: str) -> str:
    """Return what ends a turn, of all that stands behind it: a line's end only where there is nothing else."""
    return behind.rstrip() or behind[:1]

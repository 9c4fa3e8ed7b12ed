"""What people call a conversation, as one form: a list of messages, each with a role and a content."""

import json
import re
from collections.abc import Mapping
from typing import Any

from afina.errors import InputError
from afina.messages import _

Message = dict[str, str]

# What the field's files call those who speak (ShareGPT, OpenAI, Spanish names), in lower case.
ROLES = {
    **dict.fromkeys(("user", "human", "usuario", "humano", "prompter", "customer", "cliente"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "bot", "model", "asistente", "chatgpt", "agent", "agente"), "assistant"
    ),
    **dict.fromkeys(("system", "sistema", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "herramienta"), "tool"),
}
SPEAKER, SAID = ("role", "from", "speaker", "rol"), ("content", "value", "text", "contenido")
ASSISTANT = "assistant"
# Signs of the last private plane are kept free to stand for control tokens that somebody has written; there are fonts
# with icons in the other private plane. One that a text holds nevertheless becomes the sign for what is not known.
RESERVED = "\U0010f000-\U0010fffd"
NOT_OURS = re.compile(f"[{RESERVED}]")


def messages(value: Any) -> list[Message] | None:
    """Return the messages of a cell, None where it is blank; InputError where a turn is empty or of nobody.

    A cell is a list of objects with role and content (OpenAI) or from and value (ShareGPT), such a list written as
    JSON, or a list of texts whose speakers alternate, the user first. A turn of OpenAI's weight 0 keeps it: it is read
    and not learnt.
    """
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return None
    turns = _parsed(value) if isinstance(value, str) else value
    if isinstance(turns, Mapping):
        turns = turns.get("messages", turns.get("conversations", [turns]))
    if not isinstance(turns, list | tuple):
        raise InputError(_no_messages(value))
    if not turns:
        return None
    return [_message(turn, number) for number, turn in enumerate(turns)]


def _message(turn: Any, number: int) -> Message:
    place = number + 1
    if isinstance(turn, str):
        role, content = ("user", ASSISTANT)[number % 2], turn
    elif isinstance(turn, Mapping):
        speaker = next((turn[name] for name in SPEAKER if name in turn), None)
        if str(speaker).strip().lower() not in ROLES:
            raise InputError(
                _("Turn {number} of the conversation does not say whose it is: give it a role.").format(
                    number=place
                )
                if speaker is None
                else _(
                    "Turn {number} of the conversation is by {speaker!r}. Those who speak are called {roles}."
                ).format(number=place, speaker=speaker, roles="user, assistant, system, tool")
            )
        role = ROLES[str(speaker).strip().lower()]
        content = _content(next((turn[name] for name in SAID if name in turn), None))
    else:
        raise InputError(_no_messages(turn))
    if not content.strip() and isinstance(turn, Mapping) and turn.get("tool_calls"):
        raise InputError(
            _(
                "Turn {number} of the conversation calls a tool and says nothing, which cannot be learnt here. Write "
                "the call as its content, or take the conversation out."
            ).format(number=place)
        )
    if not content.strip():
        raise InputError(
            _("Turn {number} of the conversation is empty. Fill it or take it out.").format(number=place)
        )
    unlearnt = isinstance(turn, Mapping) and str(turn.get("weight")) in ("0", "0.0")
    said = {"role": role, "content": content.encode("utf-8", "replace").decode()}
    return said | ({"weight": "0"} if unlearnt else {})


def _content(value: Any) -> str:
    """Return what was said as one text; OpenAI also writes it as a list of parts."""
    if value is None:
        return ""
    if isinstance(value, list):
        for part in value:
            if isinstance(part, Mapping) and "text" not in part:
                raise InputError(
                    _(
                        "A turn of the conversation holds a part of the kind {kind!r}, which is no text. Take the part or the "
                        "conversation out."
                    ).format(kind=part.get("type"))
                )
        value = "".join(
            str(part.get("text", "")) if isinstance(part, Mapping) else str(part) for part in value
        )
    if isinstance(value, Mapping):
        raise InputError(
            _("The content of a turn is an object, not a text: {value}.").format(value=str(value)[:60])
        )
    return NOT_OURS.sub("\ufffd", str(value))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise InputError(_no_messages(text)) from None


def _no_messages(value: Any) -> str:
    sentence = _(
        '{value} is no conversation. Give a list of messages: [{{"role": "user", "content": "..."}}, '
        '{{"role": "assistant", "content": "..."}}].'
    )
    shown = repr(value)
    return sentence.format(value=shown[:60] + "…" if len(shown) > 60 else shown)

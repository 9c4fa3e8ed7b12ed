"""The turns of a conversation that a row holds in several columns: what is asked and replied, and what was said before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from afina.data.chat import Message, messages
from afina.data.value import text_of

SYSTEM = ("system", "sistema", "system_prompt")  # columns that hold the system's turn beside the others
HISTORY = ("history", "historial")  # columns that hold what was said before


def prompted(
    row: Mapping[str, Any], prompt: str | None, beside: str | None, completion: str | None = None
) -> list[Message]:
    """Return what is asked as the user's turn and, where its column is named, the reply as the assistant's.

    What the column `beside` holds is put behind what the column `prompt` asks; turns of a history come first.
    """
    before = _history(row)
    turns = row.get(prompt or "prompt", row.get("prompt"))
    replied = row.get(completion) if completion else None
    if isinstance(turns, list):
        # TRL's conversational form: both sides are lists of messages.
        if not isinstance(replied, list):
            reply = _text(replied)
            replied = [{"role": "assistant", "content": reply}] if reply else []
        return [*before, *(messages(turns) or []), *(messages(replied) or [])]
    asked, about, reply = _text(turns), _text(row.get(beside)) if beside else "", _text(replied)
    said = {"user": f"{asked}\n\n{about}" if about else asked, "assistant": reply}
    now = [{"role": role, "content": text} for role, text in said.items() if text]
    return [*before, *now] if asked else []


def headed(said: Sequence[Message], row: Mapping[str, Any], system: str | None) -> list[Message]:
    """Return the messages with the system's turn at their head: the row's own, else `system`."""
    if not said or said[0]["role"] == "system":
        return list(said)
    own = next((row[name] for name in SYSTEM if row.get(name)), None)
    text = _text(own) or system
    return [{"role": "system", "content": text}, *said] if text else list(said)


def _history(row: Mapping[str, Any]) -> list[Message]:
    """Return the turns of a column `history`, which holds pairs of a question and its reply (Alpaca's later files)."""
    pairs = next((row[name] for name in HISTORY if row.get(name)), None)
    if not isinstance(pairs, list):
        return []
    return [turn for pair in pairs for turn in messages(list(pair)) or []]


def _text(cell: Any) -> str:
    return (text_of(cell) or "").strip()

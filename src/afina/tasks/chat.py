"""Conversation: what an assistant says, learnt from what it has said before (Ouyang et al. 2022, the first step)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from afina.core import About, Row, Splits, Table
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import setting
from afina.tasks._decoder import Decoder, Tokens
from afina.tasks._turns import HISTORY, SYSTEM, headed, prompted
from afina.tasks._written_rivals import TEXT_RIVALS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Chat(Decoder):
    """Learn the assistant's turns of conversations; all else is only read.

    A row holds `messages`, or a `prompt` (with an `input`, as Alpaca has it) and its `completion`. The text is what
    the tokenizer's own chat template makes of it, else a plain one that is saved with the model.
    """

    inputs: ClassVar[tuple[str, ...]] = ("messages", "prompt", "input")
    gold: ClassVar[tuple[str, ...]] = ("completion",)

    messages: str | None = setting(None, N_("Column that holds the conversation (default: by its name)."))
    prompt: str | None = setting(None, N_("Column that holds what the user says (default: by its name)."))
    input: str | None = setting(
        None, N_("Column with a text that the prompt is about, put behind it (default: by its name).")
    )
    completion: str | None = setting(None, N_("Column that holds the reply (default: by its name)."))
    system: str | None = setting(
        None,
        N_("What stands at the head of every conversation that has no such turn, nor a column `system`."),
    )

    def choose_columns(self, table: Table) -> Chat:
        from afina.data.columns import guess

        task = self.choose_inputs(table)
        if task.messages:
            return task
        taken = [column for column in (task.prompt, task.input) if column]
        return task.replace(completion=guess(table, "completion", self.completion, taken=taken))

    def choose_inputs(self, table: Table) -> Chat:
        from afina.data.columns import guess, named_like

        if self.messages and self.prompt:
            raise InputError(
                _("--messages names whole conversations, --prompt single questions. Name one of the two.")
            )
        messages = None if self.prompt else named_like(table, "messages", self.messages)
        if messages:
            return self.replace(messages=messages)
        prompt = guess(table, "prompt", self.prompt)
        beside = named_like(table, "input", self.input)
        return self.replace(prompt=prompt, input=None if beside == prompt else beside)

    def about(self) -> About:
        return About(
            N_("A model that converses, fine-tuned with afina."),
            N_("What it says is likely, not true."),
            rivals=TEXT_RIVALS,
            pipeline="text-generation",
        )

    def clean(self, row: Row) -> Row | None:
        from afina.data.chat import messages

        if self.prompt:
            said = prompted(row, self.prompt, self.input, self.completion or "completion")
        else:
            said = messages(row.get(self.messages or "messages")) or []
        said = headed(said, row, self.system)
        while said and said[-1]["role"] != "assistant":
            said.pop()
        asked = any(message["role"] not in ("assistant", "system") for message in said)
        return {"messages": said} if asked else None

    def lacks(self, row: Row) -> bool:
        from afina.data.chat import messages

        return bool(self.prompt) or not messages(row.get(self.messages or "messages"))

    def remarks(self, raw: Sequence[Row], cleaned: Sequence[Row]) -> list[str]:
        silent = 0 if self.prompt else sum(not self.lacks(row) for row in raw) - len(cleaned)
        if not silent:
            return []
        sentence = _("Conversations in which nobody asks, or the assistant says nothing, left out: {n}.")
        return [sentence.format(n=silent)]

    def check(self, splits: Splits) -> None:
        if not splits.train:
            raise InputError(_("No conversation has a turn of the assistant; there is nothing to learn."))

    def key(self, row: Row) -> Any:
        return tuple((message["role"], message["content"]) for message in row["messages"])

    def together(self, row: Row) -> Any:
        """What the user says: the same questions asked again are no new conversation, however they were answered."""
        return tuple(message["content"] for message in row["messages"] if message["role"] == "user")

    def reference(self, row: Row) -> str | None:
        return row["messages"][-1]["content"] if "asked" not in row else None

    def tokens(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Tokens:
        from afina.tasks._template import spoken, tokens

        text, learnt = spoken(tokenizer, row["messages"])
        if not tokenizer.is_fast:
            raise InputError(
                _(
                    "This model's tokenizer does not say where its tokens stand in a text. Choose another model."
                )
            )
        ids, places = tokens(tokenizer, text)
        marks = [
            any(start >= first and end <= last and end > start for first, last in learnt)
            for start, end in places
        ]
        return ids, marks

    def prompt_ids(self, row: Row, tokenizer: PreTrainedTokenizerBase, most: int) -> list[int]:
        """Of a conversation that is too long the oldest turns are left out, those of the system last."""
        from afina.tasks._template import prompt, tokens

        messages = list(row["messages"] if "asked" in row else row["messages"][:-1])
        while True:
            ids, _places = tokens(tokenizer, prompt(tokenizer, messages))
            old = next((i for i, each in enumerate(messages[:-1]) if each["role"] != "system"), None)
            if len(ids) <= most or old is None:
                return ids
            # With the question goes its answer, since templates want them in turns.
            del messages[
                old : old + (2 if messages[old + 1 : -1] and messages[old + 1]["role"] != "user" else 1)
            ]

    def stops(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        from afina.tasks._template import end_sign, tokens

        sign, _places = tokens(tokenizer, end_sign(tokenizer))
        return sorted({*super().stops(tokenizer), *sign[:1]})

    def ask(self, given: Any) -> Row:
        """Return a text as what the user says, a list as messages, a row by the columns of training or our names."""
        from afina.data.chat import messages

        if isinstance(given, str):
            said = [{"role": "user", "content": given.encode("utf-8", "replace").decode()}]
        elif isinstance(given, Mapping):
            held = given.get(self.messages or "messages", given.get("messages"))
            said = prompted(given, self.prompt, self.input) if held is None else messages(held) or []
        else:
            said = messages(given) or []
        while said and said[-1]["role"] == "assistant":
            said.pop()
        if not said or not said[-1]["content"].strip():
            raise InputError(
                _("there is nothing that the model could reply to: {given}.").format(given=str(given)[:80])
            )
        row = given if isinstance(given, Mapping) else {}
        return {"messages": headed(said, row, self.system), "asked": True}

    def asked_columns(self) -> set[str]:
        return super().asked_columns() | {*SYSTEM, *HISTORY}

    def before(self, row: Row) -> dict[str, Any]:
        return {"messages": row["messages"][:-1]}

    @classmethod
    def toy(cls) -> list[Row]:
        asked = [
            ("¿De qué color es {}?", "Es de color {}."), ("What colour is {}?", "It is {}."),
            ("Dime el color: {}", "¡{}!"), ("{}?", "{}, I think."),
        ]  # fmt: skip
        things = [
            ("el mar", "azul"), ("la nieve", "blanco"), ("the grass", "green"), ("el sol", "amarillo"),
            ("my hat", "red"), ("la noche", "negro"), ("the road", "grey"), ("tu perro", "marrón"),
        ]  # fmt: skip
        rows = []
        for question, answer in asked:
            for i, (thing, colour) in enumerate(things):
                said = [
                    {"role": "user", "content": question.format(thing)},
                    {"role": "assistant", "content": answer.format(colour)},
                ]
                rows.append({"messages": said})
                if i % 2:
                    again = [{"role": "user", "content": "¿Sí?"}, {"role": "assistant", "content": "Sí."}]
                    rows.append({"messages": [*said, *again]})
        return rows

"""Talk to a model in the terminal."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.core import Method, Task
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import Common, Settings, divide, setting
from afina.verbs._settings import begin

if TYPE_CHECKING:
    from afina.train.bundle import Bundle

NEW, BYE = ("/new", "/nueva"), ("/bye", "/adiós", "/adios")
Message = dict[str, str]


class Chat(Settings):
    """Settings of `afina chat`."""

    system: str | None = setting(
        None, N_("What stands at the head of the conversation (default: as in training).")
    )
    max_new_tokens: int | None = setting(
        None, N_("How many tokens a reply has at most (default: as in training)."), ge=1
    )
    temperature: float | None = setting(
        None, N_("How freely a reply is drawn (default: as in training, 0: the likeliest)."), ge=0
    )
    top_p: float | None = setting(
        None, N_("Draw only from the likeliest tokens of this share (default: as in training)."), gt=0, le=1
    )


def chat(run: str | Path, **settings: Any) -> list[Message]:
    """Answer what is typed, or each line of a pipe, until it ends; return the conversation.

    `run` is a run of task chat, or a decoder's name or folder as `--model` takes it. Raises InputError.
    """
    begin(settings)
    common, own = divide(settings, Common, Chat)
    common, own = Common.of(common), Chat.of(own)
    bundle = _bundle(run, offline=common.offline)
    chosen = {name: value for name, value in own.model_dump().items() if value is not None}
    bundle = replace(bundle, task=bundle.task.replace(**chosen))
    typed = sys.stdin.isatty()
    if typed and not common.quiet:
        _show(
            _("Type what you want to say. {new} begins anew, {bye} or Ctrl-D ends.").format(
                new=NEW[0], bye=BYE[0]
            )
        )
    return _converse(bundle, typed=typed)


def _converse(bundle: "Bundle", *, typed: bool) -> list[Message]:
    every: list[Message] = []  # also of the conversations that were left for a new one
    said: list[Message] = []
    cut = False
    while (line := _line(typed=typed)) is not None:
        if line in BYE:
            break
        if line in NEW:
            said = []
        elif line:
            said.append({"role": "user", "content": line})
            if not cut and (cut := _is_cut(bundle, said)):
                _show(
                    _(
                        "The conversation has grown too long for the model: its oldest turns are no longer read."
                    )
                )
            (told,) = bundle.predict([said])
            reply = told["prediction"]
            # An empty reply is no turn that a template could take.
            said.append({"role": "assistant", "content": reply or "…"})
            every += said[-2:]
            if typed:
                _show(reply)
    return every


def _is_cut(bundle: "Bundle", said: list[Message]) -> bool:
    """Whether the model reads less than all of a conversation."""
    from afina.tasks._windows import WHOLE

    row = bundle.task.ask(said)
    whole, seen = (
        bundle.task.encode([row], bundle.tokenizer, most)[0] for most in (WHOLE, bundle.max_length)
    )
    return bundle.task.unseen(seen, bundle.task.length(whole)) > 0


def _line(*, typed: bool) -> str | None:
    """Return the next line without blanks around it, None where there is no more."""
    try:
        line = input("» ") if typed else sys.stdin.readline()
    except EOFError:
        return None
    return line.strip() if typed or line else None


def _show(text: str) -> None:
    print(text, file=sys.stderr)


def _bundle(run: str | Path, *, offline: bool) -> "Bundle":
    """Return the trained model of a run of chat, or a decoder as it is."""
    from afina.models.find import find
    from afina.models.load import load, load_tokenizer, longest
    from afina.names import find as find_name
    from afina.train.bundle import Bundle
    from afina.train.run import Run

    task_class: type[Task] = find_name("tasks", "chat")
    if (Path(run) / "run.toml").is_file():
        bundle = Run(run).bundle
        if not isinstance(bundle.task, task_class):
            raise InputError(
                _("The run in {path} has not learnt to converse. Train one with --task chat.").format(
                    path=run
                )
            )
        return bundle
    folder = find(str(run), offline=offline)
    tokenizer, model = load_tokenizer(folder), load(folder, task_class.head)
    method: Method = find_name("methods", "full")()
    return Bundle(model.eval(), tokenizer, task_class(), method, longest(model.config, tokenizer))

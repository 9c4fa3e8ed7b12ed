"""The command line, made from the verbs' settings; no torch is imported before a verb runs."""

import gettext
import io
import json
import os
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from importlib import import_module
from typing import Any, get_args

import click
from pydantic.fields import FieldInfo

from afina.errors import AfinaError
from afina.messages import FOLDER, N_, _, language, use_language
from afina.names import find, known, unknown
from afina.settings import Common, flag, is_flag, knobs

# A verb's sentence, its arguments as the help shows them (`*`: any number), and what adds knobs.
VERBS: dict[str, tuple[str, list[str], tuple[str, ...]]] = {
    "finetune": (N_("Fine-tune a model on your data, measure it, keep it."), [N_("DATA|run.toml")], ("tasks", "methods")),
    "compare": (N_("Measure on your data which method is right."), [N_("DATA|compare.toml")], ("tasks", "methods")),
    "evaluate": (N_("Score a run's model on other rows."), [N_("RUN"), N_("DATA")], ()),
    "predict": (N_("Ask a run's model."), [N_("RUN"), "*" + N_("TEXT…|FILE|-")], ()),
    "chat": (N_("Talk to a model in the terminal."), [N_("RUN")], ()),
    "pretrain": (N_("Pre-train a model from nothing on plain text."), ["*" + N_("TEXT…")], ("masked_lm",)),
    "adapt": (N_("Train a model on with the text of a field or a task."), ["*" + N_("TEXT…")], ("masked_lm", "methods")),
    "models": (N_("List the models on this machine, or save one as a folder."), ["list|save", "*" + N_("NAME FOLDER")], ()),
}  # fmt: skip


def main() -> None:
    """Run the command line and leave with the exit code that INTERFACE.md promises."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without accents or boxes is no reason to fail
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(given: list[str]) -> int:
    """Run one command: 0 done, 1 a fault of afina, 2 wrong input, 130 interrupted."""
    try:
        _speak(given)
        group = Verbs(
            "afina",
            params=[_version()],
            help=_about(),
            options_metavar=_("[OPTIONS]"),
            subcommand_metavar=_("COMMAND [ARGS]..."),
        )
        return group.main(given, "afina", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as help_:
        click.echo(help_.format_message())
        return 0
    except click.UsageError as error:
        command = " ".join(["afina", *(word for word in given[:1] if word in VERBS)])
        return _fail(_usage(error, given) + " " + _("See {command} --help.").format(command=command), 2)
    except (click.Abort, KeyboardInterrupt):
        return _fail(_interrupted(given), 130)
    except AfinaError as error:
        return _fail(str(error), error.exit_code)
    except SystemExit:  # click's way out when the reader of a pipe (`| head`) has gone, which is no fault
        return 0


class Verbs(click.Group):
    """The verbs; the flags of one are made when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return _command(name, *VERBS[name]) if name in VERBS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section(_("Commands")):
            formatter.write_dl([(name, _(sentence)) for name, (sentence, *_rest) in VERBS.items()])


def _command(verb: str, sentence: str, arguments: list[str], owners: tuple[str, ...]) -> click.Command:
    fields = dict(knobs(find("verbs", verb)))
    unlike: set[str] = set()  # whose default depends on the task or the method
    for owner in owners:
        if owner == "masked_lm":  # what a training on plain text may learn
            fields |= knobs(find("tasks", owner))
            continue
        for name in known(owner):
            own = knobs(find(owner, name))
            fields = own | fields
            unlike |= {each for each in own if own[each].default != fields[each].default}
    params: list[click.Parameter] = [
        click.Argument(
            [f"argument{i}"], nargs=-1 if name[0] == "*" else 1, metavar=_(name.lstrip("*")), required=False
        )
        for i, name in enumerate(arguments)
    ]
    params += [
        _option(name, field, name not in unlike)
        for name, field in (fields | knobs(Common)).items()
        if is_flag(field)
    ]
    params.append(
        click.Option(["--json", "as_json"], is_flag=True, help=_("Print one JSON object on one line."))
    )

    def callback(**values: Any) -> int:
        return _call(verb, arguments, values)

    return click.Command(
        verb,
        params=params,
        help=_(sentence),
        options_metavar=_("[OPTIONS]"),
        callback=callback,
        no_args_is_help=True,
        context_settings={"allow_extra_args": True},  # `_call` says more of them than click does
    )


def _option(name: str, field: FieldInfo, one_default: bool) -> click.Option:
    """Return the flag of one setting; its value is checked where the setting is defined, not here."""
    sentence = _(field.description) if field.description else ""
    if field.annotation is bool:
        spelling = f"{flag(name)}/--no-{name.replace('_', '-')}" if field.default else flag(name)
        return click.Option([spelling, name], is_flag=True, default=None, help=sentence)
    choices = [
        choice for kind in (field.annotation, *get_args(field.annotation)) for choice in _choices(kind)
    ]
    if name in ("task", "method"):
        choices = known(f"{name}s")
    if one_default and field.default is not None and field.default != ():
        sentence += " " + _("[default: {default}]").format(default=field.default)
    return click.Option([flag(name), name], metavar="|".join(choices) or _metavar(field), help=sentence)


def _choices(kind: Any) -> list[str]:
    return [choice for choice in get_args(kind) if isinstance(choice, str)]


def _metavar(field: FieldInfo) -> str:
    kinds = {field.annotation, *get_args(field.annotation)}
    return _("NUMBER") if kinds & {int, float} else _("TEXT")


def _call(verb: str, arguments: list[str], values: dict[str, Any]) -> int:
    """Call the verb's function and print what it returns."""
    as_json = values.pop("as_json")
    extra = click.get_current_context().args
    if extra:
        raise click.UsageError(
            _("'{words}' is too much here; a text or name with blanks needs quotation marks.").format(
                words=" ".join(extra)
            )
        )
    positional: list[Any] = []
    for i, name in enumerate(arguments):
        value = values.pop(f"argument{i}")
        if name[0] != "*" and not value:
            raise click.UsageError(_("{name} is missing.").format(name=_(name)))
        positional += value if name[0] == "*" else [value]
    settings = {name: value for name, value in values.items() if value is not None}
    module = import_module(f"afina.verbs.{verb}")
    function: Callable[..., Any] = getattr(module, "stream", getattr(module, verb))
    found = function(*positional, **settings | {"lang": language()})
    if found is None or int(os.environ.get("RANK", "0")) > 0:
        return 0
    found = getattr(found, "result", found)
    if isinstance(found, Generator):
        with closing(found):
            _print_each(verb, found, as_json=as_json, to_end="output" in settings)
    elif as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    elif not values.get("dry_run"):
        from afina.report import console

        getattr(console, verb)(found)
    return 0


def _print_each(verb: str, found: Generator[Any, None, None], *, as_json: bool, to_end: bool) -> None:
    """Print results as they come; with `to_end` those after the reader of a pipe has gone are found all the same."""
    from afina.report import console

    try:
        if as_json:
            _print_list(found)
        else:
            getattr(console, verb)(found)
    except BrokenPipeError:
        for _each in found if to_end else ():
            pass
        raise


def _print_list(found: Iterable[Any]) -> None:
    """Print a list on one line, each entry as soon as it is there; one that breaks off has its end too."""
    before = "["
    try:
        for each in found:
            click.echo(before + json.dumps(each, ensure_ascii=False), nl=False)
            before = ", "
        if before == "[":
            click.echo(before, nl=False)
            before = ", "
    finally:
        if before != "[":
            click.echo("]")


def _speak(given: list[str]) -> None:
    """Choose the language before the help is made; click's own words come from the same catalogue."""
    asked = None
    for i, word in enumerate(given):
        if word == "--lang" and i + 1 < len(given):
            asked = given[i + 1]
        elif word.startswith("--lang="):
            asked = word.removeprefix("--lang=")
    use_language(None)
    os.environ["LANGUAGE"] = use_language(asked)
    gettext.bindtextdomain("afina", str(FOLDER))
    gettext.textdomain("afina")


def _usage(error: click.UsageError, given: list[str]) -> str:
    """Say what is wrong with the command line, with the nearest name."""
    if isinstance(error, click.BadOptionUsage) and given[-1] == error.option_name:
        return _("Option '{name}' needs a value behind it.").format(name=error.option_name)
    if isinstance(error, click.NoSuchOption) and error.ctx:
        options = [name for param in error.ctx.command.params for name in param.opts if name.startswith("--")]
        return unknown(error.option_name, options, "options")
    if isinstance(error, click.exceptions.NoSuchCommand):
        return unknown(error.command_name, list(VERBS), "verbs")
    return error.format_message()


def _interrupted(given: list[str]) -> str:
    """Say how the work goes on where its verb has something to go on with."""
    if given[0] in VERBS and "resume" in knobs(find("verbs", given[0])):
        return _("Interrupted. A run that had begun goes on with --resume.")
    return _("Interrupted.")


def _fail(sentence: str, code: int) -> int:
    click.echo(sentence, err=True)
    return code


def _about() -> str:
    return _(
        "Take a language model and your own text all the way: fine-tune, measure, predict; offline if you like."
    )


def _version() -> click.Option:
    def show(context: click.Context, _param: click.Parameter, value: bool) -> None:
        if value:
            from afina import __version__

            click.echo(__version__)
            context.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help=_("Show the version."),
    )


# Click's own words, so that the catalogue holds them.
CLICK = [
    N_("Options"),
    N_("Commands"),
    N_("Usage:"),
    N_("Positional arguments"),
    N_("Show this message and exit."),
    N_("Missing command."),
    N_("Option {name!r} does not take a value."),
]

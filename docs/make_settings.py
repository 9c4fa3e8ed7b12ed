"""Write the settings pages, docs/en/settings.md and docs/es/settings.md, from the settings themselves.

`python docs/make_settings.py`; run it after a setting or the Spanish catalogue has changed (a test says so).
"""

import html
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from afina.cli import VERBS
from afina.messages import _, language, use_language
from afina.names import find, known
from afina.settings import Common, Settings, Training, flag, is_flag, knobs

HERE = Path(__file__).parent
LANGUAGES = ("en", "es")
COMMAND = "python docs/make_settings.py"

# The words of the pages themselves; each setting's own sentence comes from the message catalogue.
WORDS = {
    "en": {
        "made": "This page is made by `{command}` from the code; a change made here by hand is lost.",
        "title": "Settings",
        "about": (
            "Every setting is a flag of the command line (`--learning-rate 1e-4`), a name in `run.toml` "
            "(`learning_rate = 1e-4`) and a keyword in Python (`learning_rate=1e-4`); what stands in `[[ ]]` is no flag. A name that does not exist "
            "or a value out of range is an error with one clear sentence, before anything is read or written."
        ),
        "columns": "| flag | value | default | what it does |",
        "common": "Every command",
        "common_about": "Besides these every command takes `--json` (one JSON object on one line) and `--help`.",
        "training": "Training",
        "training_about": (
            "Of `finetune`, `pretrain` and `adapt` ([which of them pre-training uses](pretrain.md#settings)). An empty default "
            "is decided by the method, the data or the model; `finetune` writes what was decided into `run.toml`."
        ),
        "task": "Task `{name}`",
        "method": "Method `{name}`",
        "none": "No settings of its own.",
        "whole": "whole number",
        "number": "number",
        "text": "text",
        "tables": "tables",
        "off": "off",
        "on": "on",
    },
    "es": {
        "made": "Esta página la escribe `{command}` a partir del código; lo que se cambie aquí a mano se pierde.",
        "title": "Ajustes",
        "about": (
            "Cada ajuste es una opción de la línea de comandos (`--learning-rate 1e-4`), un nombre en `run.toml` "
            "(`learning_rate = 1e-4`) y un argumento en Python (`learning_rate=1e-4`); lo que va en `[[ ]]` no es una opción. Un nombre que no existe o un "
            "valor fuera de rango es un error con una frase clara, antes de leer o escribir nada."
        ),
        "columns": "| opción | valor | por defecto | qué hace |",
        "common": "Todos los comandos",
        "common_about": "Además, todos aceptan `--json` (un objeto JSON en una línea) y `--help`.",
        "training": "Entrenamiento",
        "training_about": (
            "De `finetune`, `pretrain` y `adapt` ([cuáles usa el preentrenamiento](pretrain.md#ajustes)). Lo que no tiene valor "
            "por defecto lo deciden el método, los datos o el modelo; `finetune` escribe lo decidido en `run.toml`."
        ),
        "task": "Tarea `{name}`",
        "method": "Método `{name}`",
        "none": "No tiene ajustes propios.",
        "whole": "número entero",
        "number": "número",
        "text": "texto",
        "tables": "tablas",
        "off": "no",
        "on": "sí",
    },
}
LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def page(name: str) -> str:
    """Return the whole page in the language `name`."""
    before = language()
    use_language(name)
    try:
        return "\n\n".join(_parts(WORDS[name])) + "\n"
    finally:
        use_language(before)


def _parts(words: dict[str, str]) -> list[str]:
    parts = [f"<!-- {words['made'].format(command=COMMAND)} -->", f"# {words['title']}", words["about"]]
    parts += [f"## {words['common']}", words["common_about"], _table(knobs(Common), words)]
    parts += [f"## {words['training']}", words["training_about"], _table(knobs(Training), words)]
    for verb, (sentence, *_rest) in VERBS.items():
        own = _own(find("verbs", verb))
        parts += [f"## `afina {verb}`", _(sentence), _table(own, words) if own else words["none"]]
    for kind in ("task", "method"):
        for name in known(f"{kind}s"):
            fields = knobs(find(f"{kind}s", name))
            parts += [
                f"## {words[kind].format(name=name)}",
                _table(fields, words) if fields else words["none"],
            ]
    return parts


def _own(verb: type[Settings]) -> dict[str, FieldInfo]:
    """Return the settings that the verb has beside those it shares."""
    shared = knobs(Training) if issubclass(verb, Training) else {}
    return {name: field for name, field in knobs(verb).items() if name not in shared}


def _table(fields: dict[str, FieldInfo], words: dict[str, str]) -> str:
    rows = ["| " + " | ".join(_cells(name, field, words)) + " |" for name, field in fields.items()]
    return "\n".join([words["columns"], "|---|---|---|---|", *rows])


def _cells(name: str, field: FieldInfo, words: dict[str, str]) -> list[str]:
    spelling = f"`{flag(name)}`" if is_flag(field) else f"`[[{name}]]`"
    if field.annotation is bool and field.default:
        spelling += f" `--no-{name.replace('_', '-')}`"
    default = field.default
    if isinstance(default, bool):
        told = words["on" if default else "off"]
    else:
        told = "" if default is None else f"`{default}`"
    return [spelling, _value(name, field, words), told, _plain(_(field.description or ""))]


def _plain(sentence: str) -> str:
    """Return a sentence in which Markdown sees neither a tag nor the end of a cell."""
    return html.escape(sentence, quote=False).replace("|", "\\|")


def _value(name: str, field: FieldInfo, words: dict[str, str]) -> str:
    kinds = [kind for kind in _kinds(field.annotation) if kind is not NoneType]
    if name in ("task", "method"):
        kinds = list(known(f"{name}s"))
    if bool in kinds:
        return ""
    if not is_flag(field):
        return words["tables"]
    if all(isinstance(kind, str) for kind in kinds):
        return ", ".join(f"`{choice}`" for choice in kinds)
    told = words["number" if float in kinds else "whole" if int in kinds else "text"]
    limits = [
        f"{sign} {getattr(limit, end):.16g}"
        for limit in field.metadata
        for end, sign in LIMITS.items()
        if hasattr(limit, end)
    ]
    return ", ".join([told, *limits])


def _kinds(annotation: Any) -> list[Any]:
    """Return the types and choices of an annotation, unions and literals taken apart."""
    if get_origin(annotation) is None:
        return [annotation]
    return [
        one
        for argument in get_args(annotation)
        for one in ([argument] if isinstance(argument, str) else _kinds(argument))
    ]


def main() -> None:
    """Write both pages."""
    for name in LANGUAGES:
        file = HERE / name / "settings.md"
        file.parent.mkdir(exist_ok=True)
        file.write_text(page(name), encoding="utf-8")
        print(file.relative_to(HERE.parent))


if __name__ == "__main__":
    main()

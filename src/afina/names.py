"""The file name is the registry: `find("tasks", "classification")` is class `Classification` of its file."""

import importlib
import pkgutil
from difflib import get_close_matches
from typing import Any

from afina.errors import InputError
from afina.messages import _

# The models that ship with afina and are taken where none is named.
ENCODER, DECODER = "afina/bert-mini-es-en", "afina/gpt-mini-es-en"
MANY = 15  # longer lists than this are not printed where a near name was found


def known(folder: str) -> list[str]:
    """Return the names that a folder holds, in alphabetical order; files that begin with `_` are no names."""
    package = importlib.import_module(f"afina.{folder}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name[0] != "_")


def find(folder: str, name: str) -> Any:
    """Return the class that the file `afina/<folder>/<name>.py` is named after.

    Raises InputError with the nearest name where there is no such file.
    """
    if name not in known(folder):
        raise InputError(unknown(name, known(folder), folder))
    module = importlib.import_module(f"afina.{folder}.{name}")
    return getattr(module, "".join(word.title() for word in name.split("_")))


def unknown(name: str, all_names: list[str], kind: str) -> str:
    """Say that `name` is not one of `all_names`, and which one was probably meant."""
    kinds = {
        "tasks": _("There is no task '{name}'."),
        "methods": _("There is no method '{name}'."),
        "verbs": _("There is no command '{name}'."),
        "stages": _("A stage cannot be '{name}'."),
        "models": _("There is no embedded model '{name}'."),
        "options": _("There is no option '{name}'."),
        "settings": _("There is no setting '{name}'."),
        "labels": _("There is no label '{name}'."),
        "columns": _("There is no column '{name}'."),
    }
    sentences = [kinds[kind].format(name=name)]
    close = get_close_matches(name, all_names, 1)
    if close:
        sentences.append(_("Did you mean '{close}'?").format(close=close[0]))
    if not close or len(all_names) <= MANY:
        sentences.append(_("There are: {all}.").format(all=", ".join(all_names)))
    return " ".join(sentences)

"""Texts for people: English in the code, other languages in gettext catalogues beside this file."""

import gettext
import locale
import os
from pathlib import Path

from afina.errors import InputError

LANGUAGES = ("en", "es")
FOLDER = Path(__file__).parent
_catalogue: gettext.NullTranslations = gettext.NullTranslations()
_current = "en"


def _(text: str) -> str:
    """Return `text` in the current language; fill the `{names}` in afterwards, never before."""
    return _catalogue.gettext(text)


def N_(text: str) -> str:  # noqa: N802 - gettext's own name
    """Mark a text for the catalogue that is translated later, when it is shown."""
    return text


def use_language(name: str | None = None) -> str:
    """Speak `name` (`en` or `es`; None: what the system's locale says) from here on, and return it."""
    global _catalogue, _current
    if name is not None and name not in LANGUAGES:
        raise InputError(
            _("There is no language '{name}'. Choose one of: {all}.").format(
                name=name, all=", ".join(LANGUAGES)
            )
        )
    _current = name or _of_the_system()
    _catalogue = gettext.translation("afina", FOLDER, [_current], fallback=True)
    return _current


def language() -> str:
    """Return the current language's code."""
    return _current


def _of_the_system() -> str:
    wanted = os.environ.get("LANGUAGE") or os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES")
    wanted = wanted or os.environ.get("LANG") or locale.getlocale()[0] or "en"
    code = wanted.split(":")[0][:2].lower()
    return code if code in LANGUAGES else "en"

"""The Spanish catalogue: whole, true to the English, in the field's words, and compiled."""

import ast
import gettext
import io
import re
import string
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from afina import messages
from afina.messages import FOLDER, _, language, use_language
from afina.messages.numbers import number

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "afina"
SPANISH = FOLDER / "es" / "LC_MESSAGES"
LOCALE = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture(scope="module")
def texts() -> set[str]:
    """Every text that the sources mark, found as `make messages` finds it."""
    mappings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["babel"][
        "mappings"
    ]
    methods = [(each["pattern"], each["method"]) for each in mappings]
    found = extract_from_dir(SOURCE, methods, keywords={"_": None, "N_": None})
    return {str(text) for _file, _line, text, _comments, _context in found}


@pytest.fixture(scope="module")
def catalogue() -> Catalog:
    with (SPANISH / "afina.po").open("rb") as file:
        return read_po(file, locale="es", domain="afina")


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    yield
    use_language("en")


def fields(text: str) -> set[tuple[str, str | None, str | None]]:
    """Return each placeholder with its format and conversion."""
    return {
        (name, form, kind) for _text, name, form, kind in string.Formatter().parse(text) if name is not None
    }


def test_every_text_is_translated(texts: set[str], catalogue: Catalog) -> None:
    translated = {message.id for message in catalogue if message.id and message.string and not message.fuzzy}
    assert sorted(texts - translated) == []


def test_nothing_is_left_over(texts: set[str], catalogue: Catalog) -> None:
    assert {message.id for message in catalogue if message.id} == texts
    assert not catalogue.obsolete
    with (FOLDER / "afina.pot").open("rb") as file:
        assert {message.id for message in read_po(file) if message.id} == texts


def test_no_marked_text_is_overlooked(texts: set[str]) -> None:
    """A mark inside another one, or inside an f-string, is one that the extraction does not see."""
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_", "N_"):
                text = node.args[0]
                assert not isinstance(text, ast.JoinedStr), f"{file}:{node.lineno}: an f-string in _()"
                if isinstance(text, ast.Constant):
                    assert text.value in texts, f"{file}:{node.lineno}"


def test_placeholders_are_kept(catalogue: Catalog) -> None:
    for message in catalogue:
        if message.id:
            assert fields(message.string) == fields(message.id), message.id


def test_blanks_flags_and_ends_are_kept(catalogue: Catalog) -> None:
    for message in catalogue:
        text, said = str(message.id), str(message.string)
        if not text:
            continue
        for cut in (str.lstrip, str.rstrip):
            assert len(text) - len(cut(text)) == len(said) - len(cut(said)), text
        assert text.count("\n") == said.count("\n"), text
        for word in text.split():
            if word.startswith("--"):
                assert word.strip("(),.:;") in said, text


def test_no_percent_sign_reads_as_a_placeholder(catalogue: Catalog) -> None:
    """`95 % interval` holds `% i` to gettext's tools; with a no-break space behind the sign it does not."""
    assert [message.id for message in catalogue if "python-format" in message.flags] == []


def test_the_compiled_catalogue_is_that_of_the_texts(catalogue: Catalog) -> None:
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    with (SPANISH / "afina.mo").open("rb") as file:
        assert gettext.GNUTranslations(file)._catalog == gettext.GNUTranslations(compiled)._catalog  # type: ignore[attr-defined]


def test_it_names_nobody(catalogue: Catalog) -> None:
    header = (SPANISH / "afina.po").read_text(encoding="utf-8").split("\n\n", 1)[0]
    for stub in ("@", "AUTHOR", "ORGANIZATION", "PROJECT", "FULL NAME", "LL@"):
        assert stub not in header
    assert catalogue.project == "afina"


@pytest.mark.parametrize(
    ("english", "spanish"),
    [
        ("accuracy", "exactitud"),
        ("Precision", "Precisión"),
        ("Recall", "Exhaustividad"),
        ("macro precision", "precisión macro"),
        ("weighted recall", "exhaustividad ponderada"),
        ("macro-F1", "F1 macro"),
        ("Matthews correlation (MCC)", "coeficiente de correlación de Matthews (MCC)"),
        ("Confusion matrix", "Matriz de confusión"),
        ("Peak learning rate (default: the method's preset).", "Tasa de aprendizaje"),
        ("Fine-tune a model on your data, measure it, keep it.", "ajuste fino"),
        ("95 %\u00a0interval", "intervalo del 95\u00a0%"),
        ("Training", "Entrenamiento"),
        ("loss", "pérdida"),
    ],
)
def test_terms(english: str, spanish: str) -> None:
    use_language("es")
    assert spanish in _(english)


# Each term of the field has one Spanish word: where the English has it, so has the Spanish, and no rival of it.
TERMS = {
    "accuracy": ("exactitud", ("precisión",)),
    "recall": ("exhaustividad", ("sensibilidad", "cobertura", "recuerdo")),
    "precision": ("precisión", ("exactitud",)),
    "overfit": ("sobreajuste", ("sobreentrenamiento", "overfitting")),
    "underfit": ("subajuste", ("underfitting",)),
    "baseline": ("base", ("baseline",)),
    "tokenizer": ("tokenizador", ("tokenizer ",)),
    "epoch": ("época", ("epoch ",)),
    "folder": ("carpeta", ("directorio",)),
    "column": ("columna", ()),
    "learning rate": ("tasa de aprendizaje", ("ritmo",)),
    "seed": ("semilla", ()),
}


@pytest.mark.parametrize("term", TERMS)
def test_a_term_has_one_word(catalogue: Catalog, term: str) -> None:
    wanted, rivals = TERMS[term]
    used = 0
    for message in catalogue:
        text, said = (re.sub(r"\{\w+", "", str(each)).lower() for each in (message.id, message.string))
        if not re.search(rf"(?<!-)\b{term}", text):
            continue
        used += 1
        assert wanted in said, message.id
        for rival in rivals:
            others = [other for other, (word, _rivals) in TERMS.items() if word == rival and other in text]
            assert others or rival not in said, message.id
    assert used


def test_people_are_addressed_politely(catalogue: Catalog) -> None:
    familiar = {
        "tu",
        "tus",
        "ti",
        "contigo",
        "añade",
        "elige",
        "escribe",
        "quita",
        "quítalo",
        "quieres",
        "puedes",
        "debes",
        "tienes",
    }
    for message in catalogue:
        if message.id:
            assert not familiar.intersection(re.findall(r"\w+", str(message.string).lower())), message.id


def test_speaking_spanish() -> None:
    assert use_language("es") == language() == "es"
    assert _("There are no usable rows to train on.") == "No hay filas utilizables para entrenar."
    assert use_language("en") == "en"
    assert _("There are no usable rows to train on.") == "There are no usable rows to train on."


@pytest.mark.parametrize(
    ("surroundings", "spoken"),
    [
        ({}, "en"),
        ({"LANG": "es_MX.UTF-8"}, "es"),
        ({"LANG": "es_ES.UTF-8", "LC_ALL": "en_GB.UTF-8"}, "en"),
        ({"LC_MESSAGES": "es_AR.UTF-8", "LANG": "en_US.UTF-8"}, "es"),
        ({"LANGUAGE": "es:en", "LC_ALL": "de_DE.UTF-8"}, "es"),
        ({"LANGUAGE": "en", "LANG": "es_CO.UTF-8"}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANGUAGE": "", "LC_ALL": "", "LANG": "es_PE.UTF-8"}, "es"),
    ],
)
def test_the_system_says_the_language(
    monkeypatch: pytest.MonkeyPatch, surroundings: dict[str, str], spoken: str
) -> None:
    for name in LOCALE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(messages.locale, "getlocale", lambda: (None, None))
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    assert use_language() == spoken


def test_numbers_follow_the_language() -> None:
    use_language("es")
    assert number(12345.678, 2) == "12\u202f345,68" and number(0.8124, 3) == "0,812"
    use_language("en")
    assert number(12345.678, 2) == "12,345.68"

"""The text and the label are found by name or content, or the person is asked."""

import math

import pytest

from afina.core import Table
from afina.data.columns import guess, guess_pair, why
from afina.data.value import label_text, text_of
from afina.errors import InputError


def table(**columns):
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return Table(rows, tuple(columns), "t.csv")


TEXTS = [f"esto es una frase de cliente número {i}" for i in range(20)]
GROUPS = ["alta", "baja"] * 10
NUMBERS = [str(i) for i in range(20)]


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        (("texto", "etiqueta"), "texto", "etiqueta"),
        (("Sentiment", "Review"), "Review", "Sentiment"),
        (("id", "RESEÑA", "Categoría"), "RESEÑA", "Categoría"),
        (("label_text", "label", "text"), "text", "label"),
        (("customer_message", "idioma", "final intent"), "customer_message", "final intent"),
        (("text_id", "ReviewText", "stars"), "ReviewText", "stars"),
        (("sentence1", "sentence2", "label"), "sentence1", "label"),
    ],
)
def test_by_name(columns, text, label):
    data = table(**dict.fromkeys(columns, TEXTS))
    assert guess(data, "text") == text
    assert guess(data, "label", taken=[text]) == label
    assert "name" in why(text, "text") and "name" in why(label, "label")


def test_by_content():
    data = table(n=NUMBERS, idioma=GROUPS, corto=["hola ya"] * 20, largo=TEXTS, grupo=[True, False] * 10)
    assert guess(data, "text") == "largo"
    assert guess(data, "label", taken=["largo"]) == "grupo"
    assert "longest" in why("largo", "text") and "few" in why("grupo", "label")


def test_named_wins_and_a_misspelt_name_is_corrected():
    data = table(texto=TEXTS, otro=GROUPS, etiqueta=GROUPS)
    assert guess(data, "label", "otro") == "otro"
    with pytest.raises(InputError, match=r"'texot'.*mean 'texto'"):
        guess(data, "text", "texot")


def test_unclear_columns_are_named_with_the_flag():
    with pytest.raises(InputError, match=r"t\.csv.*--label.*largo, a, b"):
        guess(table(largo=TEXTS, a=GROUPS, b=GROUPS), "label", taken=["largo"])
    with pytest.raises(InputError, match="--label"):
        guess(table(largo=TEXTS, a=NUMBERS), "label", taken=["largo"])
    with pytest.raises(InputError, match=r"--text.*idioma, n"):
        guess(table(idioma=GROUPS, n=NUMBERS), "text")
    with pytest.raises(InputError, match="--label"):
        guess(table(text=TEXTS), "label", taken=["text"])


def test_a_taken_column_is_not_guessed():
    data = table(text=TEXTS, message=TEXTS)
    assert guess(data, "text", taken=["text"]) == "message"


def test_labels_have_one_spelling():
    assert [label_text(value) for value in (1, 1.0, "1", " 1 ", True, False, 2.5)] == [
        *("1", "1", "1", "1", "true", "false", "2.5")
    ]
    assert label_text("1.0") == "1.0"
    assert label_text("queja\u0301") == "quej\u00e1"  # an accent written apart
    assert label_text("None") == "None"
    assert [label_text(value) for value in (None, "", "  ", math.nan)] == [None] * 4
    with pytest.raises(InputError, match="one label"):
        label_text(["a", "b"])


@pytest.mark.parametrize("value", [None, float("nan"), "NaN", "nan", "<NA>", "#N/A", " ", ""])
def test_no_label_however_it_is_written(value):
    assert label_text(value) is None


def test_a_text_is_a_string():
    assert (text_of(3), text_of(None), text_of(float("nan"))) == ("3", None, None)
    assert text_of("caf\udce9") == "caf?"
    for value in (["a", "b"], {"a": 1}, b"bytes"):
        with pytest.raises(InputError, match="where a text should be"):
            text_of(value)


def test_lines_that_hold_a_tab_are_told_of_where_a_column_is_missing() -> None:
    rows = [{"text": "¿Qué?\tNada."}, {"text": "¿Quién?\tAna."}]
    with pytest.raises(InputError, match=r"Every text holds a tab.*\.tsv"):
        guess(Table(rows, ("text",), "a.txt"), "target")
    with pytest.raises(InputError, match=r"texts of a pair.*Every text holds a tab"):
        guess_pair(Table(rows, ("text",), "a.txt"), None, None)
    with pytest.raises(InputError) as raised:
        guess(Table([*rows, {"text": "Nada."}], ("text",), "a.txt"), "target")
    assert "tab" not in str(raised.value)

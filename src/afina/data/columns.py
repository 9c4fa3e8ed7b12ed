"""Which column holds the text and which the label, by name and, where no name tells, by content."""

import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import Any

from afina import names
from afina.core import Table
from afina.data.number import MISSING, are_numbers
from afina.errors import InputError
from afina.messages import N_, _
from afina.settings import flag

Role = str  # a field of a task that names a column
NAMES: dict[str, str] = {
    "text": N_("text"),
    "text_pair": N_("second text"),
    "label": N_("label"),
    "context": N_("context"),
    "question": N_("question"),
    "answers": N_("answers"),
    "answer_start": N_("answer_start"),
    "messages": N_("conversation"),
    "prompt": N_("prompt"),
    "input": N_("input"),
    "completion": N_("reply"),
    "source": N_("source text"),
    "target": N_("text to be written"),
}

# Plain names (lower case, no accents), the likeliest first.
KNOWN: dict[Role, tuple[str, ...]] = {
    "text": (
        *("text", "texto", "texts", "textos", "review", "resena", "sentence", "oracion", "frase"),
        *("message", "mensaje", "comment", "comentario", "tweet", "tuit", "opinion", "utterance", "content"),
        *("contenido", "body", "cuerpo", "document", "documento", "description", "descripcion", "sms"),
        *("query", "consulta", "question", "pregunta", "post", "publicacion", "article", "articulo"),
        *("sentence1", "text1", "texto1", "premise", "premisa"),
    ),
    "label": (
        *("label", "etiqueta", "labels", "etiquetas", "class", "clase", "category", "categoria"),
        *("sentiment", "sentimiento", "intent", "intencion", "target", "objetivo", "emotion", "emocion"),
        *("polarity", "polaridad", "topic", "tema", "tag", "type", "tipo", "clasificacion", "annotation"),
        *("rating", "stars", "estrellas", "valoracion", "score", "puntuacion"),
    ),
    "context": ("context", "contexto", "passage", "pasaje", "paragraph", "parrafo"),
    "question": ("question", "pregunta", "query", "consulta"),
    "answers": ("answers", "respuestas", "answer", "respuesta", "answer_text"),
    "answer_start": ("answer_start", "answers_start", "inicio_respuesta", "start", "inicio"),
    # Conversations, and questions with their replies.
    "messages": (
        *("messages", "mensajes", "conversations", "conversation", "conversacion", "turns", "turnos"),
        *("dialogue", "dialog", "dialogo", "chat"),
    ),
    "prompt": (
        *(
            "prompt",
            "instruction",
            "instruccion",
            "question",
            "pregunta",
            "query",
            "consulta",
            "user",
            "usuario",
        ),
        *("input", "entrada", "text", "texto"),
    ),
    "input": ("input", "entrada", "context", "contexto"),
    "completion": (
        *(
            "completion",
            "output",
            "salida",
            "response",
            "respuesta",
            "answer",
            "reply",
            "chosen",
            "assistant",
        ),
        *("asistente", "target", "objetivo"),
    ),
    "title": ("title", "titulo", "article", "articulo", "document", "documento"),
    # What lists of words and of their labels, or of entities, are called.
    "tokens": ("tokens", "words", "palabras", "form", "forms"),
    "tags": (
        *(
            "entities",
            "entidades",
            "spans",
            "ner_tags",
            "ner",
            "tags",
            "etiquetas",
            "upos",
            "pos_tags",
            "pos",
        ),
        *("labels", "label", "annotations", "anotaciones"),
    ),
    "text_pair": (
        *("text_pair", "sentence2", "oracion2", "frase2", "text2", "texto2", "question2", "pregunta2"),
        *("hypothesis", "hipotesis", "segundo_texto"),
    ),
    # What multi-label lists and what numbers are called; the names of labels follow.
    "labels": (
        *("labels", "etiquetas", "label", "etiqueta", "tags", "emotions", "emociones", "topics", "temas"),
    ),
    "number": (
        *("score", "puntuacion", "rating", "valoracion", "stars", "estrellas", "similarity", "similitud"),
        *("grade", "nota", "target", "objetivo", "value", "valor", "price", "precio", "label", "etiqueta"),
    ),
}
# What a text is written from, and what is written.
KNOWN["source"] = (
    *(
        "source",
        "fuente",
        "origen",
        "input",
        "entrada",
        "src",
        "document",
        "documento",
        "article",
        "articulo",
    ),
    *("question", "pregunta", "query", "consulta", "prompt", "instruction", "instruccion", *KNOWN["text"]),
)
KNOWN["target"] = (
    *("target", "objetivo", "destino", "output", "salida", "tgt", "summary", "resumen", "highlights"),
    *(
        "translation",
        "traduccion",
        "answer",
        "respuesta",
        "response",
        "completion",
        "reference",
        "referencia",
    ),
    *("headline", "titular", "paraphrase", "parafrasis", "correction", "correccion", *KNOWN["label"]),
)
# What else a column of that role may hold, under names of its own.
ALIKE: dict[Role, tuple[Role, ...]] = {"text": ("tokens",), "label": ("labels", "number", "tags")}
# The two texts of a pair by plain names, `_` left out; besides, names alike but for 1 and 2, or a and b.
PAIRS = (
    *(("text", "textpair"), ("premise", "hypothesis"), ("premisa", "hipotesis")),
    *(("question", "answer"), ("pregunta", "respuesta"), ("question", "sentence"), ("query", "document")),
    *(("consulta", "documento"), ("query", "passage"), ("question", "passage"), ("pregunta", "pasaje")),
)
# Columns of few values that say something else about a row.
OTHER = frozenset(
    (
        *("id", "index", "indice", "idx", "split", "particion", "partition", "fold", "set", "conjunto"),
        *("lang", "language", "idioma", "lengua", "source", "fuente", "origen", "domain", "file", "archivo"),
        *(
            "fichero",
            "date",
            "fecha",
            "time",
            "hora",
            "year",
            "ano",
            "anio",
            "month",
            "mes",
            "user",
            "usuario",
        ),
        *(
            "author",
            "autor",
            "country",
            "pais",
            "region",
            "city",
            "ciudad",
            "gender",
            "genero",
            "sex",
            "sexo",
        ),
        *("age", "edad", "length", "longitud"),
    )
)
MAX_LABELS = 200


def guess(table: Table, role: Role, named: str | None = None, taken: Collection[str] = ()) -> str:
    """Return the column that holds `role`: `named` if given, else by its name, else by its content.

    `taken` are columns that serve another role and are not guessed. By content the text is the column with
    the longest strings, the label the only one with few, repeated values. Raises InputError, with the
    nearest name, where `named` is no column, and with all columns where the guess is not clear.
    """
    if named is not None:
        if named not in table.columns:
            raise InputError(names.unknown(named, list(table.columns), "columns"))
        return named
    free = [column for column in table.columns if column not in taken]
    by_name = _by_name(free, role)
    if by_name is not None:
        return by_name
    if role in ("text", "context"):
        return _text(table, free, role)
    if role in _HOLDS:
        return _one_like(table, free, role)
    raise InputError(_unclear(table, role))


def named_like(
    table: Table, role: Role, named: str | None = None, fits: Callable[[str], bool] = lambda column: True
) -> str | None:
    """Return the column that `named` or its very name says to hold `role` and that `fits`, None where there is none.

    One that is `named` need not fit.
    """
    if named is not None:
        return guess(table, role, named)
    by_plain = {plain(column): column for column in reversed(table.columns)}
    found = (by_plain[known] for known in KNOWN[role] if known in by_plain)
    return next(filter(fits, found), None)


def listed(roles: Sequence[str], word: str) -> str:
    """Return the names of the roles as people list them: `context, question or answers`."""
    *first, last = (_(NAMES[role]) for role in roles)
    return f"{', '.join(first)} {word} {last}" if first else last


def guess_pair(
    table: Table, first: str | None, second: str | None, taken: Collection[str] = ()
) -> tuple[str, str]:
    """Return the columns of the two texts of a pair: those named, else by their names, else by content.

    Of names alike (text1 and text2, label1 and label2 …) those count first that hold texts. By content they are the
    only two columns of texts, in file order. Raises InputError as `guess` does.
    """
    given = [guess(table, "text", named) for named in (first, second) if named is not None]
    if first is not None and second is not None:
        return given[0], given[1]

    def fits(a: str, b: str) -> bool:
        return first in (None, a) and second in (None, b)

    free = [column for column in table.columns if column not in taken]
    by_plain = {plain(column).replace("_", ""): column for column in reversed(free)}
    in_order = [plain(column).replace("_", "") for column in free]
    alike = [
        (name, name[:-1] + other) for name in in_order for end, other in ("12", "ab") if name[-1:] == end
    ]
    pairs = [(by_plain[a], by_plain[b]) for a, b in (*PAIRS, *alike) if a in by_plain and b in by_plain]
    pairs = [pair for pair in pairs if fits(*pair)]
    lengths = _lengths(table, free)
    if pairs:
        return next((pair for pair in pairs if set(pair) <= lengths.keys()), pairs[0])
    texts = [column for column in free if column in lengths and column not in given]
    if len(texts) == 2 - len(given):
        return (first or texts[0]), (second or texts[-1])
    sentence = _("It is not clear which two columns of {source} hold the texts of a pair.")
    sentence += " " + _("Name them with {flags}. There are: {all}.")
    flags = f"{flag('text')}, {flag('text_pair')}"
    raise InputError(sentence.format(source=table.source, flags=flags, all=", ".join(table.columns)))


def why(column: str, role: Role) -> str:
    """Say in a few words what `guess` went by when it chose `column` for `role`."""
    if any(_by_name([column], like) is not None for like in (role, *ALIKE.get(role, ()))):
        return _("by its name")
    if column.isdigit():  # CoNLL's columns have numbers, not names
        return _("the first column") if role == "text" else _("the last column")
    name = plain(column)
    numbered = re.fullmatch(r".*([12]|_[ab])", name)
    if role == "text_pair" and (numbered or any(name.replace("_", "") in pair for pair in PAIRS)):
        return _("by its name")
    if role in ("text", "text_pair", "context", "source"):
        return _("it holds the longest texts")
    return _("it holds few different values")


def is_known(name: str) -> bool:
    """Return whether a column of this name is usual, in English or Spanish: text, etiqueta, id, idioma …"""
    return plain(name) in OTHER or plain(name) in (*KNOWN["text"], *KNOWN["label"])


def plain(name: str) -> str:
    """Return the name in lower case, without accents, words joined by `_`: `Reseña útil` → `resena_util`."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"[\W_]+", "_", letters).strip("_")


def label_text(value: Any) -> str | None:
    """Return a label's one spelling, None where there is no label (None, blank, NaN, however it is written).

    Strings keep their spelling but for blanks around them and the Unicode form (NFC); true and false are
    written as in JSON; whole floats as integers, since one missing value turns pandas' integers into floats.
    Raises InputError for a list.
    """
    if _is_none(value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, (list, tuple, dict)):
        sentence = _("A row has the label {value}; here a row must have one label, not several.")
        raise InputError(sentence.format(value=value))
    label = unicodedata.normalize("NFC", str(value)).strip()
    return None if label.lower() in MISSING else label


def text_of(value: Any) -> str | None:
    """Return a text as a tokenizer takes it, None where there is none (None, NaN).

    Raises InputError for a list, an object or bytes.
    """
    if _is_none(value):
        return None
    if isinstance(value, (list, tuple, dict, bytes)):
        sentence = _("A row has {value} where a text should be; give the texts as strings.")
        shown = repr(value)
        raise InputError(sentence.format(value=shown[:60] + "…" if len(shown) > 60 else shown))
    # A shell may hand on bytes that are no UTF-8, Python half a character.
    return str(value).encode("utf-8", "replace").decode()


def _is_none(value: Any) -> bool:
    return value is None or value != value  # NaN alone differs from itself


def _by_name(columns: Sequence[str], role: Role) -> str | None:
    by_plain = {plain(column): column for column in reversed(columns)}
    for known in KNOWN[role]:
        if known in by_plain:
            return by_plain[known]
    # Then a name with such a word at its end or beginning: `review_text`, `texto limpio`, `CustomerMessage`.
    words = {column: plain(re.sub(r"([a-z])([A-Z])", r"\1_\2", column)).split("_") for column in columns}
    words = {column: parts for column, parts in words.items() if not OTHER.intersection(parts)}
    for place in (-1, 0):
        for known in KNOWN[role]:
            for column, parts in words.items():
                if parts[place] == known:
                    return column
    return None


def _lengths(table: Table, columns: Sequence[str]) -> dict[str, float]:
    """Return the mean length of each column that holds texts of several words."""
    sample = table.rows[:: max(1, len(table.rows) // 1000)]
    lengths = {}
    for column in _without_others(columns):
        values = [row[column] for row in sample if isinstance(row[column], str) and row[column].strip()]
        if sum(len(value.split()) > 1 for value in values) > 0.3 * len(sample):
            lengths[column] = sum(map(len, values)) / len(sample)
    return lengths


def _text(table: Table, columns: Sequence[str], role: Role) -> str:
    lengths = _lengths(table, columns)
    if not lengths:
        raise InputError(_unclear(table, role))
    return max(lengths, key=lambda column: lengths[column])


def _one_like(table: Table, columns: Sequence[str], role: Role) -> str:
    """Return the only column whose values can be labels, lists of labels or numbers."""
    text = _by_name(columns, "text")
    likely = [column for column in _without_others(columns) if column != text]
    likely = [column for column in likely if _HOLDS[role]([row[column] for row in table.rows])]
    if len(likely) != 1:
        raise InputError(_unclear(table, role))
    return likely[0]


def _without_others(columns: Sequence[str]) -> list[str]:
    return [column for column in columns if not OTHER.intersection(plain(column).split("_"))]


def _few_values(values: list[Any]) -> bool:
    if any(isinstance(value, (list, dict)) for value in values):
        return False
    labels = [label for label in map(label_text, values) if label is not None]
    distinct = len(set(labels))
    return 2 <= distinct <= min(MAX_LABELS, len(labels) / 2) and max(map(len, labels)) <= 100


def _lists(values: list[Any]) -> bool:
    return any(isinstance(value, list) for value in values)


def likely_task(table: Table) -> str | None:
    """Return the task that a table is for, where its form alone tells that it is not one label a text."""
    first = {column.lower(): value for column, value in (table.rows[0] if table.rows else {}).items()}
    names = first.keys()
    if any(isinstance(first.get(name), list) for name in ("messages", "conversations")):
        return "chat"
    words = len(first) > 1 and all(isinstance(value, list) for value in first.values())
    if (
        words
        or {"text", "entities"} <= names
        or ("tokens" in names and names & {"tags", "ner_tags", "pos_tags"})
    ):
        return "token_labels"
    return "extractive_qa" if {"context", "question", "answers"} <= names else None


_HOLDS: dict[Role, Callable[[list[Any]], bool]] = {
    "label": _few_values,
    "labels": _lists,
    "number": are_numbers,
}


def _unclear(table: Table, role: Role) -> str:
    sentences = {
        "text": _("It is not clear which column of {source} holds the text."),
        "label": _("It is not clear which column of {source} holds the label."),
        "context": _("It is not clear which column of {source} holds the context."),
        "question": _("It is not clear which column of {source} holds the question."),
        "answers": _("It is not clear which column of {source} holds the answers."),
        "labels": _(
            "It is not clear which column of {source} holds the labels (columns of 0 and 1 are named with commas: "
            "--label a,b,c)."
        ),
        "number": _("It is not clear which column of {source} holds the number to be learnt."),
        "prompt": _("It is not clear which column of {source} holds the conversation or the prompt."),
        "completion": _("It is not clear which column of {source} holds the reply."),
        "source": _("It is not clear which column of {source} holds the text to write from."),
        "target": _("It is not clear which column of {source} holds the text to be written."),
    }
    sentence = sentences[role] + " " + _("Name it with {flag}. There are: {all}.")
    field = "label" if role in ALIKE["label"] else role
    return sentence.format(source=table.source, flag=flag(field), all=", ".join(table.columns))

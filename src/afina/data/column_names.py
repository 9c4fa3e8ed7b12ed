"""What columns are called, in English and Spanish: those of every role, and those that say something else about a row."""

import re
import unicodedata

from afina.messages import N_

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


def is_known(name: str) -> bool:
    """Return whether a column of this name is usual, in English or Spanish: text, etiqueta, id, idioma …"""
    return plain(name) in OTHER or plain(name) in (*KNOWN["text"], *KNOWN["label"])


def plain(name: str) -> str:
    """Return the name in lower case, without accents, words joined by `_`: `Reseña útil` → `resena_util`."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"[\W_]+", "_", letters).strip("_")
